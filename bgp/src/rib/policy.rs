//! What we take from a peer and what we tell it, as typed values. The defaults are the safe ones: nothing in but what
//! the configuration names, nothing out but our own routes (RFC 8212 in spirit, for internal peers too).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::types::RouterId;
use crate::wire::{Community, LargeCommunity};

/// Which of a peer's routes may be used. Loop checks (AS_PATH, ORIGINATOR_ID, CLUSTER_LIST, own nexthop) always apply.
/// Refused routes are kept and counted, so that a change of policy needs nothing from the peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportPolicy {
    pub accept: Accept,
    /// Accept 0.0.0.0/0 and ::/0. They lie within no prefix of `accept`.
    pub default_route: bool,
}

/// Which prefixes are accepted, the default route aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Accept {
    /// What lies within one of these, or is one of them. Empty: nothing.
    Within(Vec<IpNetwork>),
    /// Everything.
    Any,
}

impl Default for Accept {
    fn default() -> Self {
        Self::Within(Vec::new())
    }
}

/// Why a route is in the table and yet not used.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error,
)]
#[serde(rename_all = "kebab-case")]
pub enum Rejection {
    #[error("our own AS is in its AS_PATH")]
    AsLoop,
    #[error("we are its ORIGINATOR_ID")]
    OriginatorLoop,
    #[error("our cluster is in its CLUSTER_LIST")]
    ClusterLoop,
    #[error("its nexthop is our own address")]
    OwnNexthop,
    #[error("default routes are not accepted from this peer")]
    DefaultRoute,
    #[error("it is outside the prefixes accepted from this peer")]
    OutsideAccepted,
}

/// What a peer is told. Part of the key of an update group: peers with equal policies share every encoded message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExportPolicy {
    pub routes: ExportRoutes,
    /// Nexthop of IPv4 routes whose nexthop we set to ourselves.
    pub nexthop_v4: Option<Ipv4Addr>,
    /// Nexthop of IPv6 routes whose nexthop we set to ourselves, and of IPv4 routes when `nexthop_v4` is absent and
    /// the session has extended nexthops (RFC 8950).
    pub nexthop_v6: Option<Ipv6Addr>,
    /// Sent along with `nexthop_v6`, for peers on the same link (RFC 2545 §3). Alone it is the nexthop itself.
    pub link_local: Option<Ipv6Addr>,
    /// Added to every route, for example GRACEFUL_SHUTDOWN (RFC 8326).
    pub communities: Vec<Community>,
    /// LOCAL_PREF towards internal peers in place of the path's own.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC of our own routes, and of all routes towards external peers.
    pub med: Option<u32>,
}

/// Which routes go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExportRoutes {
    /// Those that we originate.
    #[default]
    Own,
    /// The best path to every prefix, except from internal peer to internal peer (RFC 4271 §9.2).
    Transit,
    /// As `Transit`, and reflects between internal peers (RFC 4456): a client's routes to all, others' to clients.
    Reflect { cluster_id: RouterId, client: bool },
}

/// What we originate besides the prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OriginAttributes {
    pub communities: Vec<Community>,
    pub large_communities: Vec<LargeCommunity>,
}
