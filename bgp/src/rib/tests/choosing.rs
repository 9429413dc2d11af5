//! The decision: each step, ties, multipath, and that order does not matter.

use proptest::prelude::*;

use super::super::decision::{Candidate, decide};
use super::*;
use crate::wire::Origin;

const PREFIX: &str = "10.1.0.0/24";

/// Peer 1 says `first`, peer 2 says `second`: who is best and which step says so.
fn duel(peers: [RibPeer; 2], first: PathAttributes, second: PathAttributes) -> (Option<PeerId>, Standing) {
    let mut network = Network::with(peers);
    network.announce(1, PREFIX, first);
    network.announce(2, PREFIX, second);
    network.best(PREFIX)
}

fn second_wins(by: Step) -> (Option<PeerId>, Standing) {
    (Some(id(2)), Standing::Best(Some(by)))
}

#[test]
fn steps_decide_in_order() {
    // Each case: the second path is better at its step and worse at all later ones.
    let internals = || [internal(1), internal(2)];
    let externals = || [external(1), external(2)];
    let local_pref = |value| PathAttributes { local_pref: Some(value), ..path(&[1, 2, 3]) };
    assert_eq!(duel(internals(), path(&[1]), local_pref(101)), second_wins(Step::LocalPref));

    let incomplete = PathAttributes { origin: Origin::Incomplete, ..path(&[1]) };
    assert_eq!(duel(internals(), path(&[1, 2]), incomplete.clone()), second_wins(Step::AsPathLength));

    let high_med = PathAttributes { med: Some(9), ..path(&[1]) };
    assert_eq!(duel(internals(), incomplete, high_med.clone()), second_wins(Step::Origin));

    assert_eq!(duel([external(1), internal(2)], high_med, path(&[1])), second_wins(Step::Med));
    assert_eq!(duel([internal(1), external(2)], path(&[1]), path(&[2])), second_wins(Step::PeerKind));

    let originator = |n| PathAttributes {
        originator_id: Some(RouterId(Ipv4Addr::new(9, 0, 0, n))),
        cluster_list: (0..n).map(|n| RouterId(Ipv4Addr::new(8, 0, 0, n))).collect(),
        ..path(&[])
    };
    assert_eq!(duel(internals(), originator(3), originator(2)), second_wins(Step::RouterId));

    let longer = PathAttributes { originator_id: originator(2).originator_id, ..originator(3) };
    assert_eq!(duel(internals(), longer, originator(2)), second_wins(Step::ClusterListLength));

    let [mut first, second] = externals();
    first.address = IpAddr::from([192, 0, 2, 77]);
    first.router_id = second.router_id;
    assert_eq!(duel([first, second], path(&[1]), path(&[2])), second_wins(Step::PeerAddress));
}

#[test]
fn med_is_compared_only_between_paths_of_one_neighbour() {
    let med = |value, asn| PathAttributes { med: Some(value), ..path(&[asn]) };
    // The incumbent's MED is higher, but of another AS.
    let (best, standing) = duel([external(1), external(2)], med(9, 65001), med(5, 65002));
    assert_eq!((best, standing), (Some(id(1)), Standing::Best(Some(Step::RouterId))));
}

#[test]
fn a_missing_med_is_the_lowest_and_a_missing_local_pref_is_100() {
    let med = PathAttributes { med: Some(1), ..path(&[65001]) };
    assert_eq!(duel([internal(1), internal(2)], med, path(&[65001])), second_wins(Step::Med));
    let low = PathAttributes { local_pref: Some(99), ..path(&[]) };
    assert_eq!(duel([internal(1), internal(2)], low, path(&[65001])), second_wins(Step::LocalPref));
}

#[test]
fn the_incumbent_stays_in_a_tie_between_external_paths() {
    // RFC 5004.
    let mut network = Network::with([external(1), external(2)]);
    network.announce(2, PREFIX, path(&[65002]));
    network.announce(1, PREFIX, path(&[65001]));
    assert_eq!(network.best(PREFIX), (Some(id(2)), Standing::Best(Some(Step::Incumbent))));

    let mut network = Network::new(RibConfig { keep_incumbent: false, ..config() });
    network.up(1, external(1));
    network.up(2, external(2));
    network.announce(2, PREFIX, path(&[65002]));
    network.announce(1, PREFIX, path(&[65001]));
    assert_eq!(network.best(PREFIX), (Some(id(1)), Standing::Best(Some(Step::RouterId))));
}

#[test]
fn our_own_prefix_beats_learned_ones_and_is_not_for_the_fib() {
    let mut network = Network::with([external(1)]);
    network.announce(1, PREFIX, PathAttributes { local_pref: Some(1000), ..path(&[]) });
    network.settle();
    assert_eq!(network.fib[&net(PREFIX)], [gateway(1)]);

    network.originate(PREFIX);
    network.settle();
    assert_eq!(network.best(PREFIX), (None, Standing::Best(Some(Step::Local))));
    assert!(network.fib.is_empty());

    network.rib.withdraw_origin(net(PREFIX));
    network.settle();
    assert_eq!(network.fib[&net(PREFIX)], [gateway(1)]);
}

