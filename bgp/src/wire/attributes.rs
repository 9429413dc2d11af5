//! Path attributes as values (RFC 4271 §4.3, RFC 1997, RFC 4360, RFC 4456, RFC 8092). Decoded in [`super::update`],
//! encoded in [`super::encode`].
//!
//! A full table holds very many sets: the lists that most routes carry have a few items in place, so that decoding them
//! does not allocate, and the others take no room while they are empty.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{AsPath, RareList};
use crate::types::{Asn, RouterId};

/// RFC 4271 §4.3. Absent optional attributes are `None` or empty. The nexthop travels with its NLRI in [`super::Reach`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PathAttributes {
    pub origin: Origin,
    pub as_path: AsPath,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    pub atomic_aggregate: bool,
    pub aggregator: Option<Aggregator>,
    /// In wire order.
    pub communities: SmallVec<[Community; 4]>,
    /// Sorted, each once (RFC 8092 §5).
    pub large_communities: RareList<LargeCommunity>,
    /// RFC 4360, eight octets each, uninterpreted.
    pub extended_communities: RareList<[u8; 8]>,
    pub originator_id: Option<RouterId>,
    pub cluster_list: RareList<RouterId>,
    /// Optional transitive attributes that we do not interpret, in wire order. Partial is set on those that we do not know.
    pub unknown: RareList<UnknownAttribute>,
}

/// Lower is preferred (RFC 4271 §9.1.2.2 b).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    #[default]
    Igp,
    Egp,
    Incomplete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Aggregator {
    pub asn: Asn,
    pub router_id: RouterId,
}

/// RFC 1997: `asn:value` in 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Community(pub u32);

impl Community {
    /// RFC 8326: the route will go away; prefer any other.
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xffff_0000);
    /// RFC 1997: not beyond the AS (or confederation).
    pub const NO_EXPORT: Self = Self(0xffff_ff01);
    /// RFC 1997: to no peer at all.
    pub const NO_ADVERTISE: Self = Self(0xffff_ff02);
    /// RFC 1997: to no external peer, not even inside a confederation.
    pub const NO_EXPORT_SUBCONFED: Self = Self(0xffff_ff03);
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff)
    }
}

/// RFC 8092.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LargeCommunity {
    pub global: u32,
    pub local1: u32,
    pub local2: u32,
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local1, self.local2)
    }
}

/// `flags` are the four high bits; whether the length has one octet or two is decided when it is encoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UnknownAttribute {
    pub flags: u8,
    pub code: u8,
    pub value: Bytes,
}
