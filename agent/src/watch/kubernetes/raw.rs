//! An object as the API server sends it, before it is cut down: its JSON, and what the watch machinery must know of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use kube::Resource;
use kube::core::{DynamicResourceScope, ObjectMeta};
use serde::de::DeserializeSeed;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use weft_intent::Kind;

use super::part::Part;

#[derive(Clone, Debug)]
pub(super) struct Raw {
    /// Name, namespace and resource version; nothing else is kept.
    metadata: ObjectMeta,
    pub(super) value: Value,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = OBJECT.deserialize(deserializer)?;
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

/// What is read of an object, of whatever kind. The rest is most of it, and is passed over where it is parsed: a Pod that is
/// changed ten times is sent ten times.
const OBJECT: Part = Part::But(&[
    ("metadata", METADATA),
    (
        "spec",
        Part::But(&[
            ("affinity", Part::Nothing),
            ("containers", CONTAINERS),
            ("ephemeralContainers", Part::Nothing),
            ("initContainers", CONTAINERS),
            ("volumes", Part::Nothing),
        ]),
    ),
    (
        "status",
        Part::But(&[
            ("containerStatuses", Part::Nothing),
            ("images", Part::Nothing),
            ("initContainerStatuses", Part::Nothing),
            ("nodeInfo", Part::Nothing),
        ]),
    ),
]);
const METADATA: Part = Part::Only(&[
    (
        "annotations",
        Part::Only(&[(INITIAL_EVENTS_END, Part::All), ("kubernetes.io/config.mirror", Part::All)]),
    ),
    ("generation", Part::All),
    ("labels", Part::All),
    ("name", Part::All),
    ("namespace", Part::All),
    ("resourceVersion", Part::All),
    ("uid", Part::All),
]);
const CONTAINERS: Part = Part::Each(&Part::Only(&[("ports", Part::All), ("restartPolicy", Part::All)]));

/// The bookmark that ends a streamed list is known by an annotation.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

fn initial_events_end(value: &Value) -> Option<BTreeMap<String, String>> {
    let end = value.get("metadata")?.get("annotations")?.get(INITIAL_EVENTS_END)?.as_str()?;
    Some([(INITIAL_EVENTS_END.to_owned(), end.to_owned())].into())
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
    use weft_intent::object;

    use super::*;

    fn raw(text: &str) -> Raw {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_nobody_reads_is_never_kept_and_the_rest_is() {
        let raw = raw(r#"{
            "apiVersion": "v1",
            "metadata": {"name": "web", "namespace": "demo", "resourceVersion": "7", "managedFields": [1], "uid": "u",
                         "labels": {"app": "web"}, "ownerReferences": [1], "generation": 3,
                         "annotations": {"last-applied-configuration": "{}", "kubernetes.io/config.mirror": "m"}},
            "spec": {"nodeName": "n1", "volumes": [1], "hostNetwork": true,
                     "containers": [{"name": "main", "env": [1], "ports": [{"name": "http", "containerPort": 80}]}],
                     "initContainers": [{"image": "x", "restartPolicy": "Always"}]},
            "status": {"phase": "Running", "containerStatuses": [{"a": [{}, 1.5, -1]}], "conditions": [2], "images": [1]}
        }"#);
        assert_eq!(raw.metadata.resource_version.as_deref(), Some("7"));
        let kept = serde_json::json!({
            "apiVersion": "v1",
            "metadata": {"name": "web", "namespace": "demo", "resourceVersion": "7", "uid": "u", "generation": 3,
                         "labels": {"app": "web"}, "annotations": {"kubernetes.io/config.mirror": "m"}},
            "spec": {"nodeName": "n1", "hostNetwork": true, "containers": [{"ports": [{"name": "http", "containerPort": 80}]}],
                     "initContainers": [{"restartPolicy": "Always"}]},
            "status": {"phase": "Running", "conditions": [2]},
        });
        assert_eq!(raw.value, kept);
    }

    #[test]
    fn pods_and_nodes_read_the_same_without_what_is_passed_over() {
        let pod = r#"{
            "metadata": {"name": "web", "namespace": "demo", "uid": "api", "labels": {"app": "web"},
                         "annotations": {"kubernetes.io/config.mirror": "static"}},
            "spec": {"nodeName": "n1", "hostNetwork": true,
                     "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}]}],
                     "initContainers": [{"restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 81}]}]},
            "status": {"phase": "Failed", "podIP": "10.1.0.2", "podIPs": [{"ip": "10.1.0.2"}, {"ip": "fd00::2"}]}
        }"#;
        let node = r#"{
            "metadata": {"name": "n1", "uid": "u", "labels": {"rack": "r1"}},
            "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"], "taints": [{"key": "k", "effect": "NoSchedule"}]},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}], "conditions": [
                {"type": "NetworkUnavailable", "status": "False", "reason": "WeftIsReady", "lastTransitionTime": "t"}]}
        }"#;
        for (kind, text) in [(Kind::Pod, pod), (Kind::Node, node)] {
            let whole = serde_json::from_str::<Value>(text).unwrap();
            let read = object::parse_served(kind, &whole).unwrap();
            assert_eq!(object::parse_served(kind, &raw(text).value).unwrap(), read);
        }
    }

    #[test]
    fn the_end_of_a_streamed_list_is_known_by_its_annotation() {
        let end =
            raw(r#"{"metadata": {"annotations": {"k8s.io/initial-events-end": "true", "other": "x"}}}"#);
        assert_eq!(
            end.metadata.annotations,
            Some([(INITIAL_EVENTS_END.to_owned(), "true".to_owned())].into())
        );
        assert_eq!(raw(r#"{"metadata": {"annotations": {"other": "x"}}}"#).metadata.annotations, None);
    }
}
