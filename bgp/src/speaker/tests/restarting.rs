//! Graceful restart, both sides of it: what we claim, how long we wait, and what is kept of a peer (RFC 4724).

use super::crowd::{Crowd, EXTERNAL, graceful, own};
use super::*;
use crate::wire::{HEADER_LEN, Message};

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
fn peers_are_told_our_routes_when_the_wait_is_over_though_they_say_nothing() {
    let mut crowd = Crowd::new(&[crowd::peer(1, EXTERNAL)], both());
    let prefixes = vec![own(7).into()];
    crowd.handle(Input::SetOrigin(OriginConfig { prefixes, ..OriginConfig::default() }));
    crowd.up(1, EXTERNAL, graceful(120, true));
    let wait = crowd.run(SpeakerConfig::SETTLE - SECOND);
    assert_eq!(crowd.messages(1, &wait), []);
    let after = crowd.run(SECOND);
    let told = |message: &Message| match message {
        Message::Update(update) => !update.reach.is_empty(),
        _ => false,
    };
    assert!(crowd.messages(1, &after).iter().any(told), "{after:?}");
}

#[test]
fn a_router_that_is_back_ends_the_wait() {
    let mut bench = Bench::starting(both());
    bench.run(SpeakerConfig::SETTLE + SECOND);
    bench.established(Some(kept_for(120)));
    assert!(bench.hears(encode_end_of_rib(AfiSafi::Ipv4Unicast)).contains(&Effect::Converged));
}

/// A peer that restarts gracefully and has announced something.
fn with_a_route_to_keep() -> Bench {
    let mut bench = Bench::new();
    bench.established(Some(kept_for(120)));
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
        let mut bench = with_a_route_to_keep();
        for input in inputs {
            bench.handle(input);
        }
        bench.handle(Input::Tick);
        assert_eq!(bench.nexthops(), Some(0));
    }
}

#[test]
fn only_families_that_the_peer_named_are_kept() {
    let mut bench = Bench::new();
    bench.handle(Input::SetPeers(vec![PeerConfig { families: AfiSafi::ALL.to_vec(), ..peer() }]));
    let families = vec![(AfiSafi::Ipv6Unicast, true)];
    bench.established_with(Capabilities {
        families: AfiSafi::ALL.to_vec(),
        graceful_restart: Some(GracefulRestart { families, ..kept_for(120) }),
        ..Capabilities::default()
    });
    bench.announces("10.1.0.0/24");
    assert_eq!(bench.nexthops(), Some(1));
    bench.handle(Input::Closed { conn: CONN });
    bench.run(SECOND);
    assert_eq!(bench.nexthops(), Some(0));
}

#[test]
fn what_is_not_accepted_any_more_goes_though_its_peer_is_away() {
    let mut bench = with_a_route_to_keep();
    bench.handle(Input::Closed { conn: CONN });
    bench.run(SECOND);
    assert_eq!(bench.nexthops(), None, "it is kept");
    bench.handle(Input::SetPeers(vec![PeerConfig { accept: Vec::new().into(), ..peer() }]));
    bench.run(SECOND);
    assert_eq!(bench.nexthops(), Some(0));
}
