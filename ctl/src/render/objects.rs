//! Objects of ours as tables, with the columns that their definitions have.

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;
use serde_json::Value;

use super::{span, table};
use crate::resource::Resource;
use crate::written::name_of;

const NONE: &str = "-";

/// `of_many`: objects of several kinds follow one another, so that each says its own.
pub(crate) fn objects(
    resource: &Resource,
    objects: &[Value],
    wide: bool,
    of_many: bool,
    now: Timestamp,
) -> String {
    let is_shown = |column: &&CustomResourceColumnDefinition| {
        wide || column.priority.is_none_or(|priority| priority == 0)
    };
    let columns: Vec<_> = resource.columns().filter(is_shown).collect();
    let names = columns.iter().map(|column| column.name.to_uppercase());
    let header: Vec<_> = ["NAME".to_owned()].into_iter().chain(names).collect();
    let header: Vec<_> = header.iter().map(String::as_str).collect();
    let rows = objects.iter().map(|object| {
        let name = name_of(object);
        let name = if of_many { resource.full_name(name) } else { name.to_owned() };
        let cells = columns.iter().map(|column| cell(column, object, now));
        [name].into_iter().chain(cells).collect()
    });
    table(&header, rows)
}

fn cell(column: &CustomResourceColumnDefinition, object: &Value, now: Timestamp) -> String {
    let Some(value) = at(&column.json_path, object) else { return NONE.to_owned() };
    match value.as_str().filter(|_| column.type_ == "date") {
        Some(date) => date.parse().map_or(NONE.to_owned(), |date| span(age(date, now))),
        None => text(value),
    }
}

fn age(date: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.duration_since(date).as_secs()).unwrap_or_default()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => NONE.to_owned(),
        Value::String(text) if text.is_empty() => NONE.to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => NONE.to_owned(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// As much of JSONPath as definitions use: `.field`, and `[?(@.field=='value')]` for the item of a list that has it.
fn at<'a>(path: &str, object: &'a Value) -> Option<&'a Value> {
    let Some(rest) = path.strip_prefix("[?(@.") else {
        let Some(rest) = path.strip_prefix('.') else { return path.is_empty().then_some(object) };
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        return at(&rest[end..], object.get(&rest[..end])?);
    };
    let (condition, rest) = rest.split_once(")]")?;
    let (field, value) = condition.split_once("==")?;
    let item = object.as_array()?.iter().find(|item| item[field] == value.trim_matches('\''))?;
    at(rest, item)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T01:00:00Z".parse().unwrap()
    }

    fn shown(kind: &str, wide: bool, all: &[Value]) -> String {
        objects(Resource::of_kind(kind).unwrap(), all, wide, false, now())
    }

    #[test]
    fn a_table_has_the_columns_of_the_definition() {
        let accepted = |status: &str, message: &str| json!({ "conditions": [{ "type": "Accepted", "status": status, "message": message }] });
        let peers = [
            json!({
                "metadata": { "name": "tor-a", "creationTimestamp": "2026-01-01T00:00:00Z" },
                "spec": { "address": "10.1.0.1", "asn": 65001, "profile": "tors" },
                "status": accepted("True", "in force as written"),
            }),
            json!({
                "metadata": { "name": "tor-b" }, "spec": { "address": "10.1.0.2", "asn": "external" },
                "status": accepted("False", "spec.nodeSelector: selects no node"),
            }),
        ];
        insta::assert_snapshot!(shown("BGPPeer", false, &peers), @r"
        NAME   ADDRESS   AS        PROFILE  ESTABLISHED  ACCEPTED  AGE
        tor-a  10.1.0.1  65001     tors     -            True      1d01h
        tor-b  10.1.0.2  external  -        -            False     -
        ");
        insta::assert_snapshot!(shown("BGPPeer", true, &peers), @r"
        NAME   ADDRESS   AS        PROFILE  ESTABLISHED  ACCEPTED  MESSAGE                             AGE
        tor-a  10.1.0.1  65001     tors     -            True      in force as written                 1d01h
        tor-b  10.1.0.2  external  -        -            False     spec.nodeSelector: selects no node  -
        ");
        let advertisement =
            json!({ "metadata": { "name": "blue" }, "spec": { "communities": ["65000:1", "65000:2"] } });
        insta::assert_snapshot!(shown("BGPAdvertisement", false, &[advertisement]), @r"
        NAME  COMMUNITIES      ACCEPTED  AGE
        blue  65000:1,65000:2  -         -
        ");
    }

    #[test]
    fn objects_of_several_kinds_say_their_own() {
        let filter = json!({ "metadata": { "name": "f" } });
        let text = objects(Resource::of_kind("BGPFilter").unwrap(), &[filter], false, true, now());
        assert!(text.contains("bgpfilter.weft.dev/f"), "{text}");
    }

    #[test]
    fn every_column_of_every_definition_can_be_found() {
        for resource in Resource::all() {
            for column in resource.columns() {
                let path = &column.json_path;
                assert!(at(path, &full()).is_some(), "{} {path}", resource.kind());
            }
        }
    }

    /// An object that has whatever a column may show.
    fn full() -> Value {
        let conditions =
            ["Accepted", "Ready"].map(|name| json!({ "type": name, "status": "True", "message": "m" }));
        json!({
            "metadata": { "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "asn": 1, "nodeMesh": "full", "address": "a", "profile": "p", "communities": [] },
            "status": {
                "conditions": conditions, "sessionsEstablished": "1/1", "peersEstablished": "1/1", "routes": 1, "pods": 1,
                "problemCount": 0, "observedTime": "2026-01-01T00:00:00Z", "version": "0.1.0",
            },
        })
    }
}
