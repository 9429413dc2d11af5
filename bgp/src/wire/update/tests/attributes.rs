//! Each attribute, by the table: what its malformed forms cost, from either kind of peer.

use super::*;

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
fn a_path_that_hides_systems_in_a_set_costs_the_routes() {
    // RFC 9774 §3: AS_SET behind a sequence and alone, and AS_CONFED_SET, which might come from inside.
    for value in [
        &[2, 1, 0, 0, 0xfd, 0xe9, 1, 2, 0, 0, 0, 1, 0, 0, 0, 2][..],
        &[1, 1, 0, 0, 0, 1],
        &[4, 1, 0, 0, 0xfc, 0],
    ] {
        assert_eq!(fate_of_mandatory(2, value), Fate::Withdrawn, "{value:?}");
    }
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
        assert_eq!(fates_with(flags, code, &[0, 0, 0, 1])[0], installed());
        is_quietly_dropped(PeerKind::External, flags, code, &[0, 0, 0, 1]);
        for value in [&[][..], &[0; 3], &[0; 5]] {
            assert_eq!(fates_with(flags, code, value)[0], Fate::Withdrawn, "{code}: {value:?}");
            is_quietly_dropped(PeerKind::External, flags, code, value);
        }
        is_quietly_dropped(PeerKind::External, flags ^ 0x80, code, &[0, 0, 0, 1]);
    }
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
    for kind in [PeerKind::Internal, PeerKind::External] {
        is_quietly_dropped(kind, OPTIONAL, 26, &[1, 0, 11]);
    }
}

#[test]
fn an_unknown_well_known_attribute_costs_the_routes() {
    // GoBGP CVE-2026-41642.
    assert_eq!(fates_with(WELL_KNOWN, 99, &[1]), [Fate::Withdrawn, Fate::Withdrawn]);
}

#[test]
fn the_prefix_sid_of_may_2025_is_dropped_and_not_passed_on() {
    is_quietly_dropped(PeerKind::External, 0xe0, 40, &[0; 28]);
}
