//! Who this node speaks BGP with.
//!
//! In: nodes, BGPConfiguration, BGPPeers with their profiles and filters, Secrets. Out: peers, at most one per remote
//! address. A BGPPeer that names a fellow node's address takes the place of the mesh's session with that node; as it may be
//! a reflector, it is trusted like a router. A peer that cannot be made safely (its password is missing) is not made at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use weft_api::crd::{AsnRule, BGPConfigurationSpec, BGPPeerSpec, NodeMesh, PeerAsn, SessionSettings};
use weft_bgp::rib::Prefixes;
use weft_bgp::speaker::{LocalNexthop, PeerConfig, RemoteAsn, Transport};
use weft_bgp::types::Asn;
use weft_policy::selector::Selector;
use weft_policy::translate;

use super::nodes::{NodeBgp, Overrides};
use super::{filters, settings};
use crate::object::CONFIGURATION;
use crate::{Kind, NodeInfo, Problem, Snapshot};

/// Of a router, unless its BGPPeer says otherwise.
const PORT: u16 = 179;

/// What plans of one node look at.
pub(super) struct Planner<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) configuration: &'a BGPConfigurationSpec,
    pub(super) overrides: &'a Overrides<'a>,
    pub(super) name: &'a str,
    pub(super) node: &'a NodeInfo,
    /// The node itself.
    pub(super) own: &'a NodeBgp,
}

/// What can be said of a BGPPeer without knowing the node.
pub(super) fn check(snapshot: &Snapshot, spec: &BGPPeerSpec) -> Result<(), String> {
    node_selector(spec)?;
    check_address(spec)?;
    let settings = session(snapshot, &snapshot.bgp.configuration(), spec)?;
    settings::password(snapshot, &settings)?;
    check_filters(snapshot, &settings)
}

/// Whether all filters of a session are there.
pub(super) fn check_filters(snapshot: &Snapshot, settings: &SessionSettings) -> Result<(), String> {
    let mut named = settings.import_filters.iter().chain(&settings.export_filters).flatten();
    let missing = named.find(|name| !snapshot.bgp.filters.contains_key(*name));
    missing.map_or(Ok(()), |name| Err(missing_filter(name)))
}

/// Names of the nodes that a BGPPeer selects, in order.
pub fn selected<'a>(
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

fn check_address(spec: &BGPPeerSpec) -> Result<IpAddr, String> {
    let address = spec.address.ok_or("spec.address: missing")?;
    let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if is_link_local || address.is_multicast() || address.is_unspecified() || address.is_loopback() {
        return Err(format!("spec.address: {address} is no address of a router"));
    }
    Ok(address)
}

/// As the peer, its profile and the cluster say.
fn session(
    snapshot: &Snapshot,
    configuration: &BGPConfigurationSpec,
    spec: &BGPPeerSpec,
) -> Result<SessionSettings, String> {
    let profile = match &spec.profile {
        None => SessionSettings::default(),
        Some(name) => match snapshot.bgp.profiles.get(name) {
            Some(profile) => profile.session.clone(),
            None => {
                return Err(format!(
                    "spec.profile: BGPPeerProfile {name} is missing; the session stays down"
                ));
            }
        },
    };
    Ok(spec.session.clone().or(&profile).or(&configuration.session))
}

pub(super) fn missing_filter(name: &str) -> String {
    format!(
        "spec.session.importFilters: BGPFilter {name} is missing; nothing is accepted where it would be asked"
    )
}

/// How the peers of the mesh are named: this and the node's name, which no BGPPeer's name can begin with.
pub const MESH: &str = "mesh/";

