//! Some documents of a file replaced or taken out, the others as they are to the last byte. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use weft_intent::documents::{self, Document, Place};

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
        let text = text.expect("a JSON value has text");
        if text.ends_with('\n') { text } else { text + "\n" }
    }
}

/// A file after its edits.
#[derive(Debug, PartialEq)]
pub(super) struct Edited {
    /// `None` when no object is left in it.
    pub(super) text: Option<String>,
    /// The documents of which comments are gone.
    pub(super) uncommented: Vec<Place>,
}

/// The file with the edits, by number of document.
pub(super) fn edited(text: &str, edits: &BTreeMap<usize, Edit>, format: Format) -> Edited {
    let documents = documents::split(text);
    let before = documents.first().map_or(text.len(), |first| first.span.start);
    let (mut out, mut left, mut uncommented) = (text[..before].to_owned(), false, Vec::new());
    for document in &documents {
        let old = &text[document.span.clone()];
        let edit = match edits.get(&document.place.document) {
            Some(Edit::Items(items)) => list(document, items, format),
            edit => edit.cloned(),
        };
        match edit {
            None => {
                out += old;
                left |= !document.is_blank();
            }
            Some(Edit::Replace(new)) => {
                let new = replaced(old, &new);
                uncommented.extend(loses_comments(old, &new).then_some(document.place));
                out += &new;
                left = true;
            }
            Some(Edit::Remove | Edit::Items(_)) => {}
        }
    }
    Edited { text: left.then_some(out), uncommented }
}

/// Whether a comment of `old` is not in `new`. What looks like one counts as one.
pub(super) fn loses_comments(old: &str, new: &str) -> bool {
    let kept: BTreeSet<_> = comments(new).collect();
    comments(old).any(|comment| !kept.contains(comment))
}

fn comments(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let mut signs = line.match_indices('#').map(|(at, _)| at);
        let begins = signs.find(|at| *at == 0 || line[..*at].ends_with([' ', '\t']))?;
        Some(line[begins..].trim_end())
    })
}

/// A list with other items, or none.
fn list(document: &Document<'_>, items: &BTreeMap<usize, Option<Value>>, format: Format) -> Option<Edit> {
    let mut list: Value = documents::read(document.text).ok()?;
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
        edited(text, &edits.iter().cloned().collect(), Format::Yaml).text
    }

    fn uncommented(text: &str, edits: &[(usize, Edit)]) -> Vec<usize> {
        let places = edited(text, &edits.iter().cloned().collect(), Format::Yaml).uncommented;
        places.iter().map(|place| place.document).collect()
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
        assert_eq!(json.text.as_deref(), Some("{}\n"));
    }

    #[test]
    fn comments_that_go_are_named_by_their_document() {
        let none: [usize; 0] = [];
        assert_eq!(uncommented(FILE, &[(1, replace("kind: X\n")), (2, replace("kind: Y\n"))]), none);
        assert_eq!(uncommented(FILE, &[(1, replace("# another\nkind: X\n"))]), [1]);
        for inside in ["kind: A # why\n", "kind: A\n# why\n", "kind: A\n  # why\nb: c\n"] {
            assert_eq!(uncommented(inside, &[(1, replace("kind: X\n"))]), [1], "{inside}");
            assert_eq!(uncommented(inside, &[(1, replace(&inside.replace('A', "X")))]), none, "{inside}");
            assert_eq!(uncommented(inside, &[(1, Edit::Remove)]), none, "they go with what they are about");
        }
        assert_eq!(uncommented("kind: a#b\n", &[(1, replace("kind: X\n"))]), none);
        let list = "apiVersion: v1\nkind: List\nitems:\n# the first\n- {a: 1}\n- {b: 2}\n";
        assert_eq!(uncommented(list, &[(1, Edit::Items([(1, None)].into()))]), [1]);
    }
}
