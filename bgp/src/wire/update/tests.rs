//! Broken UPDATEs, most of which have brought down somebody's router, and what each must cost: nothing more.

use std::net::Ipv6Addr;

use super::*;
use crate::types::Asn;
use crate::wire::{Community, LargeCommunity, Origin};

const WELL_KNOWN: u8 = 0x40;
const OPTIONAL: u8 = 0x80;
const OPTIONAL_TRANSITIVE: u8 = 0xc0;

/// 192.0.2.0/24.
const PREFIX: &[u8] = &[24, 192, 0, 2];

fn context(peer_kind: PeerKind) -> DecodeContext {
    DecodeContext { peer_kind, four_octet_asn: true, families: AfiSafi::ALL.to_vec(), extended_nexthop: true }
}

fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    match u8::try_from(value.len()) {
        Ok(len) => [&[flags, code, len], value].concat(),
        Err(_) => {
            let [high, low] = u16::try_from(value.len()).unwrap().to_be_bytes();
            [&[flags | 0x10, code, high, low], value].concat()
        }
    }
}

fn origin() -> Vec<u8> {
    attribute(WELL_KNOWN, 1, &[0])
}

/// One sequence: 65001.
fn as_path() -> Vec<u8> {
    attribute(WELL_KNOWN, 2, &[2, 1, 0, 0, 0xfd, 0xe9])
}

fn next_hop() -> Vec<u8> {
    attribute(WELL_KNOWN, 3, &[10, 0, 0, 1])
}

fn mandatory() -> Vec<u8> {
    [origin(), as_path(), next_hop()].concat()
}

/// 2001:db8::/32 by way of 2001:db8::1.
fn mp_reach_value() -> Vec<u8> {
    let nexthop = [&[0x20, 0x01, 0x0d, 0xb8][..], &[0; 11], &[1]].concat();
    [&[0, 2, 1, 16], &nexthop[..], &[0, 32, 0x20, 0x01, 0x0d, 0xb8]].concat()
}

fn mp_reach() -> Vec<u8> {
    attribute(OPTIONAL, 14, &mp_reach_value())
}

fn body(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let len = |part: &[u8]| u16::try_from(part.len()).unwrap().to_be_bytes();
    [&len(withdrawn), withdrawn, &len(attributes), attributes, nlri].concat()
}

fn decode_from(kind: PeerKind, attributes: &[u8], nlri: &[u8]) -> Result<Update, Notification> {
    Update::decode(&body(&[], attributes, nlri), &context(kind))
}

fn v4(prefix: &str) -> Nlri {
    Nlri::V4(vec![prefix.parse().unwrap()])
}

fn v6(prefix: &str) -> Nlri {
    Nlri::V6(vec![prefix.parse().unwrap()])
}

/// What became of 192.0.2.0/24 announced with these attributes.
#[derive(Debug, PartialEq)]
enum Fate {
    /// And the attributes that cost nothing but themselves.
    Installed(Vec<u8>),
    Withdrawn,
    Reset(u8, u8),
}

fn fate(kind: PeerKind, attributes: &[u8]) -> Fate {
    match decode_from(kind, attributes, PREFIX) {
        Err(error) => Fate::Reset(error.code, error.subcode),
        Ok(update) if update.unreach[..] == [v4("192.0.2.0/24")] && update.reach.is_empty() => {
            assert_eq!(update.attributes, PathAttributes::default());
            Fate::Withdrawn
        }
        Ok(update) => {
            assert_eq!(update.reach.len(), 1);
            Fate::Installed(update.errors.iter().map(|error| error.code).collect())
        }
    }
}

/// The mandatory attributes and this one, from either kind of peer.
fn fates_with(flags: u8, code: u8, value: &[u8]) -> [Fate; 2] {
    let attributes = [mandatory(), attribute(flags, code, value)].concat();
    [PeerKind::Internal, PeerKind::External].map(|kind| fate(kind, &attributes))
}

/// One of the mandatory attributes replaced.
fn fate_of_mandatory(code: u8, value: &[u8]) -> Fate {
    let keep = [(1, origin()), (2, as_path()), (3, next_hop())];
    let mut attributes: Vec<u8> =
        keep.into_iter().filter(|(kept, _)| *kept != code).flat_map(|(_, a)| a).collect();
    attributes.extend(attribute(WELL_KNOWN, code, value));
    fate(PeerKind::Internal, &attributes)
}

