//! The values of path attributes that are more than a number or a list of them.
//!
//! In: a value, cut to its length. Out: what it means; `None` when it is malformed. What that costs stands in
//! [`super::rules`].

use std::net::{Ipv4Addr, Ipv6Addr};

use nom::Parser;
use nom::combinator::map;
use nom::number::complete::{be_u16, be_u32};
use nom::sequence::pair;

use super::leaf::{Parsed, exactly, list};
use super::{Aggregator, DecodeContext, LargeCommunity, Origin};
use crate::types::{AfiSafi, Asn, Nexthop, RouterId};

pub(super) fn origin(value: &[u8]) -> Option<Origin> {
    match value {
        [0] => Some(Origin::Igp),
        [1] => Some(Origin::Egp),
        [2] => Some(Origin::Incomplete),
        _ => None,
    }
}

/// RFC 4271 §6.3: an address of a host. Whether it is our own is for the import policy to see.
pub(super) fn next_hop(value: &[u8]) -> Option<Ipv4Addr> {
    let address = Ipv4Addr::from_bits(exactly(be_u32, value)?);
    is_usable(Nexthop::V4(address)).then_some(address)
}

pub(super) fn is_usable(nexthop: Nexthop) -> bool {
    match nexthop {
        Nexthop::V4(address) => {
            // 0.0.0.0 and the rest of its network (RFC 6890).
            !(address.octets()[0] == 0
                || address.is_loopback()
                || address.is_multicast()
                || address.is_broadcast())
        }
        Nexthop::V6 { global, .. } => {
            let no_host = global.is_unspecified() || global.is_loopback() || global.is_multicast();
            // An IPv4 address in disguise: no neighbour on any link answers to it.
            !no_host && global.to_ipv4_mapped().is_none()
        }
    }
}

/// `None` when the length is not one of the family's (RFC 2545 §3, RFC 8950 §3).
pub(super) fn mp_nexthop(family: AfiSafi, octets: &[u8], context: &DecodeContext) -> Option<Nexthop> {
    let takes_v6 = match family {
        AfiSafi::Ipv4Unicast => context.extended_nexthop,
        AfiSafi::Ipv6Unicast => true,
    };
    let (global, second) = match octets.split_first_chunk::<16>() {
        None if family == AfiSafi::Ipv4Unicast => {
            return exactly(be_u32, octets).map(|bits| Nexthop::V4(Ipv4Addr::from_bits(bits)));
        }
        Some((global, second)) if takes_v6 => (Ipv6Addr::from(*global), second),
        Some(_) | None => return None,
    };
    let link_local = match second {
        [] => None,
        _ => Some(Ipv6Addr::from(*second.as_array::<16>()?)).filter(Ipv6Addr::is_unicast_link_local),
    };
    Some(match link_local {
        // Some speakers on unnumbered links have no global address to put first.
        Some(address) if global.is_unspecified() => Nexthop::V6 { global: address, link_local: None },
        Some(_) | None => Nexthop::V6 { global, link_local },
    })
}

pub(super) fn router_id(input: &[u8]) -> Parsed<'_, RouterId> {
    map(be_u32, |bits| RouterId(Ipv4Addr::from_bits(bits))).parse(input)
}

pub(super) fn aggregator(value: &[u8], four_octet_asn: bool) -> Option<Aggregator> {
    let (asn, router_id) = if four_octet_asn {
        exactly(pair(be_u32, router_id), value)?
    } else {
        exactly(pair(map(be_u16, u32::from), router_id), value)?
    };
    // RFC 7607 §2.
    (asn != 0).then_some(Aggregator { asn: Asn(asn), router_id })
}

pub(super) fn large_communities(value: &[u8]) -> Option<Vec<LargeCommunity>> {
    let community =
        map((be_u32, be_u32, be_u32), |(global, local1, local2)| LargeCommunity { global, local1, local2 });
    let mut communities: Vec<_> = exactly(list(community), value)?;
    communities.sort_unstable();
    communities.dedup();
    Some(communities)
}
