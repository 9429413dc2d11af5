//! Bytes to messages and back (RFC 4271 §4). Knows nothing of sessions or routes.
//!
//! In: one whole message, framed by [`frame`]. Out: a [`Message`], or the NOTIFICATION that its error calls for.

use bytes::Bytes;
use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use crate::types::{AfiSafi, Asn, Nexthop, PeerKind, RouterId};

/// Length of marker, length and type (RFC 4271 §4.1).
pub const HEADER_LEN: usize = 19;
/// The largest message without RFC 8654.
pub const MAX_MESSAGE_LEN: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    Open(Open),
    Update(Box<Update>),
    Notification(Notification),
    Keepalive,
    RouteRefresh(AfiSafi),
    /// A well-formed request for something we never offered (unknown family or subtype): to be ignored.
    RouteRefreshIgnored,
}

/// RFC 4271 §4.2. `asn` is the real one: from capability 65 where present (RFC 6793 §4.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    pub asn: Asn,
    /// Seconds; 0 (never expires) or at least 3.
    pub hold_time: u16,
    pub router_id: RouterId,
    pub capabilities: Capabilities,
}

/// What an OPEN announces (RFC 5492). Unknown codes are kept for display, never answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Code 1. Empty: the peer sent none, which means IPv4 unicast alone.
    pub families: Vec<AfiSafi>,
    /// Code 2.
    pub route_refresh: bool,
    /// Code 5 (RFC 8950): families whose prefixes may come with an IPv6 nexthop. Only IPv4 unicast matters to us.
    pub extended_nexthop: Vec<AfiSafi>,
    /// Code 64 (RFC 4724).
    pub graceful_restart: Option<GracefulRestart>,
    /// Code 65.
    pub four_octet_asn: bool,
    /// Codes that we do not speak, in order of arrival.
    pub unknown: Vec<u8>,
}

/// RFC 4724 §3 and, for the N bit, RFC 8538 §2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GracefulRestart {
    /// R: the sender has just restarted.
    pub restarting: bool,
    /// N: a NOTIFICATION does not end graceful restart.
    pub notification: bool,
    /// Seconds, 12 bits.
    pub restart_time: u16,
    /// Family and its F bit: forwarding state was kept.
    pub families: Vec<(AfiSafi, bool)>,
}

/// What both sides' OPENs make of the messages that follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecodeContext {
    pub peer_kind: PeerKind,
    /// AS numbers in AS_PATH and AGGREGATOR have four octets.
    pub four_octet_asn: bool,
    pub families: Vec<AfiSafi>,
    /// IPv4 prefixes may have an IPv6 nexthop.
    pub extended_nexthop: bool,
}

/// What both sides' OPENs make of the messages that we send.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EncodeContext {
    /// AS numbers in AS_PATH and AGGREGATOR have four octets.
    pub four_octet_asn: bool,
    /// Of a whole message, header included.
    pub max_message_len: usize,
    /// IPv4 prefixes may have an IPv6 nexthop.
    pub extended_nexthop: bool,
}

/// One UPDATE after the walk and the judgement of RFC 7606: what remains to be done.
///
/// `reach` holds only what may be installed: when an error called for treat-as-withdraw, its prefixes are in `unreach`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    pub reach: Vec<Reach>,
    pub unreach: Vec<Nlri>,
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

/// RFC 4271 §4.3. Absent optional attributes are `None` or empty. The nexthop travels with its NLRI in [`Reach`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PathAttributes {
    pub origin: Origin,
    pub as_path: AsPath,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    pub atomic_aggregate: bool,
    pub aggregator: Option<Aggregator>,
    pub communities: Vec<Community>,
    pub large_communities: Vec<LargeCommunity>,
    /// RFC 4360, eight octets each, uninterpreted.
    pub extended_communities: Vec<[u8; 8]>,
    pub originator_id: Option<RouterId>,
    pub cluster_list: Vec<RouterId>,
    /// Unknown optional transitive attributes, Partial set, in wire order.
    pub unknown: Vec<UnknownAttribute>,
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

/// RFC 4271 §4.3 b.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AsPath(pub Vec<AsSegment>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AsSegment {
    Sequence(Vec<Asn>),
    Set(Vec<Asn>),
    ConfedSequence(Vec<Asn>),
    ConfedSet(Vec<Asn>),
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

/// RFC 8092.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LargeCommunity {
    pub global: u32,
    pub local1: u32,
    pub local2: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UnknownAttribute {
    pub flags: u8,
    pub code: u8,
    pub value: Bytes,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributeError {
    /// Attribute type code; 0 when the error is the attribute list itself.
    pub code: u8,
    pub action: ErrorAction,
    pub reason: String,
}

/// RFC 4271 §4.5. Also the error of every decoder: what to send before closing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    pub code: u8,
    pub subcode: u8,
    pub data: Bytes,
}
