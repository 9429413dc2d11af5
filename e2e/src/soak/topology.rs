//! The machines and cables, and which ways are open between nodes: what BGP makes of what is up.
//!
//! A node reaches its neighbours in the rack directly, by the mesh, over the switch of its first router; other racks and
//! the outside by every router of its rack that it has a session with. The lab gives the nodes of a rack one AS, so a
//! neighbour's routes do not come back from the routers (loop detection): without that switch, neighbours are apart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use anyhow::Context;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::world::{End, World};
use crate::lab::{LabSpec, Plan};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    pub nodes: BTreeMap<String, Spot>,
    /// The rack of each router.
    pub tors: BTreeMap<String, u8>,
    pod_cidrs: BTreeMap<String, [IpNetwork; 2]>,
}

/// Where a node is plugged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    pub rack: u8,
    /// In the order of its links. The first one's switch carries the mesh.
    pub tors: Vec<String>,
}

/// `node1-tor1a` or `tor1a-spine`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Cable {
    Uplink { node: String, tor: String },
    Spine { tor: String },
}

/// A BGP session of a node with a router, or all that one BGPPeer describes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    pub node: String,
    pub tor: String,
    pub v6: bool,
}

/// What of the fabric does not work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    pub cut: BTreeSet<Cable>,
    /// Routers without power.
    pub dark: BTreeSet<String>,
    /// Disabled by the router's operator.
    pub disabled: BTreeSet<Session>,
    /// Routers of which the BGPPeer of a family is deleted (true: IPv6).
    pub unpeered: BTreeSet<(String, bool)>,
    /// Nodes whose agents left for good.
    pub silent: BTreeSet<String>,
}

/// The next hop of a learned route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    Tor(String),
    Neighbour(String),
}

impl Topology {
    pub fn of(spec: &LabSpec) -> Self {
        let plan = spec.plan();
        let spot = |node: &crate::lab::Node| Spot {
            rack: node.rack,
            tors: node.uplinks.iter().map(|uplink| uplink.tor.clone()).collect(),
        };
        let cidrs = |node: &crate::lab::Node| {
            node.pod_cidrs.each_ref().map(|cidr| cidr.parse().expect("a plan's CIDR"))
        };
        Self {
            nodes: plan.nodes.iter().map(|node| (node.name.clone(), spot(node))).collect(),
            tors: plan.tors.iter().map(|tor| (tor.name.clone(), tor.rack)).collect(),
            pod_cidrs: plan.nodes.iter().map(|node| (node.name.clone(), cidrs(node))).collect(),
        }
    }

    /// Where something else than the plan hands out the nodes' ranges.
    #[must_use]
    pub fn with_pod_cidrs(self, pod_cidrs: BTreeMap<String, [IpNetwork; 2]>) -> Self {
        Self { pod_cidrs, ..self }
    }

    pub fn pod_cidr(&self, node: &str, v6: bool) -> IpNetwork {
        self.pod_cidrs[node][usize::from(v6)]
    }

    /// One that stands for it in an `ipBlock`: of a pod, its node's range, because no block that is drawn is smaller.
    pub fn address(&self, world: &World, end: &End, v6: bool) -> Option<IpAddr> {
        match end {
            End::Outside => Some(Plan::outside().both()[usize::from(v6)]),
            End::Pod(key) => Some(self.pod_cidr(&world.pods.get(key)?.node, v6).network()),
            End::Node(_) => None,
        }
    }

    /// The cables that can be pulled.
    pub fn cables(&self) -> Vec<Cable> {
        let uplinks = self.sessions_of_one_family().map(|(node, tor)| Cable::Uplink { node, tor });
        uplinks.chain(self.tors.keys().map(|tor| Cable::Spine { tor: tor.clone() })).collect()
    }

    pub fn sessions(&self) -> Vec<Session> {
        self.sessions_of_one_family()
            .flat_map(|(node, tor)| {
                [false, true].map(|v6| Session { node: node.clone(), tor: tor.clone(), v6 })
            })
            .collect()
    }

    fn sessions_of_one_family(&self) -> impl Iterator<Item = (String, String)> {
        self.nodes.iter().flat_map(|(node, spot)| spot.tors.iter().map(|tor| (node.clone(), tor.clone())))
    }

    /// The next hops of `from` towards the pods of `to`, or the outside where that is `None`.
    pub fn ways(&self, damage: &Damage, from: &str, to: Option<&str>, v6: bool) -> BTreeSet<Via> {
        if let Some(to) = to
            && self.nodes[from].rack == self.nodes[to].rack
        {
            let meshed = self.meshed(damage, from, to);
            return meshed.then(|| Via::Neighbour(to.to_owned())).into_iter().collect();
        }
        let announced = to.is_none_or(|to| self.spine_routers(damage, to, v6).next().is_some());
        let routers = self.spine_routers(damage, from, v6).filter(|_| announced);
        routers.map(|tor| Via::Tor(tor.clone())).collect()
    }

