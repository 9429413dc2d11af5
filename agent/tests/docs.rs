//! The documentation says what the code does: its examples are read by the agent's own parser, its chart values exist,
//! and it names every metric.
//!
//! A block ```` ```yaml ```` holds objects; ```` ```yaml values ```` the chart's values; ```` ```yaml config ```` a file of
//! somebody else's program, of which only the syntax is checked.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use weft_intent::object;

/// Kinds of others that examples may contain.
const FOREIGN: [&str; 2] = ["kubeadm.k8s.io/v1beta4 ClusterConfiguration", "v1 List"];

#[test]
fn every_example_object_is_one_that_the_agent_takes() {
    for block in blocks("yaml") {
        for document in documents(&block.text) {
            let foreign = object::unknown_kind(&document);
            match foreign {
                Some(kind) => assert!(FOREIGN.contains(&kind.as_str()), "{}: {kind}", block.place),
                None => drop(object::parse(&document).unwrap_or_else(|refusal| {
                    panic!("{}: {}", block.place, refusal.reason);
                })),
            }
        }
    }
}

#[test]
fn every_example_value_is_one_of_the_chart() {
    let schema = documents(&read(&root().join("chart/values.schema.json"))).remove(0);
    for block in blocks("yaml values") {
        for document in documents(&block.text) {
            if let Some(path) = missing(&document, &schema) {
                panic!("{}: the chart has no value {path}", block.place);
            }
        }
    }
    for block in blocks("yaml config") {
        assert!(!documents(&block.text).is_empty(), "{}: empty", block.place);
    }
}

#[test]
fn every_metric_is_explained() {
    let page = read(&root().join("docs/metrics.md"));
    let source = read(&root().join("agent/src/server/metrics.rs"));
    let names: BTreeSet<&str> = ["gauge(", "counter(", "register("]
        .iter()
        .flat_map(|call| source.split(call).skip(1))
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .collect();
    assert!(names.len() > 10, "the registrations are not found: {names:?}");
    let explained: BTreeSet<String> =
        metrics(&page).into_keys().map(|name| name.trim_end_matches("_total").to_owned()).collect();
    let names: BTreeSet<String> = names.into_iter().map(|name| format!("weft_{name}")).collect();
    assert_eq!(explained, names, "docs/metrics.md, and what agents measure");
}

#[test]
fn alerts_and_dashboard_are_made_of_metrics_that_agents_have() {
    let metrics = metrics(&read(&root().join("docs/metrics.md")));
    let mut alerts = Vec::new();
    for alert in documents(&read(&root().join("chart/alerts/weft.yaml"))).remove(0).as_array().unwrap() {
        alerts.push(alert["expr"].as_str().unwrap().to_owned());
        let explained = format!(
            "| `{}` | {} |",
            alert["alert"].as_str().unwrap(),
            alert["labels"]["severity"].as_str().unwrap()
        );
        assert!(
            read(&root().join("docs/metrics.md")).contains(&explained),
            "docs/metrics.md lacks {explained}"
        );
    }
    let dashboard = documents(&read(&root().join("chart/dashboards/weft.json"))).remove(0);
    let mut panels = Vec::new();
    queries(&dashboard, &mut panels);
    assert!(alerts.len() > 10 && panels.len() > 10, "{alerts:?} {panels:?}");
    for query in alerts.iter().chain(&panels) {
        for (at, _) in query.match_indices("weft_") {
            let name: String =
                query[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let labels = metrics.get(&name).unwrap_or_else(|| panic!("no metric {name}: {query}"));
            let rest = &query[at + name.len()..];
            let selector =
                rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inner, _)| inner);
            for label in selector.split(',').filter_map(|part| part.split(['=', '!']).next()) {
                // What the monitor adds.
                let known = label.is_empty() || label == "node" || labels.iter().any(|known| known == label);
                assert!(known, "{name} has no label {label}: {query}");
            }
        }
    }
}

/// Names, and labels of each, as the page's table has them: `name{label,label}`.
fn metrics(page: &str) -> BTreeMap<String, Vec<String>> {
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `weft_")?.split('`').next());
    cells
        .map(|cell| {
            let (name, labels) = cell.trim_end_matches('}').split_once('{').unwrap_or((cell, ""));
            (format!("weft_{name}"), labels.split(',').map(str::to_owned).collect())
        })
        .collect()
}

/// Of a dashboard: PromQL stands in `expr` of panels and `query` of variables.
fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str().filter(|_| ["expr", "query"].contains(&name.as_str())) {
                    Some(query) => found.push(query.to_owned()),
                    None => queries(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| queries(item, found)),
        _ => {}
    }
}

struct Block {
    /// File and line.
    place: String,
    text: String,
}

/// Blocks whose info string is `info`, of the README and of all of `docs/`.
fn blocks(info: &str) -> Vec<Block> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.push(root().join("README.md"));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    let mut found = Vec::new();
    for path in files {
        let (mut open, text) = (None::<(bool, Block)>, read(&path));
        for (index, line) in text.lines().enumerate() {
            open = match (open.take(), line.trim_start().strip_prefix("```")) {
                (None, Some(begin)) => {
                    let place = format!("{}:{}", path.display(), index + 1);
                    Some((begin == info, Block { place, text: String::new() }))
                }
                (Some((wanted, block)), Some(_)) => {
                    found.extend(wanted.then_some(block));
                    None
                }
                (Some((wanted, mut block)), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                    Some((wanted, block))
                }
                (None, None) => None,
            };
        }
        assert!(open.is_none(), "{}: a block does not end", path.display());
    }
    assert!(!found.is_empty(), "no block ```{info}");
    found
}

fn documents(text: &str) -> Vec<Value> {
    let documents = text.split("---\n").filter(|document| !document.trim().is_empty());
    documents
        .map(|document| {
            serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}\n{document}"))
        })
        .collect()
}

/// The first field of `written` that the chart's schema does not have. What has no properties there is the user's.
fn missing(written: &Value, schema: &Value) -> Option<String> {
    let (Value::Object(written), Some(properties)) = (written, schema.get("properties")) else { return None };
    written.iter().find_map(|(name, value)| match properties.get(name) {
        None => Some(name.clone()),
        Some(inner) => missing(value, inner).map(|rest| format!("{name}.{rest}")),
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
