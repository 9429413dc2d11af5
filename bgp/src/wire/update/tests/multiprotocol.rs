//! MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760), and the nexthops of other families (RFC 8950).

use std::net::Ipv6Addr;

use super::*;

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
