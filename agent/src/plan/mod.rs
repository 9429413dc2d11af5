//! From a snapshot to what this node wants. Pure.
//!
//! In: a [`Snapshot`] and the node's name. Out: [`Desired`]: the speaker's identity, peers, own prefixes. Routes are
//! planned in [`routes`], from what the speaker chose; policy in [`policy`], from the pods that are wired.

pub mod acceptance;
pub mod mtu;
pub mod peers;
pub mod policy;
pub mod routes;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use weft_bgp::speaker::{OriginConfig, PeerConfig};
use weft_bgp::types::{Asn, RouterId};
use weft_bgp::wire::{Community, LargeCommunity};

use crate::watch::{NodeInfo, Problem, Snapshot};

/// What this node wants, as far as the snapshot alone decides it.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    pub speaker: SpeakerPlan,
    pub peers: Vec<PeerConfig>,
    pub origin: OriginConfig,
    /// Pools for pods, and blackholes for what of them is unused.
    pub pod_cidrs: Vec<IpNetwork>,
    pub problems: BTreeSet<Problem>,
}

/// What a running speaker cannot change about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeakerPlan {
    pub asn: Asn,
    pub router_id: RouterId,
    pub max_paths: usize,
    /// Seconds; `None`: no graceful restart.
    pub restart_time: Option<u16>,
    pub listen_port: u16,
}

/// Addresses that a problem names.
const MAX_NAMED: usize = 5;

impl Desired {
    /// What `pods` of this node need beyond the plan: those in none of its pod CIDRs, which have changed under them, are
    /// announced one by one until they end.
    pub fn with_pods(mut self, node: &str, pods: &BTreeSet<IpNetwork>) -> Self {
        let is_planned = |pod: &IpNetwork| self.pod_cidrs.iter().any(|cidr| routes::covers(*cidr, *pod));
        let strays: Vec<IpNetwork> = pods.iter().copied().filter(|pod| !is_planned(pod)).collect();
        if !strays.is_empty() {
            let named: Vec<_> = strays.iter().take(MAX_NAMED).map(|pod| pod.ip().to_string()).collect();
            let reason = format!(
                "spec.podCIDRs: pods have {} addresses outside, announced one by one until they end: {}{}",
                strays.len(),
                named.join(", "),
                if strays.len() > MAX_NAMED { ", …" } else { "" }
            );
            self.problems.insert(Problem { object: format!("Node {node}"), reason });
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
        && one.bgp_peers == other.bgp_peers
        && one.secrets == other.secrets
        && one.strays == other.strays
}

pub fn desired(snapshot: &Snapshot, node: &str) -> Result<Desired, NotYet> {
    let own = snapshot.nodes.get(node).ok_or_else(|| NotYet::NoNode(node.to_owned()))?;
    let mut problems = BTreeSet::new();
    let speaker = SpeakerPlan {
        asn: asn_of(snapshot, own),
        router_id: router_id(node, own),
        max_paths: snapshot.bgp.max_paths.into(),
        restart_time: Some(snapshot.bgp.graceful_restart_seconds).filter(|seconds| *seconds > 0),
        listen_port: snapshot.bgp.listen_port,
    };
    let peers = peers::plan(snapshot, node, own, &mut problems);
    let (communities, large_communities) = communities(&snapshot.bgp.communities, &mut problems);
    let origin = OriginConfig { prefixes: own.pod_cidrs.clone(), communities, large_communities };
    if own.pod_cidrs.is_empty() {
        let reason = "has no podCIDRs: no pod can be wired".to_owned();
        problems.insert(Problem { object: format!("Node {node}"), reason });
    }
    Ok(Desired { speaker, peers, origin, pod_cidrs: own.pod_cidrs.clone(), problems })
}

/// The AS of a node: its annotation, else that of the cluster.
pub(crate) fn asn_of(snapshot: &Snapshot, node: &NodeInfo) -> Asn {
    Asn(node.asn.unwrap_or(snapshot.bgp.asn))
}

/// The first IPv4 InternalIP. A node without one gets a number out of its name: an identifier need not be an address
/// (RFC 6286), and must stay the same over restarts.
fn router_id(name: &str, node: &NodeInfo) -> RouterId {
    let address = node.internal_ips.iter().find_map(|ip| match ip {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    RouterId(
        address.unwrap_or_else(|| Ipv4Addr::from_bits(u32::try_from(seed(name) >> 32).unwrap_or(1).max(1))),
    )
}

/// A number out of a name, the same on every machine and in every version (FNV-1a).
pub fn seed(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn communities(texts: &[String], problems: &mut BTreeSet<Problem>) -> (Vec<Community>, Vec<LargeCommunity>) {
    let (mut communities, mut large) = (Vec::new(), Vec::new());
    for text in texts {
        let parts: Option<Vec<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
        match parts.as_deref() {
            Some(&[asn, value]) if asn <= 0xffff && value <= 0xffff => {
                communities.push(Community(asn << 16 | value));
            }
            Some(&[global, local1, local2]) => large.push(LargeCommunity { global, local1, local2 }),
            _ => {
                let reason = format!("spec.communities: {text:?} is no community, left out");
                problems.insert(Problem { object: "BGPConfiguration default".to_owned(), reason });
            }
        }
    }
    (communities, large)
}

#[cfg(test)]
mod tests;
