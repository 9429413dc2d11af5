//! What a change of configuration costs: nothing but what it changes.

use std::time::Duration;

use super::super::*;
use super::crowd::{Crowd, EXTERNAL, INTERNAL, graceful, own, peer, sends_anything};
use crate::rib::{ExportRoutes, FilterAction, FilterRule};
use crate::session::StateKind;
use crate::types::{AfiSafi, RemoteAsn};
use crate::wire::{
    CeaseReason, GracefulRestart, Message, Nlri, Notification, encode_end_of_rib, encode_route_refresh,
};

const SOON: Duration = Duration::from_secs(1);

/// A mesh of so many nodes and a router that may announce what is theirs, all established, with routes of our own.
fn mesh(nodes: u16) -> (Crowd, Vec<PeerConfig>) {
    let mut peers: Vec<_> = (1..=nodes).map(|n| peer(n, INTERNAL)).collect();
    peers.push(PeerConfig { accept: (1..=nodes).map(|n| own(n).into()).collect(), ..peer(1000, EXTERNAL) });
    let mut crowd = Crowd::new(&peers, None);
    let prefixes = vec!["10.99.0.0/24".parse().unwrap(), "10.99.1.0/24".parse().unwrap()];
    crowd.handle(Input::SetOrigin(OriginConfig { prefixes, ..OriginConfig::default() }));
    (1..=nodes).for_each(|n| crowd.up(n, INTERNAL, None));
    crowd.up(1000, EXTERNAL, None);
    (1..=nodes).for_each(|n| drop(crowd.announces(n, INTERNAL, &[own(n)])));
    crowd.run(SOON);
    crowd.changes();
    (crowd, peers)
}

#[test]
fn a_node_that_joins_a_hundred_is_no_news_to_them_nor_to_their_router() {
    let (mut crowd, mut peers) = mesh(100);
    peers.push(peer(101, INTERNAL));
    peers[100].accept = (1..=101).map(|n| own(n).into()).collect();
    let mut effects = crowd.handle(Input::SetPeers(peers));
    effects.extend(crowd.run(SOON));
    assert_eq!(effects, [], "not a byte");
    assert_eq!(crowd.changes(), []);
    assert_eq!(
        crowd.speaker.peers(crowd.now).iter().filter(|p| p.state == StateKind::Established).count(),
        101
    );
}

#[test]
fn what_is_accepted_later_is_found_though_the_peer_has_said_it_once() {
    let (mut crowd, mut peers) = mesh(2);
    crowd.announces(1000, EXTERNAL, &[own(7)]);
    assert_eq!((crowd.changes(), crowd.status(1000).refused.len()), (vec![], 1));
    peers[2].accept = (1..=7).map(|n| own(n).into()).collect();
    let effects = [crowd.handle(Input::SetPeers(peers)), crowd.run(SOON)].concat();
    assert!(!sends_anything(&effects));
    assert_eq!((crowd.changes(), crowd.status(1000).refused.len()), (vec![(own(7), true)], 0));
}

#[test]
fn a_peer_that_becomes_a_client_is_told_of_the_others_and_they_of_it_without_a_reset() {
    let accept = || vec![own(7).into(), own(8).into()].into();
    let mut peers =
        [1, 2].map(|n| PeerConfig { accept: accept(), export: ExportRoutes::Transit, ..peer(n, INTERNAL) });
    let mut crowd = Crowd::new(&peers, None);
    [1, 2].into_iter().for_each(|n| crowd.up(n, INTERNAL, None));
    let mut effects = crowd.announces(1, INTERNAL, &[own(7)]);
    effects.extend(crowd.announces(2, INTERNAL, &[own(8)]));
    assert!(!sends_anything(&effects), "from internal peer to internal peer");

    peers[1].client = true;
    let effects = [crowd.handle(Input::SetPeers(peers.to_vec())), crowd.run(SOON)].concat();
    for (n, other) in [(1, 8), (2, 7)] {
        let told = crowd.messages(n, &effects).into_iter().find_map(|message| match message {
            Message::Update(update) => Some(update.reach[0].nlri.clone()),
            _ => None,
        });
        assert_eq!(told, Some(Nlri::V4(vec![own(other)])), "peer {n}");
    }
}

#[test]
fn what_a_node_announces_of_others_is_refused_and_named() {
    let (mut crowd, _) = mesh(2);
    let leaked: Vec<_> = (10..30).map(own).collect();
    crowd.announces(1, INTERNAL, &leaked);
    assert_eq!(crowd.changes(), []);
    let status = crowd.status(1);
    assert_eq!((status.families[0].1.accepted, status.families[0].1.rejected), (1, 20));
    let named: Vec<_> = status.refused.iter().map(|route| route.prefix.to_string()).collect();
    assert_eq!(named, ["11.0.10.0/24", "11.0.11.0/24", "11.0.12.0/24"]);
    assert_eq!(crowd.status(2).refused, []);
}