fn installed() -> Fate {
    Fate::Installed(vec![])
}

#[test]
fn a_well_formed_update_is_read_in_full() {
    let attributes = [
        mandatory(),
        attribute(OPTIONAL, 4, &[0, 0, 0, 50]),
        attribute(WELL_KNOWN, 5, &[0, 0, 0, 200]),
        attribute(WELL_KNOWN, 6, &[]),
        attribute(OPTIONAL_TRANSITIVE, 7, &[0, 0, 0xfd, 0xe9, 10, 0, 0, 9]),
        attribute(OPTIONAL_TRANSITIVE, 8, &[0xff, 0xff, 0xff, 1, 0xfd, 0xe9, 0, 7]),
        attribute(OPTIONAL, 9, &[10, 0, 0, 5]),
        attribute(OPTIONAL, 10, &[10, 0, 0, 6, 10, 0, 0, 7]),
        attribute(OPTIONAL_TRANSITIVE, 16, &[0, 2, 0xfd, 0xe9, 0, 0, 0, 1]),
        attribute(OPTIONAL_TRANSITIVE, 32, &[0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3]),
    ]
    .concat();
    let update = decode_from(PeerKind::Internal, &attributes, PREFIX).unwrap();

    assert_eq!(update.errors, []);
    assert_eq!(update.reach[0].nexthop, Nexthop::V4("10.0.0.1".parse().unwrap()));
    assert_eq!(update.reach[0].nlri, v4("192.0.2.0/24"));
    let PathAttributes { origin, as_path, med, local_pref, atomic_aggregate, communities, .. } =
        &update.attributes;
    assert_eq!((*origin, as_path.to_string().as_str()), (Origin::Igp, "65001"));
    assert_eq!((*med, *local_pref, *atomic_aggregate), (Some(50), Some(200), true));
    assert_eq!(communities[..], [Community::NO_EXPORT, Community(0xfde9_0007)]);
    assert_eq!(update.attributes.aggregator.unwrap().asn, Asn(65001));
    assert_eq!(update.attributes.cluster_list.len(), 2);
    assert_eq!(update.attributes.large_communities[..], [LargeCommunity { global: 2, local1: 1, local2: 3 }]);
}

// The message.

#[test]
fn an_empty_update_ends_the_ipv4_rib() {
    let update = Update::decode(&[0, 0, 0, 0], &context(PeerKind::External)).unwrap();
    assert_eq!(update.end_of_rib, Some(AfiSafi::Ipv4Unicast));
}

#[test]
fn an_empty_mp_unreach_alone_ends_the_rib_of_its_family() {
    let end = attribute(OPTIONAL, 15, &[0, 2, 1]);
    let update = decode_from(PeerKind::External, &end, &[]).unwrap();
    assert_eq!(update.end_of_rib, Some(AfiSafi::Ipv6Unicast));
}

#[test]
fn an_empty_mp_unreach_with_other_attributes_ends_no_rib() {
    // FRR CVE-2023-47235.
    let end = attribute(OPTIONAL, 15, &[0, 2, 1]);
    let update = decode_from(PeerKind::External, &[end.clone(), origin()].concat(), &[]).unwrap();
    assert_eq!(update.end_of_rib, None);

    let broken = [end.clone(), attribute(WELL_KNOWN, 1, &[9])].concat();
    assert_eq!(decode_from(PeerKind::External, &broken, &[]), Err(Notification::malformed_attribute_list()));

    let trailing = [end.clone(), vec![0x40]].concat();
    assert_eq!(
        decode_from(PeerKind::External, &trailing, &[]),
        Err(Notification::malformed_attribute_list())
    );

    let with_withdraw = Update::decode(&body(PREFIX, &end, &[]), &context(PeerKind::External)).unwrap();
    assert_eq!(with_withdraw.end_of_rib, None);
}

#[test]
fn lengths_beyond_the_message_are_3_1() {
    for broken in [&[0, 9, 0, 0][..], &[0, 0, 0, 9], &[0, 0, 0], &[0xff, 0xff, 0, 0, 0]] {
        let error = Update::decode(broken, &context(PeerKind::External));
        assert_eq!(error, Err(Notification::malformed_attribute_list()), "{broken:?}");
    }
}

