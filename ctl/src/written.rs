//! An object as its user wrote it, and as a server would have it.

use serde_json::Value;

use crate::fault::Source;

const GROUP: &str = "weft.dev";

/// One object as it was written, of whatever kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Written {
    pub(crate) source: Source,
    /// Of ours: without what only a server writes.
    pub(crate) value: Value,
    /// The document, where it holds nothing else.
    pub(crate) text: Option<String>,
}

/// Of our group, whatever version of it that may be.
pub(crate) fn is_ours(object: &Value) -> bool {
    object["apiVersion"].as_str().is_some_and(|version| version.split('/').next() == Some(GROUP))
}

pub(crate) fn name_of(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

/// What a server adds to an object that a user wrote. Whoever applies what `get` printed does not mean these.
const SERVERS: [&str; 8] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];
/// Where `kubectl apply` keeps what it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Without what only a server writes.
pub(crate) fn as_written(object: &Value) -> Value {
    let mut own = object.clone();
    if let Some(fields) = own.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = own.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in SERVERS {
            metadata.remove(field);
        }
        let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        let emptied = annotations.is_some_and(|all| all.remove(LAST_APPLIED).is_some() && all.is_empty());
        if emptied {
            metadata.remove("annotations");
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_server_writes_is_not_the_users() {
        let served = json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "BGPFilter",
            "metadata": {
                "name": "f", "uid": "u", "resourceVersion": "7", "generation": 2, "labels": { "a": "b" },
                "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [],
                "annotations": { LAST_APPLIED: "{}" },
            },
            "spec": { "rules": [] }, "status": { "conditions": [] },
        });
        let own = json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "BGPFilter",
            "metadata": { "name": "f", "labels": { "a": "b" } }, "spec": { "rules": [] },
        });
        assert_eq!(as_written(&served), own);
        assert_eq!(as_written(&own), own);
    }
}
