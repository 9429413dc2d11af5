//! Speakers with two-octet AS numbers (RFC 6793).

use super::*;

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
fn a_set_in_as4_path_costs_the_route() {
    let sequence = [2, 1, 0xfa, 0x56, 0xea, 0x01];
    for set in [1, 4] {
        let value = [&sequence[..], &[set, 1, 0xfa, 0x56, 0xea, 0x02]].concat();
        let update = from_old_speaker(&[old_as_path(), attribute(OPTIONAL_TRANSITIVE, 17, &value)]);
        assert_eq!((update.reach.len(), update.unreach.len()), (0, 1), "type {set}");
        assert_eq!(update.errors[0].action, ErrorAction::TreatAsWithdraw);
    }
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
    for kind in [PeerKind::Internal, PeerKind::External] {
        is_quietly_dropped(kind, OPTIONAL_TRANSITIVE, 17, &[2, 1, 0, 0, 0, 1]);
    }
}