#[test]
fn prefixes_without_any_attribute_are_withdrawn() {
    // FRR CVE-2023-41358.
    assert_eq!(fate(PeerKind::External, &[]), Fate::Withdrawn);
}

#[test]
fn prefixes_with_only_an_unknown_attribute_are_withdrawn() {
    // FRR CVE-2023-46753.
    let unknown = attribute(OPTIONAL_TRANSITIVE, 99, &[1]);
    assert_eq!(fate(PeerKind::External, &unknown), Fate::Withdrawn);
}

#[test]
fn each_mandatory_attribute_is_missed() {
    for attributes in [[as_path(), next_hop()], [origin(), next_hop()], [origin(), as_path()]] {
        assert_eq!(fate(PeerKind::Internal, &attributes.concat()), Fate::Withdrawn);
    }
    // LOCAL_PREF is not: absent means the default.
    assert_eq!(fate(PeerKind::Internal, &mandatory()), installed());
}

#[test]
fn mp_unreach_before_prefixes_without_attributes_withdraws_both() {
    // FRR CVE-2023-47234.
    let unreach = attribute(OPTIONAL, 15, &[0, 2, 1, 32, 0x20, 0x01, 0x0d, 0xb8]);
    let update = decode_from(PeerKind::External, &unreach, PREFIX).unwrap();
    assert_eq!(update.unreach[..], [v6("2001:db8::/32"), v4("192.0.2.0/24")]);
}

#[test]
fn withdrawn_prefixes_come_before_announced_ones() {
    let update = Update::decode(&body(&[8, 10], &mandatory(), PREFIX), &context(PeerKind::External)).unwrap();
    assert_eq!(update.unreach[..], [v4("10.0.0.0/8")]);
    assert_eq!(update.reach.len(), 1);
}

#[test]
fn an_attribute_that_runs_past_the_end_costs_the_routes() {
    // OpenBGPD CVE-2023-38283 and GoBGP CVE-2026-37462: length over, or 1 to 3 octets left.
    for tail in [&[0xc0, 8, 200, 1, 2][..], &[0x40], &[0x40, 1], &[0x50, 1, 0], &[0xd0, 8, 0xff, 0xff, 0]] {
        let attributes = [mandatory(), tail.to_vec()].concat();
        assert_eq!(fate(PeerKind::External, &attributes), Fate::Withdrawn, "{tail:?}");
    }
}

#[test]
fn an_mp_attribute_that_runs_past_the_end_has_lost_its_prefixes() {
    for code in [14, 15] {
        let attributes = [mandatory(), vec![OPTIONAL, code, 200, 0, 2, 1]].concat();
        assert_eq!(fate(PeerKind::External, &attributes), Fate::Reset(3, 1));
    }
}

#[test]
fn an_error_without_any_prefix_to_withdraw_is_3_1() {
    // RFC 7606 §5.2: withdrawn ones do not count.
    let attributes = [origin(), attribute(WELL_KNOWN, 2, &[9, 1, 0, 0, 0, 1])].concat();
    let error = Update::decode(&body(PREFIX, &attributes, &[]), &context(PeerKind::External));
    assert_eq!(error, Err(Notification::malformed_attribute_list()));
}

#[test]
fn broken_body_prefixes_are_3_10() {
    for nlri in [&[33, 10, 0, 0, 0, 0][..], &[24, 10, 0], &[24]] {
        let announced = decode_from(PeerKind::External, &mandatory(), nlri);
        assert_eq!(announced, Err(Notification::invalid_network_field()), "{nlri:?}");
        let withdrawn = Update::decode(&body(nlri, &[], &[]), &context(PeerKind::External));
        assert_eq!(withdrawn, Err(Notification::invalid_network_field()), "{nlri:?}");
    }
}

#[test]
fn prefixes_of_a_family_that_was_not_negotiated_are_skipped() {
    let only_v6 = DecodeContext { families: vec![AfiSafi::Ipv6Unicast], ..context(PeerKind::External) };
    let attributes = [mandatory(), mp_reach()].concat();
    let update = Update::decode(&body(&[], &attributes, PREFIX), &only_v6).unwrap();
    assert_eq!(update.reach.len(), 1);
    assert_eq!(update.reach[0].nlri, v6("2001:db8::/32"));
    assert!(update.errors.iter().all(|error| error.fault == Fault::Family));
}

// MP_REACH_NLRI and MP_UNREACH_NLRI.

