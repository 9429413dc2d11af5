//! Several speakers in virtual time, under seeded faults: what must hold whatever happens.
//!
//! `WEFT_SIM_SEED=N` repeats one run, `WEFT_SIM_RUNS=N` tries more.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by stopping")]

mod cluster;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use weft_bgp::session::StateKind;
use weft_bgp::speaker::{Input, OriginConfig, Shutdown};
use world::{World, key, prefix, secs};

/// Runs per scenario.
const RUNS: u64 = 20;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// Tries a scenario with one seed after another, and names the one that fails.
fn for_seeds(runs: u64, scenario: impl Fn(u64)) {
    let seeds = match number("WEFT_SIM_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("WEFT_SIM_RUNS").unwrap_or(runs),
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| scenario(seed))) {
            eprintln!("failed with WEFT_SIM_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

fn internal(_: usize) -> u32 {
    65000
}

fn external(node: usize) -> u32 {
    65001 + u32::try_from(node).unwrap()
}

fn started(seed: u64, size: usize, asn: fn(usize) -> u32) -> World {
    let mut world = World::mesh(seed, size, asn);
    (0..size).for_each(|index| world.start(index));
    world
}

fn settled(seed: u64, size: usize, asn: fn(usize) -> u32) -> World {
    let mut world = started(seed, size, asn);
    assert!(world.run_until(secs(60), World::is_settled), "not settled: {}", world.describe());
    world
}

#[test]
fn nodes_that_dial_each_other_at_once_end_with_one_session_each() {
    for_seeds(RUNS, |seed| {
        for asn in [internal, external] {
            let mut world = settled(seed, 5, asn);
            let before: Vec<_> = world.nodes.iter().map(|node| node.transitions.len()).collect();
            world.run(secs(600));
            assert!(world.is_settled());
            let after: Vec<_> = world.nodes.iter().map(|node| node.transitions.len()).collect();
            assert_eq!(before, after, "sessions did not stay");
        }
    });
}

#[test]
fn where_one_end_lets_the_other_dial_there_are_no_collisions() {
    for_seeds(RUNS, |seed| {
        let mut world = World::mesh(seed, 5, internal);
        world.agree_who_dials();
        (0..5).for_each(|index| world.start(index));
        assert!(world.run_until(secs(3), World::is_settled), "not settled: {}", world.describe());
        assert_eq!(world.connections_made(), 10);
    });
}

#[test]
fn whatever_breaks_one_session_per_pair_comes_back() {
    for_seeds(RUNS, |seed| {
        let mut world = World::mesh(seed, 4, if seed % 2 == 0 { internal } else { external });
        if seed % 4 < 2 {
            world.agree_who_dials();
        }
        (0..4).for_each(|index| world.start(index));
        world.piece = 1 + seed % 50;
        for _ in 0..60 {
            let node = usize::try_from(world.random.below(4)).unwrap();
            let other = (node + 1 + usize::try_from(world.random.below(3)).unwrap()) % 4;
            match world.random.below(6) {
                0 | 1 => world.drop_connection(node),
                2 => {
                    let span = secs(world.random.below(20));
                    world.silence(node, other, span);
                }
                3 if world.nodes[node].speaker.is_some() => world.kill(node),
                4 if world.nodes[node].speaker.is_none() => world.start(node),
                _ => {}
            }
            let span = world.span_below(3_000_000);
            world.run(span);
        }
        for node in 0..4 {
            if world.nodes[node].speaker.is_none() {
                world.start(node);
            }
        }
        // The longest hold-down, the last silence and the restart time.
        assert!(world.run_until(secs(300), World::is_settled), "not settled: {}", world.describe());
        world.run(secs(300));
        assert!(world.is_settled(), "did not stay settled");
    });
}

#[test]
fn the_tables_do_not_depend_on_order_or_on_the_pieces_of_tcp() {
    let tables = |seed, piece| {
        let mut world = World::mesh(seed, 4, external);
        world.piece = piece;
        // The order of starting is the order of arrival.
        for step in 0..4 {
            world.start((step + usize::try_from(seed).unwrap()) % 4);
            world.run(secs(seed % 3));
        }
        assert!(world.run_until(secs(60), World::is_settled), "not settled: {}", world.describe());
        (0..4).map(|index| world.routes(index)).collect::<Vec<_>>()
    };
    let reference = tables(1, 65536);
    for_seeds(RUNS, |seed| assert_eq!(tables(seed, 1 + seed % 7), reference));
}

#[test]
fn routes_of_a_silent_peer_are_withdrawn_when_the_hold_timer_expires() {
    for_seeds(RUNS, |seed| {
        let mut world = settled(seed, 3, internal);
        let silent_at = world.now;
        world.silence(2, 0, secs(3600));
        world.run(secs(10));
        assert!(!world.nodes[0].fib.contains_key(&prefix(2, 0)));
        let (lost_at, _) = world.nodes[0].lost.iter().find(|(_, lost)| *lost == prefix(2, 0)).unwrap();
        // Three quarters of keepalive jitter before, the network's latency after.
        let after = lost_at.since(silent_at);
        assert!(after >= secs(6) && after <= secs(10), "after {after:?}");
        assert!(world.nodes[1].fib.contains_key(&prefix(2, 0)), "the others still hear it");
    });
}

#[test]
fn a_restart_keeps_routes_and_sweeps_what_did_not_come_back() {
    for_seeds(RUNS, |seed| {
        let mut world = settled(seed, 4, if seed % 2 == 0 { internal } else { external });
        world.nodes[3].origin = vec![prefix(3, 0), prefix(3, 1)];
        let origin = OriginConfig { prefixes: world.nodes[3].origin.clone(), ..OriginConfig::default() };
        world.input(3, Input::SetOrigin(origin));
        assert!(world.run_until(secs(5), World::is_settled));
        world.nodes.iter_mut().for_each(|node| node.lost.clear());
        let own = world.nodes[3].fib.clone();

        world.kill(3);
        world.run(secs(1 + seed % 30));
        assert_eq!(world.nodes[3].fib, own, "the kernel keeps forwarding");
        world.nodes[3].origin = vec![prefix(3, 0), prefix(3, 2)];
        world.start(3);

        assert!(world.run_until(secs(60), World::is_settled), "not settled: {}", world.describe());
        for node in &world.nodes {
            assert!(node.lost.iter().all(|(_, lost)| *lost == prefix(3, 1)), "lost {:?}", node.lost);
        }
    });
}

#[test]
fn a_peer_that_does_not_come_back_is_forgotten_after_its_restart_time() {
    for_seeds(RUNS, |seed| {
        let mut world = settled(seed, 3, internal);
        world.kill(2);
        world.run(secs(59));
        assert!(world.nodes[0].fib.contains_key(&prefix(2, 0)));
        world.run(secs(3));
        assert!(!world.nodes[0].fib.contains_key(&prefix(2, 0)));
    });
}

#[test]
fn a_stop_withdraws_at_once_and_a_restart_does_not() {
    for_seeds(RUNS, |seed| {
        for (how, kept) in [(Shutdown::Stop { text: "drain".to_owned() }, false), (Shutdown::Restart, true)] {
            let mut world = settled(seed, 3, internal);
            world.input(2, Input::Shutdown(how));
            world.run(secs(1));
            assert_eq!(world.nodes[0].fib.contains_key(&prefix(2, 0)), kept);
            assert!(world.nodes[0].fib.contains_key(&prefix(1, 0)));
        }
    });
}

#[test]
fn a_changed_peer_is_reset_and_the_others_are_not() {
    for_seeds(RUNS, |seed| {
        let mut world = settled(seed, 3, internal);
        let before = world.nodes[0].transitions.len();
        let mut peers = world.nodes[0].peers.clone();
        peers[0].accept = vec![prefix(1, 0)].into(); // No reason to reset.
        peers[1].hold_time = 30;
        world.input(0, Input::SetPeers(peers));
        world.run(secs(1));
        assert!(world.run_until(secs(30), World::is_meshed));
        let changed = &world.nodes[0].transitions[before..];
        assert!(changed.iter().all(|(_, peer, _)| *peer == key(2)) && !changed.is_empty(), "{changed:?}");
        let shared = "10.200.0.0/16".parse().unwrap();
        assert!(!world.nodes[0].fib.contains_key(&shared), "own prefix");
    });
}

#[test]
fn hostile_bytes_from_one_peer_do_not_touch_another() {
    for_seeds(RUNS, |seed| {
        let mut world = settled(seed, 3, external);
        let before = world.nodes[0].transitions.len();
        for _ in 0..30 {
            world.mutate_from(2);
            world.run(secs(1));
        }
        let changed = &world.nodes[0].transitions[before..];
        assert!(changed.iter().any(|(_, peer, _)| *peer == key(2)), "nothing was hostile");
        assert!(changed.iter().all(|(_, peer, _)| *peer == key(2)), "{changed:?}");
        let other = world.peers(0).into_iter().find(|peer| peer.key == key(1)).unwrap();
        assert_eq!(other.state, StateKind::Established);
        assert!(
            world.nodes[0].lost.iter().all(|(_, lost)| *lost == prefix(2, 0)),
            "{:?}",
            world.nodes[0].lost
        );
    });
}
