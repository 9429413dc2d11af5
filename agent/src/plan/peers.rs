//! Who this node speaks BGP with.
//!
//! In: nodes, BGPConfiguration, BGPPeers, Secrets. Out: peers, at most one per remote address. A BGPPeer that names a
//! fellow node's address takes the place of the mesh's session with that node; as it may be a reflector, it is trusted
//! like a router. A peer that cannot be made safely (its
//! password is missing) is not made at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use weft_api::crd::{AsnRule, BGPPeerSpec, Family, NodeMesh, PeerAsn, SecretKeyRef};
use weft_bgp::rib::Prefixes;
use weft_bgp::speaker::{Hops, LocalNexthop, Password, PeerConfig, RemoteAsn, Transport};
use weft_bgp::types::{AfiSafi, Asn, PeerKind};
use weft_policy::selector::Selector;
use weft_policy::translate;

use super::asn_of;
use crate::watch::object::parse_cidr;
use crate::watch::{NodeInfo, Problem, Snapshot};

pub(super) fn plan(
    snapshot: &Snapshot,
    name: &str,
    own: &NodeInfo,
    problems: &mut BTreeSet<Problem>,
) -> Vec<PeerConfig> {
    let planner =
        Planner { snapshot, name, own, asn: asn_of(snapshot, own), accept: accepted(snapshot, own) };
    let mut peers: BTreeMap<IpAddr, PeerConfig> = BTreeMap::new();
    for (name, spec) in &snapshot.bgp_peers {
        let made = match planner
            .selects(spec)
            .and_then(|selected| selected.then(|| planner.peer(name, spec)).transpose())
        {
            Ok(None) => continue,
            Ok(Some(peer)) => match peers.get(&peer.key.address) {
                None => Ok(peer),
                Some(first) => Err(format!("spec.address: BGPPeer {} has the same", first.name)),
            },
            Err(reason) => Err(reason),
        };
        match made {
            Ok(peer) => drop(peers.insert(peer.key.address, peer)),
            Err(reason) => drop(problems.insert(Problem { object: format!("BGPPeer {name}"), reason })),
        }
    }
    for peer in planner.mesh(problems) {
        peers.entry(peer.key.address).or_insert(peer);
    }
    peers.into_values().collect()
}

/// What can be said of a BGPPeer without knowing the node.
pub(super) fn check(snapshot: &Snapshot, spec: &BGPPeerSpec) -> Result<(), String> {
    node_selector(spec)?;
    check_address(spec.address)?;
    password(snapshot, spec).map(drop)
}

/// Names of the nodes that a BGPPeer selects, in order.
pub(super) fn selected<'a>(
    snapshot: &'a Snapshot,
    spec: &BGPPeerSpec,
) -> Result<impl Iterator<Item = &'a str> + use<'a>, String> {
    let selector = node_selector(spec)?.unwrap_or_default();
    let nodes = snapshot.nodes.iter().filter(move |(_, node)| selector.matches(&node.labels));
    Ok(nodes.map(|(name, _)| name.as_str()))
}

fn node_selector(spec: &BGPPeerSpec) -> Result<Option<Selector>, String> {
    let selector = spec.node_selector.as_ref().map(translate::selector).transpose();
    selector.map_err(|reason| format!("spec.nodeSelector: {reason}"))
}

fn check_address(address: IpAddr) -> Result<(), String> {
    let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if is_link_local || address.is_multicast() || address.is_unspecified() || address.is_loopback() {
        return Err(format!("spec.address: {address} is no address of a router"));
    }
    Ok(())
}

fn password(snapshot: &Snapshot, spec: &BGPPeerSpec) -> Result<Option<Password>, String> {
    let Some(SecretKeyRef { namespace, name, key }) = &spec.password_secret else { return Ok(None) };
    let secret = snapshot.secrets.get(&(namespace.clone(), name.clone()));
    let secret = secret.ok_or_else(|| {
        format!("spec.passwordSecret: Secret {namespace}/{name} is missing; the session stays down")
    })?;
    let value = secret.get(key).ok_or_else(|| {
        format!("spec.passwordSecret: Secret {namespace}/{name} has no key {key}; the session stays down")
    })?;
    let too_long = || {
        format!(
            "spec.passwordSecret: {key} of Secret {namespace}/{name} is not 1-{} bytes long",
            Password::MAX_LEN
        )
    };
    Password::new(value).map(Some).ok_or_else(too_long)
}

/// How the peers of the mesh are named: this and the node's name, which no BGPPeer's name can begin with.
pub const MESH: &str = "mesh/";

/// What routers may announce: the cluster's prefixes without those of this node, as nobody else has our pods. What lies
/// inside ours but in another accepted prefix is left out when routes are planned.
fn accepted(snapshot: &Snapshot, own: &NodeInfo) -> Prefixes {
    let configured = snapshot.bgp.cluster_cidrs.iter().filter_map(|text| parse_cidr(text).ok());
    let of_nodes = snapshot.nodes.values().flat_map(|node| node.pod_cidrs.iter().copied());
    configured.chain(of_nodes).filter(|prefix| !own.pod_cidrs.contains(prefix)).collect()
}

struct Planner<'a> {
    snapshot: &'a Snapshot,
    name: &'a str,
    own: &'a NodeInfo,
    asn: Asn,
    accept: Prefixes,
}