#[test]
fn an_mp_nexthop_of_the_wrong_length_is_3_9_with_the_attribute_as_data() {
    // FRR CVE-2023-46752.
    for (len, held) in [(9, 9), (64, 64), (200, 16), (0, 0), (4, 4), (24, 24)] {
        let value = [&[0, 2, 1, len][..], &vec![1; held], &[0, 32, 0x20, 0x01, 0x0d, 0xb8]].concat();
        let reach = attribute(OPTIONAL, 14, &value);
        let error = decode_from(PeerKind::External, &[mandatory(), reach.clone()].concat(), &[]);
        assert_eq!(error, Err(Notification::optional_attribute_error(&reach)), "{len}");
    }
}

#[test]
fn broken_mp_prefixes_are_3_9() {
    let value = mp_reach_value();
    let (start, _) = value.split_at(value.len() - 5);
    for nlri in [&[129, 0x20][..], &[32, 0x20, 0x01]] {
        let reach = attribute(OPTIONAL, 14, &[start, nlri].concat());
        assert_eq!(fate(PeerKind::External, &[mandatory(), reach].concat()), Fate::Reset(3, 9));
        let unreach = attribute(OPTIONAL, 15, &[&[0, 2, 1], nlri].concat());
        assert_eq!(fate(PeerKind::External, &[mandatory(), unreach].concat()), Fate::Reset(3, 9));
    }
    let short = attribute(OPTIONAL, 15, &[0, 2]);
    assert_eq!(fate(PeerKind::External, &[mandatory(), short].concat()), Fate::Reset(3, 9));
}

#[test]
fn mp_reach_with_wrong_flags_withdraws_its_own_prefixes() {
    for flags in [0x60, 0xe0, 0xc0] {
        let attributes = [origin(), as_path(), attribute(flags, 14, &mp_reach_value())].concat();
        let update = decode_from(PeerKind::External, &attributes, &[]).unwrap();
        assert_eq!(update.unreach[..], [v6("2001:db8::/32")]);
        assert_eq!(update.errors[0].fault, Fault::Flags);
    }
}

#[test]
fn mp_attributes_twice_are_3_1() {
    let unreach = attribute(OPTIONAL, 15, &[0, 2, 1]);
    for twice in [mp_reach(), unreach] {
        let attributes = [mandatory(), twice.clone(), twice].concat();
        assert_eq!(fate(PeerKind::External, &attributes), Fate::Reset(3, 1));
    }
}

#[test]
fn next_hop_is_ignored_beside_mp_prefixes_alone() {
    // FRR#3768, FRR#19234: some peers send 0.0.0.0 or nonsense there.
    for value in [&[0, 0, 0, 0][..], &[1], &[]] {
        let attributes = [origin(), as_path(), attribute(WELL_KNOWN, 3, value), mp_reach()].concat();
        let update = decode_from(PeerKind::External, &attributes, &[]).unwrap();
        assert_eq!(update.reach.len(), 1, "{value:?}");
    }
}

/// The nexthop that an MP_REACH_NLRI of IPv4 192.0.2.0/24 with these octets gives.
fn nexthop_of(family: u8, nexthop: &[u8], context: &DecodeContext) -> Result<Nexthop, Notification> {
    let len = u8::try_from(nexthop.len()).unwrap();
    let value = [&[0, family, 1, len], nexthop, &[0], PREFIX].concat();
    let attributes = [origin(), as_path(), attribute(OPTIONAL, 14, &value)].concat();
    Update::decode(&body(&[], &attributes, &[]), context).map(|update| update.reach[0].nexthop)
}

#[test]
fn an_ipv6_nexthop_serves_ipv4_prefixes_only_when_negotiated() {
    let global: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let link_local: Ipv6Addr = "fe80::1".parse().unwrap();
    let both = [global.octets(), link_local.octets()].concat();
    let extended = context(PeerKind::External);
    assert_eq!(nexthop_of(1, &both, &extended), Ok(Nexthop::V6 { global, link_local: Some(link_local) }));
    assert_eq!(nexthop_of(1, &global.octets(), &extended), Ok(Nexthop::V6 { global, link_local: None }));
    assert_eq!(nexthop_of(1, &[10, 0, 0, 1], &extended), Ok(Nexthop::V4([10, 0, 0, 1].into())));
    let plain = DecodeContext { extended_nexthop: false, ..extended };
    assert_eq!(nexthop_of(1, &global.octets(), &plain).map_err(|error| error.subcode), Err(9));
}

