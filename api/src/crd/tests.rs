use super::*;

/// What kubectl sends for the smallest useful objects.
#[test]
fn the_smallest_objects_have_the_documented_defaults() {
    let config: BGPConfigurationSpec = serde_json::from_str("{}").unwrap();
    assert_eq!(config, BGPConfigurationSpec::default());
    let peer: BGPPeerSpec = serde_json::from_str(r#"{"address": "10.0.0.1", "asn": "external"}"#).unwrap();
    assert_eq!(peer.asn, PeerAsn::Rule(AsnRule::External));
    assert_eq!((peer.port, peer.passive, peer.session), (None, None, SessionSettings::default()));
}

#[test]
fn a_misspelt_field_is_refused_by_name() {
    let error = serde_json::from_str::<BGPConfigurationSpec>(r#"{"asns": 1}"#).unwrap_err();
    assert!(error.to_string().contains("asns"), "{error}");
}

#[test]
fn schemas_are_structural_and_carry_rules_and_defaults() {
    for definition in definitions() {
        let text = serde_json::to_string(&definition).unwrap();
        assert!(!text.contains("additionalProperties\":false"), "an API server refuses this: {text}");
        assert_eq!(definition.spec.scope, "Cluster");
    }
    let text = serde_json::to_string(&BGPPeer::crd()).unwrap();
    for part in ["isIP(self)", "x-kubernetes-int-or-string", "subresources"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    // A server stores defaults: what a peer leaves out would be said by it, and could never be what a profile says.
    assert!(!text.contains(r#""default":179"#) && !text.contains(r#""default":false"#), "{text}");
}

/// Without it a list is one value: who applies a condition takes away those of others.
#[test]
fn conditions_are_merged_by_their_type() {
    for definition in definitions() {
        let schema = serde_json::to_value(&definition.spec.versions[0].schema).unwrap();
        let conditions = &schema["openAPIV3Schema"]["properties"]["status"]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map", "{conditions}");
        assert_eq!(conditions["x-kubernetes-list-map-keys"], serde_json::json!(["type"]));
        assert!(conditions["items"]["required"].as_array().unwrap().contains(&"type".into()));
    }
}

/// Who applies one item must not take away those of others, nor may a server guess.
#[test]
fn every_list_says_how_it_is_merged() {
    fn lists(path: &str, schema: &serde_json::Value) {
        if schema["type"] == "array" {
            assert!(schema["x-kubernetes-list-type"].is_string(), "{path}");
        }
        if !schema["x-kubernetes-list-map-keys"].is_null() {
            let item = &schema["items"];
            for key in schema["x-kubernetes-list-map-keys"].as_array().unwrap() {
                let is_required = item["required"].as_array().is_some_and(|required| required.contains(key));
                let has_default = !item["properties"][key.as_str().unwrap()]["default"].is_null();
                assert!(is_required || has_default, "{path}: a server wants its key {key} in every item");
            }
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            // Of Kubernetes' own types.
            if name != "nodeSelector" {
                lists(&format!("{path}.{name}"), field);
            }
        }
        if schema["items"].is_object() {
            lists(&format!("{path}[]"), &schema["items"]);
        }
    }
    for definition in definitions() {
        let schema = serde_json::to_value(&definition.spec.versions[0].schema).unwrap();
        lists(&definition.spec.names.kind, &schema["openAPIV3Schema"]);
    }
}

#[test]
fn a_setting_is_that_of_the_narrowest_object_that_has_it() {
    let settings = |text: &str| serde_json::from_str::<SessionSettings>(text).unwrap();
    let narrow = settings(
        r#"{"timers": {"holdTimeSeconds": 9}, "families": ["ipv6"], "importFilters": [],
            "bfd": {"detectMultiplier": 5}}"#,
    );
    let wide = settings(
        r#"{"timers": {"holdTimeSeconds": 30, "connectRetrySeconds": 2}, "families": ["ipv4"], "importFilters": ["a"],
            "multihop": 3, "extendedNexthop": false, "enforceFirstAsn": false, "allowAsIn": 2, "exportFilters": ["b"], "limits": {"maxPrefixes": 5},
            "security": {"passwordSecret": {"name": "s"}, "ttlSecurityHops": 1},
            "bfd": {"enabled": false, "intervalMilliseconds": 100, "detectMultiplier": 3}}"#,
    );
    let mut both = wide.clone();
    both.timers.hold_time_seconds = Some(9);
    both.families = Some(vec![Family::Ipv6]);
    both.import_filters = Some(Vec::new());
    both.bfd.as_mut().unwrap().detect_multiplier = Some(5);
    assert_eq!(narrow.clone().or(&wide), both);
    assert_eq!(wide.clone().or(&SessionSettings::default()), wide);
    assert_eq!(SessionSettings::default().or(&wide), wide);
    assert_ne!(wide.clone().or(&narrow), both, "the order counts");
}
