//! Broken UPDATEs, most of which have brought down somebody's router, and what each must cost: nothing more.

mod attributes;
mod message;
mod multiprotocol;
mod old_speakers;

use super::*;
use crate::types::{Asn, PeerKind};
use crate::wire::{Community, ErrorAction, Fault, LargeCommunity, Origin};

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

/// The UPDATE is the same without it, and nobody is told.
fn is_quietly_dropped(kind: PeerKind, flags: u8, code: u8, value: &[u8]) {
    let without = decode_from(kind, &mandatory(), PREFIX);
    let with = decode_from(kind, &[mandatory(), attribute(flags, code, value)].concat(), PREFIX);
    assert_eq!(with, without, "{code}: {value:?} from {kind:?}");
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
