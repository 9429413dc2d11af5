//! UPDATE messages out of routes (RFC 4271 §4.3, RFC 4760).
//!
//! In: attributes, a nexthop and prefixes that share them. Out: whole messages, packed to the peer's limit, appended to a
//! buffer that may hold many. IPv4 with an IPv4 nexthop goes in the body, all else in MP_REACH_NLRI, which stands first
//! (RFC 7606 §5.1). Reachable and unreachable prefixes never share a message.

use std::net::Ipv6Addr;

use bytes::{BufMut, Bytes, BytesMut};

use super::nlri::put_prefixes;
use super::rules::{EXTENDED_LENGTH, OPTIONAL, OPTIONAL_TRANSITIVE, TRANSITIVE, code};
use super::{
    Aggregator, EncodeContext, HEADER_LEN, LargeCommunity, MAX_MESSAGE_LEN, MessageKind, Origin,
    PathAttributes, Prefix,
};
use crate::types::{AfiSafi, Nexthop};

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
    let mut message = UpdateMessage::begin(out, context.max_message_len);
    let count = match (P::FAMILY, nexthop) {
        (AfiSafi::Ipv4Unicast, Nexthop::V4(address)) => {
            put_attributes(message.out, attributes, Some(&address.octets()), context);
            message.end_attributes();
            let room = message.room();
            put_prefixes(message.out, prefixes, room)
        }
        (AfiSafi::Ipv4Unicast, Nexthop::V6 { .. }) if !context.extended_nexthop => 0,
        (AfiSafi::Ipv4Unicast | AfiSafi::Ipv6Unicast, nexthop) => {
            let mut others = BytesMut::with_capacity(256);
            put_attributes(&mut others, attributes, None, context);
            let room = message.room().saturating_sub(others.len());
            let count = put_mp_reach(message.out, nexthop, prefixes, room);
            message.out.put_slice(&others);
            message.end_attributes();
            count
        }
    };
    message.finish_if(count > 0);
    count
}

/// Appends one UPDATE that withdraws as many of `prefixes` as it can hold; says how many those are.
pub fn encode_unreach<P: Prefix>(prefixes: &[P], context: &EncodeContext, out: &mut BytesMut) -> usize {
    let mut message = UpdateMessage::begin(out, context.max_message_len);
    let count = match P::FAMILY {
        AfiSafi::Ipv4Unicast => {
            let room = message.room();
            message.withdraw_in_body(|out| put_prefixes(out, prefixes, room))
        }
        AfiSafi::Ipv6Unicast => {
            let start = message.out.len();
            put_mp_head(message.out, code::MP_UNREACH_NLRI, P::FAMILY);
            let room = message.room();
            let count = put_prefixes(message.out, prefixes, room);
            patch_length(message.out, start + 2, message.out.len() - start - MP_HEAD);
            message.end_attributes();
            count
        }
    };
    message.finish_if(count > 0);
    count
}

/// RFC 4724 §2: the whole message.
pub fn encode_end_of_rib(family: AfiSafi) -> Bytes {
    let mut out = BytesMut::new();
    let mut message = UpdateMessage::begin(&mut out, MAX_MESSAGE_LEN);
    if family != AfiSafi::Ipv4Unicast {
        let start = message.out.len();
        put_mp_head(message.out, code::MP_UNREACH_NLRI, family);
        patch_length(message.out, start + 2, 3);
        message.end_attributes();
    }
    message.finish_if(true);
    out.freeze()
}

/// An UPDATE under construction at the end of a buffer; its lengths are filled in when they are known.
struct UpdateMessage<'a> {
    out: &'a mut BytesMut,
    start: usize,
    limit: usize,
}

/// Octets before the attributes when nothing is withdrawn: header and two lengths.
const FIXED_LEN: usize = HEADER_LEN + 4;

impl<'a> UpdateMessage<'a> {
    fn begin(out: &'a mut BytesMut, limit: usize) -> Self {
        let start = out.len();
        out.reserve(limit.min(MAX_MESSAGE_LEN));
        out.put_bytes(0xff, 16);
        out.put_u16(0);
        out.put_u8(MessageKind::Update.code());
        out.put_u32(0);
        Self { out, start, limit }
    }

    /// Octets left for attributes and prefixes.
    fn room(&self) -> usize {
        self.limit.saturating_sub(self.out.len() - self.start)
    }

    /// All attributes stand; prefixes may follow.
    fn end_attributes(&mut self) {
        let len = self.out.len() - self.start - FIXED_LEN;
        patch_length(self.out, self.start + FIXED_LEN - 2, len);
    }

