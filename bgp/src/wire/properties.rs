//! Properties of the codec: what is encoded is decoded, nothing makes a decoder panic, and more damage never costs less.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::types::{Asn, Nexthop, PeerKind, RouterId};

fn asn() -> impl Strategy<Value = Asn> {
    prop_oneof![1..=65535u32, 1..=u32::MAX].prop_map(Asn)
}

fn router_id() -> impl Strategy<Value = RouterId> {
    (1..=u32::MAX).prop_map(|bits| RouterId(Ipv4Addr::from_bits(bits)))
}

fn as_path() -> impl Strategy<Value = AsPath> {
    let segment = vec(asn(), 1..6).prop_map(|asns| (SegmentKind::Sequence, asns));
    vec(segment, 0..3).prop_map(AsPath::from)
}

fn large_communities() -> impl Strategy<Value = Vec<LargeCommunity>> {
    let community = any::<(u32, u32, u32)>().prop_map(|(global, local1, local2)| LargeCommunity {
        global,
        local1,
        local2,
    });
    proptest::collection::btree_set(community, 0..4).prop_map(|set| set.into_iter().collect())
}

fn unknown() -> impl Strategy<Value = Vec<UnknownAttribute>> {
    let value = vec(any::<u8>(), 0..300);
    option::of(value).prop_map(|value| {
        value
            .map(|value| UnknownAttribute { flags: 0xe0, code: 99, value: value.into() })
            .into_iter()
            .collect()
    })
}

/// What an internal peer may send.
fn attributes() -> impl Strategy<Value = PathAttributes> {
    let scalars = (
        prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)],
        as_path(),
        option::of(any::<u32>()),
        option::of(any::<u32>()),
        any::<bool>(),
        option::of((asn(), router_id()).prop_map(|(asn, router_id)| Aggregator { asn, router_id })),
        option::of(router_id()),
    );
    let lists = (
        vec(any::<u32>().prop_map(Community), 0..8),
        large_communities(),
        vec(any::<[u8; 8]>(), 0..4),
        vec(router_id(), 0..6),
        unknown(),
    );
    (scalars, lists).prop_map(|(scalars, lists)| {
        let (origin, as_path, med, local_pref, atomic_aggregate, aggregator, originator_id) = scalars;
        let (communities, large_communities, extended_communities, cluster_list, unknown) = lists;
        PathAttributes {
            origin,
            as_path,
            med,
            local_pref,
            atomic_aggregate,
            aggregator,
            communities: communities.into(),
            large_communities: large_communities.into(),
            extended_communities: extended_communities.into(),
            originator_id,
            cluster_list: cluster_list.into(),
            unknown: unknown.into(),
        }
    })
}

fn v4_prefixes() -> impl Strategy<Value = Vec<Ipv4Network>> {
    let prefix = (any::<u32>(), 0..=32u8).prop_map(|(bits, len)| {
        let host = Ipv4Network::new(Ipv4Addr::from_bits(bits), len).unwrap();
        Ipv4Network::new(host.network(), len).unwrap()
    });
    vec(prefix, 1..2000)
}

fn v6_prefixes() -> impl Strategy<Value = Vec<Ipv6Network>> {
    let prefix = (any::<u128>(), 0..=128u8).prop_map(|(bits, len)| {
        let host = Ipv6Network::new(Ipv6Addr::from_bits(bits), len).unwrap();
        Ipv6Network::new(host.network(), len).unwrap()
    });
    vec(prefix, 1..500)
}

fn v6_nexthop() -> impl Strategy<Value = Nexthop> {
    let global = (1..=0xffffu128).prop_map(|low| Ipv6Addr::from_bits((0x2001_0db8 << 96) | low));
    let link_local = (1..=0xffffu128).prop_map(|low| Ipv6Addr::from_bits((0xfe80 << 112) | low));
    (global, option::of(link_local)).prop_map(|(global, link_local)| Nexthop::V6 { global, link_local })
}

fn contexts(four_octet_asn: bool) -> (EncodeContext, DecodeContext) {
    let encode = EncodeContext { four_octet_asn, max_message_len: MAX_MESSAGE_LEN, extended_nexthop: true };
    let decode = DecodeContext {
        peer_kind: PeerKind::Internal,
        four_octet_asn,
        families: AfiSafi::ALL.to_vec(),
        extended_nexthop: true,
    };
    (encode, decode)
}

fn updates(stream: &[u8], context: &DecodeContext) -> Vec<Update> {
    let mut framer = Framer::default();
    framer.push(stream);
    let mut updates = Vec::new();
    while let Some(frame) = framer.next_frame().expect("we encode whole messages") {
        match Message::decode(&frame, context).expect("we encode what we decode") {
            Message::Update(update) => updates.push(*update),
            other => panic!("{other:?} is no UPDATE"),
        }
    }
    updates
}