#[test]
fn a_link_local_nexthop_may_stand_alone_or_behind_no_address() {
    let link_local: Ipv6Addr = "fe80::1".parse().unwrap();
    let alone = Nexthop::V6 { global: link_local, link_local: None };
    let external = context(PeerKind::External);
    assert_eq!(nexthop_of(2, &link_local.octets(), &external), Ok(alone));
    assert_eq!(nexthop_of(2, &[[0; 16], link_local.octets()].concat(), &external), Ok(alone));
}

#[test]
fn an_unusable_mp_nexthop_costs_the_routes() {
    for nexthop in ["::", "::1", "ff02::1", "::ffff:192.0.2.1"] {
        let mut value = mp_reach_value();
        value[4..20].copy_from_slice(&nexthop.parse::<Ipv6Addr>().unwrap().octets());
        let attributes = [origin(), as_path(), attribute(OPTIONAL, 14, &value)].concat();
        let update = decode_from(PeerKind::External, &attributes, &[]).unwrap();
        assert_eq!(update.unreach[..], [v6("2001:db8::/32")], "{nexthop}");
    }
}

// Attributes, by the table.

#[test]
fn a_malformed_origin_costs_the_routes() {
    for value in [&[][..], &[0, 0], &[3], &[255]] {
        assert_eq!(fate_of_mandatory(1, value), Fate::Withdrawn, "{value:?}");
    }
}

#[test]
fn a_malformed_as_path_costs_the_routes() {
    // Segment type 0 and 5, count 0, count 255 with one system, half a system, half a segment, AS 0 (RFC 7607).
    for value in [
        &[0, 1, 0, 0, 0, 1][..],
        &[5, 1, 0, 0, 0, 1],
        &[2, 0],
        &[2, 255, 0, 0, 0, 1],
        &[2, 1, 0, 0],
        &[2, 1, 0, 0, 0, 1, 2],
        &[2, 1, 0, 0, 0, 0],
    ] {
        assert_eq!(fate_of_mandatory(2, value), Fate::Withdrawn, "{value:?}");
    }
    assert_eq!(fate_of_mandatory(2, &[]), installed());
}

#[test]
fn a_path_of_a_thousand_systems_is_only_long() {
    let segment = [&[2, 255][..], &[0, 0, 0xfd, 0xe9].repeat(255)].concat();
    assert_eq!(fate_of_mandatory(2, &segment.repeat(3)), installed());
}

#[test]
fn confederation_segments_are_for_internal_peers() {
    let path = attribute(WELL_KNOWN, 2, &[3, 1, 0, 0, 0xfc, 0]);
    let attributes = [origin(), path, next_hop()].concat();
    assert_eq!(fate(PeerKind::External, &attributes), Fate::Withdrawn);
    assert_eq!(fate(PeerKind::Internal, &attributes), installed());
}

#[test]
fn a_malformed_or_impossible_next_hop_costs_the_routes() {
    for value in [
        &[][..],
        &[10, 0, 0],
        &[10, 0, 0, 1, 0],
        &[0; 4],
        &[0, 0, 0, 9],
        &[127, 0, 0, 1],
        &[224, 0, 0, 5],
        &[255; 4],
    ] {
        assert_eq!(fate_of_mandatory(3, value), Fate::Withdrawn, "{value:?}");
    }
}

#[test]
fn a_malformed_med_costs_the_routes_though_it_is_optional() {
    for value in [&[][..], &[0; 3], &[0; 5]] {
        assert_eq!(fates_with(OPTIONAL, 4, value), [Fate::Withdrawn, Fate::Withdrawn], "{value:?}");
    }
}

