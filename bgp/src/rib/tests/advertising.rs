//! What goes out: to whom, in which form, in how many messages.

use super::*;
use crate::wire::{Community, LargeCommunity, SegmentKind};

const OWN: &str = "10.1.0.0/24";
const LEARNED: &str = "10.9.0.0/24";
/// Peers with the given export rules; the first has announced one route, and we have one of our own.
fn settled(peers: impl IntoIterator<Item = RibPeer>, attributes: PathAttributes) -> Network {
    let mut network = Network::with(peers);
    network.originate(OWN);
    network.announce(1, LEARNED, attributes);
    network.settle();
    network
}

#[test]
fn by_default_only_our_own_routes_go_out() {
    let network = settled([external(1), external(2), internal(3)], path(&[65001]));
    for n in 1..=3 {
        assert_eq!(network.told(n), [OWN]);
        assert_eq!(network.inboxes[&n].ends_of_rib, [V4, V6]);
    }
}

#[test]
fn our_routes_carry_what_each_kind_of_peer_needs() {
    let mut tor = external(1);
    tor.export.communities = vec![Community::GRACEFUL_SHUTDOWN];
    tor.export.med = Some(7);
    let network = settled([tor, internal(2)], path(&[65001]));

    let (attributes, nexthop) = &network.inboxes[&1].routes[&net(OWN)];
    assert_eq!(*nexthop, super::nexthop(250));
    let expected = PathAttributes {
        med: Some(7),
        communities: [Community::GRACEFUL_SHUTDOWN].into_iter().collect(),
        ..path(&[LOCAL_ASN.0])
    };
    assert_eq!(*attributes, expected);

    let (attributes, _) = &network.inboxes[&2].routes[&net(OWN)];
    assert_eq!(*attributes, PathAttributes { local_pref: Some(100), ..path(&[]) });
}

#[test]
fn our_routes_carry_the_communities_that_they_were_given() {
    let mut network = Network::with([external(1)]);
    let large = |global| LargeCommunity { global, local1: 1, local2: 2 };
    let standard = [Community(7), Community(5), Community(7)].map(AnyCommunity::Standard);
    let large_ones = [large(9), large(3), large(9)].map(AnyCommunity::Large);
    let extended = AnyCommunity::Extended([0, 2, 0, 1, 0, 0, 0, 1]);
    let communities = standard.into_iter().chain(large_ones).chain([extended]).collect();
    network.rib.originate(net(OWN), OriginAttributes { communities });
    network.settle();
    let (attributes, _) = &network.inboxes[&1].routes[&net(OWN)];
    assert_eq!(attributes.communities.as_slice(), [Community(7), Community(5)]);
    assert_eq!(attributes.large_communities[..], [large(3), large(9)], "in order, each once");
    assert_eq!(attributes.extended_communities[..], [[0, 2, 0, 1, 0, 0, 0, 1]]);
}

#[test]
fn a_family_without_a_nexthop_of_ours_stays_home() {
    let mut v4_only = external(1);
    v4_only.export.nexthop_v6 = None;
    let mut network = Network::with([v4_only]);
    network.originate(OWN);
    network.originate("2001:db8::/64");
    network.settle();
    assert_eq!(network.told(1), [OWN]);
    assert_eq!(network.rib.counts(id(1), V6).advertised, 0);
}

#[test]
fn ipv4_goes_out_with_an_ipv6_nexthop_where_the_session_allows() {
    // RFC 8950.
    let unnumbered = |n, extended_nexthop| {
        let mut peer = external(n);
        peer.export.nexthop_v4 = None;
        peer.encode.extended_nexthop = extended_nexthop;
        peer
    };
    let network = settled([unnumbered(1, true), unnumbered(2, false)], path(&[65001]));
    assert!(matches!(network.inboxes[&1].routes[&net(OWN)].1, Nexthop::V6 { .. }));
    assert!(network.told(2).is_empty());
}

