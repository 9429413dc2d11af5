//! Everything that the plans look at, typed and complete, at one moment.
//!
//! In: objects by key. Out: one value that never changes; the plans are functions of it. What did not change between two
//! snapshots they share: a node holds each pod of the cluster once, however many snapshots are in use, and where only pods
//! change, which is most of the time, the next snapshot costs what those pods do.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use weft_api::crd::{
    BGPAdvertisementSpec, BGPConfigurationSpec, BGPFilterSpec, BGPNodeOverrideSpec, BGPPeerProfileSpec,
    BGPPeerSpec, SecretKeyRef,
};
use weft_policy::model::{CopyOnWrite, Labels, Pod, PodKey, Pods, PolicyKey, World};

use crate::object::{CONFIGURATION, NodeInfo, Object, ObjectKey};
use crate::shown::Shown;
use crate::{Kind, Problem};

/// Of one node: as many pods as run on a large one.
const MAX_STRAYS: usize = 256;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub nodes: CopyOnWrite<BTreeMap<String, Arc<NodeInfo>>>,
    /// Namespaces, pods and policies.
    pub world: World,
    /// By node: addresses of its pods that are in no node's pod CIDRs, as those have changed under them.
    pub strays: CopyOnWrite<BTreeMap<String, BTreeSet<IpNetwork>>>,
    /// Of the agents' own namespace, by name: decoded values.
    pub secrets: CopyOnWrite<BTreeMap<String, BTreeMap<String, Vec<u8>>>>,
    pub bgp: CopyOnWrite<BgpObjects>,
    /// Objects that do not act as written.
    pub problems: CopyOnWrite<BTreeSet<Problem>>,
    /// Of [`Kind::OURS`], where the datastore has a status to write to.
    pub shown: CopyOnWrite<BTreeMap<ObjectKey, Shown>>,
}

/// How nodes speak BGP, as users wrote it, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BgpObjects {
    /// `None` where nobody wrote one: the defaults hold.
    pub written: Option<BGPConfigurationSpec>,
    pub peers: BTreeMap<String, BGPPeerSpec>,
    pub profiles: BTreeMap<String, BGPPeerProfileSpec>,
    pub overrides: BTreeMap<String, BGPNodeOverrideSpec>,
    pub filters: BTreeMap<String, BGPFilterSpec>,
    pub advertisements: BTreeMap<String, BGPAdvertisementSpec>,
}

impl BgpObjects {
    pub fn configuration(&self) -> Cow<'_, BGPConfigurationSpec> {
        self.written.as_ref().map_or_else(|| Cow::Owned(BGPConfigurationSpec::default()), Cow::Borrowed)
    }

    /// Those that sessions name, wherever they do.
    pub fn password_secrets(&self) -> impl Iterator<Item = &SecretKeyRef> {
        let of_peers = self.peers.values().map(|peer| &peer.session);
        let of_profiles = self.profiles.values().map(|profile| &profile.session);
        let of_all = self.written.iter().map(|written| &written.session);
        let sessions = of_peers.chain(of_profiles).chain(of_all);
        sessions.filter_map(|session| session.security.password_secret.as_ref())
    }

    /// What `other` has takes the place of what is here by that name.
    pub fn override_by(&mut self, other: Self) {
        let Self { written, peers, profiles, overrides, filters, advertisements } = other;
        self.written = written.or(self.written.take());
        self.peers.extend(peers);
        self.profiles.extend(profiles);
        self.overrides.extend(overrides);
        self.filters.extend(filters);
        self.advertisements.extend(advertisements);
    }

    /// Prefixes within which learned routes are accepted.
    pub fn cluster_cidrs(&self) -> impl Iterator<Item = IpNetwork> {
        self.written.iter().flat_map(|written| &written.cluster_cidrs).map(|cidr| cidr.network())
    }
}

