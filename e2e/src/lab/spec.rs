//! What a lab consists of, and the plan that follows from it: names, addresses, AS numbers, cables. Pure.
//!
//! ```text
//!   outside 198.51.100.10 ── spine (BIRD, AS 65000) ──┬── tor1 (AS 65001) ── node1, node2   (AS 64512)
//!                                                     └── tor2 (AS 65002) ── node3          (AS 64513)
//! ```
//!
//! The nodes of a rack share an AS and form an iBGP mesh; each rack has its own AS (RFC 7938 §5.2). One AS for all racks
//! would need help from the routers: a route from rack 1 arrives in rack 2 with that AS already in its path, and loop
//! detection (RFC 4271 §9.1.2) drops it unless the routers replace it; [`NodeAsn::Same`] builds that case too.
//!
//! A rack has one or two top-of-rack routers, each with a subnet of its own, in which the rack's nodes have one link.
//! Nodes reach each other's own addresses by a static route over all their routers, as a machine's installer would leave
//! it. It covers neither pods nor the outside: those are reached by BGP or not at all.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

pub const SPINE: &str = "spine";
pub const OUTSIDE: &str = "outside";
/// Where a Kubernetes control plane runs, if the lab has one.
pub const CONTROL: &str = "control";
pub(super) const SPINE_ASN: u32 = 65000;
pub const POD_CIDRS: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/48"];
pub const OUTSIDE_CIDRS: [&str; 2] = ["198.51.100.0/24", "2001:db8:64::/64"];
/// Holds every link of nodes and routers; no pod and nothing outside.
pub const FABRIC_CIDRS: [&str; 2] = ["10.0.0.0/15", "fd00:1::/32"];
/// What one byte of an address has room for: racks, nodes of one, nodes of all.
const MAX_RACKS: usize = 24;
const MAX_RACK_NODES: u8 = 200;
const MAX_NODES: usize = 250;
/// Counted after the racks.
const CONTROL_RACK: u8 = 25;
const FIRST_NODE_ASN: u32 = 64512;
const FIRST_TOR_ASN: u32 = 65001;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouterKind {
    Bird,
    Frr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RackSpec {
    /// One or two.
    pub tors: Vec<RouterKind>,
    pub nodes: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeAsn {
    PerRack,
    /// One for all; the routers replace it on the way to a node.
    Same,
    /// One for all, and the routers leave it in the paths: nodes let it in.
    Kept,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabSpec {
    pub racks: Vec<RackSpec>,
    pub node_asn: NodeAsn,
    /// iBGP among the nodes of an AS.
    pub mesh: bool,
    /// One session per router and family; otherwise one session over IPv4 that carries both.
    pub session_per_family: bool,
    /// A machine behind the spine, within the fabric, for a Kubernetes control plane.
    pub control_plane: bool,
    /// Silence after which a router gives a peer up. Nine, as in many fabrics, so that scenarios need not wait; more where the
    /// machine that all share is the one that is slow.
    pub hold_seconds: u16,
}

/// Three nodes in two racks, BIRD and FRR: the demo.
impl Default for LabSpec {
    fn default() -> Self {
        Self::racks(["bird:2", "frr:1"])
    }
}

impl LabSpec {
    /// Racks as [`RackSpec`] parses them; everything else by default.
    ///
    /// # Panics
    /// When a rack does not parse: for literals.
    pub fn racks<const N: usize>(racks: [&str; N]) -> Self {
        let racks = racks.map(|rack| rack.parse().expect("a literal rack")).into();
        Self {
            racks,
            node_asn: NodeAsn::PerRack,
            mesh: true,
            session_per_family: true,
            control_plane: false,
            hold_seconds: 9,
        }
    }

    /// Whether there are addresses for all of it.
    pub(super) fn check(&self) -> Result<()> {
        let nodes: usize = self.racks.iter().map(|rack| usize::from(rack.nodes)).sum();
        ensure!(
            self.racks.len() <= MAX_RACKS && nodes <= MAX_NODES,
            "{} racks, {nodes} nodes: a lab has up to {MAX_RACKS} and {MAX_NODES}",
            self.racks.len()
        );
        Ok(())
    }

    pub fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        for (rack, spec) in (1..).zip(&self.racks) {
            let first = plan.tors.len();
            plan.tors.extend((0..).zip(&spec.tors).map(|(side, kind)| Tor::plan(self, rack, side, *kind)));
            for place in 1..=spec.nodes {
                let number = u8::try_from(plan.nodes.len() + 1).expect("at most 250 nodes");
                plan.nodes.push(Node::plan(self, number, rack, place, &plan.tors[first..]));
            }
        }
        plan
    }

    fn node_asn(&self, rack: u8) -> u32 {
        match self.node_asn {
            NodeAsn::PerRack => FIRST_NODE_ASN + u32::from(rack) - 1,
            NodeAsn::Same | NodeAsn::Kept => FIRST_NODE_ASN,
        }
    }
}

/// `bird:2`, `frr:1`, `bird+frr:2`: routers, then the number of nodes.
impl FromStr for RackSpec {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (tors, nodes) = text.split_once(':').unwrap_or((text, "1"));
        let tors: Vec<_> = tors.split('+').map(str::parse).collect::<Result<_>>()?;
        let nodes = nodes.parse()?;
        ensure!(
            tors.len() <= 2 && (1..=MAX_RACK_NODES).contains(&nodes),
            "{text}: a rack has 1-2 routers and 1-{MAX_RACK_NODES} nodes"
        );
        Ok(Self { tors, nodes })
    }
}

impl FromStr for RouterKind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "bird" => Ok(Self::Bird),
            "frr" => Ok(Self::Frr),
            _ => bail!("{text}: bird or frr"),
        }
    }
}

