//! Why a CNI call failed, and how that is said to the runtime (CNI 1.1.0, section 5, "Error").

use serde_json::json;

use crate::cni::CniVersion;

/// A failed call. The variants are what a runtime, or the person who reads its log, can tell apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CniError {
    #[error("CNI version {0:?} is not supported")]
    Version(String),
    /// [`CniError::Version`] for one verb.
    #[error("{verb} needs CNI version {since} or later")]
    Verb { verb: &'static str, since: CniVersion },
    #[error("container {0} has no such attachment here")]
    UnknownContainer(String),
    #[error("{variable}: {reason}")]
    Environment { variable: &'static str, reason: String },
    #[error("cannot {action}: {reason}")]
    Io { action: String, reason: String },
    #[error("cannot decode the network configuration: {0}")]
    Decode(String),
    #[error("the network configuration is not valid: {0}")]
    Config(String),
    #[error("{path} is not a usable network namespace: {reason}")]
    Netns { path: String, reason: String },
    #[error("try again later: {0}")]
    TryAgain(String),
    /// Only as the answer to STATUS.
    #[error("not ready: {0}")]
    NotReady(String),
    #[error("the kernel refused to {action}: {reason}")]
    Kernel { action: String, reason: String },
    /// CHECK found something else than ADD left.
    #[error("the attachment is damaged: {0}")]
    Damaged(String),
    /// Another pod of the node has one of the host ports.
    #[error("{0}")]
    PortTaken(String),
    #[error("{0}")]
    Internal(String),
}

impl CniError {
    /// The specification's well-known codes; from 100 on ours.
    pub const fn code(&self) -> u32 {
        match self {
            Self::Version(_) | Self::Verb { .. } => 1,
            Self::UnknownContainer(_) => 3,
            Self::Environment { .. } => 4,
            Self::Io { .. } => 5,
            Self::Decode(_) => 6,
            Self::Config(_) => 7,
            Self::Netns { .. } => 8,
            Self::TryAgain(_) => 11,
            Self::NotReady(_) => 50,
            Self::Kernel { .. } => 100,
            Self::Damaged(_) => 101,
            Self::PortTaken(_) => 102,
            Self::Internal(_) => 999,
        }
    }
}

/// A call that failed, and the version in which to say so, which even one that cannot be understood may tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError {
    pub version: CniVersion,
    pub error: CniError,
}

impl CallError {
    /// The one JSON document that goes to standard output, without a newline.
    pub fn document(&self) -> String {
        let Self { version, error } = self;
        json!({ "cniVersion": version.as_str(), "code": error.code(), "msg": error.to_string(), "details": "" })
            .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_document_with_its_code_and_its_reason() {
        let error = CniError::TryAgain("the agent starts".to_owned());
        let document = CallError { version: CniVersion::V1_0_0, error }.document();
        let expected = json!({
            "cniVersion": "1.0.0", "code": 11, "msg": "try again later: the agent starts", "details": "",
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&document).ok(), Some(expected));
    }
}