#[test]
fn transit_passes_the_best_path_on_but_not_back() {
    let learned = PathAttributes { med: Some(3), ..path(&[65001]) };
    let network = settled([transit(external(1)), transit(external(2)), transit(internal(3))], learned);

    assert_eq!(network.told(1), [OWN], "split horizon");
    let (attributes, nexthop) = &network.inboxes[&2].routes[&net(LEARNED)];
    assert_eq!(
        (attributes, *nexthop),
        (&path(&[LOCAL_ASN.0, 65001]), super::nexthop(250)),
        "MED stays behind"
    );
    let (attributes, _) = &network.inboxes[&3].routes[&net(LEARNED)];
    assert_eq!((attributes.local_pref, attributes.med), (Some(100), Some(3)));
}

#[test]
fn internal_routes_reach_internal_peers_only_by_reflection() {
    // RFC 4271 §9.2, RFC 4456 §6 and §8. The source is peer 1.
    let told = |source: RibPeer, target: RibPeer| {
        settled([source, target], path(&[65009])).told(2).contains(&LEARNED.to_owned())
    };
    let other = |n| transit(internal(n));
    assert!(told(client(1), client(2)));
    assert!(told(client(1), other(2)));
    assert!(told(other(1), client(2)));
    assert!(!told(other(1), other(2)));
    assert!(!told(client(1), internal(2)), "who is told our own routes alone");
}

#[test]
fn the_routes_of_a_former_client_reach_clients_alone() {
    // Whether peers are told before the sweep, as the speaker does, or after it.
    for early in [false, true] {
        let mut network = settled([client(1), transit(internal(2))], path(&[65009]));
        assert_eq!(network.told(2), [OWN, LEARNED]);
        network.rib.set_client(id(1), false);
        if early {
            [1, 2].into_iter().for_each(|n| while network.deliver_one(n) {});
        }
        network.settle();
        assert_eq!(network.told(2), [OWN]);
    }
}

#[test]
fn the_routes_of_a_lost_peer_are_withdrawn_also_when_it_is_back_before_they_are_swept() {
    let mut network =
        settled([transit(external(1)), transit(external(2)), transit(external(3))], path(&[65001]));
    assert_eq!(network.told(2), [OWN, LEARNED]);
    network.down(1, false);
    network.up(1, transit(external(1)));
    network.originate("10.77.0.0/24");
    // The stream of peer 1 never knew the lost route, that of the others announced it: both are at the end of the log.
    [1, 2, 3].into_iter().for_each(|n| while network.deliver_one(n) {});
    network.settle();
    assert_eq!([2, 3].map(|n| network.told(n)), [[OWN, "10.77.0.0/24"]; 2]);
    assert_eq!(network.rib.out.census(), [3]);
}

#[test]
fn a_reflected_route_keeps_its_nexthop_and_names_its_way() {
    let learned = PathAttributes { local_pref: Some(300), ..path(&[65009]) };
    let network = settled([client(1), client(2)], learned.clone());
    let (attributes, nexthop) = &network.inboxes[&2].routes[&net(LEARNED)];
    assert_eq!(*nexthop, super::nexthop(1));
    let expected = PathAttributes {
        originator_id: Some(internal(1).router_id),
        cluster_list: [CLUSTER].into_iter().collect(),
        ..learned
    };
    assert_eq!(*attributes, expected);
}

#[test]
fn who_is_named_as_originator_already_stays_so() {
    // RFC 4456 §8.
    let originator = Some(RouterId(Ipv4Addr::new(10, 255, 9, 9)));
    let learned = PathAttributes { originator_id: originator, ..path(&[65009]) };
    let network = settled([client(1), client(2)], learned);
    assert_eq!(network.inboxes[&2].routes[&net(LEARNED)].0.originator_id, originator);
}

#[test]
fn another_router_in_the_place_of_a_client_is_named_as_originator() {
    for keep_stale in [true, false] {
        let mut network = settled([client(1), client(2)], path(&[65009]));
        let other = RibPeer { router_id: RouterId(Ipv4Addr::new(10, 255, 1, 99)), ..client(1) };
        network.down(1, keep_stale);
        network.up(1, other.clone());
        network.announce(1, LEARNED, path(&[65009]));
        network.settle();
        let (attributes, _) = &network.inboxes[&2].routes[&net(LEARNED)];
        assert_eq!(attributes.originator_id, Some(other.router_id));
    }
}