    /// `put` writes the withdrawn prefixes, which take the place of the attributes' empty length.
    fn withdraw_in_body(&mut self, put: impl FnOnce(&mut BytesMut) -> usize) -> usize {
        self.out.truncate(self.start + FIXED_LEN - 2);
        let count = put(self.out);
        patch_length(self.out, self.start + HEADER_LEN, self.out.len() - self.start - (FIXED_LEN - 2));
        self.out.put_u16(0);
        count
    }

    /// Takes the message back when it says nothing or has become too long.
    fn finish_if(self, useful: bool) {
        let len = self.out.len() - self.start;
        if useful && len <= self.limit {
            patch_length(self.out, self.start + 16, len);
        } else {
            self.out.truncate(self.start);
        }
    }
}

/// Two octets at `at`. A length beyond them means a message beyond any limit, which `finish_if` takes back.
fn patch_length(out: &mut BytesMut, at: usize, len: usize) {
    let len = u16::try_from(len).unwrap_or(u16::MAX);
    if let Some(slot) = out.get_mut(at..at + 2) {
        slot.copy_from_slice(&len.to_be_bytes());
    }
}

/// Flags, type and an extended length.
const MP_HEAD: usize = 4;

fn put_mp_head(out: &mut BytesMut, code: u8, family: AfiSafi) {
    let (afi, safi) = family.codes();
    out.put_u8(OPTIONAL | EXTENDED_LENGTH);
    out.put_u8(code);
    out.put_u16(0);
    out.put_u16(afi);
    out.put_u8(safi);
}

fn put_mp_reach<P: Prefix>(out: &mut BytesMut, nexthop: Nexthop, prefixes: &[P], room: usize) -> usize {
    let start = out.len();
    put_mp_head(out, code::MP_REACH_NLRI, P::FAMILY);
    match nexthop {
        Nexthop::V6 { global, link_local: Some(link_local) } => {
            out.put_u8(32);
            out.put_u128(global.to_bits());
            out.put_u128(link_local.to_bits());
        }
        Nexthop::V6 { global, link_local: None } => {
            out.put_u8(16);
            out.put_u128(global.to_bits());
        }
        // Only IPv6 prefixes come here with one: RFC 4659 §3.2.1.2 maps it.
        Nexthop::V4(address) => {
            let mapped: Ipv6Addr = address.to_ipv6_mapped();
            out.put_u8(16);
            out.put_u128(mapped.to_bits());
        }
    }
    out.put_u8(0);
    let used = out.len() - start;
    let count = put_prefixes(out, prefixes, room.saturating_sub(used));
    patch_length(out, start + 2, out.len() - start - MP_HEAD);
    count
}

/// In order of type code (RFC 4271 §5), without the MP ones.
fn put_attributes(
    out: &mut BytesMut,
    attributes: &PathAttributes,
    next_hop: Option<&[u8]>,
    context: &EncodeContext,
) {
    let four_octet_asn = context.four_octet_asn;
    let as4_path = if four_octet_asn { None } else { attributes.as_path.as4_path() };
    put_attribute(out, TRANSITIVE, code::ORIGIN, &[origin_code(attributes.origin)]);
    put_as_path(out, TRANSITIVE, code::AS_PATH, &attributes.as_path, four_octet_asn);
    put_optional(out, TRANSITIVE, code::NEXT_HOP, next_hop);
    put_optional(out, OPTIONAL, code::MULTI_EXIT_DISC, attributes.med.map(u32::to_be_bytes));
    put_optional(out, TRANSITIVE, code::LOCAL_PREF, attributes.local_pref.map(u32::to_be_bytes));
    if attributes.atomic_aggregate {
        put_attribute(out, TRANSITIVE, code::ATOMIC_AGGREGATE, &[]);
    }
    if let Some(aggregator) = attributes.aggregator {
        put_aggregator(out, aggregator, four_octet_asn);
    }
    put_list(out, OPTIONAL_TRANSITIVE, code::COMMUNITIES, &attributes.communities, |item| {
        item.0.to_be_bytes()
    });
    put_optional(out, OPTIONAL, code::ORIGINATOR_ID, attributes.originator_id.map(|id| id.0.octets()));
    put_list(out, OPTIONAL, code::CLUSTER_LIST, &attributes.cluster_list, |item| item.0.octets());
    put_list(
        out,
        OPTIONAL_TRANSITIVE,
        code::EXTENDED_COMMUNITIES,
        &attributes.extended_communities,
        |item| *item,
    );
    if let Some(as4_path) = as4_path {
        put_as_path(out, OPTIONAL_TRANSITIVE, code::AS4_PATH, &as4_path, true);
    }
    put_list(
        out,
        OPTIONAL_TRANSITIVE,
        code::LARGE_COMMUNITIES,
        &attributes.large_communities,
        large_community_octets,
    );
    for unknown in attributes.unknown.iter() {
        put_attribute(out, unknown.flags, unknown.code, &unknown.value);
    }
}