#[test]
fn a_change_that_needs_no_other_open_or_connection_ends_no_session() {
    type Change = fn(&mut PeerConfig);
    let keeps: [Change; 12] = [
        |peer| peer.name = "renamed".to_owned(),
        |peer| peer.passive = false,
        |peer| peer.let_peer_dial = true,
        |peer| peer.connect_retry = Duration::from_secs(77),
        |peer| peer.accept = vec!["11.0.0.0/8".parse().unwrap()].into(),
        |peer| {
            let rule = FilterRule { action: FilterAction::Accept, ..FilterRule::default() };
            peer.import_filter = vec![rule].into();
        },
        |peer| peer.enforce_first_asn = false,
        |peer| peer.allow_own_asn = 1,
        |peer| peer.enforce_own_nexthop = true,
        |peer| peer.max_prefixes = 5,
        |peer| peer.nexthop.v6 = "2001:db8::1".parse().ok(),
        |peer| peer.transport.port = 1790,
    ];
    // By transit it is told what was learned from another.
    let tells: [Change; 1] = [|peer| peer.export = ExportRoutes::Transit];
    let cases = keeps.map(|change| (change, 0)).into_iter().chain(tells.map(|change| (change, 1)));
    for (index, (change, messages)) in cases.enumerate() {
        let (mut crowd, mut peers) = mesh(1);
        change(&mut peers[1]);
        let effects = crowd.handle(Input::SetPeers(peers));
        assert_eq!(crowd.state(1000), StateKind::Established, "change {index}");
        assert_eq!(crowd.messages(1000, &effects).len(), messages, "change {index}");
    }
}

#[test]
fn what_is_negotiated_otherwise_begins_anew_and_until_then_may_stay_as_it_was() {
    let changes: [fn(&mut PeerConfig); 4] = [
        |peer| peer.asn = RemoteAsn::External,
        |peer| peer.hold_time = 30,
        |peer| peer.extended_nexthop = false,
        |peer| peer.families = AfiSafi::ALL.to_vec(),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let (mut crowd, mut peers) = mesh(1);
        let running = peers[1].clone();
        change(&mut peers[1]);
        assert!(!peers[1].has_terms_of(&running), "change {index}");
        let waiting = peers[1].clone().with_terms_of(&running);
        assert!(waiting.has_terms_of(&running), "change {index}");
        crowd.handle(Input::SetPeers(vec![peers[0].clone(), waiting]));
        assert_eq!(crowd.state(1000), StateKind::Established, "change {index}");
        crowd.handle(Input::SetPeers(peers));
        assert_ne!(crowd.state(1000), StateKind::Established, "change {index}");
    }
}

/// RFC 4724 lets a peer name no family: it keeps ours, and has not thought of its own restarts. FRR and BIRD do so unless told
/// otherwise, and neither knows RFC 8538.
fn helper(notification: bool) -> Option<GracefulRestart> {
    Some(GracefulRestart { restarting: false, notification, restart_time: 0, families: Vec::new() })
}

/// It has announced [`own`] 1 and the session is reset.
fn reset(graceful_restart: Option<GracefulRestart>, families: &[AfiSafi]) -> (Crowd, Vec<Message>) {
    let mut crowd = Crowd::new(&[peer(1, EXTERNAL)], None);
    crowd.up(1, EXTERNAL, graceful_restart);
    crowd.announces(1, EXTERNAL, &[own(1)]);
    assert_eq!(crowd.changes(), [(own(1), true)]);
    let other = PeerConfig { extended_nexthop: false, families: families.to_vec(), ..peer(1, EXTERNAL) };
    let effects = crowd.handle(Input::SetPeers(vec![other]));
    assert_ne!(crowd.state(1), StateKind::Established);
    let told = crowd.messages(1, &effects);
    crowd.run(SOON);
    (crowd, told)
}

#[test]
fn a_peer_that_would_forget_us_over_a_notification_hears_none_when_its_session_is_reset() {
    let cease =
        || vec![Message::Notification(Notification::cease(CeaseReason::OtherConfigurationChange, None))];
    let no_notification = |restart: GracefulRestart| GracefulRestart { notification: false, ..restart };
    for (graceful_restart, told) in [
        (None, cease()),
        (helper(true), cease()),
        (graceful(60, true), cease()),
        (helper(false), vec![]),
        (graceful(60, true).map(no_notification), vec![]),
    ] {
        assert_eq!(reset(graceful_restart.clone(), &[AfiSafi::Ipv4Unicast]).1, told, "{graceful_restart:?}");
    }
}

