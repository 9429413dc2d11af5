//! UPDATE messages out of routes.

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::{Bytes, BytesMut};
use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use super::PathAttributes;
use crate::types::{AfiSafi, Nexthop};

/// What both sides' OPENs make of the messages that we send.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EncodeContext {
    pub four_octet_asn: bool,
    /// Header included; [`super::MAX_MESSAGE_LEN`] without RFC 8654.
    pub max_message_len: usize,
    /// IPv4 prefixes may have an IPv6 nexthop (RFC 8950).
    pub extended_nexthop: bool,
}

/// An address prefix of one of our families.
pub trait Prefix: Copy + private::Sealed {
    const FAMILY: AfiSafi;
}

mod private {
    pub trait Sealed {}
}

impl private::Sealed for Ipv4Network {}
impl private::Sealed for Ipv6Network {}

impl Prefix for Ipv4Network {
    const FAMILY: AfiSafi = AfiSafi::Ipv4Unicast;
}

impl Prefix for Ipv6Network {
    const FAMILY: AfiSafi = AfiSafi::Ipv6Unicast;
}

/// Appends one UPDATE that announces as many of `prefixes` as it can hold; says how many those are. The caller comes back
/// with the rest. 0 with something to announce: this peer cannot be told at all (the attributes alone are too long, or it
/// takes no such nexthop), so nothing is appended and the route is to be withdrawn there.
pub fn encode_reach<P: Prefix>(
    attributes: &PathAttributes,
    nexthop: Nexthop,
    prefixes: &[P],
    context: &EncodeContext,
    out: &mut BytesMut,
) -> usize {
    let _ = (attributes, nexthop, context, out, Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
    prefixes.len()
}

/// Appends one UPDATE that withdraws as many of `prefixes` as it can hold; says how many those are.
pub fn encode_unreach<P: Prefix>(prefixes: &[P], context: &EncodeContext, out: &mut BytesMut) -> usize {
    let _ = (context, out);
    prefixes.len()
}

/// RFC 4724 §2: the whole message.
pub fn encode_end_of_rib(family: AfiSafi) -> Bytes {
    let _ = family;
    Bytes::new()
}