#[test]
fn internal_attributes_are_discarded_from_external_peers_whatever_their_shape() {
    for (flags, code) in [(WELL_KNOWN, 5), (OPTIONAL, 9), (OPTIONAL, 10)] {
        let [internal, external] = fates_with(flags, code, &[0, 0, 0, 1]);
        assert_eq!((internal, external), (installed(), Fate::Installed(vec![code])));
        for value in [&[][..], &[0; 3], &[0; 5]] {
            let [internal, external] = fates_with(flags, code, value);
            assert_eq!(
                (internal, external),
                (Fate::Withdrawn, Fate::Installed(vec![code])),
                "{code}: {value:?}"
            );
        }
        let [_, wrong_flags] = fates_with(flags ^ 0x80, code, &[0, 0, 0, 1]);
        assert_eq!(wrong_flags, Fate::Installed(vec![code]));
    }
    let attributes = [mandatory(), attribute(WELL_KNOWN, 5, &[0, 0, 0, 7])].concat();
    let update = decode_from(PeerKind::External, &attributes, PREFIX).unwrap();
    assert_eq!(update.attributes.local_pref, None);
}

#[test]
fn malformed_aggregates_cost_only_themselves() {
    let both = |code| [Fate::Installed(vec![code]), Fate::Installed(vec![code])];
    assert_eq!(fates_with(WELL_KNOWN, 6, &[0]), both(6));
    for value in [&[0; 5][..], &[0; 7], &[0; 9], &[0, 0, 0, 0, 10, 0, 0, 1], &[0, 1, 10, 0, 0, 1]] {
        assert_eq!(fates_with(OPTIONAL_TRANSITIVE, 7, value), both(7), "{value:?}");
    }
}

#[test]
fn malformed_communities_cost_the_routes() {
    for (code, len) in [(8, 0), (8, 5), (16, 0), (16, 9), (25, 0), (25, 21), (32, 0), (32, 13)] {
        let fates = fates_with(OPTIONAL_TRANSITIVE, code, &vec![0; len]);
        assert_eq!(fates, [Fate::Withdrawn, Fate::Withdrawn], "{code}: {len}");
    }
}

#[test]
fn large_communities_are_a_set() {
    let [one, two] = [1, 2].map(|last| [0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, last]);
    let attributes = [mandatory(), attribute(OPTIONAL_TRANSITIVE, 32, &[two, one, two].concat())].concat();
    let update = decode_from(PeerKind::External, &attributes, PREFIX).unwrap();
    let last: Vec<u32> =
        update.attributes.large_communities.iter().map(|community| community.local2).collect();
    assert_eq!(last, [1, 2]);
}

#[test]
fn a_malformed_only_to_customer_costs_the_routes() {
    // Length 1024 reset sessions of an exchange in October 2025.
    for value in [&[0; 1024][..], &[0; 4], &[0; 3]] {
        assert_eq!(fates_with(OPTIONAL_TRANSITIVE, 35, value), [Fate::Withdrawn, Fate::Withdrawn]);
    }
    assert_eq!(fates_with(OPTIONAL_TRANSITIVE, 35, &[0, 0, 0xfd, 0xe9]), [installed(), installed()]);
}

#[test]
fn a_known_attribute_with_wrong_flags_costs_the_routes() {
    for (flags, code, value) in [(0xc0, 1, &[0][..]), (0x40, 4, &[0; 4]), (0x80, 8, &[0; 4]), (0, 6, &[])] {
        let mandatory: Vec<u8> = if code == 1 { [as_path(), next_hop()].concat() } else { mandatory() };
        let attributes = [mandatory, attribute(flags, code, value)].concat();
        assert_eq!(fate(PeerKind::External, &attributes), Fate::Withdrawn, "{code}");
    }
    // Partial alone is nobody's fault.
    assert_eq!(fates_with(0xe0, 8, &[0; 4]), [installed(), installed()]);
}

#[test]
fn of_an_attribute_that_comes_twice_the_first_counts() {
    let second = attribute(WELL_KNOWN, 1, &[2]);
    let attributes = [mandatory(), second].concat();
    let update = decode_from(PeerKind::External, &attributes, PREFIX).unwrap();
    assert_eq!(update.attributes.origin, Origin::Igp);
    assert_eq!(update.errors[0].fault, Fault::Duplicate);
}

#[test]
fn an_unknown_transitive_attribute_is_carried_with_partial_set() {
    for (code, len) in [(28, 7), (99, 300), (255, 3000), (23, 3), (29, 5)] {
        let attributes = [mandatory(), attribute(OPTIONAL_TRANSITIVE, code, &vec![0xff; len])].concat();
        let update = decode_from(PeerKind::External, &attributes, PREFIX).unwrap();
        let [unknown] = &update.attributes.unknown[..] else { panic!("{code} is carried") };
        assert_eq!((unknown.flags, unknown.code, unknown.value.len()), (0xe0, code, len));
    }
}

