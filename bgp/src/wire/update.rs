//! UPDATE: prefixes and their attributes (RFC 4271 §4.3), judged by RFC 7606.

use std::fmt;

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{Notification, PathAttributes};
use crate::types::{AfiSafi, Nexthop, PeerKind};

/// What both sides' OPENs make of the messages that follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecodeContext {
    pub peer_kind: PeerKind,
    /// AS numbers in AS_PATH and AGGREGATOR have four octets.
    pub four_octet_asn: bool,
    /// Negotiated. Prefixes of other families are skipped.
    pub families: Vec<AfiSafi>,
    /// IPv4 prefixes may have an IPv6 nexthop.
    pub extended_nexthop: bool,
}

/// Nothing is negotiated.
impl Default for DecodeContext {
    fn default() -> Self {
        Self {
            peer_kind: PeerKind::External,
            four_octet_asn: false,
            families: Vec::new(),
            extended_nexthop: false,
        }
    }
}

/// One UPDATE after the walk and the judgement of RFC 7606: what remains to be done.
///
/// `reach` holds only what may be installed: when an error called for treat-as-withdraw, its prefixes are in `unreach`.
/// `unreach` is to be applied before `reach`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    pub reach: SmallVec<[Reach; 1]>,
    pub unreach: SmallVec<[Nlri; 1]>,
    /// Common to all of `reach`.
    pub attributes: PathAttributes,
    /// RFC 4724 §2: set only when the message has exactly the shape of the marker.
    pub end_of_rib: Option<AfiSafi>,
    /// What was wrong and what was done about it, in wire order.
    pub errors: Vec<AttributeError>,
}

/// Prefixes of one family that share a nexthop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    pub nexthop: Nexthop,
    pub nlri: Nlri,
}

/// Prefixes of one family, host bits zero, in wire order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nlri {
    V4(Vec<Ipv4Network>),
    V6(Vec<Ipv6Network>),
}

impl Nlri {
    pub fn family(&self) -> AfiSafi {
        match self {
            Self::V4(_) => AfiSafi::Ipv4Unicast,
            Self::V6(_) => AfiSafi::Ipv6Unicast,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::V4(prefixes) => prefixes.len(),
            Self::V6(prefixes) => prefixes.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// RFC 7606 §2, mild to severe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorAction {
    Discard,
    TreatAsWithdraw,
    Reset,
}

/// One malformed attribute of an UPDATE that the session survived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributeError {
    /// Attribute type code; 0 when the error is the attribute list itself.
    pub code: u8,
    pub action: ErrorAction,
    pub fault: Fault,
}

impl fmt::Display for AttributeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attribute {}: {}", self.code, self.fault)
    }
}

/// What can be wrong with an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    #[error("optional or transitive flag is wrong")]
    Flags,
    #[error("value is malformed")]
    Value,
    #[error("appears more than once")]
    Duplicate,
    #[error("runs past the end of the attributes")]
    Overrun,
    #[error("mandatory but missing")]
    Missing,
    #[error("claims to be well-known but is unknown")]
    UnrecognizedWellKnown,
    #[error("optional, non-transitive and unknown")]
    UnrecognizedNonTransitive,
    #[error("not accepted from this kind of peer")]
    NotFromThisPeer,
    #[error("family was not negotiated")]
    Family,
}

impl Update {
    pub fn decode(_body: &[u8], _context: &DecodeContext) -> Result<Self, Notification> {
        Err(Notification::malformed_attribute_list())
    }
}
