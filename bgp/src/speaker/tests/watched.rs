//! What BFD's findings do to sessions and routes (RFC 5882 §4, RFC 9384).

use super::*;
use crate::bfd::{self, Failure, Path, Terms};
use crate::wire::{CeaseReason, Notification};

const SECOND: Duration = Duration::from_secs(1);
const SILENT: Duration = Duration::from_millis(900);

fn lost(silent: Duration, control_plane_independent: bool) -> Input {
    Input::PathLost { key: PEER, failure: Failure { silent, control_plane_independent } }
}

fn graceful(notification: bool) -> GracefulRestart {
    GracefulRestart {
        restarting: false,
        notification,
        restart_time: 120,
        families: vec![(AfiSafi::Ipv4Unicast, true)],
    }
}

/// A session that is a second old, and one route that is used.
fn in_use(graceful_restart: Option<GracefulRestart>) -> Bench {
    let mut bench = Bench::new();
    bench.established(graceful_restart);
    bench.announces("10.1.0.0/24");
    bench.hears(encode_end_of_rib(AfiSafi::Ipv4Unicast));
    bench.run(SECOND);
    assert_eq!(bench.nexthops(), Some(1));
    bench
}

fn state(bench: &Bench) -> StateKind {
    bench.speaker.peers(bench.now)[0].state
}

#[test]
fn a_session_whose_path_is_lost_ends_with_its_routes_whatever_was_said_of_restarts() {
    let down = Notification::cease(CeaseReason::BfdDown, None);
    for (graceful_restart, last_word) in [
        (None, down.clone()),
        (Some(graceful(false)), down.clone()),
        // RFC 8538 §3: this alone keeps the peer from keeping our routes.
        (Some(graceful(true)), Notification::hard_reset(&down)),
    ] {
        for control_plane_independent in [false, true] {
            let mut bench = in_use(graceful_restart.clone());
            let effects = bench.handle(lost(SILENT, control_plane_independent));
            assert!(effects.contains(&Effect::Send { conn: CONN, bytes: last_word.encode() }), "{effects:?}");
            assert!(state(&bench) < StateKind::OpenSent);
            bench.run(Duration::ZERO);
            assert_eq!(bench.nexthops(), Some(0), "{graceful_restart:?}");
        }
    }
}

#[test]
fn the_peer_is_dialed_again_within_a_second() {
    let mut bench = in_use(None);
    bench.handle(lost(SILENT, false));
    let dialed = bench.run(SECOND);
    assert!(dialed.iter().any(|(_, effect)| matches!(effect, Effect::Dial { .. })), "{dialed:?}");
}

/// A router that restarts is back before the detection time of its last life is over (as in gobgp#3561).
#[test]
fn a_session_that_is_younger_than_the_silence_stays() {
    let mut bench = in_use(None);
    assert_eq!(bench.handle(lost(SECOND, false)), []);
    assert_eq!((state(&bench), bench.nexthops()), (StateKind::Established, None));
    bench.handle(lost(SECOND - Duration::from_millis(1), false));
    assert_ne!(state(&bench), StateKind::Established);
}

#[test]
fn routes_of_a_peer_that_restarts_outlive_its_bfd_when_that_ends_with_its_control_plane() {
    for (control_plane_independent, left) in [(false, None), (true, Some(0))] {
        let mut bench = in_use(Some(graceful(true)));
        bench.handle(Input::Closed { conn: CONN });
        bench.handle(lost(SILENT, control_plane_independent));
        bench.run(Duration::ZERO);
        assert_eq!(bench.nexthops(), left, "{control_plane_independent}");
    }
}

#[test]
fn attempts_to_come_back_are_not_disturbed() {
    let mut bench = in_use(Some(graceful(true)));
    bench.handle(Input::Closed { conn: CONN });
    bench.connected();
    assert_eq!(bench.handle(lost(SILENT, false)), []);
    assert_eq!(state(&bench), StateKind::OpenSent);
}

#[test]
fn a_peer_that_nobody_knows_is_nobodys_loss() {
    let mut bench = in_use(None);
    let key = PeerKey { address: [192, 0, 2, 99].into(), interface: None };
    let failure = Failure { silent: SILENT, control_plane_independent: true };
    assert_eq!(bench.handle(Input::PathLost { key, failure }), []);
}

#[test]
fn to_be_watched_or_not_or_otherwise_costs_no_session() {
    let mut bench = in_use(None);
    let watched = |interval: u64| {
        let terms = Terms { interval: Duration::from_millis(interval), detect_multiplier: 3 };
        PeerConfig { bfd: Some(bfd::Config { terms, path: Path::SingleHop }), ..peer() }
    };
    for config in [watched(300), watched(50), peer()] {
        assert_eq!(bench.handle(Input::SetPeers(vec![config])), []);
        assert_eq!(state(&bench), StateKind::Established);
    }
}