impl Planner<'_> {
    fn selects(&self, spec: &BGPPeerSpec) -> Result<bool, String> {
        Ok(node_selector(spec)?.is_none_or(|selector| selector.matches(&self.own.labels)))
    }

    fn peer(&self, name: &str, spec: &BGPPeerSpec) -> Result<PeerConfig, String> {
        if self.own.internal_ips.contains(&spec.address) {
            return Err(format!("spec.address: {} is that of this node", spec.address));
        }
        check_address(spec.address)?;
        let asn = match spec.asn {
            PeerAsn::Number(asn) => RemoteAsn::Number(Asn(asn)),
            PeerAsn::Rule(AsnRule::Internal) => RemoteAsn::Internal,
            PeerAsn::Rule(AsnRule::External) => RemoteAsn::External,
        };
        let more: Vec<_> = spec.accept_cidrs.iter().filter_map(|text| parse_cidr(text).ok()).collect();
        let accept = match more.as_slice() {
            [] => self.accept.clone(),
            _ => self.accept.iter().chain(more).collect(),
        };
        let hops = match (spec.ttl_security, spec.multihop) {
            (Some(hops), _) => Hops::Security(hops),
            (None, Some(hops)) => Hops::Multihop(hops),
            (None, None) => Hops::Default,
        };
        // On a shared link the kernel knows best; over several hops the router expects the node's own address.
        let is_far = asn.kind(self.asn) == PeerKind::Internal || spec.multihop.is_some();
        let password = password(self.snapshot, spec)?;
        Ok(PeerConfig {
            families: families(&spec.families),
            passive: spec.passive,
            hold_time: spec.hold_time_seconds.unwrap_or(self.snapshot.bgp.hold_time_seconds),
            extended_nexthop: spec.extended_nexthop,
            accept,
            accept_default_route: spec.accept_default_route,
            enforce_first_asn: spec.enforce_first_asn,
            max_prefixes: spec.max_prefixes,
            transport: Transport {
                port: spec.port,
                local_address: if is_far { self.own_address(spec.address.is_ipv4()) } else { None },
                hops,
                password,
            },
            ..self.common(name.to_owned(), spec.address, asn)
        })
    }

    /// Every other node of our AS, over the first family that both have; IPv4 before IPv6.
    fn mesh(&self, problems: &mut BTreeSet<Problem>) -> Vec<PeerConfig> {
        match self.snapshot.bgp.node_mesh {
            NodeMesh::None => return Vec::new(),
            NodeMesh::Full => {}
        }
        let others = self
            .snapshot
            .nodes
            .iter()
            .filter(|(name, node)| *name != self.name && asn_of(self.snapshot, node) == self.asn);
        let mut peers = Vec::new();
        for (name, node) in others {
            let reachable =
                [true, false].into_iter().find_map(|v4| Some((self.own_address(v4)?, address(node, v4)?)));
            match reachable {
                Some((local, remote)) if local != remote => {
                    peers.push(self.mesh_peer(name, node, (local, remote)));
                }
                Some((_, remote)) => {
                    let reason = format!("status.addresses: {remote} is that of node {} too", self.name);
                    problems.insert(Problem { object: format!("Node {name}"), reason });
                }
                None => {
                    let reason = format!(
                        "status.addresses: no InternalIP of a family that node {} has too",
                        self.name
                    );
                    problems.insert(Problem { object: format!("Node {name}"), reason });
                }
            }
        }
        peers
    }

    /// It may announce what is that node's, or a part of it, its pods from former pod CIDRs, and nothing else; with itself as
    /// nexthop. So a node that comes or goes changes no other node's peer.
    fn mesh_peer(&self, name: &str, node: &NodeInfo, (local, remote): (IpAddr, IpAddr)) -> PeerConfig {
        let is_ours = |prefix: &IpNetwork| self.own.pod_cidrs.contains(prefix);
        let strays = self.snapshot.strays.get(name).into_iter().flatten();
        PeerConfig {
            accept: node.pod_cidrs.iter().chain(strays).copied().filter(|prefix| !is_ours(prefix)).collect(),
            enforce_own_nexthop: true,
            hold_time: self.snapshot.bgp.hold_time_seconds,
            // The other node plans the opposite: of each pair one dials.
            let_peer_dial: local < remote,
            transport: Transport {
                port: self.snapshot.bgp.listen_port,
                local_address: Some(local),
                ..Transport::default()
            },
            ..self.common(format!("{MESH}{name}"), remote, RemoteAsn::Internal)
        }
    }

    fn common(&self, name: String, address: IpAddr, asn: RemoteAsn) -> PeerConfig {
        let nexthop = LocalNexthop {
            v4: self
                .own
                .internal_ips
                .iter()
                .find_map(|ip| if let IpAddr::V4(v4) = ip { Some(*v4) } else { None }),
            v6: self
                .own
                .internal_ips
                .iter()
                .find_map(|ip| if let IpAddr::V6(v6) = ip { Some(*v6) } else { None }),
        };
        let connect_retry = Duration::from_secs(self.snapshot.bgp.connect_retry_seconds.into());
        PeerConfig { connect_retry, nexthop, ..PeerConfig::new(name, address, asn) }
    }

    fn own_address(&self, v4: bool) -> Option<IpAddr> {
        address(self.own, v4)
    }
}

fn address(node: &NodeInfo, v4: bool) -> Option<IpAddr> {
    node.internal_ips.iter().copied().find(|ip| ip.is_ipv4() == v4)
}

/// In our order, each once.
fn families(written: &[Family]) -> Vec<AfiSafi> {
    let wanted = |family| match family {
        AfiSafi::Ipv4Unicast => Family::Ipv4,
        AfiSafi::Ipv6Unicast => Family::Ipv6,
    };
    AfiSafi::ALL.into_iter().filter(|family| written.contains(&wanted(*family))).collect()
}
