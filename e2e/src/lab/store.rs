//! The lab's datastore: the directory of YAML that the agents watch, and the objects that describe the lab in it.
//!
//! One object per file, `KIND-NAMESPACE-NAME.yaml`, as `kubectl get -o yaml` would write it, replaced whole by a rename.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::spec::{LabSpec, NodeAsn, OUTSIDE, OUTSIDE_CIDRS, POD_CIDRS, Plan, Uplink};
use super::{Lab, Node, RouterKind};

#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Creates or replaces the object that `yaml` holds, like `kubectl apply`.
    pub fn apply(&self, yaml: &str) -> Result<()> {
        let object: Value = serde_saphyr::from_str(yaml).with_context(|| yaml.to_owned())?;
        self.write(&file_name(&object), yaml)
    }

    pub fn delete(&self, yaml: &str) -> Result<()> {
        let object: Value = serde_saphyr::from_str(yaml)?;
        self.remove(&file_name(&object))
    }

    /// Writes a file as it is, whatever is in it.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        fs::create_dir_all(&self.dir)?;
        let temporary = self.dir.join(format!(".{file}.tmp"));
        fs::write(&temporary, text)?;
        fs::rename(&temporary, self.dir.join(file)).with_context(|| format!("{file} in the datastore"))
    }

    pub fn remove(&self, file: &str) -> Result<()> {
        fs::remove_file(self.dir.join(file)).with_context(|| format!("{file} in the datastore"))
    }

    pub(super) fn put(&self, object: &Value) -> Result<()> {
        self.write(&file_name(object), &serde_saphyr::to_string(object)?)
    }

    pub(super) fn take(&self, object: &Value) -> Result<()> {
        self.remove(&file_name(object))
    }
}

impl Lab {
    /// Says to the agents what a cluster's operator would: nodes, how they speak BGP, and with which routers.
    pub(super) fn describe(&self, spec: &LabSpec) -> Result<()> {
        let store = self.store();
        let mut session = json!({ "timers": { "connectRetrySeconds": 1, "holdTimeSeconds": 9 } });
        if spec.node_asn == NodeAsn::Kept {
            session["allowAsIn"] = 1.into();
        }
        store.put(&json!({
            "apiVersion": "weft.dev/v1alpha1",
            "kind": "BGPConfiguration",
            "metadata": { "name": "default" },
            "spec": {
                "nodeMesh": if spec.mesh { "full" } else { "none" },
                "clusterCidrs": POD_CIDRS,
                "session": session,
            },
        }))?;
        shared_objects(self.plan()).iter().try_for_each(|object| store.put(object))?;
        self.plan().nodes.iter().try_for_each(|node| store.put(&node_object(node)))?;
        for tor in &self.plan().tors {
            let (name, rack) = (&tor.name, tor.rack);
            if spec.session_per_family {
                store.put(&peer_object(
                    &format!("{name}-v4"),
                    rack,
                    &tor.addresses.v4.to_string(),
                    tor.asn,
                    &[0],
                ))?;
                store.put(&peer_object(
                    &format!("{name}-v6"),
                    rack,
                    &tor.addresses.v6.to_string(),
                    tor.asn,
                    &[1],
                ))?;
            } else {
                store.put(&peer_object(name, rack, &tor.addresses.v4.to_string(), tor.asn, &[0, 1]))?;
            }
        }
        self.namespace_object("default")
    }

    /// A Kubernetes namespace, with the label that each has there.
    pub fn namespace_object(&self, name: &str) -> Result<()> {
        self.store().put(&json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": name, "labels": { "kubernetes.io/metadata.name": name } },
        }))
    }
}

fn node_object(node: &Node) -> Value {
    let first = &node
        .uplinks
        .first()
        .map(|uplink: &Uplink| uplink.addresses.both())
        .into_iter()
        .flatten()
        .collect::<Vec<_>>();
    let addresses: Vec<_> =
        first.iter().map(|address| json!({ "type": "InternalIP", "address": address.to_string() })).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": { "kubernetes.io/hostname": node.name, "rack": format!("rack{}", node.rack) },
        },
        "spec": { "podCIDR": node.pod_cidrs[0], "podCIDRs": node.pod_cidrs },
        "status": { "addresses": addresses },
    })
}

/// The AS of each rack's nodes, and a filter that lets in what lies outside the cluster.
pub(crate) fn shared_objects(plan: &Plan) -> Vec<Value> {
    let racks: BTreeMap<u8, u32> = plan.nodes.iter().map(|node| (node.rack, node.asn)).collect();
    let of_rack = |(rack, asn): (&u8, &u32)| {
        let rack = format!("rack{rack}");
        json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "BGPNodeOverride", "metadata": { "name": rack },
            "spec": { "nodeSelector": { "matchLabels": { "rack": rack } }, "asn": asn },
        })
    };
    let inside =
        |cidr: &&str| json!({ "cidr": cidr, "maxLength": if cidr.contains(':') { 128 } else { 32 } });
    let prefixes: Vec<_> = OUTSIDE_CIDRS.iter().map(inside).collect();
    let filter = json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "BGPFilter", "metadata": { "name": OUTSIDE },
        "spec": { "rules": [{ "prefixes": prefixes, "action": "accept" }] },
    });
    racks.iter().map(of_rack).chain([filter]).collect()
}

/// A session with a router of `rack` that carries the families with these indexes.
fn peer_object(name: &str, rack: u8, address: &str, asn: u32, families: &[usize]) -> Value {
    let pick = |all: [&'static str; 2]| families.iter().map(|family| all[*family]).collect::<Vec<_>>();
    json!({
        "apiVersion": "weft.dev/v1alpha1",
        "kind": "BGPPeer",
        "metadata": { "name": name },
        "spec": {
            "nodeSelector": { "matchLabels": { "rack": format!("rack{rack}") } },
            "address": address,
            "asn": asn,
            "session": { "families": pick(["ipv4", "ipv6"]), "importFilters": [OUTSIDE] },
        },
    })
}

fn file_name(object: &Value) -> String {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let parts = ["/kind", "/metadata/namespace", "/metadata/name"].into_iter().filter_map(text);
    format!("{}.yaml", parts.collect::<Vec<_>>().join("-").to_lowercase())
}

/// Which daemon a router runs, for people.
impl RouterKind {
    pub fn command_line(self) -> &'static str {
        match self {
            Self::Bird => "birdc",
            Self::Frr => "vtysh",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_after_its_object() {
        let policy =
            json!({ "kind": "NetworkPolicy", "metadata": { "namespace": "demo", "name": "deny-all" } });
        assert_eq!(file_name(&policy), "networkpolicy-demo-deny-all.yaml");
        assert_eq!(file_name(&json!({ "kind": "Node", "metadata": { "name": "node1" } })), "node-node1.yaml");
    }

    #[test]
    fn objects_are_yaml_that_reads_back() {
        let node = &LabSpec::default().plan().nodes[2];
        let object = node_object(node);
        let text = serde_saphyr::to_string(&object).unwrap();
        assert!(text.contains("rack: rack2"), "{text}");
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), object);
    }
}