#[test]
fn an_unknown_non_transitive_attribute_is_dropped() {
    assert_eq!(fates_with(OPTIONAL, 26, &[1, 0, 11]), [Fate::Installed(vec![26]), Fate::Installed(vec![26])]);
}

#[test]
fn an_unknown_well_known_attribute_costs_the_routes() {
    // GoBGP CVE-2026-41642.
    assert_eq!(fates_with(WELL_KNOWN, 99, &[1]), [Fate::Withdrawn, Fate::Withdrawn]);
}

#[test]
fn the_prefix_sid_of_may_2025_is_dropped_and_not_passed_on() {
    let attributes = [mandatory(), attribute(0xe0, 40, &[0; 28])].concat();
    let update = decode_from(PeerKind::External, &attributes, PREFIX).unwrap();
    assert_eq!(update.reach.len(), 1);
    assert_eq!(update.attributes.unknown[..], []);
}

// Speakers with two-octet AS numbers (RFC 6793).

fn from_old_speaker(attributes: &[Vec<u8>]) -> Update {
    let old = DecodeContext { four_octet_asn: false, ..context(PeerKind::External) };
    let attributes = [&[origin(), next_hop()], attributes].concat().concat();
    Update::decode(&body(&[], &attributes, PREFIX), &old).unwrap()
}

/// 65001, then AS_TRANS.
fn old_as_path() -> Vec<u8> {
    attribute(WELL_KNOWN, 2, &[2, 2, 0xfd, 0xe9, 0x5b, 0xa0])
}

fn as4_path() -> Vec<u8> {
    attribute(OPTIONAL_TRANSITIVE, 17, &[2, 1, 0xfa, 0x56, 0xea, 0x01])
}

#[test]
fn the_real_numbers_come_from_as4_path_wherever_it_stands() {
    let update = from_old_speaker(&[as4_path(), old_as_path()]);
    assert_eq!(update.attributes.as_path.to_string(), "65001 4200000001");
}

#[test]
fn a_malformed_as4_path_costs_only_itself() {
    // GoBGP CVE-2026-41643: before AS_PATH.
    let update = from_old_speaker(&[attribute(OPTIONAL_TRANSITIVE, 17, &[2, 9, 0]), old_as_path()]);
    assert_eq!(update.attributes.as_path.to_string(), "65001 23456");
    assert_eq!(update.errors[0].action, ErrorAction::Discard);
}

#[test]
fn confederation_segments_in_as4_path_are_dropped() {
    let value = [&[3, 1, 0, 0, 0xfc, 0][..], &[2, 1, 0xfa, 0x56, 0xea, 0x01]].concat();
    let update = from_old_speaker(&[old_as_path(), attribute(OPTIONAL_TRANSITIVE, 17, &value)]);
    assert_eq!(update.attributes.as_path.to_string(), "65001 4200000001");
    assert_eq!(update.errors, []);
}

#[test]
fn a_real_number_in_aggregator_makes_the_as4_attributes_outdated() {
    let as4_aggregator = attribute(OPTIONAL_TRANSITIVE, 18, &[0xfa, 0x56, 0xea, 0x01, 10, 0, 0, 1]);
    let aggregator = |high, low| attribute(OPTIONAL_TRANSITIVE, 7, &[high, low, 10, 0, 0, 2]);

    let outdated =
        from_old_speaker(&[old_as_path(), aggregator(0xfd, 0xe9), as4_path(), as4_aggregator.clone()]);
    assert_eq!(outdated.attributes.as_path.to_string(), "65001 23456");
    assert_eq!(outdated.attributes.aggregator.unwrap().asn, Asn(65001));

    let current = from_old_speaker(&[old_as_path(), aggregator(0x5b, 0xa0), as4_path(), as4_aggregator]);
    assert_eq!(current.attributes.as_path.to_string(), "65001 4200000001");
    assert_eq!(current.attributes.aggregator.unwrap().asn, Asn(4_200_000_001));
}

#[test]
fn as4_attributes_of_a_new_speaker_are_discarded() {
    let as4_path = [2, 1, 0, 0, 0, 1];
    assert_eq!(
        fates_with(OPTIONAL_TRANSITIVE, 17, &as4_path),
        [Fate::Installed(vec![17]), Fate::Installed(vec![17])]
    );
}
