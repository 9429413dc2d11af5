//! From a snapshot to what this node wants. Pure.
//!
//! In: a [`Snapshot`] and the node's name. Out: [`Desired`]: the speaker's identity, peers, own prefixes. What
//! follows from more than a snapshot (what the speaker chose, the pods that are wired) is planned by the agent.

pub mod acceptance;
pub mod filters;
pub mod nodes;
pub mod peers;
mod settings;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use weft_api::crd::BGPAdvertisementSpec;
use weft_api::hash::fnv1a;
use weft_api::prefix::holds;
use weft_bgp::random::SplitMix64;
use weft_bgp::speaker::{OriginConfig, PeerConfig};
use weft_bgp::types::{Asn, RouterId};
use weft_policy::translate;

use self::nodes::Overrides;
use self::peers::Planner;
use crate::{Kind, NodeInfo, Problem, Snapshot};

/// What this node wants, as far as the snapshot alone decides it.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    pub speaker: SpeakerPlan,
    pub peers: Vec<PeerConfig>,
    pub origin: OriginConfig,
    /// How long what ends sessions on every node waits on this one.
    pub turn: Duration,
    /// After how long it has ended them on all.
    pub round: Duration,
    /// Addresses of nodes that are in another AS, and so no peers of the mesh, be it since a moment ago.
    pub parted: BTreeSet<IpAddr>,
    /// Pools for pods, and blackholes for what of them is unused.
    pub pod_cidrs: Vec<IpNetwork>,
    pub problems: BTreeSet<Problem>,
}

/// The speaker itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeakerPlan {
    pub asn: Asn,
    pub router_id: RouterId,
    pub max_paths: usize,
    /// Seconds; `None`: no graceful restart.
    pub restart_time: Option<u16>,
    pub listen_port: u16,
}

impl SpeakerPlan {
    /// What all its sessions began with: only another speaker can have other ones.
    pub fn identity(&self) -> (Asn, RouterId) {
        (self.asn, self.router_id)
    }
}

/// Between two nodes that end their sessions for the same edit, unless they are many.
const TURN: Duration = Duration::from_secs(2);
/// All nodes have had their turn after so long.
const ROUND: Duration = Duration::from_secs(60);

/// Addresses that a problem names.
const MAX_NAMED: usize = 5;

impl Desired {
    /// What `pods` of this node need beyond the plan: those in none of its pod CIDRs, which have changed under them, are
    /// announced one by one until they end.
    pub fn with_pods(mut self, node: &str, pods: &BTreeSet<IpNetwork>) -> Self {
        let is_planned = |pod: &IpNetwork| self.pod_cidrs.iter().any(|cidr| holds(*cidr, *pod));
        let strays: Vec<IpNetwork> = pods.iter().copied().filter(|pod| !is_planned(pod)).collect();
        if !strays.is_empty() {
            let named: Vec<_> = strays.iter().take(MAX_NAMED).map(|pod| pod.ip().to_string()).collect();
            let reason = format!(
                "spec.podCIDRs: pods have {} addresses outside, announced one by one until they end: {}{}",
                strays.len(),
                named.join(", "),
                if strays.len() > MAX_NAMED { ", …" } else { "" }
            );
            self.problems.insert(Problem::of(Kind::Node, node, reason));
        }
        self.origin.prefixes.extend(strays);
        self
    }
}

/// Why nothing can be planned yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotYet {
    #[error("the datastore has no Node {0}")]
    NoNode(String),
}

/// Whether [`desired`] would say the same of both: most snapshots differ in pods alone.
pub fn reads_the_same(one: &Snapshot, other: &Snapshot) -> bool {
    one.nodes == other.nodes
        && one.bgp == other.bgp
        && one.secrets == other.secrets
        && one.strays == other.strays
}

pub fn desired(snapshot: &Snapshot, node: &str) -> Result<Desired, NotYet> {
    let own = snapshot.nodes.get(node).ok_or_else(|| NotYet::NoNode(node.to_owned()))?;
    let mut problems = BTreeSet::new();
    let configuration = &*snapshot.bgp.configuration();
    let overrides = &Overrides::new(snapshot, configuration);
    let bgp = &overrides.of(node, own);
    for (name, reason) in overrides.overruled(own) {
        problems.insert(Problem::of(Kind::BgpNodeOverride, name, reason));
    }
    let speaker = SpeakerPlan {
        asn: bgp.asn,
        router_id: bgp.router_id,
        max_paths: configuration.max_paths.into(),
        restart_time: Some(configuration.graceful_restart.restart_seconds).filter(|seconds| *seconds > 0),
        listen_port: bgp.listen_port,
    };
    let planner = Planner { snapshot, configuration, overrides, name: node, node: own, own: bgp };
    let (peers, parted) = planner.peers(&mut problems);
    let origin = origin(snapshot, own);
    if own.pod_cidrs.is_empty() {
        let reason = "has no podCIDRs: no pod can be wired".to_owned();
        problems.insert(Problem::of(Kind::Node, node, reason));
    }
    let (turn, round) = turn(snapshot.nodes.keys(), node);
    let pod_cidrs = own.pod_cidrs.clone();
    Ok(Desired { speaker, peers, origin, turn, round, parted, pod_cidrs, problems })
}

/// This node's, in an order that scatters racks, and the end of the last.
fn turn<'a>(nodes: impl ExactSizeIterator<Item = &'a String>, node: &str) -> (Duration, Duration) {
    let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
    let step = TURN.min(ROUND / count.max(1));
    let earlier = nodes.filter(|other| (seed(other), other.as_str()) < (seed(node), node)).count();
    (step * u32::try_from(earlier).unwrap_or(u32::MAX), step * count)
}

/// The node's pod CIDRs, with what all BGPAdvertisements that select it attach.
fn origin(snapshot: &Snapshot, node: &NodeInfo) -> OriginConfig {
    let selects = |spec: &&BGPAdvertisementSpec| {
        let selector = spec.node_selector.as_ref().map(translate::selector).transpose();
        selector.is_ok_and(|selector| selector.is_none_or(|selector| selector.matches(&node.labels)))
    };
    let chosen = snapshot.bgp.advertisements.values().filter(selects).flat_map(|spec| &spec.communities);
    let communities: BTreeSet<_> = chosen.collect();
    OriginConfig {
        prefixes: node.pod_cidrs.clone(),
        communities: communities.into_iter().map(filters::community).collect(),
    }
}

/// A number out of a name, the same on every machine and in every version. Mixed once more: the bare hash of names that differ in
/// their last letters, as those of a rack do, differs little.
pub fn seed(name: &str) -> u64 {
    SplitMix64::new(fnv1a(name.bytes())).draw()
}

#[cfg(test)]
mod tests;
