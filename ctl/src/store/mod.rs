//! Where objects of ours are kept: the Kubernetes API, or a directory of YAML. Both are read and changed alike.
//!
//! In: kinds and names, or objects that are well-formed. Out: objects as JSON, and what became of each change. Before
//! anything is written all of it has been tried; what is refused then leaves everything as it was.

mod directory;
mod kubernetes;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use weft_intent::ObjectKey;

pub(crate) use self::directory::Directory;
pub(crate) use self::kubernetes::Kubernetes;
use crate::fault::{Fault, Source};
use crate::resource::{Resource, Selection};
use crate::written::{Written, name_of};

pub(crate) enum Store {
    Kubernetes(Kubernetes),
    Directory(Directory),
}

/// One object that is to be there.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) source: Source,
    pub(crate) key: ObjectKey,
    pub(crate) resource: &'static Resource,
    /// Without what only a server writes.
    pub(crate) value: Value,
    /// The document that it stood in, alone.
    pub(crate) text: Option<String>,
}

/// One object that is to go.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) key: ObjectKey,
    pub(crate) resource: &'static Resource,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct How {
    /// All but the writing.
    pub(crate) dry_run: bool,
    /// Take fields from whoever manages them.
    pub(crate) force_conflicts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Change {
    Created,
    Configured,
    Unchanged,
    Deleted,
}

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Done {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) change: Change,
    /// It is not as written, all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) warning: Option<String>,
}

/// What became of all of them.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) done: Vec<Done>,
    pub(crate) faults: Vec<Fault>,
    /// What was done, and not quite as its user may think.
    pub(crate) warnings: Vec<String>,
}

impl Done {
    fn new(key: &ObjectKey, change: Change) -> Self {
        Self { kind: key.kind.to_string(), name: key.name.clone(), change, warning: None }
    }
}

impl Store {
    /// Those that there are, and which of those that were named are not.
    pub(crate) async fn get(&self, selection: &Selection) -> Result<(Vec<Value>, Vec<Fault>)> {
        let all = match self {
            Self::Kubernetes(kubernetes) => kubernetes.get(selection).await?,
            Self::Directory(directory) => directory.get(selection)?,
        };
        let is_missing = |name: &&String| !all.iter().any(|object| name_of(object) == **name);
        let fault = |name: &String| Fault::of_object(selection.resource.full_name(name), "not found");
        let missing = selection.names.iter().filter(is_missing).map(fault).collect();
        Ok((all, missing))
    }

    pub(crate) async fn apply(&self, given: &[Given], how: How) -> Result<Report> {
        match self {
            Self::Kubernetes(kubernetes) => Ok(kubernetes.apply(given, how).await),
            Self::Directory(directory) => directory.apply(given, how),
        }
    }

    pub(crate) async fn delete(&self, named: &[Named], how: How, ignore_missing: bool) -> Result<Report> {
        match self {
            Self::Kubernetes(kubernetes) => Ok(kubernetes.delete(named, how, ignore_missing).await),
            Self::Directory(directory) => directory.delete(named, how, ignore_missing),
        }
    }
}

impl Given {
    pub(crate) fn new(written: Written, key: ObjectKey, resource: &'static Resource) -> Self {
        let Written { source, value, text } = written;
        Self { source, key, resource, value, text }
    }
}
