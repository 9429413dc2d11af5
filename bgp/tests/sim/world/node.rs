//! A node, its addresses and its prefixes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use weft_bgp::session::StateKind;
use weft_bgp::speaker::{LocalNexthop, PeerConfig, PeerKey, Speaker, SpeakerConfig};
use weft_bgp::types::{Asn, FibNexthop, Instant, RemoteAsn, RouterId};

use super::Moment;

/// One node: its speaker, and the kernel that survives it.
pub(crate) struct Node {
    pub(crate) speaker: Option<Speaker>,
    pub(crate) fib: BTreeMap<IpNetwork, Vec<FibNexthop>>,
    /// Prefixes that the speaker has confirmed since it started; the rest goes when it has converged.
    pub(super) fresh: BTreeSet<IpNetwork>,
    pub(crate) origin: Vec<IpNetwork>,
    pub(crate) peers: Vec<PeerConfig>,
    /// Sessions that are up.
    pub(super) established: usize,
    pub(super) config: SpeakerConfig,
    /// Counts starts: what was under way for an earlier one does not arrive.
    pub(super) epoch: u32,
    pub(super) accepted: u64,
    pub(crate) converged_at: Option<Instant>,
    /// Every withdrawal from the FIB, and when.
    pub(crate) lost: Vec<(Instant, IpNetwork)>,
    pub(crate) transitions: Vec<(Instant, PeerKey, StateKind)>,
    /// The one alarm that is set.
    pub(super) alarm: Option<Moment>,
}

impl Node {
    /// With a prefix of its own and without peers.
    pub(crate) fn new(index: usize, asn: u32, seed: u64) -> Self {
        Self {
            speaker: None,
            fib: BTreeMap::new(),
            fresh: BTreeSet::new(),
            origin: vec![prefix(index, 0)],
            peers: Vec::new(),
            established: 0,
            config: SpeakerConfig::new(Asn(asn), RouterId(router_id(index)), seed),
            epoch: 0,
            accepted: 0,
            converged_at: None,
            lost: Vec::new(),
            transitions: Vec::new(),
            alarm: None,
        }
    }
}

/// `other`, in this AS, as a peer of `index`.
pub(crate) fn peer(index: usize, other: usize, asn: u32) -> PeerConfig {
    PeerConfig {
        accept: vec!["10.0.0.0/8".parse().unwrap()].into(),
        nexthop: LocalNexthop { v4: Some(router_id(index)), v6: None },
        ..PeerConfig::new(format!("n{other}"), address(other), RemoteAsn::Number(Asn(asn)))
    }
}

fn router_id(node: usize) -> Ipv4Addr {
    let IpAddr::V4(id) = address(node) else { unreachable!("nodes have IPv4 addresses") };
    id
}

/// The first node's address.
const FIRST: u32 = u32::from_be_bytes([10, 0, 0, 1]);
/// The first of the prefixes that nodes announce: 16 of each.
const FIRST_PREFIX: u32 = u32::from_be_bytes([10, 64, 0, 0]);
/// The prefixes fill 10.64.0.0/10.
pub(crate) const MAX_NODES: usize = 1024;

pub(crate) fn address(node: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(FIRST + u32::try_from(node).unwrap()))
}

pub(super) fn node_at(address: IpAddr) -> usize {
    let IpAddr::V4(address) = address else { unreachable!("nodes have IPv4 addresses") };
    usize::try_from(address.to_bits() - FIRST).unwrap()
}

pub(crate) fn key(node: usize) -> PeerKey {
    PeerKey { address: address(node), interface: None }
}

pub(crate) fn prefix(node: usize, index: u8) -> IpNetwork {
    assert!(node < MAX_NODES && index < 16);
    let network = FIRST_PREFIX + ((u32::try_from(node).unwrap() * 16 + u32::from(index)) << 8);
    IpNetwork::new(Ipv4Addr::from_bits(network).into(), 24).unwrap()
}
