//! Sessions that end: with graceful restart, without, and our own restart.

use super::*;

const PREFIX: &str = "10.1.0.0/24";
const OTHER: &str = "10.2.0.0/24";

fn fib_of(network: &Network) -> Vec<String> {
    network.fib.keys().map(ToString::to_string).collect()
}

/// Peer 1 has announced two prefixes, and its session has ended.
fn after_loss(keep_stale: bool) -> Network {
    let mut network = Network::with([external(1)]);
    network.announce(1, PREFIX, path(&[65001]));
    network.announce(1, OTHER, path(&[65001]));
    network.settle();
    network.down(1, keep_stale);
    network
}

#[test]
fn the_routes_of_a_lost_peer_go_and_leave_nothing_behind() {
    let mut network = after_loss(false);
    assert_eq!(network.rib.counts(id(1), V4), Counts::default());
    assert_eq!(network.rib.routes(), [], "dead paths are not shown even before they are swept");
    assert!(network.rib.core.peers.slot(id(1)).is_some(), "its paths name it");
    network.settle();
    assert!(network.fib.is_empty());
    network.assert_empty();
    assert!(network.rib.core.peers.slot(id(1)).is_none());
}

#[test]
fn a_lost_peer_is_taken_out_in_slices() {
    let mut network = Network::with([external(1)]);
    for n in 0..20 {
        network.announce(1, &format!("10.{n}.0.0/16"), path(&[65001]));
    }
    network.settle();
    network.down(1, false);
    assert!(network.rib.sweep(), "more than one slice");
    while network.poll_fib().is_some() {}
    assert_eq!(network.fib.len(), 16, "the first slice of four is gone");
    network.settle();
    network.assert_empty();
}

#[test]
fn a_sweep_says_that_more_remains_whichever_family_it_is_of() {
    for family in ["10.0.0.N/32", "2001:db8::N/128"] {
        let mut network = Network::with([external(1), external(2)]);
        (0..24u8).for_each(|n| {
            network.announce(
                if n < 20 { 1 } else { 2 },
                &family.replace('N', &n.to_string()),
                path(&[65001]),
            );
        });
        network.settle();
        network.down(1, false);
        let slices = std::iter::from_fn(|| network.rib.sweep().then_some(())).count();
        assert_eq!(slices, 5, "and a sixth, the last: {family}");
        assert!(!network.rib.wants_sweep());
    }
}

#[test]
fn a_restarting_peer_keeps_its_routes_until_its_end_of_rib() {
    // RFC 4724 §4.2.
    let mut network = after_loss(true);
    network.settle();
    assert_eq!(fib_of(&network), [PREFIX, OTHER]);
    assert!(network.rib.explain(net(PREFIX)).unwrap().paths[0].stale);

    network.up(1, external(1));
    network.announce(1, PREFIX, path(&[65001]));
    let counts = network.rib.counts(id(1), V4);
    assert_eq!((counts.accepted, counts.stale, counts.end_of_rib), (2, 1, false));
    assert_eq!(network.poll_fib(), None, "nothing has changed for the FIB");

    network.rib.end_of_rib(id(1), V4);
    network.settle();
    assert_eq!(fib_of(&network), [PREFIX]);
    let counts = network.rib.counts(id(1), V4);
    assert_eq!((counts.accepted, counts.stale, counts.end_of_rib), (1, 0, true));
}

#[test]
fn stale_routes_are_judged_by_the_rules_of_the_new_session() {
    let mut network = after_loss(true);
    let import = ImportPolicy { accept: Accept::Within(vec![net(OTHER)].into()), ..ImportPolicy::default() };
    network.up(1, RibPeer { import, ..external(1) });
    network.settle();
    assert_eq!(fib_of(&network), [OTHER]);
}

#[test]
fn refused_routes_count_whether_stale_or_fresh() {
    let picky = || {
        let mut peer = external(1);
        peer.import.accept = Accept::Within(vec![net(PREFIX)].into());
        peer
    };
    let mut network = Network::with([picky()]);
    [PREFIX, OTHER, "10.3.0.0/24"].iter().for_each(|prefix| network.announce(1, prefix, path(&[65001])));
    network.down(1, true);
    network.up(1, picky());
    [PREFIX, OTHER].iter().for_each(|prefix| network.announce(1, prefix, path(&[65001])));
    let Counts { accepted, rejected, stale, .. } = network.rib.counts(id(1), V4);
    assert_eq!((accepted, rejected, stale), (1, 2, 1));
    let refused: Vec<_> =
        network.rib.refused(5)[&id(1)].iter().map(|route| route.prefix.to_string()).collect();
    assert_eq!(refused, [OTHER, "10.3.0.0/24"]);
}

