//! Graceful restart, both sides of it: what we claim, how long we wait, and what is kept of a peer (RFC 4724).

use super::*;
use crate::wire::HEADER_LEN;

const SECOND: Duration = Duration::from_secs(1);
/// Of our configuration.
const RESTART_TIME: Duration = Duration::from_secs(120);

fn both() -> Option<Vec<AfiSafi>> {
    Some(AfiSafi::ALL.to_vec())
}

/// The restart flag and the forwarding flag in our next OPEN.
fn claims(bench: &mut Bench) -> (bool, bool) {
    let effects = bench.connected();
    let open = effects.iter().find_map(|effect| match effect {
        Effect::Send { bytes, .. } => Some(Open::decode(&bytes[HEADER_LEN..]).unwrap()),
        _ => None,
    });
    bench.handle(Input::Closed { conn: CONN });
    let restart = open.unwrap().capabilities.graceful_restart.unwrap();
    (restart.restarting, restart.families == [(AfiSafi::Ipv4Unicast, true)])
}

#[test]
fn only_what_survived_is_claimed_and_only_while_we_start() {
    for (restarting, starting) in
        [(None, (false, false)), (Some(vec![]), (true, false)), (both(), (true, true))]
    {
        let mut bench = Bench::starting(restarting.clone());
        assert_eq!(claims(&mut bench), starting, "{restarting:?}");
        bench.run(SpeakerConfig::SETTLE);
        assert_eq!(claims(&mut bench), (false, true), "{restarting:?}");
    }
}

#[test]
fn what_others_say_waits_seconds_for_a_router_that_reboots_and_what_was_left_waits_for_it() {
    for (restarting, chosen_at, converged_at) in
        [(None, Duration::ZERO, SpeakerConfig::SETTLE), (both(), SpeakerConfig::SETTLE, RESTART_TIME)]
    {
        let mut bench = Bench::starting(restarting);
        bench.established(Some(kept_for(120)));
        bench.announces("10.1.0.0/24");
        let (mut all, mut chosen) = (Vec::new(), None);
        for second in (1..=130).map(Duration::from_secs) {
            // Alive, and nothing is heard of the end of its routes.
            bench.hears(encode_keepalive());
            chosen = chosen.or(bench.nexthops().map(|nexthops| (nexthops, second - SECOND)));
            all.extend(bench.run(SECOND).into_iter().map(|(_, effect)| (second, effect)));
        }
        assert_eq!(chosen, Some((1, chosen_at)));
        assert_eq!(time_of(&Effect::Settled, &all), Some(SpeakerConfig::SETTLE));
        assert_eq!(time_of(&Effect::Converged, &all), Some(converged_at));
    }
}

#[test]
fn a_router_that_is_back_ends_the_wait() {
    let mut bench = Bench::starting(both());
    bench.run(SpeakerConfig::SETTLE + SECOND);
    bench.established(Some(kept_for(120)));
    assert!(bench.hears(encode_end_of_rib(AfiSafi::Ipv4Unicast)).contains(&Effect::Converged));
}

/// A peer that restarts gracefully, asks for this time, and has announced something.
fn with_a_route_to_keep(restart_time: u16) -> Bench {
    let mut bench = Bench::new();
    bench.established(Some(kept_for(restart_time)));
    bench.announces("10.1.0.0/24");
    assert!(bench.hears(encode_end_of_rib(AfiSafi::Ipv4Unicast)).contains(&Effect::Converged));
    assert_eq!(bench.nexthops(), Some(1));
    bench
}

fn kept_for(restart_time: u16) -> GracefulRestart {
    let families = vec![(AfiSafi::Ipv4Unicast, true)];
    GracefulRestart { restarting: false, notification: true, restart_time, families }
}

#[test]
fn the_routes_of_a_peer_that_cannot_be_reached_go_whatever_was_noticed_first() {
    for inputs in [
        [Input::Unreachable(PEER), Input::Closed { conn: CONN }],
        [Input::Closed { conn: CONN }, Input::Unreachable(PEER)],
    ] {
        let mut bench = with_a_route_to_keep(120);
        for input in inputs {
            bench.handle(input);
        }
        bench.handle(Input::Tick);
        assert_eq!(bench.nexthops(), Some(0));
    }
}

#[test]
fn no_peer_is_waited_for_longer_than_five_minutes() {
    for (asked, kept) in [(60, 60), (4095, 300)] {
        let mut bench = with_a_route_to_keep(asked);
        bench.handle(Input::Closed { conn: CONN });
        bench.run(Duration::from_secs(kept) - SECOND);
        assert_eq!(bench.nexthops(), None, "asked for {asked} s");
        bench.run(SECOND);
        assert_eq!(bench.nexthops(), Some(0), "asked for {asked} s");
    }
}

#[test]
fn a_peer_that_is_back_has_two_minutes_to_say_it_all_again() {
    let mut bench = with_a_route_to_keep(120);
    bench.handle(Input::Closed { conn: CONN });
    bench.established(Some(kept_for(120)));
    for (span, left) in [(60, None), (59, None), (1, Some(0))] {
        bench.hears(encode_keepalive());
        bench.run(Duration::from_secs(span));
        assert_eq!(bench.nexthops(), left);
    }
}

#[test]
fn a_peer_that_is_back_without_its_forwarding_state_has_no_routes() {
    let mut bench = with_a_route_to_keep(120);
    bench.handle(Input::Closed { conn: CONN });
    let lost = GracefulRestart { families: vec![(AfiSafi::Ipv4Unicast, false)], ..kept_for(120) };
    bench.established(Some(lost));
    bench.handle(Input::Tick);
    assert_eq!(bench.nexthops(), Some(0));
}