impl Snapshot {
    /// A namespace that no object describes is unknown, and no selector of namespaces matches it, not even one of labels that
    /// it has not.
    pub fn new<'a>(
        objects: impl IntoIterator<Item = (&'a ObjectKey, &'a Object)>,
        problems: BTreeSet<Problem>,
    ) -> Self {
        let mut snapshot = Self { problems: CopyOnWrite::new(problems), ..Self::default() };
        for (key, object) in objects {
            snapshot.insert(key.clone(), object);
        }
        snapshot.find_strays();
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
            Object::Secret(values) => drop(self.secrets.insert(name, values.clone())),
            Object::BgpPeer(spec) => drop(self.bgp.peers.insert(name, spec.clone())),
            Object::BgpPeerProfile(spec) => drop(self.bgp.profiles.insert(name, spec.clone())),
            Object::BgpNodeOverride(spec) => drop(self.bgp.overrides.insert(name, spec.clone())),
            Object::BgpFilter(spec) => drop(self.bgp.filters.insert(name, spec.clone())),
            Object::BgpAdvertisement(spec) => drop(self.bgp.advertisements.insert(name, spec.clone())),
            Object::BgpConfiguration(spec) if name == CONFIGURATION => {
                self.bgp.written = Some(spec.clone());
            }
            Object::BgpConfiguration(_) => {
                let reason = format!("only the one named {CONFIGURATION} is read");
                self.problems.insert(Problem::of(Kind::BgpConfiguration, &name, reason));
            }
        }
    }

    /// The same cluster with other pods. It takes as long as there are pods that differ.
    pub fn with_pods(&self, pods: &Pods) -> Self {
        let changes = pods.changes_since(&self.world.pods);
        let mut changed = changes.iter().flat_map(|change| [change.before, change.after]).flatten();
        let strays_differ = changed.any(|pod| self.strays_of(pod).next().is_some());
        let mut next = Self { world: World { pods: pods.clone(), ..self.world.clone() }, ..self.clone() };
        if strays_differ {
            next.find_strays();
        }
        next
    }

    fn find_strays(&mut self) {
        let mut strays: BTreeMap<String, BTreeSet<IpNetwork>> = BTreeMap::new();
        for (node, ip) in self.world.pods.values().flat_map(|pod| self.strays_of(pod)) {
            let of_node = strays.entry(node.to_owned()).or_default();
            if of_node.len() < MAX_STRAYS {
                of_node.insert(ip.into());
            }
        }
        self.strays = CopyOnWrite::new(strays);
    }

    /// With the name of its node. Only within the cluster's CIDRs, and not within what is another node's by now: a node may
    /// claim what was its own, and nothing else, by what it says of its pods.
    fn strays_of<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = (&'a str, IpAddr)> {
        let node = pod.node.as_ref().filter(|_| pod.active && !pod.host_network);
        let node = node.and_then(|name| self.nodes.get_key_value(name));
        node.into_iter().flat_map(move |(name, node)| {
            let ips = pod.ips.iter().copied().filter(|ip| !is_within(node.pod_cidrs.iter().copied(), *ip));
            let strays = ips.filter(|ip| is_within(self.bgp.cluster_cidrs(), *ip) && !self.is_of_a_node(*ip));
            strays.map(|ip| (name.as_str(), ip))
        })
    }

    fn is_of_a_node(&self, ip: IpAddr) -> bool {
        is_within(self.nodes.values().flat_map(|node| node.pod_cidrs.iter().copied()), ip)
    }

    /// For datastores where what is not there will not come: a namespace without an object, unless `may` says otherwise, has
    /// the one label that every namespace has.
    pub(crate) fn imply_namespaces(&mut self, may: impl Fn(&ObjectKey) -> bool) {
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

fn is_within(mut cidrs: impl Iterator<Item = IpNetwork>, ip: IpAddr) -> bool {
    cidrs.any(|cidr| cidr.contains(ip))
}

#[cfg(test)]
mod tests {
    use weft_policy::model::Pod;

    use super::*;

    fn key(kind: Kind, name: &str) -> ObjectKey {
        ObjectKey { kind, namespace: String::new(), name: name.to_owned() }
    }

    /// Two nodes, and no pods.
    fn cluster() -> Vec<(ObjectKey, Object)> {
        let node = |cidr: &str| {
            let pod_cidrs = vec![cidr.parse().unwrap()];
            Object::Node(Arc::new(NodeInfo { pod_cidrs, ..NodeInfo::default() }))
        };
        let cluster_cidrs = vec!["10.0.0.0/8".parse().unwrap()];
        let configuration = BGPConfigurationSpec { cluster_cidrs, ..BGPConfigurationSpec::default() };
        vec![
            (key(Kind::BgpConfiguration, "default"), Object::BgpConfiguration(configuration)),
            (key(Kind::Node, "n1"), node("10.1.0.0/24")),
            (key(Kind::Node, "n2"), node("10.2.0.0/24")),
        ]
    }

    fn pod(name: &str, ip: &str, node: &str, active: bool, host_network: bool) -> (ObjectKey, Object) {
        let (ips, node) = ([ip.parse().unwrap()].into(), Some(node.to_owned()));
        let pod = Pod { ips, node, active, host_network, ..Pod::default() };
        (key(Kind::Pod, name), Object::Pod(Arc::new(pod)))
    }

    fn snapshot(pods: &[(ObjectKey, Object)]) -> Snapshot {
        let objects = cluster();
        let objects = objects.iter().chain(pods).map(|(key, object)| (key, object));
        Snapshot::new(objects, BTreeSet::new())
    }

    #[test]
    fn strays_are_active_pods_of_the_cluster_that_are_in_no_node_s_pod_cidrs() {
        let snapshot = snapshot(&[
            pod("inside", "10.1.0.7", "n1", true, false),
            pod("stray", "10.7.0.7", "n1", true, false),
            pod("ended", "10.7.0.8", "n1", false, false),
            pod("host", "10.7.0.9", "n1", true, true),
            pod("nowhere", "10.7.0.10", "n9", true, false),
            pod("of-another", "10.2.0.7", "n1", true, false),
            pod("foreign", "8.8.8.8", "n1", true, false),
        ]);
        assert_eq!(snapshot.strays, [("n1".to_owned(), ["10.7.0.7/32".parse().unwrap()].into())].into());
    }

    #[test]
    fn with_other_pods_a_snapshot_is_what_it_would_be_if_it_were_made_of_them() {
        let (inside, other) =
            (pod("a", "10.1.0.7", "n1", true, false), pod("b", "10.2.0.7", "n2", true, false));
        let stray = |name: &str, ip: &str| pod(name, ip, "n1", true, false);
        let stages = [
            vec![],
            vec![inside.clone(), other.clone()],
            vec![stray("a", "10.7.0.7"), other.clone()],
            vec![stray("a", "10.7.0.8"), stray("b", "10.7.0.9")],
            vec![stray("b", "10.7.0.9")],
            vec![inside],
        ];
        let mut followed = snapshot(&[]);
        for pods in stages {
            let made = snapshot(&pods);
            followed = followed.with_pods(&made.world.pods);
            assert_eq!(followed, made);
        }
    }
}