impl fmt::Display for RouterKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Bird => "BIRD",
            Self::Frr => "FRR",
        })
    }
}

#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub nodes: Vec<Node>,
    pub tors: Vec<Tor>,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    pub rack: u8,
    pub asn: u32,
    pub pod_cidrs: [String; 2],
    /// `eth0`, `eth1`: one per router of the rack.
    pub uplinks: Vec<Uplink>,
}

#[derive(Clone, Debug)]
pub struct Uplink {
    pub ifname: String,
    pub tor: String,
    pub addresses: Dual,
    pub gateways: Dual,
}

#[derive(Clone, Debug)]
pub struct Tor {
    pub name: String,
    pub kind: RouterKind,
    pub asn: u32,
    pub rack: u8,
    /// On the bridge `rack`, to which the nodes are plugged.
    pub addresses: Dual,
    /// On the link `spine`, and the other end of it.
    pub to_spine: Dual,
    pub spine: Dual,
}

/// One address of each family, with the prefix lengths of lab links: /24 and /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dual {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

impl Dual {
    pub fn both(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }

    pub fn with_lengths(self) -> [String; 2] {
        [format!("{}/24", self.v4), format!("{}/64", self.v6)]
    }
}

impl Plan {
    pub fn spine() -> Dual {
        outside_link(1)
    }

    pub fn outside() -> Dual {
        outside_link(10)
    }

    /// The control machine's address.
    pub fn control() -> Dual {
        spine_link(CONTROL_RACK, 0, 10)
    }

    /// The spine's address on the control machine's link.
    pub fn spine_to_control() -> Dual {
        spine_link(CONTROL_RACK, 0, 1)
    }
}

impl Tor {
    fn plan(lab: &LabSpec, rack: u8, side: u8, kind: RouterKind) -> Self {
        let paired = lab.racks[usize::from(rack) - 1].tors.len() > 1;
        let letter = if paired { ["a", "b"][usize::from(side)] } else { "" };
        Self {
            name: format!("tor{rack}{letter}"),
            kind,
            // A pair is one AS, so that its paths have equal length and content (ECMP without multipath-relax).
            asn: FIRST_TOR_ASN + u32::from(rack) - 1,
            rack,
            addresses: rack_link(rack, side, 1),
            to_spine: spine_link(rack, side, 2),
            spine: spine_link(rack, side, 1),
        }
    }
}

