//! An object as the API server sends it, before it is cut down: its JSON, and what the watch machinery must know of it.

use std::borrow::Cow;

use kube::Resource;
use kube::core::{DynamicResourceScope, ObjectMeta};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::watch::Kind;

#[derive(Clone, Debug)]
pub(super) struct Raw {
    /// Name, namespace and resource version; nothing else is kept.
    metadata: ObjectMeta,
    pub(super) value: Value,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        let metadata = value.get_mut("metadata");
        // Often the larger half of an object, and of no interest to anybody here.
        if let Some(Value::Object(fields)) = metadata {
            fields.remove("managedFields");
        }
        let text = |name: &str| value.get("metadata")?.get(name)?.as_str().map(ToOwned::to_owned);
        let metadata = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            resource_version: text("resourceVersion"),
            annotations: initial_events_end(&value),
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, value })
    }
}

/// The bookmark that ends a streamed list is known by an annotation.
fn initial_events_end(value: &Value) -> Option<std::collections::BTreeMap<String, String>> {
    const END: &str = "k8s.io/initial-events-end";
    let end = value.get("metadata")?.get("annotations")?.get(END)?.as_str()?;
    Some([(END.to_owned(), end.to_owned())].into())
}

impl Resource for Raw {
    type DynamicType = Kind;
    type Scope = DynamicResourceScope;

    fn kind(kind: &Kind) -> Cow<'_, str> {
        kind.to_string().into()
    }

    fn group(kind: &Kind) -> Cow<'_, str> {
        api(*kind).0.into()
    }

    fn version(kind: &Kind) -> Cow<'_, str> {
        api(*kind).1.into()
    }

    fn plural(kind: &Kind) -> Cow<'_, str> {
        api(*kind).2.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Group, version, plural.
fn api(kind: Kind) -> (&'static str, &'static str, &'static str) {
    match kind {
        Kind::Node => ("", "v1", "nodes"),
        Kind::Namespace => ("", "v1", "namespaces"),
        Kind::Pod => ("", "v1", "pods"),
        Kind::NetworkPolicy => ("networking.k8s.io", "v1", "networkpolicies"),
        Kind::Secret => ("", "v1", "secrets"),
        Kind::BgpConfiguration => ("weft.dev", "v1alpha1", "bgpconfigurations"),
        Kind::BgpPeer => ("weft.dev", "v1alpha1", "bgppeers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managed_fields_are_never_kept() {
        let text = r#"{"metadata": {"name": "web", "namespace": "demo", "resourceVersion": "7", "managedFields": [1]}}"#;
        let raw: Raw = serde_json::from_str(text).unwrap();
        assert_eq!(raw.metadata.resource_version.as_deref(), Some("7"));
        assert!(!raw.value.to_string().contains("managedFields"));
    }
}