/// Encodes as the RIB does: message after message until all is said.
fn encode_all<P: Prefix>(
    attributes: &PathAttributes,
    nexthop: Nexthop,
    prefixes: &[P],
    context: &EncodeContext,
) -> BytesMut {
    let mut out = BytesMut::new();
    let mut rest = prefixes;
    while !rest.is_empty() {
        let before = out.len();
        let count = encode_reach(attributes, nexthop, rest, context, &mut out);
        assert!(count > 0 && out.len() - before <= context.max_message_len);
        rest = &rest[count..];
    }
    out
}

/// Checks every update, and gives all its prefixes.
fn announced(updates: &[Update], attributes: &PathAttributes, nexthop: Nexthop) -> Vec<Nlri> {
    updates
        .iter()
        .map(|update| {
            assert_eq!(update.errors, []);
            assert_eq!(&update.attributes, attributes);
            let [reach] = &update.reach[..] else { panic!("one family, one nexthop") };
            assert_eq!(reach.nexthop, nexthop);
            reach.nlri.clone()
        })
        .collect()
}

fn v4_of(lists: Vec<Nlri>) -> Vec<Ipv4Network> {
    lists
        .into_iter()
        .flat_map(|list| match list {
            Nlri::V4(prefixes) => prefixes,
            Nlri::V6(_) => Vec::new(),
        })
        .collect()
}

fn v6_of(lists: Vec<Nlri>) -> Vec<Ipv6Network> {
    lists
        .into_iter()
        .flat_map(|list| match list {
            Nlri::V6(prefixes) => prefixes,
            Nlri::V4(_) => Vec::new(),
        })
        .collect()
}

/// How much an UPDATE cost: nothing, its attributes, its routes, the session.
fn verdict(result: &Result<Update, Notification>) -> Option<ErrorAction> {
    match result {
        Ok(update) => update.errors.iter().map(|error| error.action).max(),
        Err(_) => Some(ErrorAction::Reset),
    }
}

/// Damaged attributes that none of the above has.
const DAMAGE: [&[u8]; 5] =
    [&[0x80, 26, 1, 0], &[0x40, 77, 0], &[0x80, 100, 0], &[0xc0, 35, 1, 9], &[0xe0, 40, 2, 0, 0]];

fn with_damage(body: &[u8], damage: &[&[u8]]) -> Vec<u8> {
    let (head, rest) = body.split_at(4);
    let len = u16::from_be_bytes([head[2], head[3]]);
    let (attributes, nlri) = rest.split_at(usize::from(len));
    let extra = damage.concat();
    let total = (len + u16::try_from(extra.len()).unwrap()).to_be_bytes();
    [&head[..2], &total, attributes, &extra, nlri].concat()
}