    /// Routers that carry routes between this node and the spine.
    fn spine_routers<'a>(
        &'a self,
        damage: &'a Damage,
        node: &'a str,
        v6: bool,
    ) -> impl Iterator<Item = &'a String> {
        self.nodes[node].tors.iter().filter(move |tor| {
            let session = Session { node: node.to_owned(), tor: (*tor).clone(), v6 };
            damage.has_session(&session) && !damage.cut.contains(&Cable::Spine { tor: (*tor).clone() })
        })
    }

    /// By iBGP between neighbours, over the first router's switch.
    pub fn meshed(&self, damage: &Damage, a: &str, b: &str) -> bool {
        let tor = &self.nodes[a].tors[0];
        [a, b].iter().all(|node| damage.is_plugged(node, tor) && !damage.silent.contains(*node))
    }
}

impl Damage {
    pub fn has_session(&self, session: &Session) -> bool {
        let Session { node, tor, v6 } = session;
        self.is_plugged(node, tor)
            && !self.disabled.contains(session)
            && !self.unpeered.contains(&(tor.clone(), *v6))
            && !self.silent.contains(node)
    }

    fn is_plugged(&self, node: &str, tor: &str) -> bool {
        let uplink = Cable::Uplink { node: node.to_owned(), tor: tor.to_owned() };
        !self.dark.contains(tor) && !self.cut.contains(&uplink)
    }
}

impl fmt::Display for Cable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uplink { node, tor } => write!(out, "{node}-{tor}"),
            Self::Spine { tor } => write!(out, "{tor}-spine"),
        }
    }
}

impl FromStr for Cable {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (one, other) = text.split_once('-').with_context(|| format!("{text}: NODE-TOR or TOR-spine"))?;
        let (one, other) = (one.to_owned(), other.to_owned());
        Ok(if other == "spine" { Self::Spine { tor: one } } else { Self::Uplink { node: one, tor: other } })
    }
}

impl TryFrom<String> for Cable {
    type Error = anyhow::Error;

    fn try_from(text: String) -> anyhow::Result<Self> {
        text.parse()
    }
}

impl From<Cable> for String {
    fn from(cable: Cable) -> Self {
        cable.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tors(names: &[&str]) -> BTreeSet<Via> {
        names.iter().map(|name| Via::Tor((*name).to_owned())).collect()
    }

    fn topology() -> Topology {
        Topology::of(&LabSpec::racks(["bird+frr:2", "bird:1"]))
    }

    #[test]
    fn neighbours_are_reached_directly_and_everything_else_by_all_routers_of_the_rack() {
        let (topology, whole) = (topology(), Damage::default());
        assert_eq!(topology.ways(&whole, "node1", None, false), tors(&["tor1a", "tor1b"]));
        assert_eq!(topology.ways(&whole, "node1", Some("node3"), true), tors(&["tor1a", "tor1b"]));
        assert_eq!(topology.ways(&whole, "node3", Some("node1"), true), tors(&["tor2"]));
        let direct = [Via::Neighbour("node2".to_owned())].into();
        assert_eq!(topology.ways(&whole, "node1", Some("node2"), false), direct);
    }

    #[test]
    fn a_way_ends_where_a_part_of_it_does() {
        let topology = topology();
        let cut = |cable: &str| Damage { cut: [cable.parse().unwrap()].into(), ..Damage::default() };
        let dark = |tor: &str| Damage { dark: [tor.to_owned()].into(), ..Damage::default() };
        let unpeered = Damage { unpeered: [("tor1b".to_owned(), false)].into(), ..Damage::default() };
        let silent = Damage { silent: ["node3".to_owned()].into(), ..Damage::default() };
        for (damage, to, v6, ways) in [
            (cut("node1-tor1a"), None, false, tors(&["tor1b"])),
            (cut("node2-tor1a"), None, false, tors(&["tor1a", "tor1b"])),
            (cut("tor1b-spine"), None, false, tors(&["tor1a"])),
            (cut("tor2-spine"), Some("node3"), false, tors(&[])),
            (cut("node1-tor1a"), Some("node2"), false, tors(&[])),
            (cut("node1-tor1b"), Some("node2"), true, [Via::Neighbour("node2".to_owned())].into()),
            (dark("tor1a"), Some("node3"), true, tors(&["tor1b"])),
            (dark("tor2"), Some("node3"), true, tors(&[])),
            (unpeered.clone(), None, false, tors(&["tor1a"])),
            (unpeered, None, true, tors(&["tor1a", "tor1b"])),
            (silent, Some("node3"), true, tors(&[])),
        ] {
            assert_eq!(topology.ways(&damage, "node1", to, v6), ways, "{damage:?} to {to:?}");
        }
    }
}
