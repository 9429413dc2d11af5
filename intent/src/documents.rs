//! One file's text to its documents, and these to objects.
//!
//! In: YAML with any number of documents, or JSON, which is YAML. Out: for each object, in order, the object or the
//! reason for refusing it. A document that is no YAML spoils only itself: `---` at the start of a line ends a document
//! whatever came before (YAML 1.2 §9.1.2), so the split needs no parser.

use std::fmt;
use std::ops::Range;

use serde_json::Value;
use serde_saphyr::{MessageFormatter as _, UserMessageFormatter};

use crate::object::{self, Object, ObjectKey, Refusal};

/// Of one document: a list of a hundred thousand small objects has as many. What aliases multiply has limits of its own.
const MAX_NODES: usize = 4_000_000;

type Parsed = Result<(ObjectKey, Object), Fault>;

/// One object of a file, and where it stands.
#[derive(Debug, PartialEq)]
pub struct Entry {
    pub place: Place,
    pub result: Result<(ObjectKey, Object), Fault>,
}

/// Where an object stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Counted from one, the empty ones too.
    pub document: usize,
    /// Of the file: where the document begins.
    pub line: usize,
    /// Which one of a `List`, counted from zero.
    pub item: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "document {} (line {})", self.document, self.line)?;
        self.item.map_or(Ok(()), |item| write!(f, " items[{item}]"))
    }
}

#[derive(Debug, PartialEq)]
pub enum Fault {
    /// Of a kind that nothing here reads; harmless.
    UnknownKind(String),
    Refused(Refusal),
}

/// One document, not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    /// Of the document as a whole.
    pub place: Place,
    /// Of the file: from the marker, where there is one, to the next.
    pub span: Range<usize>,
    /// What follows the marker.
    pub text: &'a str,
}

impl Document<'_> {
    /// Nothing but comments and directives, if that.
    pub fn is_blank(&self) -> bool {
        self.text.lines().all(|line| line.trim().is_empty() || line.starts_with(['#', '%']))
    }

    /// Its objects: none of an empty document, several of a `List`. Else why it has none, by the line of the file.
    pub fn objects(&self) -> Result<Vec<(Place, Value)>, String> {
        match read(self.text) {
            Ok(Value::Null) => Ok(Vec::new()),
            Ok(value) => items(without_nulls(value), self.place),
            Err(error) => Err(yaml_reason(&error, self.place.line)),
        }
    }
}

/// As it stands, with its nulls.
pub fn read(text: &str) -> Result<Value, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: MAX_NODES, max_events: 2 * MAX_NODES },
    };
    serde_saphyr::from_str_with_options(text, options)
}

/// Empty documents are skipped but counted.
pub fn parse(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    for document in split(text) {
        match document.objects() {
            Ok(objects) => entries.extend(
                objects.into_iter().map(|(place, value)| Entry { place, result: parse_object(&value) }),
            ),
            Err(reason) => {
                entries.push(Entry { place: document.place, result: Err(nameless(reason)) });
            }
        }
    }
    entries
}

pub fn split(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut begin, mut line) = ((0, 0), 1);
    let mut push = |span: Range<usize>, content: usize, line| {
        let place = Place { document: 0, line, item: None };
        documents.push(Document { place, text: &text[content..span.end], span });
    };
    let mut offset = 0;
    for (index, words) in text.split_inclusive('\n').enumerate() {
        let is_marker = words
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if is_marker {
            push(begin.0..offset, begin.1, line);
            // Content may follow on the marker's line.
            (begin, line) = ((offset, offset + 3), index + 1);
        }
        offset += words.len();
    }
    push(begin.0..text.len(), begin.1, line);
    // A file usually begins with a marker; what stands before it is then no document.
    if documents.len() > 1 && documents[0].is_blank() {
        documents.remove(0);
    }
    for (index, document) in documents.iter_mut().enumerate() {
        document.place.document = index + 1;
    }
    documents
}

fn items(value: Value, place: Place) -> Result<Vec<(Place, Value)>, String> {
    let is_list = value.get("apiVersion") == Some(&Value::from("v1"))
        && value.get("kind") == Some(&Value::from("List"));
    match value {
        Value::Object(mut list) if is_list => match list.remove("items") {
            Some(Value::Array(items)) => {
                let item = |(index, value)| (Place { item: Some(index), ..place }, value);
                Ok(items.into_iter().enumerate().map(item).collect())
            }
            None => Ok(Vec::new()),
            Some(_) => Err("items: not a list".to_owned()),
        },
        value => Ok(vec![(place, value)]),
    }
}

fn parse_object(value: &Value) -> Parsed {
    match object::unknown_kind(value) {
        Some(kind) => Err(Fault::UnknownKind(kind)),
        None => object::parse(value).map_err(Fault::Refused),
    }
}

fn nameless(reason: String) -> Fault {
    Fault::Refused(Refusal::nameless(reason))
}

/// A null is an absent field, as in the API server.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        value => value,
    }
}

