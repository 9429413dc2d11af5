//! A table like those of real routers: 5 or 6 prefixes to an attribute set, paths of 3 to 6 systems, some communities,
//! prefixes in no order. The same for every run.

use std::net::Ipv4Addr;

use bytes::{Bytes, BytesMut};
use ipnetwork::Ipv4Network;
use weft_bgp::types::{Asn, Nexthop};
use weft_bgp::wire::{AsPath, Community, EncodeContext, MAX_MESSAGE_LEN, PathAttributes, encode_reach};

use super::session::SENDER_ASN;
use super::testbed::SENDER;

/// As many /24 as have a place of their own in the permutation.
pub(super) const MAX: u32 = 1 << 20;
/// The first /24: 20.0.0.0.
const BASE: u32 = 20 << 16;

/// Encoded, ready to be sent.
pub(super) struct Routes {
    pub(super) count: u32,
    pub(super) updates: Bytes,
    pub(super) messages: u32,
}

impl Routes {
    pub(super) fn new(count: u32) -> Self {
        let context = context();
        let nexthop = Nexthop::V4(SENDER);
        let mut updates = BytesMut::new();
        let (mut next, mut messages) = (0, 0);
        while next < count {
            let end = count.min(next + 5 + messages % 2);
            let prefixes: Vec<Ipv4Network> = (next..end).map(prefix).collect();
            encode_reach(&attributes(messages), nexthop, &prefixes, &context, &mut updates);
            (next, messages) = (end, messages + 1);
        }
        Self { count, updates: updates.freeze(), messages }
    }
}

/// Where [`prefix`] puts a prefix within the address space; below [`MAX`], `None` when it is not one of ours.
pub(super) fn place(prefix: Ipv4Network) -> Option<u32> {
    let place = (prefix.ip().to_bits() >> 8).checked_sub(BASE)?;
    (prefix.prefix() == 24 && place < MAX).then_some(place)
}

fn context() -> EncodeContext {
    EncodeContext { four_octet_asn: true, max_message_len: MAX_MESSAGE_LEN, extended_nexthop: false }
}

/// The `index`th prefix: an odd factor makes a permutation of the places.
fn prefix(index: u32) -> Ipv4Network {
    let place = scatter(index) % MAX;
    Ipv4Network::new(Ipv4Addr::from_bits((BASE + place) << 8), 24).expect("24 is a length")
}

fn scatter(index: u32) -> u32 {
    index.wrapping_mul(0x9e37_79b1)
}

/// The `index`th attribute set, no two alike.
fn attributes(index: u32) -> PathAttributes {
    let random = scatter(index) >> 8;
    let hops = (0..2 + random % 4).map(|hop| Asn(1000 + (random.rotate_left(hop) % 60_000)));
    let origin = Asn(100_000 + index);
    let communities = (0..random % 5).map(|n| Community((1000 << 16) + random % 500 + n));
    PathAttributes {
        as_path: AsPath::from_sequence([SENDER_ASN].into_iter().chain(hops).chain([origin])),
        med: random.is_multiple_of(3).then_some(random % 200),
        communities: communities.collect(),
        ..PathAttributes::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_prefixes_are_alike() {
        let places: BTreeSet<u32> = (0..100_000).filter_map(|index| place(prefix(index))).collect();
        assert_eq!(places.len(), 100_000);
    }
}