impl Node {
    fn plan(lab: &LabSpec, number: u8, rack: u8, place: u8, tors: &[Tor]) -> Self {
        let uplink = |(side, tor): (u8, &Tor)| Uplink {
            ifname: format!("eth{side}"),
            tor: tor.name.clone(),
            addresses: rack_link(rack, side, 10 + place),
            gateways: tor.addresses,
        };
        Self {
            name: format!("node{number}"),
            rack,
            asn: lab.node_asn(rack),
            pod_cidrs: [format!("10.244.{number}.0/24"), format!("fd00:10:244:{number}::/64")],
            uplinks: (0..).zip(tors).map(uplink).collect(),
        }
    }
}

fn rack_link(rack: u8, side: u8, host: u8) -> Dual {
    let subnet = rack * 10 + side;
    Dual {
        v4: Ipv4Addr::new(10, 1, subnet, host),
        v6: Ipv6Addr::new(0xfd00, 1, 1, as_written(subnet), 0, 0, 0, as_written(host)),
    }
}

fn spine_link(rack: u8, side: u8, host: u8) -> Dual {
    let subnet = rack * 10 + side;
    Dual {
        v4: Ipv4Addr::new(10, 0, subnet, host),
        v6: Ipv6Addr::new(0xfd00, 1, 0, as_written(subnet), 0, 0, 0, as_written(host)),
    }
}

fn outside_link(host: u8) -> Dual {
    Dual {
        v4: Ipv4Addr::new(198, 51, 100, host),
        v6: Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, as_written(host)),
    }
}

/// The group of an IPv6 address that reads like the decimal `number`: `fd00:1:1:20::11` beside `10.1.20.11`.
fn as_written(number: u8) -> u16 {
    u16::from(number / 100) << 8 | u16::from(number / 10 % 10) << 4 | u16::from(number % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn racks_have_their_own_as_and_nodes_a_link_to_each_router() {
        let plan = LabSpec::racks(["bird+frr:2", "frr:1"]).plan();
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            plan.tors.iter().map(|tor| tor.name.clone()).collect::<Vec<_>>(),
            names(&["tor1a", "tor1b", "tor2"])
        );
        assert_eq!(plan.nodes.iter().map(|node| node.asn).collect::<Vec<_>>(), [64512, 64512, 64513]);
        assert_eq!(plan.nodes[1].uplinks.len(), 2);
        let addresses = plan.nodes[1].uplinks[1].addresses.both().map(|address| address.to_string());
        assert_eq!(addresses, ["10.1.11.12", "fd00:1:1:11::12"]);
        assert_eq!(plan.nodes[1].uplinks[1].gateways, plan.tors[1].addresses);
        assert_eq!(plan.nodes[2].pod_cidrs[0], "10.244.3.0/24");
    }

    #[test]
    fn every_link_of_the_largest_lab_has_its_own_subnet_and_every_node_its_own_address() {
        let racks: Vec<_> = [4].into_iter().chain([11; 22]).chain([4]).collect();
        let rack = |nodes| RackSpec { tors: vec![RouterKind::Bird; 2], nodes };
        let spec = LabSpec { racks: racks.into_iter().map(rack).collect(), ..LabSpec::default() };
        spec.check().unwrap();
        let plan = spec.plan();
        assert_eq!((spec.racks.len(), plan.nodes.len()), (MAX_RACKS, MAX_NODES));
        let addresses = plan.nodes.iter().flat_map(|node| &node.uplinks).map(|uplink| uplink.addresses);
        let addresses: std::collections::BTreeSet<_> = addresses.flat_map(Dual::both).collect();
        assert_eq!(addresses.len(), MAX_NODES * 2 * 2);
        let spines = plan.tors.iter().map(|tor| tor.spine).chain([Plan::spine_to_control()]);
        let spines: std::collections::BTreeSet<_> = spines.flat_map(Dual::both).collect();
        assert_eq!(spines.len(), (MAX_RACKS * 2 + 1) * 2);

        let more = LabSpec { racks: vec![rack(200), rack(51)], ..LabSpec::default() };
        assert!(more.check().unwrap_err().to_string().contains("251 nodes"));
    }

    #[test]
    fn racks_out_of_bounds_are_refused() {
        for text in ["bird:0", "bird:201", "bird+frr+bird:1", "quagga:1", ":1", "bird:x"] {
            assert!(text.parse::<RackSpec>().is_err(), "{text}");
        }
    }
}