/// The parser's reason, with the line of the file.
fn yaml_reason(error: &serde_saphyr::Error, first_line: usize) -> String {
    let reason = UserMessageFormatter.format_message(error);
    match error.location() {
        Some(place) => {
            let line = usize::try_from(place.line()).unwrap_or(1);
            format!("line {}: {reason}", first_line + line.saturating_sub(1))
        }
        None => reason.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<Result<String, Option<String>>> {
        let name = |entry: Entry| match entry.result {
            Ok((key, _)) => Ok(key.to_string()),
            Err(Fault::UnknownKind(kind)) => Err(Some(kind)),
            Err(Fault::Refused(refusal)) => Err(refusal.key.map(|key| key.to_string())),
        };
        parse(text).into_iter().map(name).collect()
    }

    fn places(text: &str) -> Vec<String> {
        parse(text).into_iter().map(|entry| entry.place.to_string()).collect()
    }

    const ONE: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: one\n";

    #[test]
    fn documents_end_at_a_marker_and_are_numbered_from_one() {
        let text = format!("# comment\n---\n{ONE}---\n\n--- # again\n{}", ONE.replace("one", "two"));
        assert_eq!(places(&text), ["document 1 (line 2)", "document 3 (line 9)"]);
    }

    #[test]
    fn a_document_that_is_no_yaml_spoils_only_itself() {
        let text = format!("{ONE}---\nkind: [unclosed\n---\n{}", ONE.replace("one", "two"));
        assert_eq!(names(&text), [Ok("Namespace one".to_owned()), Err(None), Ok("Namespace two".to_owned())]);
    }

    #[test]
    fn the_reason_for_bad_yaml_names_the_line_of_the_file() {
        let text = format!("{ONE}---\nkind: Pod\n  bad: indent\n");
        let entries = parse(&text);
        let Err(Fault::Refused(refusal)) = &entries[1].result else { panic!("accepted: {entries:?}") };
        assert!(
            refusal.reason.starts_with("line 7") || refusal.reason.starts_with("line 6"),
            "{}",
            refusal.reason
        );
    }

    #[test]
    fn the_reason_for_bad_yaml_is_for_who_wrote_it() {
        let reason = |text: &str| match parse(text).remove(0).result {
            Err(Fault::Refused(refusal)) => refusal.reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            reason(&format!("{ONE}kind: Pod\n")),
            "line 5: duplicate mapping key: kind not allowed here"
        );
        assert_eq!(
            reason("---\n- a\n...\n- b\n"),
            "line 4: only single YAML document expected but multiple found"
        );
        for text in ["5", "hello", "[{kind: Pod}]"] {
            assert_eq!(reason(text), "no object: it has no fields");
        }
    }

    #[test]
    fn directives_before_the_first_document_are_none() {
        assert_eq!(names(&format!("%YAML 1.2\n# all\n---\n{ONE}")), [Ok("Namespace one".to_owned())]);
    }

    #[test]
    fn a_list_may_be_as_long_as_a_file_and_aliases_may_not_multiply() {
        let item = "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"n\"}},";
        let list = format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{}]}}",
            item.repeat(40_000).trim_end_matches(',')
        );
        assert_eq!(split(&list)[0].objects().unwrap().len(), 40_000);
        let level = |n: u8| format!("a{}: &a{} [{}]\n", n, n, format!("*a{},", n - 1).repeat(10));
        let bomb = format!("a0: &a0 [x]\n{}", (1..=9).map(level).collect::<String>());
        split(&bomb)[0].objects().unwrap_err();
    }

    #[test]
    fn a_list_gives_its_items_and_json_is_read() {
        let text = r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"one","labels":null}}]}"#;
        assert_eq!(names(text), [Ok("Namespace one".to_owned())]);
    }

    #[test]
    fn a_list_whose_items_are_none_is_refused_and_an_empty_one_is_not() {
        for items in ["", "items: []\n", "items: null\n"] {
            assert_eq!(names(&format!("apiVersion: v1\nkind: List\n{items}")), []);
        }
        assert_eq!(names("apiVersion: v1\nkind: List\nitems: {kind: Pod}\n"), [Err(None)]);
    }

    #[test]
    fn an_item_of_a_list_is_named_by_its_place_in_it() {
        let text =
            r#"{"apiVersion":"v1","kind":"List","items":[{"kind":"Pod"},{"kind":"Pod","apiVersion":"v1"}]}"#;
        assert_eq!(places(text), ["document 1 (line 1) items[0]", "document 1 (line 1) items[1]"]);
    }

    #[test]
    fn kinds_of_others_are_told_apart_from_broken_objects() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n---\nkind: Pod\n";
        assert_eq!(names(text), [Err(Some("apps/v1 Deployment".to_owned())), Err(None)]);
    }

    #[test]
    fn a_marker_inside_a_line_is_no_marker() {
        assert_eq!(
            names(&format!("{ONE}  labels: {{a: \"---\", b: x---y}}\n")),
            [Ok("Namespace one".to_owned())]
        );
    }
}
