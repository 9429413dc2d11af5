//! Everything that the plans look at, typed and complete, at one moment.
//!
//! In: objects by key. Out: one value that never changes; the plans are functions of it. What did not change between two
//! snapshots they share: a node holds each pod of the cluster once, however many snapshots are in use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_api::crd::{BGPConfigurationSpec, BGPPeerSpec};
use weft_policy::model::{Labels, PodKey, PolicyKey, World};

use super::acceptance::Shown;
use super::object::{NodeInfo, Object, ObjectKey};
use super::{Kind, Problem};

/// The one BGPConfiguration that is read.
const CONFIGURATION_NAME: &str = "default";

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub nodes: BTreeMap<String, Arc<NodeInfo>>,
    /// Namespaces, pods and policies.
    pub world: World,
    /// By namespace, then name: decoded values.
    pub secrets: BTreeMap<(String, String), BTreeMap<String, Vec<u8>>>,
    /// Defaults where nobody wrote one.
    pub bgp: BGPConfigurationSpec,
    pub bgp_peers: BTreeMap<String, BGPPeerSpec>,
    /// Objects that do not act as written.
    pub problems: BTreeSet<Problem>,
    /// Of BGPConfigurations and BGPPeers, where the datastore has a status to write to.
    pub shown: BTreeMap<ObjectKey, Shown>,
}

impl Snapshot {
    /// A namespace that no object describes is unknown, and no selector of namespaces matches it, not even one of labels that
    /// it has not.
    pub fn new<'a>(
        objects: impl IntoIterator<Item = (&'a ObjectKey, &'a Object)>,
        problems: BTreeSet<Problem>,
    ) -> Self {
        let mut snapshot = Self { problems, ..Self::default() };
        for (key, object) in objects {
            snapshot.insert(key.clone(), object);
        }
        snapshot
    }

    fn insert(&mut self, key: ObjectKey, object: &Object) {
        let ObjectKey { kind: _, namespace, name } = key;
        match object {
            Object::Node(node) => drop(self.nodes.insert(name, Arc::clone(node))),
            Object::Namespace(labels) => drop(self.world.namespaces.insert(name, labels.clone())),
            Object::Pod(pod) => drop(self.world.pods.insert(PodKey { namespace, name }, Arc::clone(pod))),
            Object::NetworkPolicy(policy) => {
                self.world.policies.insert(PolicyKey { namespace, name }, Arc::clone(policy));
            }
            Object::Secret(values) => drop(self.secrets.insert((namespace, name), values.clone())),
            Object::BgpPeer(peer) => drop(self.bgp_peers.insert(name, peer.clone())),
            Object::BgpConfiguration(spec) if name == CONFIGURATION_NAME => self.bgp = spec.clone(),
            Object::BgpConfiguration(_) => {
                let object = format!("{} {name}", Kind::BgpConfiguration);
                let reason = format!("only the one named {CONFIGURATION_NAME} is read");
                self.problems.insert(Problem { object, reason });
            }
        }
    }

    /// For datastores where what is not there will not come: a namespace without an object, unless `may` says otherwise, has
    /// the one label that every namespace has.
    pub(super) fn imply_namespaces(&mut self, may: impl Fn(&ObjectKey) -> bool) {
        let World { namespaces, pods, policies: _ } = &mut self.world;
        for PodKey { namespace, name: _ } in pods.keys() {
            let key = ObjectKey { kind: Kind::Namespace, namespace: String::new(), name: namespace.clone() };
            if !namespaces.contains_key(namespace) && may(&key) {
                let labels: Labels = [("kubernetes.io/metadata.name".to_owned(), namespace.clone())].into();
                namespaces.insert(namespace.clone(), labels);
            }
        }
    }
}
