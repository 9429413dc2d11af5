//! What both sides' OPENs make of the UPDATEs that follow.

use serde::{Deserialize, Serialize};

use crate::types::{AfiSafi, PeerKind};

/// What both sides' OPENs make of what we receive.
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

impl DecodeContext {
    /// Nothing is negotiated.
    pub const UNNEGOTIATED: Self = Self {
        peer_kind: PeerKind::External,
        four_octet_asn: false,
        families: Vec::new(),
        extended_nexthop: false,
    };
}

impl Default for DecodeContext {
    fn default() -> Self {
        Self::UNNEGOTIATED
    }
}

/// What both sides' OPENs make of what we send.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EncodeContext {
    /// AS numbers in AS_PATH and AGGREGATOR have four octets.
    pub four_octet_asn: bool,
    /// Of a whole message, header included; [`super::MAX_MESSAGE_LEN`] without RFC 8654.
    pub max_message_len: usize,
    /// IPv4 prefixes may have an IPv6 nexthop (RFC 8950).
    pub extended_nexthop: bool,
}
