//! How each node speaks BGP: what the cluster's configuration says, and the overrides that select the node.
//!
//! In: nodes, the BGPConfiguration, BGPNodeOverrides. Out: a [`NodeBgp`] for any node, the same on every machine, since
//! fellow nodes must know where a node listens and in which AS it is. Of two overrides that say different things the first
//! by name counts.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use weft_api::crd::{BGPConfigurationSpec, BGPNodeOverrideSpec};
use weft_bgp::types::{Asn, RouterId};
use weft_policy::selector::Selector;
use weft_policy::translate;

use super::seed;
use crate::{NodeInfo, Snapshot};

/// One node, as its fellow nodes see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeBgp {
    pub asn: Asn,
    pub router_id: RouterId,
    pub listen_port: u16,
    /// What it speaks from: one per family, in order of preference.
    pub addresses: Vec<IpAddr>,
}

/// The overrides, ready to be asked for many nodes.
#[derive(Debug)]
pub struct Overrides<'a> {
    configuration: &'a BGPConfigurationSpec,
    overrides: Vec<(&'a str, Selector, BGPNodeOverrideSpec)>,
}

/// What only one node can have.
const OF_ONE: &str = "selects more than one node, and these cannot share a router ID or an address";

impl<'a> Overrides<'a> {
    pub fn new(snapshot: &'a Snapshot, configuration: &'a BGPConfigurationSpec) -> Self {
        let overrides = snapshot.bgp.overrides.iter().filter_map(|(name, spec)| {
            let selector = translate::selector(&spec.node_selector).ok()?;
            Some((name.as_str(), selector, usable(snapshot, spec)))
        });
        Self { configuration, overrides: overrides.collect() }
    }

    pub fn of(&self, name: &str, node: &NodeInfo) -> NodeBgp {
        let first = |addresses: &[IpAddr], v4: bool| addresses.iter().copied().find(|ip| ip.is_ipv4() == v4);
        let local = self.said(node, |spec| spec.local_addresses.as_deref()).unwrap_or(&node.internal_ips);
        let addresses: Vec<_> = [true, false].into_iter().filter_map(|v4| first(local, v4)).collect();
        let router_id =
            self.said(node, |spec| spec.router_id).unwrap_or_else(|| router_id(name, &node.internal_ips));
        NodeBgp {
            asn: Asn(self.said(node, |spec| spec.asn).unwrap_or(self.configuration.asn)),
            router_id: RouterId(router_id),
            listen_port: self.said(node, |spec| spec.listen_port).unwrap_or(self.configuration.listen_port),
            addresses,
        }
    }

    /// By the first override that selects the node and says it.
    fn said<'s, T>(
        &'s self,
        node: &NodeInfo,
        field: impl Fn(&'s BGPNodeOverrideSpec) -> Option<T>,
    ) -> Option<T> {
        let mut selecting = self.overrides.iter().filter(|(_, selector, _)| selector.matches(&node.labels));
        selecting.find_map(|(_, _, spec)| field(spec))
    }

    /// For each override that is not in force as written on this node, why.
    pub fn overruled(&self, node: &NodeInfo) -> BTreeMap<&'a str, String> {
        let selecting: Vec<_> =
            self.overrides.iter().filter(|(_, selector, _)| selector.matches(&node.labels)).collect();
        let differs = |spec: &BGPNodeOverrideSpec, earlier: &BGPNodeOverrideSpec| {
            let fields = [
                ("asn", differ(&spec.asn, &earlier.asn)),
                ("listenPort", differ(&spec.listen_port, &earlier.listen_port)),
                ("routerId", differ(&spec.router_id, &earlier.router_id)),
                ("localAddresses", differ(&spec.local_addresses, &earlier.local_addresses)),
            ];
            fields.into_iter().find(|(_, differ)| *differ).map(|(field, _)| field)
        };
        let mut overruled = BTreeMap::new();
        for (index, (name, _, spec)) in selecting.iter().enumerate() {
            let rival = selecting[..index]
                .iter()
                .find_map(|(earlier, _, other)| Some((earlier, differs(spec, other)?)));
            if let Some((earlier, field)) = rival {
                overruled.insert(*name, format!("spec.{field}: BGPNodeOverride {earlier} says otherwise"));
            }
        }
        overruled
    }
}

fn differ<T: PartialEq>(one: &Option<T>, other: &Option<T>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

/// Without what only one node can have, where it selects several. The rest holds: a node that joins must not throw others out
/// of their AS.
fn usable(snapshot: &Snapshot, spec: &BGPNodeOverrideSpec) -> BGPNodeOverrideSpec {
    let spec = spec.clone();
    match check(snapshot, &spec) {
        Ok(()) => spec,
        Err(_) => BGPNodeOverrideSpec { router_id: None, local_addresses: None, ..spec },
    }
}

/// What can be said of an override without knowing the node.
pub(super) fn check(snapshot: &Snapshot, spec: &BGPNodeOverrideSpec) -> Result<(), String> {
    let selector =
        translate::selector(&spec.node_selector).map_err(|reason| format!("spec.nodeSelector: {reason}"))?;
    let selected = snapshot.nodes.values().filter(|node| selector.matches(&node.labels)).count();
    let of_one = [("routerId", spec.router_id.is_some()), ("localAddresses", spec.local_addresses.is_some())];
    match of_one.into_iter().find(|(_, said)| *said) {
        Some((field, _)) if selected > 1 => Err(format!("spec.{field}: {OF_ONE}")),
        _ => Ok(()),
    }
}

/// The first IPv4 InternalIP. A node without one gets a number out of its name: an identifier need not be an address
/// (RFC 6286), and must stay the same over restarts.
fn router_id(name: &str, internal_ips: &[IpAddr]) -> Ipv4Addr {
    let address = internal_ips.iter().find_map(|ip| match ip {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    address.unwrap_or_else(|| Ipv4Addr::from_bits(u32::try_from(seed(name) >> 32).unwrap_or(1).max(1)))
}
