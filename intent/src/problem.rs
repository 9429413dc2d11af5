//! Something that does not act as written, and why.

use std::fmt;

use weft_api::control;

use crate::{Kind, ObjectKey};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub about: About,
    /// For people: the field, and what is wrong with it.
    pub reason: String,
}

/// What a user would look for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    Object(ObjectKey),
    /// A file, or another place that objects come from: what is in it could not be read so far as to be named.
    Source(String),
}

impl Problem {
    pub fn of_object(key: ObjectKey, reason: impl Into<String>) -> Self {
        Self { about: About::Object(key), reason: reason.into() }
    }

    pub fn of_source(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { about: About::Source(name.into()), reason: reason.into() }
    }

    /// Of a kind whose objects are in no namespace.
    pub(crate) fn of(kind: Kind, name: &str, reason: impl Into<String>) -> Self {
        Self::of_object(ObjectKey::cluster(kind, name), reason)
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(key) => key.fmt(f),
            Self::Source(name) => f.write_str(name),
        }
    }
}

/// As the control API says it.
impl From<&Problem> for control::Problem {
    fn from(problem: &Problem) -> Self {
        Self { object: problem.about.to_string(), reason: problem.reason.clone() }
    }
}
