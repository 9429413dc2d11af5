use super::*;

/// What kubectl sends for the smallest useful objects.
#[test]
fn the_smallest_objects_have_the_documented_defaults() {
    let config: BGPConfigurationSpec = serde_json::from_str("{}").unwrap();
    assert_eq!(config, BGPConfigurationSpec::default());
    let peer: BGPPeerSpec = serde_json::from_str(r#"{"address": "10.0.0.1", "asn": "external"}"#).unwrap();
    assert_eq!(peer.asn, PeerAsn::Rule(AsnRule::External));
    assert_eq!((peer.port, peer.max_prefixes, peer.accept_default_route), (179, 10_000, false));
    assert!(peer.enforce_first_asn && peer.extended_nexthop && !peer.passive);
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
    for part in ["isIP(self)", r#""default":179"#, "x-kubernetes-int-or-string", "subresources"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
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
