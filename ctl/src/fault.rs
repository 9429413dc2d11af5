//! Where an object stands among files, and why something is refused.

use std::fmt;

use serde::Serialize;
use weft_intent::ObjectKey;
use weft_intent::documents::Place;

/// Where an object stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Source {
    pub(crate) file: String,
    pub(crate) document: usize,
    pub(crate) line: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) item: Option<usize>,
}

impl Source {
    pub(crate) fn new(file: &str, place: Place) -> Self {
        let Place { document, line, item } = place;
        Self { file: file.to_owned(), document, line, item }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, document, line, item } = self;
        write!(f, "{file} {}", Place { document: *document, line: *line, item: *item })
    }
}

/// Why something is refused. The reason begins with the path of the field where there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Fault {
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<Source>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) object: Option<String>,
    pub(crate) reason: String,
}

impl Fault {
    pub(crate) fn new(source: &Source, key: Option<&ObjectKey>, reason: impl Into<String>) -> Self {
        let object = key.map(ToString::to_string);
        Self { source: Some(source.clone()), object, reason: reason.into() }
    }

    pub(crate) fn of_object(object: impl fmt::Display, reason: impl Into<String>) -> Self {
        Self { source: None, object: Some(object.to_string()), reason: reason.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, object, reason } = self;
        source.iter().try_for_each(|source| write!(f, "{source}: "))?;
        object.iter().try_for_each(|object| write!(f, "{object}: "))?;
        f.write_str(reason)
    }
}
