//! The words in which the plan and the kernel speak of routing: the node's addresses, routes of the main table as they are, and the
//! operations that make them as we want them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// Distinguishes our routes from others to the same prefix, which the kernel would otherwise replace.
pub const METRIC: u32 = 87;

/// What the kernel tells apart within a table (TOS aside, which we never set).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteKey {
    pub prefix: IpNetwork,
    pub metric: u32,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Blackhole,
    /// Through gateways that are alive; an IPv4 route may have IPv6 gateways.
    Via(BTreeSet<Hop>),
    /// Onto a link, without a gateway.
    Direct {
        link: u32,
    },
    /// Delivered here.
    Local,
    /// Something that we never make.
    Other,
}

impl Target {
    /// Those that packets leave by.
    pub fn links(&self) -> BTreeSet<u32> {
        match self {
            Self::Via(hops) => hops.iter().map(|hop| hop.link).collect(),
            Self::Direct { link } => [*link].into(),
            Self::Blackhole | Self::Local | Self::Other => BTreeSet::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    pub gateway: IpAddr,
    pub link: u32,
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRoute {
    pub key: RouteKey,
    pub protocol: u8,
    pub target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteOp {
    /// Fails where the key exists.
    Add(RouteKey, Target),
    Replace(RouteKey, Target),
    /// Only ours; fails where there is none.
    Delete(RouteKey),
}

impl RouteOp {
    pub fn key(&self) -> RouteKey {
        match self {
            Self::Add(key, _) | Self::Replace(key, _) | Self::Delete(key) => *key,
        }
    }
}

/// An address of this node, with the subnet of its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkAddress {
    pub link: String,
    pub network: IpNetwork,
}
