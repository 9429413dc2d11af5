//! The messages that have no file of their own, and OPENs from hostile hands.

use std::net::Ipv4Addr;

use super::*;
use crate::types::{Asn, RouterId};

fn refresh(body: &[u8]) -> Result<Message, Notification> {
    let frame = Frame { kind: MessageKind::RouteRefresh, body: Bytes::copy_from_slice(body) };
    Message::decode(&frame, &DecodeContext::default())
}

#[test]
fn a_route_refresh_names_its_family() {
    assert_eq!(refresh(&[0, 2, 0, 1]), Ok(Message::RouteRefresh(AfiSafi::Ipv6Unicast)));
    let encoded = encode_route_refresh(AfiSafi::Ipv4Unicast);
    assert_eq!(refresh(&encoded[HEADER_LEN..]), Ok(Message::RouteRefresh(AfiSafi::Ipv4Unicast)));
}

#[test]
fn route_refresh_of_unknown_family_or_subtype_or_with_filters_is_ignored() {
    for body in [&[0, 25, 0, 70][..], &[0, 1, 9, 1], &[0, 1, 1, 1], &[0, 1, 0, 1, 1, 64, 0xff, 0xff]] {
        assert_eq!(refresh(body), Ok(Message::RouteRefreshIgnored), "{body:?}");
    }
}

#[test]
fn a_route_refresh_of_wrong_length_is_7_1_with_the_message_as_data() {
    for body in [&[0, 1, 0][..], &[], &[0, 1, 1, 1, 0]] {
        let error = refresh(body).expect_err("length is wrong");
        assert_eq!((error.code, error.subcode), (7, 1));
        assert_eq!(&error.data[HEADER_LEN..], body);
    }
}

fn open() -> Open {
    Open {
        asn: Asn(4_200_000_001),
        hold_time: 90,
        router_id: RouterId(Ipv4Addr::new(10, 0, 0, 1)),
        capabilities: Capabilities {
            families: AfiSafi::ALL.to_vec(),
            route_refresh: true,
            extended_nexthop: vec![AfiSafi::Ipv4Unicast],
            graceful_restart: Some(GracefulRestart {
                restarting: true,
                notification: true,
                restart_time: 120,
                families: vec![(AfiSafi::Ipv4Unicast, true), (AfiSafi::Ipv6Unicast, false)],
            }),
            four_octet_asn: true,
            unknown: Vec::new(),
        },
    }
}

/// AS 65001, hold time 90, 10.0.0.1, then `parameters` from their length octet on.
fn open_with(parameters: &[u8]) -> Result<Open, Notification> {
    Open::decode(&[&[4, 0xfd, 0xe9, 0, 90, 10, 0, 0, 1], parameters].concat())
}

/// As one capabilities parameter.
fn open_with_capabilities(list: &[u8]) -> Result<Open, Notification> {
    let len = u8::try_from(list.len()).unwrap();
    open_with(&[&[len + 2, 2, len], list].concat())
}

#[test]
fn an_open_comes_back_as_it_was_sent() {
    let encoded = open().encode();
    assert_eq!(Open::decode(&encoded[HEADER_LEN..]), Ok(open()));
    assert_eq!(encoded[20..22], 23456u16.to_be_bytes()); // RFC 6793 §9: AS_TRANS in the old field.
}

#[test]
fn without_the_multiprotocol_capability_a_peer_speaks_ipv4_alone() {
    let open = open_with(&[0]).unwrap();
    assert_eq!(open.capabilities.families, [AfiSafi::Ipv4Unicast]);
    assert_eq!(open.asn, Asn(65001));
    // L2VPN EVPN only: then not even that.
    let evpn = open_with_capabilities(&[1, 4, 0, 25, 0, 70]).unwrap();
    assert_eq!(evpn.capabilities.families, []);
}

#[test]
fn capabilities_may_come_one_per_parameter_and_twice() {
    let open = open_with(&[16, 2, 6, 1, 4, 0, 1, 0, 1, 2, 6, 1, 4, 0, 1, 0, 1]).unwrap();
    assert_eq!(open.capabilities.families, [AfiSafi::Ipv4Unicast]);
}

