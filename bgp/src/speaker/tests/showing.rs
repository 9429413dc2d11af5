//! What a speaker shows of its peers and routes, and what it says of a session that ends.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::peer::export_policy;
use super::super::*;
use super::crowd::{Crowd, EXTERNAL, INTERNAL, graceful, host, key, own, peer};
use crate::rib::{RouteStatus, Standing, Step};
use crate::session::StateKind;
use crate::types::{Nexthop, RemoteAsn, RouterId};

#[test]
fn a_peer_is_shown_with_its_session_and_without_once_that_is_over() {
    let mut crowd = Crowd::new(&[peer(1, EXTERNAL)], None);
    crowd.run(Duration::from_secs(3));
    crowd.up(1, EXTERNAL, graceful(120, true));
    crowd.announces(1, EXTERNAL, &[own(1), own(2)]);
    crowd.run(Duration::from_secs(7));

    let status = crowd.status(1);
    assert_eq!((status.state, status.state_age), (StateKind::Established, Duration::from_secs(7)));
    assert_eq!((status.asn, status.local_asn), (Some(EXTERNAL), INTERNAL));
    assert_eq!((status.router_id, status.hold_time), (Some(RouterId(host(1))), Some(0)));
    // OPEN, KEEPALIVE and an UPDATE; of ours the End-of-RIB.
    assert_eq!((status.messages_in, status.messages_out, status.established_count), (3, 3, 1));
    assert_eq!(
        status.capabilities,
        ["ipv4-unicast", "four-octet-asn", "graceful-restart", "graceful-notification"]
    );
    assert_eq!((status.families[0].1.accepted, status.families[0].1.rejected), (1, 1));

    crowd.hangs_up(1);
    let status = crowd.status(1);
    assert_eq!((status.router_id, status.hold_time, status.capabilities), (None, None, vec![]));
    assert_eq!(status.last_error.as_deref(), Some("connection lost"));
    assert_eq!(status.families[0].1.stale, 2);
}

#[test]
fn the_as_of_a_peer_is_the_configured_one_or_what_it_said() {
    let remotes = [RemoteAsn::Internal, RemoteAsn::External, RemoteAsn::External];
    let peers: Vec<_> = (1..).zip(remotes).map(|(n, asn)| PeerConfig { asn, ..peer(n, EXTERNAL) }).collect();
    let mut crowd = Crowd::new(&peers, None);
    crowd.up(3, EXTERNAL, None);
    assert_eq!([1, 2, 3].map(|n| crowd.status(n).asn), [Some(INTERNAL), None, Some(EXTERNAL)]);
}