#[test]
fn what_concerns_the_as_alone_stays_in_it() {
    let confederation = (SegmentKind::ConfedSequence, vec![Asn(64512)]);
    let (transitive, local) = ([0x00, 2, 0, 0, 0, 0, 0, 1], [0x40, 2, 0, 0, 0, 0, 0, 1]);
    let learned = PathAttributes {
        // RFC 5065 §4.
        as_path: vec![confederation, (SegmentKind::Sequence, vec![Asn(65009)])].into(),
        // RFC 4360 §2: the T bit.
        extended_communities: [transitive, local].into_iter().collect(),
        originator_id: Some(internal(9).router_id),
        cluster_list: [RouterId(Ipv4Addr::new(2, 2, 2, 2))].into_iter().collect(),
        local_pref: Some(300),
        ..PathAttributes::default()
    };
    let network = settled([client(1), client(2), transit(external(3))], learned.clone());

    let [inside, outside] = [2, 3].map(|n| &network.inboxes[&n].routes[&net(LEARNED)].0);
    assert_eq!(inside.as_path, learned.as_path);
    assert_eq!(inside.extended_communities.as_slice(), [transitive, local]);
    let expected = PathAttributes {
        extended_communities: [transitive].into_iter().collect(),
        ..path(&[LOCAL_ASN.0, 65009])
    };
    assert_eq!(*outside, expected);
}

#[test]
fn well_known_communities_hold_routes_back() {
    // RFC 1997.
    let told = |community| {
        let learned = PathAttributes { communities: [community].into_iter().collect(), ..path(&[65001]) };
        let network = settled([transit(external(1)), transit(external(2)), transit(internal(3))], learned);
        [2, 3].map(|n| network.told(n).contains(&LEARNED.to_owned()))
    };
    assert_eq!(told(Community(1)), [true, true]);
    assert_eq!(told(Community::NO_EXPORT), [false, true]);
    assert_eq!(told(Community::NO_EXPORT_SUBCONFED), [false, true]);
    assert_eq!(told(Community::NO_ADVERTISE), [false, false]);
}

#[test]
fn when_the_best_path_becomes_a_peers_own_that_peer_loses_the_other() {
    let mut network =
        settled([transit(external(1)), transit(external(2)), transit(external(3))], path(&[65001, 65009]));
    assert_eq!(network.told(2), [OWN, LEARNED]);

    network.announce(2, LEARNED, path(&[65002]));
    network.settle();
    assert_eq!([1, 2, 3].map(|n| network.told(n).len()), [2, 1, 2]);
    assert_eq!(network.rib.counts(id(2), V4).advertised, 1);
    assert_eq!(network.rib.counts(id(3), V4).advertised, 2);

    network.withdraw(2, LEARNED);
    network.settle();
    assert_eq!([1, 2, 3].map(|n| network.told(n).len()), [1, 2, 2]);
}

#[test]
fn our_own_routes_go_out_whatever_their_communities_ask_of_those_who_receive_them() {
    // RFC 1997 speaks of routes received.
    for community in [Community::NO_EXPORT, Community::NO_EXPORT_SUBCONFED, Community::NO_ADVERTISE] {
        let mut network = Network::with([external(1), internal(2)]);
        let attributes = OriginAttributes { communities: vec![AnyCommunity::Standard(community)] };
        network.rib.originate(net(OWN), attributes);
        network.settle();
        for n in 1..=2 {
            let (attributes, _) = &network.inboxes[&n].routes[&net(OWN)];
            assert_eq!(attributes.communities.as_slice(), [community]);
        }
    }
}

#[test]
fn equal_peers_share_every_message() {
    let mut network = Network::with([external(1), external(2)]);
    network.originate(OWN);
    let chunks = [1, 2].map(|n| network.rib.poll_advertise(id(n)).unwrap());
    assert_eq!(chunks[0].as_ptr(), chunks[1].as_ptr(), "the same buffer");

    // A third comes later, with a stream of its own until it knows as much.
    network.up(3, external(3));
    assert_eq!(network.rib.out.census(), [2, 1]);
    for n in [1, 2] {
        while network.rib.poll_advertise(id(n)).is_some() {}
    }
    while network.deliver_one(3) {}
    assert_eq!(network.told(3), [OWN]);
    assert_eq!(network.rib.out.census(), [3]);
}