#[test]
fn extended_parameters_are_read_by_type_255_whatever_the_length_before_it() {
    for len in [255, 1] {
        let open = open_with(&[len, 255, 0, 9, 2, 0, 6, 65, 4, 0, 0, 0, 7]).unwrap();
        assert_eq!(open.asn, Asn(7));
    }
}

#[test]
fn extended_parameters_cut_short_are_2_0() {
    // FRR CVE-2022-40302 and its relatives: ff ff 00 02 00 01.
    assert_eq!(open_with(&[255, 255, 0, 2, 0, 1]), Err(Notification::malformed_open()));
    assert_eq!(open_with(&[255, 255, 0]), Err(Notification::malformed_open()));
    assert_eq!(open_with(&[255, 255]), Err(Notification::malformed_open()));
}

#[test]
fn an_open_that_ends_at_its_parameter_length_is_2_0() {
    // FRR CVE-2022-43681: 29 octets, the last of them ff.
    assert_eq!(open_with(&[255]), Err(Notification::malformed_open()));
    assert_eq!(open_with(&[]), Err(Notification::malformed_open()));
    // More parameters than the length says.
    assert_eq!(open_with(&[0, 2, 0]), Err(Notification::malformed_open()));
}

#[test]
fn a_four_octet_asn_capability_of_wrong_length_is_2_0() {
    for value in [&[65, 0][..], &[65, 2, 0, 7], &[65, 5, 0, 0, 0, 7, 0]] {
        assert_eq!(open_with_capabilities(value), Err(Notification::malformed_open()), "{value:?}");
    }
}

#[test]
fn a_capability_that_runs_past_its_parameter_is_2_0() {
    assert_eq!(open_with_capabilities(&[1, 200, 0, 1]), Err(Notification::malformed_open()));
}

#[test]
fn capabilities_with_broken_insides_are_taken_as_not_announced() {
    // Extended nexthop of 5, graceful restart of 3, multiprotocol of 3, FQDN whose inner length overruns.
    let list = [5, 5, 0, 1, 0, 1, 0, 64, 3, 0, 120, 0, 1, 3, 0, 1, 0, 73, 2, 250, 1];
    let open = open_with_capabilities(&list).unwrap();
    assert_eq!(open.capabilities, Capabilities { unknown: vec![73], ..Capabilities::default() });
}

#[test]
fn a_message_full_of_unknown_capabilities_is_no_error() {
    let list: Vec<u8> = std::iter::repeat_n([200, 0], 2000).flatten().collect();
    let len = u16::try_from(list.len()).unwrap();
    let [high, low] = len.to_be_bytes();
    let [total_high, total_low] = (len + 3).to_be_bytes();
    let open = open_with(&[&[255, 255, total_high, total_low, 2, high, low], &list[..]].concat()).unwrap();
    assert_eq!(open.capabilities.unknown, [200]);
}

#[test]
fn parameters_other_than_capabilities_are_2_4() {
    assert_eq!(open_with(&[3, 1, 1, 0]), Err(Notification::unsupported_parameter()));
}

#[test]
fn fixed_fields_have_an_error_each() {
    let decode = |bytes: [u8; 10]| Open::decode(&bytes).expect_err("one field is wrong");
    assert_eq!(decode([3, 0xfd, 0xe9, 0, 90, 10, 0, 0, 1, 0]), Notification::unsupported_version());
    assert_eq!(decode([4, 0xfd, 0xe9, 0, 2, 10, 0, 0, 1, 0]), Notification::unacceptable_hold_time());
    assert_eq!(decode([4, 0xfd, 0xe9, 0, 1, 10, 0, 0, 1, 0]), Notification::unacceptable_hold_time());
    assert_eq!(decode([4, 0xfd, 0xe9, 0, 90, 0, 0, 0, 0, 0]), Notification::bad_router_id());
    assert_eq!(decode([4, 0, 0, 0, 90, 10, 0, 0, 1, 0]), Notification::bad_peer_as());
    assert_eq!(open_with_capabilities(&[65, 4, 0, 0, 0, 0]), Err(Notification::bad_peer_as()));
}