#[test]
fn peers_are_shown_in_order_of_name() {
    let named = |n, name: &str| PeerConfig { name: name.to_owned(), ..peer(n, INTERNAL) };
    let crowd = Crowd::new(&[named(1, "c"), named(2, "a"), named(3, "b")], None);
    let names: Vec<_> = crowd.speaker.peers(crowd.now).into_iter().map(|peer| peer.name).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn routes_are_shown_in_order_with_all_their_paths() {
    let both = |n| PeerConfig { accept: vec!["11.0.0.0/8".parse().unwrap()].into(), ..peer(n, EXTERNAL) };
    let mut crowd = Crowd::new(&[both(1), both(2)], None);
    let ours: IpNetwork = "10.99.0.0/24".parse().unwrap();
    crowd.handle(Input::SetOrigin(OriginConfig { prefixes: vec![ours], ..OriginConfig::default() }));
    [1, 2].into_iter().for_each(|n| crowd.up(n, EXTERNAL, None));
    crowd.announces(2, EXTERNAL, &[own(2), own(1)]);
    crowd.announces(1, EXTERNAL, &[own(1)]);

    let shown = |filter| {
        let route = |route: RouteStatus<String>| {
            let paths =
                route.paths.into_iter().map(|path| (path.from, path.nexthop, path.standing.is_best()));
            (route.prefix, paths.collect::<Vec<_>>())
        };
        crowd.speaker.routes(filter).into_iter().map(route).collect::<Vec<_>>()
    };
    let from = |n: u16, best| (Some(format!("p{n}")), Some(Nexthop::V4(host(n))), best);
    let own_1 = (own(1).into(), vec![from(1, true), from(2, false)]);
    let all = [(ours, vec![(None, None, true)]), own_1.clone(), (own(2).into(), vec![from(2, true)])];
    assert_eq!(shown(RouteFilter::All), all);
    assert_eq!(shown(RouteFilter::Prefix(own(1).into())), std::slice::from_ref(&own_1));
    assert_eq!(shown(RouteFilter::Prefix(own(7).into())), []);
    assert_eq!(shown(RouteFilter::LongestMatch(own(1).ip().into())), [own_1]);

    let why = crowd.speaker.routes(RouteFilter::Prefix(own(1).into())).remove(0).paths;
    let why: Vec<_> = why.iter().map(|path| path.standing).collect();
    assert_eq!(why, [Standing::Best(Some(Step::RouterId)), Standing::Multipath(Step::RouterId)]);
    assert_eq!(why[1].to_string(), "used beside the best, which has: lower router ID");

    let told = crowd.speaker.advertised(key(1)).expect("it is configured");
    let told: Vec<_> = told.iter().map(|route| (route.prefix, route.nexthop)).collect();
    assert_eq!(told, [(ours, Nexthop::V4(host(0)))]);
    assert_eq!(crowd.speaker.advertised(key(3)), None);
}

#[test]
fn we_are_the_nexthop_by_the_address_that_the_peer_talks_to() {
    let (v4, v6, link) = (host(0), "2001:db8::1".parse().unwrap(), "fe80::1".parse().unwrap());
    let (other_v4, other_v6) = (Ipv4Addr::new(10, 7, 7, 7), "2001:db8::7".parse().unwrap());
    let nexthop = LocalNexthop { v4: Some(other_v4), v6: Some(other_v6) };
    let config = PeerConfig { nexthop, ..peer(1, EXTERNAL) };
    let mut crowd = Crowd::new(std::slice::from_ref(&config), None);
    crowd.up(1, EXTERNAL, None);
    let mut terms = crowd.speaker.peers.values().find_map(|peer| peer.up.clone()).expect("it is up");
    for (local, extended_nexthop, expected) in [
        (IpAddr::V4(v4), false, (Some(v4), Some(other_v6), None)),
        (IpAddr::V4(v4), true, (Some(v4), Some(other_v6), None)),
        (IpAddr::V6(v6), false, (Some(other_v4), Some(v6), None)),
        (IpAddr::V6(v6), true, (None, Some(v6), None)),
        (IpAddr::V6(link), false, (Some(other_v4), Some(other_v6), Some(link))),
        (IpAddr::V6(link), true, (None, Some(other_v6), Some(link))),
    ] {
        terms.extended_nexthop = extended_nexthop;
        let export = export_policy(&config, &terms, local);
        assert_eq!((export.nexthop_v4, export.nexthop_v6, export.link_local), expected, "{local}");
    }
}

#[test]
fn why_a_session_ended_is_said_then_and_not_when_it_is_back() {
    let reasons = |effects: Vec<Effect>| {
        let reason = |effect| match effect {
            Effect::PeerStateChanged { to, reason, .. } => Some((to, reason)),
            _ => None,
        };
        effects.into_iter().filter_map(reason).collect::<Vec<_>>()
    };
    let mut crowd = Crowd::new(&[peer(1, EXTERNAL)], None);
    crowd.up(1, EXTERNAL, None);
    assert_eq!(reasons(crowd.hangs_up(1)), [(StateKind::Active, Some("connection lost".to_owned()))]);
    assert_eq!(reasons(crowd.connects(1)), [(StateKind::OpenSent, None)]);
}

#[test]
fn why_an_attempt_failed_is_said_when_it_does_and_not_of_the_next() {
    let mut crowd = Crowd::new(&[], None);
    let active = PeerConfig { passive: false, ..peer(1, INTERNAL) };
    let dialed = |effects: &[Effect]| match effects {
        [Effect::PeerStateChanged { reason: None, from: StateKind::Active, .. }] => None,
        [Effect::Dial { conn, .. }, Effect::PeerStateChanged { reason: None, .. }] => Some(*conn),
        other => panic!("{other:?} is not an attempt alone"),
    };
    let conn = dialed(&crowd.handle(Input::SetPeers(vec![active]))).expect("a dial");
    let failed = crowd.handle(Input::DialFailed { conn, error: "refused".to_owned() });
    let [Effect::PeerStateChanged { reason, to: StateKind::Active, .. }] = &failed[..] else {
        panic!("{failed:?} is not the end of an attempt alone");
    };
    assert_eq!(reason.as_deref(), Some("refused"));
    let at = crowd.speaker.next_deadline().expect("the next attempt");
    crowd.now = at;
    assert!(dialed(&crowd.handle(Input::Tick)).is_some());
}
