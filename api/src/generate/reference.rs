//! The reference page: one table of fields per resource, out of the schema that the API server enforces.
//!
//! In: definitions. Out: Markdown. Ranges and defaults stand in the fields' own comments, so they are not repeated here.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

const HEAD: &str = "<!-- Generated from the Rust types by `make crds`. Do not edit. -->
# Reference of the custom resources

All are cluster-scoped. An API server checks them against their schema when they are written; a field that it does not know is
dropped by it and refused by a [directory](directory-datastore.md). **Bold** fields must be given.
";

/// Types of Kubernetes itself, told by a field that they alone have: the type's own documentation says the rest.
const WELL_KNOWN: [(&str, &str); 2] =
    [("matchExpressions", "LabelSelector"), ("lastTransitionTime", "Condition")];

pub(crate) fn page(definitions: &[CustomResourceDefinition]) -> String {
    let mut page = HEAD.to_owned();
    for definition in definitions {
        resource(&mut page, definition);
    }
    page
}

fn resource(page: &mut String, definition: &CustomResourceDefinition) {
    let spec = &definition.spec;
    let short = spec.names.short_names.iter().flatten().map(|name| format!(", short name `{name}`"));
    let short: String = short.collect();
    for version in &spec.versions {
        let Some(schema) = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref())
        else {
            continue;
        };
        let about = schema.description.as_deref().unwrap_or_default();
        page.push_str(&format!("\n## {}\n\n{}\n", spec.names.kind, cell(about)));
        page.push_str(&format!("`{}/{}`, `{}`{short}.\n", spec.group, version.name, spec.names.plural));
        let spec = schema.properties.iter().flatten().find(|(name, _)| *name == "spec");
        for rule in rules(schema).chain(spec.into_iter().flat_map(|(_, spec)| rules(spec))) {
            page.push_str(&format!("\nRule: {rule}.\n"));
        }
        let mut rows = Vec::new();
        for part in ["spec", "status"] {
            if let Some(schema) = schema.properties.as_ref().and_then(|properties| properties.get(part)) {
                fields(&mut rows, part, schema);
            }
        }
        page.push_str("\n| field | type | meaning |\n|---|---|---|\n");
        page.push_str(&rows.concat());
    }
}

/// A row for each field below `path`, in the schema's (alphabetical) order.
fn fields(rows: &mut Vec<String>, path: &str, schema: &JSONSchemaProps) {
    for (name, field) in schema.properties.iter().flatten() {
        let is_required = schema.required.as_ref().is_some_and(|required| required.contains(name));
        let path = format!("{path}.{name}");
        let label = if is_required { format!("**`{path}`**") } else { format!("`{path}`") };
        let mut meaning = cell(field.description.as_deref().unwrap_or_default());
        for rule in rules(field) {
            let _ = write!(meaning, " Rule: {rule}.");
        }
        rows.push(format!("| {label} | {} | {} |\n", type_of(field), meaning.trim()));
        if well_known(field).is_none() {
            fields(rows, &path, field);
        }
        if let Some(item) = item(field).filter(|item| well_known(item).is_none()) {
            fields(rows, &format!("{path}[]"), item);
        }
    }
}

fn type_of(schema: &JSONSchemaProps) -> String {
    if let Some(name) = well_known(schema) {
        return name.to_owned();
    }
    if let Some(values) = &schema.enum_ {
        let values: Vec<_> =
            values.iter().filter(|value| !value.0.is_null()).map(|value| format!("`{}`", value.0)).collect();
        return values.join(", ").replace('"', "");
    }
    if schema.x_kubernetes_int_or_string == Some(true) {
        return "integer or string".to_owned();
    }
    match (schema.type_.as_deref(), item(schema)) {
        (Some("array"), Some(item)) => format!("list of {}", type_of(item)),
        (Some(name), _) => name.to_owned(),
        (None, _) => "any".to_owned(),
    }
}

fn item(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match schema.items.as_ref()? {
        JSONSchemaPropsOrArray::Schema(item) => Some(item),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

fn well_known(schema: &JSONSchemaProps) -> Option<&'static str> {
    let properties = schema.properties.as_ref()?;
    WELL_KNOWN.iter().find(|(field, _)| properties.contains_key(*field)).map(|(_, name)| *name)
}

/// What the schema's own rules say to those who break them.
fn rules(schema: &JSONSchemaProps) -> impl Iterator<Item = String> {
    let rules = schema.x_kubernetes_validations.iter().flatten();
    rules.filter_map(|rule| rule.message.clone()).map(|message| cell(&message))
}

/// One line, without what would end a cell of the table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_a_resource_has_a_row_and_known_types_are_not_unrolled() {
        let page = page(&weft_api::crd::definitions());
        assert!(page.contains("| `spec.address` | string |"), "{page}");
        assert!(page.contains("| `spec.nodeSelector` | LabelSelector |"), "{page}");
        assert!(page.contains("| `spec.nodeMesh` | `full`, `none` |"), "{page}");
        assert!(page.contains("| **`spec.session.security.passwordSecret.name`** | string |"), "{page}");
        assert!(!page.contains("matchExpressions`"), "{page}");
    }

    #[test]
    fn a_pipe_does_not_end_a_cell() {
        assert_eq!(cell("a |\n  b"), "a \\| b");
    }
}