#[test]
fn a_peer_whose_session_is_reset_goes_on_and_so_do_its_routes() {
    for graceful_restart in [helper(false), helper(true), graceful(60, false)] {
        let (mut crowd, _) = reset(graceful_restart.clone(), &[AfiSafi::Ipv4Unicast]);
        crowd.up(1, EXTERNAL, graceful_restart);
        crowd.run(SOON);
        assert_eq!(crowd.changes(), [], "until it has said what it has");
        crowd.announces(1, EXTERNAL, &[own(1)]);
        crowd.hears(1, encode_end_of_rib(AfiSafi::Ipv4Unicast));
        crowd.run(SOON);
        assert_eq!((crowd.changes(), crowd.status(1).families[0].1.stale), (vec![], 0));

        // Its next restart is one.
        crowd.hangs_up(1);
        crowd.up(1, EXTERNAL, helper(false));
        crowd.run(SOON);
        assert_eq!(crowd.changes(), [(own(1), false)]);
    }
}

#[test]
fn what_a_peer_has_said_does_not_outlive_a_reset_for_long_nor_a_family_that_is_not_wanted() {
    let (mut crowd, _) = reset(helper(false), &[AfiSafi::Ipv4Unicast]);
    crowd.run(Duration::from_secs(28));
    assert_eq!(crowd.changes(), []);
    crowd.run(Duration::from_secs(2));
    assert_eq!(crowd.changes(), [(own(1), false)]);
    assert_eq!(reset(helper(false), &[AfiSafi::Ipv6Unicast]).0.changes(), [(own(1), false)]);
    assert_eq!(reset(None, &[AfiSafi::Ipv4Unicast]).0.changes(), [(own(1), false)], "it forgets us too");
}

#[test]
fn other_numbers_of_paths_and_of_seconds_cost_no_session() {
    let accept = || vec![own(7).into()].into();
    let peers = [
        PeerConfig { accept: accept(), ..peer(1, EXTERNAL) },
        PeerConfig { accept: accept(), ..peer(2, EXTERNAL) },
    ];
    let mut crowd = Crowd::new(&peers, None);
    let paths = |crowd: &mut Crowd| {
        let change = std::iter::from_fn(|| crowd.speaker.poll_change()).last();
        change.map(|change| change.nexthops.len())
    };
    for n in [1, 2] {
        crowd.up(n, EXTERNAL, graceful(60, true));
        crowd.announces(n, EXTERNAL, &[own(7)]);
    }
    assert_eq!(paths(&mut crowd), Some(2));
    for (max_paths, chosen) in [(1, Some(1)), (1, None), (0, None), (2, Some(2)), (3, None)] {
        assert_eq!(crowd.handle(Input::SetMaxPaths(max_paths)), [], "{max_paths}");
        assert_eq!(paths(&mut crowd), chosen, "{max_paths}");
    }

    assert_eq!(crowd.handle(Input::SetRestartTime(Some(77))), []);
    crowd.hangs_up(1);
    let effects = crowd.connects(1);
    let [Message::Open(open)] = &crowd.messages(1, &effects)[..] else { panic!("{effects:?}") };
    assert_eq!(open.capabilities.graceful_restart.as_ref().map(|restart| restart.restart_time), Some(77));
    assert_eq!(crowd.state(2), StateKind::Established);
}

#[test]
fn a_peer_that_is_to_be_dialed_after_all_is_dialed() {
    let is_dial = |effect: &Effect| matches!(effect, Effect::Dial { .. });
    let mut crowd = Crowd::new(&[peer(1, INTERNAL)], None);
    assert!(!crowd.run(Duration::from_secs(60)).iter().any(is_dial));
    let active = PeerConfig { passive: false, ..peer(1, INTERNAL) };
    assert!(crowd.handle(Input::SetPeers(vec![active])).iter().any(is_dial));
}

#[test]
fn what_a_peer_is_told_once_more_is_not_kept_beside_what_its_group_was_told() {
    let at_once = Some(Instant::default());
    let (mut crowd, _) = mesh(2);
    assert_ne!(crowd.speaker.next_deadline(), at_once, "all is quiet");
    assert!(sends_anything(&crowd.hears(1, encode_route_refresh(AfiSafi::Ipv4Unicast))));
    assert_eq!(crowd.speaker.next_deadline(), at_once, "the copy goes, though nothing else happens");
    crowd.run(SOON);
    assert_ne!(crowd.speaker.next_deadline(), at_once);
}