#[test]
fn equal_paths_are_used_together_up_to_the_limit() {
    let mut network = Network::new(RibConfig { max_paths: 3, ..config() });
    for n in 1..=5 {
        network.up(n, external(n));
    }
    for n in [4, 5, 3, 2] {
        network.announce(n, PREFIX, path(&[65000 + u32::from(n)]));
    }
    network.announce(1, PREFIX, path(&[65001, 65009]));
    network.settle();

    // The best, which came first, and the lowest of the others.
    assert_eq!(network.fib[&net(PREFIX)], [gateway(2), gateway(3), gateway(4)]);
    let active: Vec<_> =
        network.standings(PREFIX).into_iter().filter(|(_, s)| s.is_active()).map(|(peer, _)| peer).collect();
    assert_eq!(active, [Some(id(4)), Some(id(2)), Some(id(3))]);
    assert_eq!(network.standings(PREFIX)[4], (Some(id(1)), Standing::Lost(Step::AsPathLength)));

    network.withdraw(3, PREFIX);
    network.settle();
    assert_eq!(network.fib[&net(PREFIX)], [gateway(2), gateway(4), gateway(5)]);
}

#[test]
fn a_link_local_nexthop_goes_out_of_the_peers_interface() {
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7);
    let update = || {
        let nexthop = Nexthop::V6 { global: link_local, link_local: Some(link_local) };
        announce(net(PREFIX), nexthop, path(&[65001]))
    };
    let unnumbered = RibPeer { interface: Some(3), ..external(1) };
    let mut network = Network::with([unnumbered]);
    network.rib.apply(id(1), update()).unwrap();
    network.settle();
    let expected = FibNexthop { address: link_local.into(), interface: Some(3) };
    assert_eq!(network.fib[&net(PREFIX)], [expected]);

    // Without an interface it leads nowhere.
    let mut network = Network::with([external(1)]);
    network.rib.apply(id(1), update()).unwrap();
    network.settle();
    assert!(network.fib.is_empty());
}

fn candidate() -> impl Strategy<Value = Candidate> {
    let wide = (1..3u32, 1..3u32, 0..2u8, 1..3u32, 0..3u32, any::<bool>(), any::<bool>());
    let narrow = (0..2u32, 0..3u8, 0..2usize, 0..2u8);
    (wide, narrow).prop_map(
        |((local_pref, length, origin, neighbor, med, inside, own), (igp, router, cluster, at))| Candidate {
            path: 0,
            local: own && igp == 1 && router == 0,
            local_pref,
            as_path_length: length,
            origin: if origin == 0 { Origin::Igp } else { Origin::Egp },
            neighbor: Some(Asn(neighbor)),
            med,
            kind: if inside { PeerKind::Internal } else { PeerKind::External },
            igp_cost: igp,
            incumbent: false,
            router_id: RouterId(Ipv4Addr::new(10, 0, 0, router)),
            cluster_list_length: cluster,
            peer: (IpAddr::from([192, 0, 2, at]), None, PeerId(0)),
        },
    )
}

/// Different peers, so that no two are wholly equal.
fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    prop::collection::vec(candidate(), 1..7).prop_map(|mut all| {
        for (n, candidate) in (0..).zip(&mut all) {
            candidate.path = n;
            candidate.peer.2 = PeerId(n);
        }
        all
    })
}

fn winner(candidates: &[Candidate]) -> u32 {
    let outcome = decide(candidates);
    let mut best = candidates.iter().zip(&outcome).filter(|(_, lost)| lost.is_none());
    let (winner, _) = best.next().expect("somebody wins");
    assert_eq!(best.next(), None, "one alone wins");
    winner.path
}

/// The same rules in other words: filters, then one minimum.
fn naive_winner(candidates: &[Candidate]) -> u32 {
    let rank = |c: &Candidate| (!c.local, u32::MAX - c.local_pref, c.as_path_length, c.origin);
    let top = candidates.iter().map(rank).min();
    let equal: Vec<&Candidate> = candidates.iter().filter(|c| Some(rank(c)) == top).collect();
    let lowest = |asn| equal.iter().filter(|c| c.neighbor == asn).map(|c| c.med).min();
    let rest = equal.iter().filter(|c| Some(c.med) == lowest(c.neighbor));
    let best = rest.min_by_key(|c| {
        (c.kind == PeerKind::Internal, c.igp_cost, c.router_id, c.cluster_list_length, c.peer)
    });
    best.expect("candidates").path
}

proptest! {
    #[test]
    fn the_decision_does_not_depend_on_order(all in candidates(), seed in any::<prop::sample::Index>()) {
        let mut other = all.clone();
        other.rotate_left(seed.index(all.len()));
        prop_assert_eq!(winner(&all), winner(&other));
        other.reverse();
        prop_assert_eq!(winner(&all), winner(&other));
        prop_assert_eq!(winner(&all), naive_winner(&all));
    }

    #[test]
    fn paths_of_one_neighbour_are_totally_ordered(mut all in candidates()) {
        all.iter_mut().for_each(|candidate| candidate.neighbor = Some(Asn(1)));
        let beats = |a: &Candidate, b: &Candidate| winner(&[*a, *b]) == a.path;
        for a in &all {
            for b in all.iter().filter(|b| b.path != a.path) {
                prop_assert_ne!(beats(a, b), beats(b, a));
                for c in all.iter().filter(|c| c.path != a.path && c.path != b.path) {
                    prop_assert!(!(beats(a, b) && beats(b, c)) || beats(a, c));
                }
            }
        }
        let first = winner(&all);
        prop_assert!(all.iter().filter(|c| c.path != first).all(|c| beats(&all[first as usize], c)));
    }
}
