//! An object as the API server sends it, before it is cut down: its JSON, and what the watch machinery must know of it.

use std::borrow::Cow;

use kube::Resource;
use kube::core::{DynamicResourceScope, ObjectMeta};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use weft_intent::Kind;

#[derive(Clone, Debug)]
pub(super) struct Raw {
    /// Name, namespace and resource version; nothing else is kept.
    metadata: ObjectMeta,
    pub(super) value: Value,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        prune(&mut value);
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

/// What nobody here reads of any kind, and is most of an object: a page of a list holds a hundred of them.
const UNREAD: [(&str, &str); 8] = [
    ("metadata", "managedFields"),
    ("spec", "volumes"),
    ("spec", "affinity"),
    ("spec", "ephemeralContainers"),
    ("status", "containerStatuses"),
    ("status", "initContainerStatuses"),
    ("status", "images"),
    ("status", "nodeInfo"),
];

fn prune(value: &mut Value) {
    for (part, field) in UNREAD {
        if let Some(Value::Object(fields)) = value.get_mut(part) {
            fields.remove(field);
        }
    }
    for list in ["containers", "initContainers"] {
        let containers = value.get_mut("spec").and_then(|spec| spec.get_mut(list)?.as_array_mut());
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            container.retain(|name, _| matches!(name.as_str(), "ports" | "restartPolicy"));
        }
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
        Kind::BgpPeerProfile => ("weft.dev", "v1alpha1", "bgppeerprofiles"),
        Kind::BgpNodeOverride => ("weft.dev", "v1alpha1", "bgpnodeoverrides"),
        Kind::BgpFilter => ("weft.dev", "v1alpha1", "bgpfilters"),
        Kind::BgpAdvertisement => ("weft.dev", "v1alpha1", "bgpadvertisements"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_is_never_kept_and_the_rest_is() {
        let text = r#"{
            "metadata": {"name": "web", "namespace": "demo", "resourceVersion": "7", "managedFields": [1]},
            "spec": {"nodeName": "n1", "volumes": [1],
                     "containers": [{"name": "main", "env": [1], "ports": [{"name": "http", "containerPort": 80}]}],
                     "initContainers": [{"image": "x", "restartPolicy": "Always"}]},
            "status": {"phase": "Running", "containerStatuses": [1], "conditions": [2], "images": [1]}
        }"#;
        let raw: Raw = serde_json::from_str(text).unwrap();
        assert_eq!(raw.metadata.resource_version.as_deref(), Some("7"));
        let kept = serde_json::json!({
            "metadata": {"name": "web", "namespace": "demo", "resourceVersion": "7"},
            "spec": {"nodeName": "n1", "containers": [{"ports": [{"name": "http", "containerPort": 80}]}],
                     "initContainers": [{"restartPolicy": "Always"}]},
            "status": {"phase": "Running", "conditions": [2]},
        });
        assert_eq!(raw.value, kept);
    }
}