#[test]
fn prefixes_with_equal_attributes_share_a_message() {
    let mut network = Network::with([external(1)]);
    for n in 0..8 {
        network.originate(&format!("10.1.{n}.0/24"));
    }
    network.settle();
    assert_eq!(network.told(1).len(), 8);
    assert_eq!(network.inboxes[&1].updates, 1 + 2, "one UPDATE and two End-of-RIBs");
}

#[test]
fn messages_go_out_in_pieces_that_are_neither_long_nor_many() {
    let mut network = Network::with([external(1)]);
    network.settle();
    // Each in a message of its own, of some 60 octets.
    for n in 0..8u8 {
        let attributes = OriginAttributes { communities: vec![AnyCommunity::Standard(Community(n.into()))] };
        network.rib.originate(net(&format!("10.1.{n}.0/24")), attributes);
    }
    let lens: Vec<_> =
        std::iter::from_fn(|| network.rib.poll_advertise(id(1))).map(|piece| piece.len()).collect();
    let (_, whole) = lens.split_last().expect("there is something to say");
    assert!(whole.len() > 1 && whole.iter().all(|len| (128..200).contains(len)), "{lens:?}");
}

#[test]
fn a_slow_peer_goes_its_own_way_with_bounded_memory_and_returns() {
    let mut network = Network::with([external(1), external(2)]);
    network.settle();
    assert_eq!(network.rib.out.census(), [2]);
    // Peer 2 does not read while one prefix flaps and others come and stay.
    for n in 0..200u8 {
        network.originate(&format!("10.2.{n}.0/24"));
        while network.deliver_one(1) {}
        network.originate(OWN);
        while network.deliver_one(1) {}
        network.rib.withdraw_origin(net(OWN));
        while network.deliver_one(1) {}
    }
    assert_eq!(network.rib.out.census().len(), 2);

    let mut chunks = 0;
    while network.deliver_one(2) {
        chunks += 1;
    }
    assert!(chunks < 100, "{chunks} chunks for what took the other 600");
    network.settle();
    assert_eq!(network.inboxes[&1].routes, network.inboxes[&2].routes);
    assert_eq!(network.rib.out.census(), [2]);
}

#[test]
fn a_route_refresh_tells_everything_once_more_to_the_one_who_asked() {
    let mut network = settled([external(1), external(2)], path(&[65001]));
    network.inboxes.values_mut().for_each(|inbox| inbox.updates = 0);
    network.rib.refresh(id(1), V4);
    assert_eq!(network.rib.out.census(), [1, 1], "it has a stream of its own");
    network.settle();
    assert_eq!([1, 2].map(|n| network.inboxes[&n].updates), [1, 0]);
    assert_eq!(network.told(1), [OWN]);
    assert_eq!(network.rib.out.census(), [2]);
}

#[test]
fn a_peer_that_is_alone_needs_no_other_stream() {
    let mut network = settled([external(1)], path(&[65001]));
    network.rib.refresh(id(1), V4);
    assert_eq!(network.rib.out.census(), [1]);
    assert!(!network.rib.wants_sweep(), "nothing was copied");
}

#[test]
fn the_change_log_is_squeezed_while_nobody_reads() {
    for prefix in [OWN, "2001:db8::/64"] {
        let mut network = Network::with([external(1)]);
        for _ in 0..100 {
            network.originate(prefix);
            network.rib.withdraw_origin(net(prefix));
            network.originate(prefix);
        }
        let Tables { v4, v6 } = &network.rib.tables;
        assert!(v4.end().max(v6.end()) < 10, "{prefix}: {} and {}", v4.end(), v6.end());
        network.settle();
        assert_eq!(network.told(1), [prefix]);
    }
}