impl Planner<'_> {
    /// And the addresses of nodes that are none, as they are in another AS.
    pub(super) fn peers(&self, problems: &mut BTreeSet<Problem>) -> (Vec<PeerConfig>, BTreeSet<IpAddr>) {
        let accept = self.accepted();
        let mut peers: BTreeMap<IpAddr, PeerConfig> = BTreeMap::new();
        for (name, spec) in &self.snapshot.bgp.peers {
            let made = self
                .selects(spec)
                .and_then(|selected| selected.then(|| self.peer(name, spec, &accept, problems)).transpose());
            let made = match made {
                Ok(None) => continue,
                Ok(Some(peer)) => match peers.get(&peer.key.address) {
                    None => Ok(peer),
                    Some(first) => Err(format!("spec.address: BGPPeer {} has the same", first.name)),
                },
                Err(reason) => Err(reason),
            };
            match made {
                Ok(peer) => drop(peers.insert(peer.key.address, peer)),
                Err(reason) => drop(problems.insert(Problem::of(Kind::BgpPeer, name, reason))),
            }
        }
        let (mesh, parted) = self.mesh(problems);
        for peer in mesh {
            peers.entry(peer.key.address).or_insert(peer);
        }
        (peers.into_values().collect(), parted)
    }

    /// What routers may announce: the cluster's prefixes without those of this node, as nobody else has our pods. What lies
    /// inside ours but in another accepted prefix is left out when routes are planned.
    fn accepted(&self) -> Prefixes {
        let of_nodes = self.snapshot.nodes.values().flat_map(|node| node.pod_cidrs.iter().copied());
        let all = self.snapshot.bgp.cluster_cidrs().chain(of_nodes);
        all.filter(|prefix| !self.node.pod_cidrs.contains(prefix)).collect()
    }

    fn selects(&self, spec: &BGPPeerSpec) -> Result<bool, String> {
        Ok(node_selector(spec)?.is_none_or(|selector| selector.matches(&self.node.labels)))
    }

    fn peer(
        &self,
        name: &str,
        spec: &BGPPeerSpec,
        accept: &Prefixes,
        problems: &mut BTreeSet<Problem>,
    ) -> Result<PeerConfig, String> {
        let address = check_address(spec)?;
        if self.own.addresses.contains(&address) || self.node.internal_ips.contains(&address) {
            return Err(format!("spec.address: {address} is that of this node"));
        }
        let asn = match spec.asn {
            PeerAsn::Number(asn) => RemoteAsn::Number(Asn(asn)),
            PeerAsn::Rule(AsnRule::Internal) => RemoteAsn::Internal,
            PeerAsn::Rule(AsnRule::External) => RemoteAsn::External,
        };
        let settings = session(self.snapshot, self.configuration, spec)?;
        let password = settings::password(self.snapshot, &settings)?;
        let (import_filter, missing) = filters::chain(self.snapshot, settings.import_filters.as_deref());
        let (export_filter, missing_too) = filters::chain(self.snapshot, settings.export_filters.as_deref());
        for filter in missing.into_iter().chain(missing_too) {
            problems.insert(Problem::of(Kind::BgpPeer, name, missing_filter(&filter)));
        }
        // On a shared link the kernel knows best; over several hops the router expects the node's own address.
        let is_far = !asn.is_external(self.own.asn) || settings.multihop.is_some_and(|hops| hops > 1);
        let transport = Transport {
            port: spec.port.unwrap_or(PORT),
            local_address: if is_far { self.own_address(address.is_ipv4()) } else { None },
            ..Transport::default()
        };
        let peer = PeerConfig {
            passive: spec.passive.unwrap_or(false),
            import_filter,
            export_filter,
            accept: accept.clone(),
            transport,
            ..self.common(name.to_owned(), address, asn)
        };
        Ok(settings::apply(peer, self.own.asn, &settings, password))
    }

    /// Every other node of our AS, over the first family that both have; IPv4 before IPv6.
    fn mesh(&self, problems: &mut BTreeSet<Problem>) -> (Vec<PeerConfig>, BTreeSet<IpAddr>) {
        let (mut peers, mut parted) = (Vec::new(), BTreeSet::new());
        match self.configuration.node_mesh {
            NodeMesh::None => return (peers, parted),
            NodeMesh::Full => {}
        }
        let password = match settings::password(self.snapshot, &self.configuration.session) {
            Ok(password) => password,
            Err(reason) => {
                problems.insert(Problem::of(Kind::BgpConfiguration, CONFIGURATION, reason));
                return (peers, parted);
            }
        };
        let others = self.snapshot.nodes.iter().filter(|(name, _)| *name != self.name);
        for (name, node, bgp) in others.map(|(name, node)| (name, node, self.overrides.of(name, node))) {
            if bgp.asn != self.own.asn {
                parted.extend(bgp.addresses);
                continue;
            }
            let reachable = [true, false]
                .into_iter()
                .find_map(|v4| Some((self.own_address(v4)?, address(&bgp.addresses, v4)?)));
            let made = match reachable {
                Some((local, remote)) if local != remote => {
                    let peer = self.mesh_peer(name, node, bgp.listen_port, (local, remote));
                    Ok(settings::apply(peer, self.own.asn, &self.configuration.session, password.clone()))
                }
                Some((_, remote)) => {
                    Err(format!("status.addresses: {remote} is that of node {} too", self.name))
                }
                None => Err(format!(
                    "status.addresses: no InternalIP of a family that node {} has too",
                    self.name
                )),
            };
            match made {
                Ok(peer) => peers.push(peer),
                Err(reason) => drop(problems.insert(Problem::of(Kind::Node, name, reason))),
            }
        }
        (peers, parted)
    }

    /// It may announce what is that node's, or a part of it, its pods from former pod CIDRs, and nothing else; with itself as
    /// nexthop. So a node that comes or goes changes no other node's peer. Its AS is ours by the configuration, and another
    /// while an edit of it goes round and one of us has had its turn.
    fn mesh_peer(
        &self,
        name: &str,
        node: &NodeInfo,
        port: u16,
        (local, remote): (IpAddr, IpAddr),
    ) -> PeerConfig {
        let is_ours = |prefix: &IpNetwork| self.node.pod_cidrs.contains(prefix);
        let strays = self.snapshot.strays.get(name).into_iter().flatten();
        PeerConfig {
            accept: node.pod_cidrs.iter().chain(strays).copied().filter(|prefix| !is_ours(prefix)).collect(),
            enforce_own_nexthop: true,
            // The other node plans the opposite: of each pair one dials.
            let_peer_dial: local < remote,
            transport: Transport { port, local_address: Some(local), ..Transport::default() },
            ..self.common(format!("{MESH}{name}"), remote, RemoteAsn::Any)
        }
    }

    fn common(&self, name: String, address: IpAddr, asn: RemoteAsn) -> PeerConfig {
        let addresses = &self.own.addresses;
        let v4: Option<Ipv4Addr> =
            addresses.iter().find_map(|ip| if let IpAddr::V4(v4) = ip { Some(*v4) } else { None });
        let v6: Option<Ipv6Addr> =
            addresses.iter().find_map(|ip| if let IpAddr::V6(v6) = ip { Some(*v6) } else { None });
        PeerConfig { nexthop: LocalNexthop { v4, v6 }, ..PeerConfig::new(name, address, asn) }
    }

    fn own_address(&self, v4: bool) -> Option<IpAddr> {
        address(&self.own.addresses, v4)
    }
}

fn address(addresses: &[IpAddr], v4: bool) -> Option<IpAddr> {
    addresses.iter().copied().find(|ip| ip.is_ipv4() == v4)
}
