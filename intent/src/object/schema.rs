//! The form of what users write as the chart's definitions have it, where no API server has looked at it: what is an object
//! and what a list, how long texts and lists may be, what may stand in a list only once, and what may be a label.
//!
//! In: an object, without nulls, that its type could read. Types take a list for an object, field by field, and know no
//! lengths. Ranges, and the rules that definitions write in CEL, are checked by the types and by [`super::ranges`].

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;
use weft_api::crd::definitions;

use super::Kind;
use super::name::{is_qualified, is_word};

type Checked = Result<(), String>;

/// Of the spec, by kind.
static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let of_kind = |definition| {
        let definition = serde_json::to_value(definition).ok()?;
        let spec = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")?;
        Some((definition.pointer("/spec/names/kind")?.as_str()?.to_owned(), spec.clone()))
    };
    definitions().into_iter().filter_map(of_kind).collect()
});

pub(super) fn check(kind: Kind, object: &Value) -> Checked {
    match SCHEMAS.get(&kind.to_string()) {
        None => Ok(()),
        Some(schema) => {
            metadata(&object["metadata"])?;
            object.get("spec").map_or(Ok(()), |spec| form("spec", schema, spec))
        }
    }
}

fn form(path: &str, schema: &Value, value: &Value) -> Checked {
    match (schema["type"].as_str(), value) {
        (Some("object"), Value::Object(_)) => fields(path, schema, value),
        (Some("object"), _) => Err(format!("{path}: not an object")),
        (Some("array"), Value::Array(items)) => list(path, schema, items),
        (Some("array"), _) => Err(format!("{path}: not a list")),
        (Some("string"), Value::String(text)) => text_length(path, schema, text),
        _ => Ok(()),
    }
}

fn fields(path: &str, schema: &Value, object: &Value) -> Checked {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(missing) = required.into_iter().find(|name| object.get(name).is_none()) {
        return Err(format!("{path}.{missing}: missing"));
    }
    let members = object.as_object().into_iter().flatten();
    members.into_iter().try_for_each(|(name, value)| {
        let of_field = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
        form(&format!("{path}.{name}"), of_field, value)
    })
}

fn list(path: &str, schema: &Value, items: &[Value]) -> Checked {
    if let Some(most) = schema["maxItems"].as_u64().filter(|most| items.len() as u64 > *most) {
        return Err(format!("{path}: more than {most}"));
    }
    let is_set = schema["x-kubernetes-list-type"] == "set";
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if is_set && items[..index].contains(item) {
            return Err(format!("{path}: {item} stands there already"));
        }
        form(&path, &schema["items"], item)?;
    }
    Ok(())
}

fn text_length(path: &str, schema: &Value, text: &str) -> Checked {
    let length = text.chars().count() as u64;
    if schema["minLength"].as_u64().is_some_and(|least| length < least) {
        return Err(format!("{path}: {text:?} is too short"));
    }
    match schema["maxLength"].as_u64().filter(|most| length > *most) {
        Some(most) => Err(format!("{path}: longer than {most} characters")),
        None => Ok(()),
    }
}

/// Labels and annotations as every object in Kubernetes may have them.
fn metadata(metadata: &Value) -> Checked {
    for field in ["labels", "annotations"] {
        for (name, value) in metadata[field].as_object().into_iter().flatten() {
            if !is_qualified(name) {
                return Err(format!("metadata.{field}: {name:?} is no name of one"));
            }
            let is_value = value.as_str().is_none_or(|text| text.is_empty() || is_word(text));
            if field == "labels" && !is_value {
                return Err(format!("metadata.labels: {value} is no value of a label"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::parse;
    use super::*;

    fn refusal(kind: &str, spec: &Value) -> String {
        let name = if kind == "BGPConfiguration" { "default" } else { "x" };
        let object = json!({ "apiVersion": "weft.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec });
        parse(&object).map_or_else(|refusal| refusal.reason, |_| String::new())
    }

    #[test]
    fn every_kind_of_ours_has_a_schema() {
        for kind in Kind::OURS {
            assert_eq!(SCHEMAS[&kind.to_string()]["type"], "object", "{kind}");
        }
    }

    #[test]
    fn what_is_written_has_the_form_that_an_api_server_wants() {
        let peer = |field: &str, value: Value| {
            let mut spec = json!({ "address": "192.0.2.1", "asn": 1 });
            spec[field] = value;
            refusal("BGPPeer", &spec)
        };
        assert_eq!(peer("port", json!(180)), "");
        assert_eq!(peer("session", json!([])), "spec.session: not an object");
        assert_eq!(peer("session", json!({ "timers": [9] })), "spec.session.timers: not an object");
        let secret = json!({ "security": { "passwordSecret": ["name"] } });
        assert_eq!(peer("session", secret), "spec.session.security.passwordSecret: not an object");
        let twice = json!({ "families": ["ipv4", "ipv4"] });
        assert_eq!(peer("session", twice), "spec.session.families[1]: \"ipv4\" stands there already");
        assert_eq!(
            peer("session", json!({ "importFilters": vec!["f"; 17] })),
            "spec.session.importFilters: more than 16"
        );
        assert_eq!(peer("profile", json!("")), "spec.profile: \"\" is too short");
        assert_eq!(peer("profile", json!("ü".repeat(254))), "spec.profile: longer than 253 characters");
        assert_eq!(peer("profile", json!("ü".repeat(253))), "");
        let keyless = json!({ "matchExpressions": [{ "operator": "Exists" }] });
        assert_eq!(peer("nodeSelector", keyless), "spec.nodeSelector.matchExpressions[0].key: missing");
        assert_eq!(
            refusal("BGPConfiguration", &json!({ "asn": 1, "gracefulRestart": [1] })),
            "spec.gracefulRestart: not an object"
        );
        assert_eq!(refusal("BGPFilter", &json!([])), "spec: not an object");
    }

    #[test]
    fn labels_and_annotations_are_those_that_an_api_server_takes() {
        for good in
            [json!({ "a": "" }), json!({ "weft.dev/a_b.C": "x_y.Z-9" }), json!({ "A": "b".repeat(63) })]
        {
            assert_eq!(metadata(&json!({ "labels": good })), Ok(()));
        }
        for bad in [
            json!({ "a b": "c" }),
            json!({ "a/b/c": "d" }),
            json!({ "/a": "d" }),
            json!({ "A.b/": "d" }),
            json!({ "": "d" }),
            json!({ "a": "b c" }),
            json!({ "a": "-" }),
            json!({ "a": "b".repeat(64) }),
            json!({ "b".repeat(64): "" }),
            json!({ "Up/a": "" }),
        ] {
            metadata(&json!({ "labels": bad })).unwrap_err();
        }
        assert_eq!(metadata(&json!({ "annotations": { "a": "any text\n" } })), Ok(()));
        metadata(&json!({ "annotations": { "a b": "c" } })).unwrap_err();
    }
}