#[test]
fn a_router_that_is_back_in_another_as_finds_its_routes_in_use() {
    let mut network = after_loss(true);
    network.up(1, RibPeer { router_id: external(1).router_id, ..internal(1) });
    network.settle();
    assert_eq!(fib_of(&network), [PREFIX, OTHER]);
    network.rib.end_of_rib(id(1), V4);
    network.settle();
    assert!(network.fib.is_empty());
}

#[test]
fn another_router_in_the_place_of_a_restarting_one_inherits_nothing() {
    let mut network = after_loss(true);
    network.up(1, RibPeer { router_id: external(9).router_id, ..external(1) });
    network.settle();
    assert!(network.fib.is_empty());
}

#[test]
fn end_of_rib_of_one_family_leaves_the_other_stale() {
    let mut network = Network::with([external(1)]);
    let v6 = Nexthop::V6 { global: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), link_local: None };
    network.announce(1, PREFIX, path(&[65001]));
    network.rib.apply(id(1), announce(net("2001:db8:1::/48"), v6, path(&[65001]))).unwrap();
    network.settle();
    network.down(1, true);
    network.up(1, external(1));

    network.rib.end_of_rib(id(1), V4);
    network.settle();
    assert_eq!(fib_of(&network), ["2001:db8:1::/48"]);

    // The session that comes after does not carry IPv6 at all.
    network.down(1, true);
    network.up(1, RibPeer { families: vec![V4], ..external(1) });
    network.settle();
    assert!(network.fib.is_empty());
}

#[test]
fn a_second_restart_drops_what_was_stale_already() {
    // RFC 4724 §4.2.
    let mut network = after_loss(true);
    network.up(1, external(1));
    network.announce(1, OTHER, path(&[65001]));
    network.down(1, true);
    network.settle();
    assert_eq!(fib_of(&network), [OTHER]);

    network.rib.sweep_stale(id(1), Some(V6));
    network.settle();
    assert_eq!(fib_of(&network), [OTHER]);
    network.rib.sweep_stale(id(1), None);
    network.settle();
    network.assert_empty();
}

#[test]
fn a_peer_that_flaps_faster_than_we_sweep_is_never_mistaken() {
    let mut network = Network::with([external(1)]);
    for round in 0..600u32 {
        network.announce(1, &format!("10.{}.{}.0/24", round / 250, round % 250), path(&[65001]));
        network.down(1, false);
        network.up(1, external(1));
        assert_eq!(network.rib.counts(id(1), V4).accepted, 0, "round {round}");
    }
    network.settle();
    assert_eq!(network.rib.routes(), []);
    network.assert_empty();
}

#[test]
fn a_restarting_speaker_waits_for_the_end_of_rib_of_all() {
    // RFC 4724 §4.1.
    let mut network = Network::new(config());
    network.rib.defer_selection([1, 2, 3, 4].map(id).into());
    network.originate(OTHER);
    network.up(1, external(1));
    network.up(2, external(2));
    // Promises no End-of-RIB: nobody waits for it.
    network.up(3, RibPeer { sends_end_of_rib: false, ..external(3) });
    network.announce(1, PREFIX, path(&[65001]));
    for family in AfiSafi::ALL {
        network.rib.end_of_rib(id(1), family);
    }
    network.rib.end_of_rib(id(2), V4);
    network.settle();
    assert!(network.rib.selection_deferred());
    assert!(network.fib.is_empty());
    assert_eq!((network.told(1).len(), network.inboxes[&1].updates), (0, 0));

    // Not configured any more.
    network.rib.excuse(id(4));
    assert!(network.rib.selection_deferred());
    network.rib.end_of_rib(id(2), V6);
    assert!(!network.rib.selection_deferred());
    network.settle();
    assert_eq!(fib_of(&network), [PREFIX]);
    assert_eq!(network.told(2), [OTHER]);
    assert_eq!(network.inboxes[&2].ends_of_rib, [V4, V6]);
}

#[test]
fn a_session_lost_during_the_deferral_owes_its_end_of_rib_again() {
    let mut network = Network::new(config());
    network.rib.defer_selection([id(1)].into());
    network.up(1, external(1));
    network.rib.end_of_rib(id(1), V4);
    network.down(1, true);
    network.rib.end_of_rib(id(1), V6);
    assert!(network.rib.selection_deferred(), "nobody said that");
    network.up(1, external(1));
    network.rib.end_of_rib(id(1), V6);
    assert!(network.rib.selection_deferred(), "in this session it has said nothing of IPv4");

    network.rib.release_selection();
    assert!(!network.rib.selection_deferred());
}