fn large_community_octets(item: &LargeCommunity) -> [u8; 12] {
    let mut octets = [0; 12];
    let (parts, _) = octets.as_chunks_mut::<4>();
    for (part, value) in parts.iter_mut().zip([item.global, item.local1, item.local2]) {
        *part = value.to_be_bytes();
    }
    octets
}

fn origin_code(origin: Origin) -> u8 {
    match origin {
        Origin::Igp => 0,
        Origin::Egp => 1,
        Origin::Incomplete => 2,
    }
}

fn put_optional(out: &mut BytesMut, flags: u8, code: u8, value: Option<impl AsRef<[u8]>>) {
    if let Some(value) = value {
        put_attribute(out, flags, code, value.as_ref());
    }
}

fn put_attribute(out: &mut BytesMut, flags: u8, code: u8, value: &[u8]) {
    put_head(out, flags, code, value.len());
    out.put_slice(value);
}

/// The length takes two octets only when it must: some receivers know no others for short attributes.
fn put_head(out: &mut BytesMut, flags: u8, code: u8, len: usize) {
    if let Ok(len) = u8::try_from(len) {
        out.put_slice(&[flags, code, len]);
    } else {
        out.put_slice(&[flags | EXTENDED_LENGTH, code]);
        // Beyond two octets the message is beyond any limit too, and is taken back.
        out.put_u16(u16::try_from(len).unwrap_or(u16::MAX));
    }
}

fn put_as_path(out: &mut BytesMut, flags: u8, code: u8, path: &super::AsPath, four_octet_asn: bool) {
    put_head(out, flags, code, path.wire_len(four_octet_asn));
    path.put(out, four_octet_asn);
}

/// RFC 6793 §4.2.2. AS4_AGGREGATOR directly follows: it is the one exception to the order, and order is only advice.
fn put_aggregator(out: &mut BytesMut, Aggregator { asn, router_id }: Aggregator, four_octet_asn: bool) {
    if four_octet_asn {
        put_head(out, OPTIONAL_TRANSITIVE, code::AGGREGATOR, 8);
        out.put_u32(asn.0);
        out.put_u32(router_id.0.to_bits());
        return;
    }
    put_head(out, OPTIONAL_TRANSITIVE, code::AGGREGATOR, 6);
    out.put_u16(asn.two_octets());
    out.put_u32(router_id.0.to_bits());
    if asn.0 > u32::from(u16::MAX) {
        put_head(out, OPTIONAL_TRANSITIVE, code::AS4_AGGREGATOR, 8);
        out.put_u32(asn.0);
        out.put_u32(router_id.0.to_bits());
    }
}

/// An empty list is an absent attribute.
fn put_list<T, const N: usize>(
    out: &mut BytesMut,
    flags: u8,
    code: u8,
    items: &[T],
    octets: impl Fn(&T) -> [u8; N],
) {
    if items.is_empty() {
        return;
    }
    put_head(out, flags, code, items.len() * N);
    for item in items {
        out.put_slice(&octets(item));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use ipnetwork::{Ipv4Network, Ipv6Network};

    use super::*;
    use crate::types::{Asn, RouterId};

    fn context(four_octet_asn: bool) -> EncodeContext {
        EncodeContext { four_octet_asn, max_message_len: MAX_MESSAGE_LEN, extended_nexthop: true }
    }

    #[test]
    fn of_no_prefixes_nothing_is_said() {
        let (mut out, context) = (BytesMut::new(), context(true));
        assert_eq!(encode_unreach::<Ipv4Network>(&[], &context, &mut out), 0);
        assert_eq!(encode_unreach::<Ipv6Network>(&[], &context, &mut out), 0);
        let (attributes, nexthop) = (PathAttributes::default(), Nexthop::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(encode_reach::<Ipv4Network>(&attributes, nexthop, &[], &context, &mut out), 0);
        assert!(out.is_empty(), "an UPDATE without prefixes is an End-of-RIB");
    }

    #[test]
    fn an_old_speaker_gets_the_real_aggregator_where_two_octets_cannot_say_it() {
        let router_id = RouterId(Ipv4Addr::new(1, 2, 3, 4));
        for (asn, written) in [
            (65535, &[0xc0, 7, 6, 0xff, 0xff, 1, 2, 3, 4][..]),
            (65536, &[0xc0, 7, 6, 0x5b, 0xa0, 1, 2, 3, 4, 0xc0, 18, 8, 0, 1, 0, 0, 1, 2, 3, 4]),
        ] {
            let mut out = BytesMut::new();
            put_aggregator(&mut out, Aggregator { asn: Asn(asn), router_id }, false);
            assert_eq!(out, written, "AS {asn}");
        }
    }
}
