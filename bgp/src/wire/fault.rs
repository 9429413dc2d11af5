//! What can be wrong with an attribute of an UPDATE, and what that costs (RFC 7606 §2).

use std::fmt;

use serde::{Deserialize, Serialize};

/// RFC 7606 §2, mild to severe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorAction {
    Discard,
    TreatAsWithdraw,
    Reset,
}

/// One malformed attribute of an UPDATE that the session survived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributeError {
    /// Attribute type code; 0 when the error is the attribute list itself.
    pub code: u8,
    pub action: ErrorAction,
    pub fault: Fault,
}

impl fmt::Display for AttributeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attribute {}: {}", self.code, self.fault)
    }
}

/// What can be wrong with an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    #[error("optional or transitive flag is wrong")]
    Flags,
    #[error("length is wrong")]
    Length,
    #[error("value is malformed")]
    Value,
    #[error("appears more than once")]
    Duplicate,
    #[error("runs past the end of the attributes")]
    Overrun,
    #[error("mandatory but missing")]
    Missing,
    #[error("claims to be well-known but is unknown")]
    UnrecognizedWellKnown,
    #[error("belongs to a family that was not negotiated")]
    Family,
}