/// RFC 2918 sets no pace, and to ask costs 23 octets.
#[test]
fn a_peer_that_asks_without_end_is_told_everything_once_and_again_after_a_rest() {
    let (mut crowd, _) = mesh(2);
    let ask = |crowd: &mut Crowd| crowd.hears(1, encode_route_refresh(AfiSafi::Ipv4Unicast));
    assert!(sends_anything(&ask(&mut crowd)));
    for _ in 0..100 {
        assert!(!sends_anything(&ask(&mut crowd)));
    }
    assert!(!sends_anything(&crowd.run(Duration::from_secs(9))));
    assert!(sends_anything(&crowd.run(Duration::from_secs(2))));
    assert!(!sends_anything(&crowd.run(Duration::from_secs(60))), "once for all that it asked");
    assert!(sends_anything(&ask(&mut crowd)), "it has rested");
}

#[test]
fn of_our_prefixes_only_the_difference_is_told() {
    let mut crowd = Crowd::new(&[peer(1, INTERNAL)], None);
    crowd.up(1, INTERNAL, None);
    let mut originate = |prefixes: [u16; 2]| {
        let prefixes = prefixes.map(|n| own(n).into()).to_vec();
        let effects = crowd.handle(Input::SetOrigin(OriginConfig { prefixes, ..OriginConfig::default() }));
        let (mut announced, mut withdrawn) = (Vec::new(), Vec::new());
        for message in crowd.messages(1, &effects) {
            let Message::Update(update) = message else { panic!("{message:?} is no UPDATE") };
            announced.extend(update.reach.into_iter().map(|reach| reach.nlri));
            withdrawn.extend(update.unreach);
        }
        (announced, withdrawn)
    };
    assert_eq!(originate([1, 2]), (vec![Nlri::V4(vec![own(1), own(2)])], vec![]));
    assert_eq!(originate([2, 3]), (vec![Nlri::V4(vec![own(3)])], vec![Nlri::V4(vec![own(1)])]));
    assert_eq!(originate([2, 3]), (vec![], vec![]));
}

#[test]
fn a_peer_that_is_left_alone_stays_so_unless_what_it_did_is_allowed() {
    let active = PeerConfig { passive: false, max_prefixes: 1, ..peer(1, EXTERNAL) };
    let (renamed, more) = (
        PeerConfig { name: "leaf".to_owned(), ..active.clone() },
        PeerConfig { max_prefixes: 2, ..active.clone() },
    );
    for (change, dialed) in [(renamed, false), (more, true)] {
        let mut crowd = Crowd::new(std::slice::from_ref(&active), None);
        crowd.up(1, EXTERNAL, None);
        crowd.announces(1, EXTERNAL, &[own(1), own(2)]);
        assert_eq!(crowd.state(1), StateKind::Idle);
        let effects = crowd.handle(Input::SetPeers(vec![change]));
        assert_eq!(effects.iter().any(|effect| matches!(effect, Effect::Dial { .. })), dialed);
    }
}

#[test]
fn who_goes_takes_only_its_own_deadlines_along() {
    let active = |n| PeerConfig { passive: false, ..peer(n, INTERNAL) };
    let mut crowd = Crowd::new(&[active(1), active(2)], None);
    let (begun, dial_time) = (crowd.now, Duration::from_secs(10));
    crowd.now = crowd.now + Duration::from_secs(1);
    crowd.handle(Input::SetPeers(vec![active(2)]));
    assert_eq!(crowd.speaker.next_deadline(), Some(begun + dial_time));
    crowd.handle(Input::SetPeers(vec![]));
    // What is left is the end of the first round.
    crowd.run(SpeakerConfig::SETTLE);
    crowd.run(Duration::from_secs(300));
    assert_eq!(crowd.speaker.next_deadline(), None);
}

#[test]
fn ipv4_over_ipv6_is_offered_where_it_is_wanted_and_of_use() {
    let (v4, v6) = (AfiSafi::Ipv4Unicast, AfiSafi::Ipv6Unicast);
    for (extended_nexthop, families, offered) in
        [(true, vec![v4, v6], true), (true, vec![v6], false), (false, vec![v4], false)]
    {
        let mut crowd = Crowd::new(&[PeerConfig { extended_nexthop, families, ..peer(1, INTERNAL) }], None);
        let effects = crowd.connects(1);
        let [Message::Open(open)] = &crowd.messages(1, &effects)[..] else { panic!("{effects:?}") };
        assert_eq!(open.capabilities.extended_nexthop.contains(&v4), offered);
    }
}

#[test]
fn what_failed_before_a_change_is_not_held_against_the_peer() {
    let fails = |crowd: &mut Crowd| {
        crowd.connects(1);
        crowd.hears(1, vec![0; 19]);
        crowd.state(1)
    };
    let mut crowd = Crowd::new(&[peer(1, INTERNAL)], None);
    assert_eq!((0..5).map(|_| fails(&mut crowd)).last(), Some(StateKind::Idle), "it is left alone");
    crowd.handle(Input::SetPeers(vec![PeerConfig { hold_time: 30, ..peer(1, INTERNAL) }]));
    assert_eq!(fails(&mut crowd), StateKind::Active);
}
