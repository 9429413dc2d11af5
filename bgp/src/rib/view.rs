//! What people see of the RIB: owned values, made on request.

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::decision::Step;
use super::policy::Rejection;
use crate::types::{AfiSafi, Nexthop, PeerId};
use crate::wire::PathAttributes;

/// A prefix and all its paths, best first, unusable ones last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    pub prefix: IpNetwork,
    pub paths: Vec<PathView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathView {
    /// `None`: we originate it.
    pub peer: Option<PeerId>,
    /// `None` for our own.
    pub nexthop: Option<Nexthop>,
    pub attributes: PathAttributes,
    /// Kept over a restart of the peer and not confirmed since.
    pub stale: bool,
    pub standing: Standing,
}

/// What the decision made of one path, and why. `Display` says it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Chosen; the step that beat the last of the others, `None` when it is the only usable path.
    Best(Option<Step>),
    /// As good as the best up to the IGP cost: used beside it. The step that made it second.
    Multipath(Step),
    /// Usable, but lost to the best path at this step.
    Lost(Step),
    /// Not usable.
    Rejected(Rejection),
}

/// One route that a peer has been told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvertisedRoute {
    pub prefix: IpNetwork,
    pub nexthop: Nexthop,
    pub attributes: PathAttributes,
}

/// Routes of one peer and family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Learned, and taken by the import policy. Stale ones included.
    pub accepted: u32,
    /// Learned, and refused by the import policy or a loop check. Stale ones included.
    pub rejected: u32,
    /// Of both: kept over a restart of the peer and not confirmed since.
    pub stale: u32,
    /// Told to the peer, or on the way.
    pub advertised: u32,
    /// The peer has sent its End-of-RIB in this session.
    pub end_of_rib: bool,
}

/// The peer sent more than we are ready to take; its session is to be closed (Cease/1, RFC 4486).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("more than {limit} {family} prefixes")]
pub struct PrefixLimitExceeded {
    pub family: AfiSafi,
    pub limit: u32,
}
