//! The message as a whole: its lengths, its prefixes, End-of-RIB, and what it must not lack.

use super::*;

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
