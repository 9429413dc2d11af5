//! Some documents of a file replaced or taken out, the others as they are to the last byte. Pure.

use std::collections::BTreeMap;

use serde_json::Value;
use weft_intent::documents::{self, Document};

/// What becomes of one document.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Edit {
    Replace(String),
    Remove,
    /// Of a `List`: what becomes of its items, `None` for those that go.
    Items(BTreeMap<usize, Option<Value>>),
}

/// How new documents are written into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Json,
}

impl Format {
    pub(super) fn of(file: &str) -> Self {
        if file.ends_with(".json") { Self::Json } else { Self::Yaml }
    }

    pub(super) fn render(self, value: &Value) -> String {
        let text = match self {
            Self::Yaml => serde_saphyr::to_string(value).map_err(|error| error.to_string()),
            Self::Json => serde_json::to_string_pretty(value).map_err(|error| error.to_string()),
        };
        text.expect("a JSON value has text") + "\n"
    }
}

/// The file with the edits, by number of document; `None` when no object is left in it.
pub(super) fn edited(text: &str, edits: &BTreeMap<usize, Edit>, format: Format) -> Option<String> {
    let documents = documents::split(text);
    let before = documents.first().map_or(text.len(), |first| first.span.start);
    let (mut out, mut left) = (text[..before].to_owned(), false);
    for document in &documents {
        let edit = match edits.get(&document.place.document) {
            Some(Edit::Items(items)) => list(document, items, format),
            edit => edit.cloned(),
        };
        match edit {
            None => {
                out += &text[document.span.clone()];
                left |= !document.is_blank();
            }
            Some(Edit::Replace(new)) => {
                out += &replaced(&text[document.span.clone()], &new);
                left = true;
            }
            Some(Edit::Remove | Edit::Items(_)) => {}
        }
    }
    left.then_some(out)
}

/// A list with other items, or none.
fn list(document: &Document<'_>, items: &BTreeMap<usize, Option<Value>>, format: Format) -> Option<Edit> {
    let mut list: Value = serde_saphyr::from_str(document.text).ok()?;
    let old = list.get_mut("items")?.as_array_mut()?;
    let index = std::mem::take(old).into_iter().enumerate();
    *old = index.filter_map(|(index, item)| items.get(&index).cloned().unwrap_or(Some(item))).collect();
    Some(if old.is_empty() { Edit::Remove } else { Edit::Replace(format.render(&list)) })
}

/// Behind the document's marker, and the comments that it began with unless there are new ones.
fn replaced(old: &str, new: &str) -> String {
    let (marker, content) = split_marker(old);
    let new = new.trim_start_matches(['\n', '\r']);
    let mut out = marker;
    if !new.trim_start().starts_with('#') {
        let lines = content.split_inclusive('\n');
        out.extend(lines.take_while(|line| line.trim().is_empty() || line.starts_with('#')));
    }
    out += new;
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

/// The line of the marker, and what follows it. Content on that line is of the document.
fn split_marker(document: &str) -> (String, &str) {
    let Some(rest) = document.strip_prefix("---") else { return (String::new(), document) };
    let (line, content) = rest.split_once('\n').unwrap_or((rest, ""));
    let is_marker_alone = line.trim().is_empty() || line.trim_start().starts_with('#');
    if is_marker_alone { (format!("---{line}\n"), content) } else { ("---\n".to_owned(), rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "# of rack a\n---\n# the left one\nkind: A\n--- # the right one\nkind: B\n---\n\n---\nkind: C\n";

    fn edit(text: &str, edits: &[(usize, Edit)]) -> Option<String> {
        edited(text, &edits.iter().cloned().collect(), Format::Yaml)
    }

    fn replace(text: &str) -> Edit {
        Edit::Replace(text.to_owned())
    }

    #[test]
    fn other_documents_stay_to_the_last_byte_and_comments_above_do_too() {
        assert_eq!(
            edit(FILE, &[(1, replace("kind: X\n")), (4, replace("\n# new\nkind: Z"))]).unwrap(),
            "# of rack a\n---\n# the left one\nkind: X\n--- # the right one\nkind: B\n---\n\n---\n# new\nkind: Z\n"
        );
        assert_eq!(edit(FILE, &[(2, replace("kind: Y\n"))]).unwrap(), FILE.replace("kind: B", "kind: Y"));
        assert_eq!(edit("kind: A", &[(1, replace("kind: X"))]).unwrap(), "kind: X\n");
        assert_eq!(
            edit("--- {kind: A}\n--- {kind: B}", &[(1, replace("kind: X"))]).unwrap(),
            "---\nkind: X\n--- {kind: B}"
        );
        assert_eq!(edit("kind: A\r\n---\r\nkind: B\r\n", &[(2, Edit::Remove)]).unwrap(), "kind: A\r\n");
    }

    #[test]
    fn a_file_without_objects_is_none() {
        assert_eq!(
            edit(FILE, &[(1, Edit::Remove)]).unwrap(),
            FILE.replace("---\n# the left one\nkind: A\n", "")
        );
        let all = [1, 2, 4].map(|document| (document, Edit::Remove));
        assert_eq!(edit(FILE, &all), None);
    }

    #[test]
    fn items_of_a_list_are_changed_and_go_and_the_others_stay() {
        let list = "apiVersion: v1\nkind: List\nitems:\n- {a: 1}\n- {b: 2}\n- {c: 3}\n";
        let items = |items: &[(usize, Option<Value>)]| Edit::Items(items.iter().cloned().collect());
        let new = edit(list, &[(1, items(&[(0, None), (2, Some(serde_json::json!({ "d": 4 })))]))]).unwrap();
        let new: Value = serde_saphyr::from_str(&new).unwrap();
        assert_eq!(new["items"], serde_json::json!([{ "b": 2 }, { "d": 4 }]));
        assert_eq!(edit(list, &[(1, items(&[(0, None), (1, None), (2, None)]))]), None);
        let json = edited("{\"kind\": \"A\"}", &[(1, replace("{}"))].into(), Format::Json);
        assert_eq!(json.as_deref(), Some("{}\n"));
    }
}
