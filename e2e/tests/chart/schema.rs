//! values.yaml, its schema and ci/all-values.yaml name the same values, and the schema takes nothing else.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::helm::{all_values, read};

/// What is not ours to know: what other charts of a parent read, and what goes to the API server as it is.
const OPEN: [&str; 2] = ["/properties/global", "/definitions/kubernetes"];

/// Switches that would turn off other values: [`crate::values`] shows that they act.
const AS_BY_DEFAULT: [&str; 5] = [
    "/admissionPolicy/enabled",
    "/cleanup/enabled",
    "/crds/install",
    "/rbac/create",
    "/serviceAccount/create",
];

#[test]
fn takes_nothing_that_it_does_not_name() {
    let schema = read("values.schema.json");
    let mut open = BTreeSet::new();
    find_open("", &schema, &mut open);
    assert_eq!(open, OPEN.map(str::to_owned).into(), "these take anything");
}

/// Objects whose other fields are neither refused nor of a type.
fn find_open(pointer: &str, schema: &Value, open: &mut BTreeSet<String>) {
    let types = &schema["type"];
    let is_object =
        types == "object" || types.as_array().is_some_and(|types| types.contains(&"object".into()));
    let is_closed = schema["additionalProperties"] == false || schema["additionalProperties"].is_object();
    if is_object && !is_closed {
        open.insert(pointer.to_owned());
    }
    let inner: Vec<_> = match schema {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in inner {
        find_open(&format!("{pointer}/{name}"), value, open);
    }
}

#[test]
fn has_a_default_for_each_value() {
    let schema = read("values.schema.json");
    let mut found = BTreeSet::new();
    leaves_as_in(&schema, "", &read("values.yaml"), &mut found);
    assert_eq!(found, named("", &schema), "values.yaml and values.schema.json");
}

#[test]
fn the_values_of_tests_are_all_and_none_is_a_default() {
    let (schema, defaults, all) = (read("values.schema.json"), read("values.yaml"), all_values());
    let mut found = BTreeSet::new();
    leaves_as_in(&schema, "", &all, &mut found);
    assert_eq!(found, named("", &schema), "ci/all-values.yaml and values.schema.json");
    // A default of a map's part is in force where values name other parts.
    let same: Vec<_> =
        found.iter().filter(|pointer| defaults.pointer(pointer) == all.pointer(pointer)).collect();
    let except = ["/updateStrategy/type"].into_iter().chain(AS_BY_DEFAULT).collect::<BTreeSet<_>>();
    assert_eq!(same.into_iter().map(String::as_str).collect::<BTreeSet<_>>(), except);
}

/// Pointers to values; what the schema keeps under a name counts as one.
fn leaves_as_in(schema: &Value, pointer: &str, value: &Value, found: &mut BTreeSet<String>) {
    match (value, &schema["properties"]) {
        (Value::Object(fields), Value::Object(properties)) => {
            for (name, value) in fields {
                let inner = properties.get(name).unwrap_or(&Value::Null);
                leaves_as_in(inner, &format!("{pointer}/{name}"), value, found);
            }
        }
        _ => drop(found.insert(pointer.to_owned())),
    }
}

fn named(pointer: &str, schema: &Value) -> BTreeSet<String> {
    let Value::Object(properties) = &schema["properties"] else { return [pointer.to_owned()].into() };
    properties.iter().flat_map(|(name, inner)| named(&format!("{pointer}/{name}"), inner)).collect()
}