proptest! {
    #[test]
    fn ipv4_routes_come_back(
        attributes in attributes(),
        prefixes in v4_prefixes(),
        nexthop in (0x0a00_0001..0x0aff_ffffu32).prop_map(|bits| Nexthop::V4(Ipv4Addr::from_bits(bits))),
        four_octet_asn: bool,
    ) {
        let (encode, decode) = contexts(four_octet_asn);
        let updates = updates(&encode_all(&attributes, nexthop, &prefixes, &encode), &decode);
        prop_assert_eq!(v4_of(announced(&updates, &attributes, nexthop)), prefixes);
    }

    #[test]
    fn ipv4_routes_with_ipv6_nexthops_come_back(
        attributes in attributes(), prefixes in v4_prefixes(), nexthop in v6_nexthop(),
    ) {
        let (encode, decode) = contexts(true);
        let updates = updates(&encode_all(&attributes, nexthop, &prefixes, &encode), &decode);
        prop_assert_eq!(v4_of(announced(&updates, &attributes, nexthop)), prefixes);
    }

    #[test]
    fn ipv6_routes_come_back(
        attributes in attributes(), prefixes in v6_prefixes(), nexthop in v6_nexthop(),
    ) {
        let (encode, decode) = contexts(true);
        let updates = updates(&encode_all(&attributes, nexthop, &prefixes, &encode), &decode);
        prop_assert_eq!(v6_of(announced(&updates, &attributes, nexthop)), prefixes);
    }

    #[test]
    fn withdrawals_come_back(v4 in v4_prefixes(), v6 in v6_prefixes()) {
        let (encode, decode) = contexts(true);
        let mut out = BytesMut::new();
        let (mut v4_rest, mut v6_rest) = (&v4[..], &v6[..]);
        while !v4_rest.is_empty() {
            v4_rest = &v4_rest[encode_unreach(v4_rest, &encode, &mut out)..];
        }
        while !v6_rest.is_empty() {
            v6_rest = &v6_rest[encode_unreach(v6_rest, &encode, &mut out)..];
        }
        let lists: Vec<Nlri> = updates(&out, &decode).into_iter().flat_map(|update| update.unreach).collect();
        prop_assert_eq!(v4_of(lists.clone()), v4);
        prop_assert_eq!(v6_of(lists), v6);
    }

    /// A few octets of a valid message changed, or its end cut off.
    #[test]
    fn no_mutation_makes_a_decoder_panic(
        attributes in attributes(),
        prefixes in v4_prefixes(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in option::of(any::<prop::sample::Index>()),
        four_octet_asn: bool,
        kind: u8,
    ) {
        let (encode, decode) = contexts(four_octet_asn);
        let mut out = BytesMut::new();
        encode_reach(&attributes, Nexthop::V4(Ipv4Addr::new(10, 0, 0, 1)), &prefixes, &encode, &mut out);
        let mut body = out.split_off(HEADER_LEN);
        for (index, octet) in changes {
            let index = index.index(body.len());
            body[index] = octet;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        let kinds = [MessageKind::Update, MessageKind::Open, MessageKind::Notification, MessageKind::RouteRefresh];
        // Most of the time as what it was.
        let kind = kinds.get(usize::from(kind)).copied().unwrap_or(MessageKind::Update);
        if let Ok(message) = Message::decode(&Frame { kind, body: body.freeze() }, &decode) {
            let _ = format!("{message:?}");
        }
    }

    #[test]
    fn no_octets_make_the_open_decoder_panic(octets in vec(any::<u8>(), 0..200)) {
        let _ = Open::decode(&octets);
        let _ = Open::decode(&[&[4, 0xfd, 0xe9, 0, 90, 10, 0, 0, 1], &octets[..]].concat());
    }

    #[test]
    fn more_damage_never_costs_less(
        attributes in attributes(),
        damage in prop::sample::subsequence(DAMAGE.to_vec(), 0..=DAMAGE.len()),
        more in prop::sample::subsequence(DAMAGE.to_vec(), 0..=DAMAGE.len()),
    ) {
        let (encode, decode) = contexts(true);
        let prefix: Ipv4Network = "192.0.2.0/24".parse().unwrap();
        let mut out = BytesMut::new();
        encode_reach(&attributes, Nexthop::V4(Ipv4Addr::new(10, 0, 0, 1)), &[prefix], &encode, &mut out);
        let body = out.split_off(HEADER_LEN);

        let less = Update::decode(&with_damage(&body, &damage), &decode);
        let more = Update::decode(&with_damage(&body, &[damage, more].concat()), &decode);
        prop_assert!(verdict(&less) <= verdict(&more), "{less:?} {more:?}");
        // And the prefix is never lost.
        let update = more.expect("none of this damage hides a prefix");
        prop_assert_eq!(update.reach.len() + update.unreach.len(), 1);
    }
}

#[test]
fn end_of_rib_is_recognised() {
    let (_, decode) = contexts(true);
    for family in AfiSafi::ALL {
        let [update] = &updates(&encode_end_of_rib(family), &decode)[..] else { panic!("one message") };
        assert_eq!(update.end_of_rib, Some(family));
    }
}

#[test]
fn attributes_too_long_for_a_message_leave_nothing_behind() {
    let (encode, _) = contexts(true);
    let attributes =
        PathAttributes { communities: vec![Community(1); 1100].into(), ..PathAttributes::default() };
    let v4: [Ipv4Network; 1] = ["10.0.0.0/8".parse().unwrap()];
    let v6: [Ipv6Network; 1] = ["2001:db8::/32".parse().unwrap()];
    let mut out = BytesMut::from(&b"before"[..]);
    assert_eq!(encode_reach(&attributes, Nexthop::V4(Ipv4Addr::new(10, 0, 0, 1)), &v4, &encode, &mut out), 0);
    let nexthop = Nexthop::V6 { global: "2001:db8::1".parse().unwrap(), link_local: None };
    assert_eq!(encode_reach(&attributes, nexthop, &v6, &encode, &mut out), 0);
    assert_eq!(encode_reach(&attributes, nexthop, &v4, &encode, &mut out), 0);
    assert_eq!(&out[..], b"before");
}

#[test]
fn an_ipv6_nexthop_is_not_sent_to_a_peer_that_does_not_take_it() {
    let encode = EncodeContext { extended_nexthop: false, ..contexts(true).0 };
    let v4: [Ipv4Network; 1] = ["10.0.0.0/8".parse().unwrap()];
    let nexthop = Nexthop::V6 { global: "2001:db8::1".parse().unwrap(), link_local: None };
    let mut out = BytesMut::new();
    assert_eq!(encode_reach(&PathAttributes::default(), nexthop, &v4, &encode, &mut out), 0);
    assert!(out.is_empty());
}

#[test]
fn mp_reach_stands_first() {
    let (encode, _) = contexts(true);
    let v6: [Ipv6Network; 1] = ["2001:db8::/32".parse().unwrap()];
    let nexthop = Nexthop::V6 { global: "2001:db8::1".parse().unwrap(), link_local: None };
    let mut out = BytesMut::new();
    encode_reach(&PathAttributes::default(), nexthop, &v6, &encode, &mut out);
    assert_eq!(out[HEADER_LEN + 5], 14); // RFC 7606 §5.1
}