#[test]
fn what_a_stream_had_told_is_given_back_in_slices() {
    let mut network = settled([external(1), external(2)], path(&[65001]));
    network.originate("2001:db8::/64");
    network.settle();
    network.rib.refresh(id(1), V4);
    while network.deliver_one(1) {}
    assert_eq!(network.rib.out.census(), [2], "the copy has nothing left to tell");
    assert!(network.rib.sweep() && network.rib.wants_sweep(), "more than one slice");
    while network.rib.sweep() {}
    assert!(!network.rib.wants_sweep());
}

/// UPDATEs to each of the first two peers since this was asked last.
fn updates(network: &mut Network) -> [usize; 2] {
    network.settle();
    [1, 2].map(|n| std::mem::take(&mut network.inboxes.get_mut(&n).expect("it is up").updates))
}

#[test]
fn a_new_export_policy_tells_the_difference() {
    let transit = transit(external(2)).export;
    let mut network = settled([external(1), external(2)], path(&[65001]));
    network.originate("2001:db8::/64");
    updates(&mut network);

    network.rib.set_export(id(2), external(2).export);
    assert_eq!(updates(&mut network), [0, 0], "it is the same");
    network.rib.set_export(id(2), transit.clone());
    assert_eq!((updates(&mut network), network.told(2).len()), ([0, 1], 3), "one route more");
    let renumbered = ExportPolicy { nexthop_v6: Some("2001:db8::251".parse().unwrap()), ..transit };
    network.rib.set_export(id(2), renumbered);
    assert_eq!(updates(&mut network), [0, 1], "IPv6 alone");

    let drained = ExportPolicy { communities: vec![Community::GRACEFUL_SHUTDOWN], ..external(2).export };
    network.rib.set_export(id(2), drained);
    assert_eq!(
        updates(&mut network),
        [0, 3],
        "one withdrawn, two in different families with other communities"
    );
    assert_eq!(network.told(2), [OWN, "2001:db8::/64"]);
    let (attributes, _) = &network.inboxes[&2].routes[&net(OWN)];
    assert_eq!(attributes.communities.as_slice(), [Community::GRACEFUL_SHUTDOWN]);
}

#[test]
fn a_new_import_policy_tells_others_what_it_changes() {
    let mut network = settled([transit(external(1)), transit(external(2))], path(&[65001]));
    network.announce(1, "172.16.0.0/24", path(&[65001]));
    updates(&mut network);

    let only =
        |prefix| ImportPolicy { accept: Accept::Within(vec![net(prefix)].into()), ..ImportPolicy::default() };
    for (import, told, why) in [
        (external(1).import, 0, "it is the same"),
        (only("10.0.0.0/8"), 1, "one route is refused"),
        (only("10.9.0.0/16"), 0, "the same one"),
        (only("172.16.0.0/12"), 2, "it is the other one: found again, though the peer said nothing"),
    ] {
        network.rib.set_import(id(1), import, 1000);
        assert_eq!(updates(&mut network), [0, told], "{why}");
    }
    assert_eq!(network.told(2), [OWN, "172.16.0.0/24"]);
}

#[test]
fn what_is_shown_as_advertised_is_what_the_peer_was_told() {
    let network = settled([transit(external(1)), transit(external(2))], path(&[65001]));
    for n in 1..=2 {
        let shown: BTreeMap<_, _> = network
            .rib
            .advertised(id(n))
            .into_iter()
            .map(|route| (route.prefix, (route.attributes, route.nexthop)))
            .collect();
        assert_eq!(shown, network.inboxes[&n].routes);
    }
}

#[test]
fn only_those_are_asked_for_whom_there_is_something() {
    let peers = [external(1), external(2), transit(external(3)), transit(external(4))];
    let mut network = settled(peers, path(&[65001]));
    assert_eq!(network.rib.unadvertised(|_| true), []);
    network.announce(2, "10.10.0.0/24", path(&[65002]));
    assert_eq!(network.rib.unadvertised(|_| false), [], "nobody could take it");
    assert_eq!(network.rib.unadvertised(|peer| peer == id(4)), [id(3), id(4)]);
    network.originate("10.77.0.0/24");
    network.deliver_one(3);
    assert_eq!(network.rib.unadvertised(|_| true), [1, 2, 3, 4].map(id));
}
