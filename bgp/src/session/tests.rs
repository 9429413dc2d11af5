//! One session against a peer made of bytes.

mod collision;
mod dialing;
mod silence;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::timers::{DIAL_TIMEOUT, OPEN_WAIT};
use super::*;
use crate::types::{AfiSafi, Asn, Kept, RemoteAsn, RouterId};
use crate::wire::{
    Capabilities, CeaseReason, DecodeContext, Framer, GracefulRestart, Open, UnexpectedIn, encode_end_of_rib,
    encode_keepalive, encode_route_refresh,
};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));
const RULES: DialRules =
    DialRules { passive: false, let_peer_dial: false, connect_retry: Duration::from_secs(5) };
const PEER: PeerId = PeerId(1);

fn open(id: u8) -> Open {
    Open {
        asn: Asn(65000),
        hold_time: 9,
        router_id: RouterId(Ipv4Addr::new(10, 0, 0, id)),
        capabilities: Capabilities {
            families: AfiSafi::ALL.to_vec(),
            route_refresh: true,
            four_octet_asn: true,
            ..Capabilities::default()
        },
    }
}

fn with_restart(mut open: Open, restarting: bool, notification: bool) -> Open {
    let families = AfiSafi::ALL.map(|family| (family, true)).to_vec();
    open.capabilities.graceful_restart =
        Some(GracefulRestart { restarting, notification, restart_time: 120, families });
    open
}

/// Ours has identifier 10.0.0.5; the peer's is chosen by each test.
struct Bench {
    session: Session,
    now: Instant,
    counters: Counters,
    ours: Open,
}

impl Bench {
    fn new() -> Self {
        Self::with(RULES)
    }

    fn with(rules: DialRules) -> Self {
        let now = Instant(Duration::from_secs(1000));
        Self {
            session: Session::new(PEER, rules, Jitter::new(1), now),
            now,
            counters: Counters::default(),
            ours: open(5),
        }
    }

    fn graceful() -> Self {
        let mut bench = Self::new();
        bench.ours = with_restart(open(5), false, true);
        bench
    }

    fn act(&mut self, act: impl FnOnce(&mut Session, &mut Turn<'_>)) -> Vec<Action> {
        let mut actions = Vec::new();
        let turn = &mut Turn { now: self.now, actions: &mut actions, counters: &mut self.counters };
        act(&mut self.session, turn);
        actions
    }

    fn tick_after(&mut self, span: Duration) -> Vec<Action> {
        self.now = self.now + span;
        self.act(Session::tick)
    }

    fn connected(&mut self, conn: ConnId) -> Vec<Action> {
        let offer = Offer { open: self.ours.clone(), remote: RemoteAsn::Internal };
        self.act(|session, turn| session.connected(conn, LOCAL, offer, turn))
    }

    fn hears(&mut self, conn: ConnId, bytes: &[u8]) -> Vec<Action> {
        self.act(|session, turn| session.received(conn, bytes, turn))
    }

    fn established(&mut self, conn: ConnId, theirs: &Open) {
        self.connected(conn);
        self.hears(conn, &theirs.encode());
        self.hears(conn, &encode_keepalive());
        let now = self.now;
        self.act(|session, _| session.sent(conn, usize::MAX, now));
        assert_eq!(self.session.kind(), StateKind::Established);
    }
}

fn dialed(actions: &[Action]) -> ConnId {
    match actions {
        [Action::Dial(conn)] => *conn,
        other => panic!("no dial in {other:?}"),
    }
}

/// What was said on a connection.
fn said(actions: &[Action], conn: ConnId) -> Vec<Message> {
    let mut framer = Framer::default();
    for action in actions {
        if let Action::Send(on, bytes) = action
            && *on == conn
        {
            framer.push(bytes);
        }
    }
    let mut messages = Vec::new();
    while let Some(frame) = framer.next_frame().unwrap() {
        messages.push(Message::decode(&frame, &DecodeContext::default()).unwrap());
    }
    messages
}

fn last_word(actions: &[Action], conn: ConnId) -> Notification {
    assert!(actions.contains(&Action::Close(conn)), "not closed: {actions:?}");
    match said(actions, conn).pop() {
        Some(Message::Notification(notification)) => notification,
        other => panic!("last word was {other:?}"),
    }
}

fn down(actions: &[Action]) -> Option<Kept> {
    actions.iter().find_map(|action| match action {
        Action::Down(kept) => Some(*kept),
        _ => None,
    })
}

const ACCEPTED: ConnId = ConnId::Accepted(1);
const ACCEPTED_LATER: ConnId = ConnId::Accepted(2);

#[test]
fn a_dialed_connection_becomes_a_session() {
    let mut bench = Bench::new();
    let conn = dialed(&bench.tick_after(Duration::ZERO));
    assert_eq!(bench.session.kind(), StateKind::Connect);

    assert_eq!(said(&bench.connected(conn), conn), [Message::Open(open(5))]);
    assert_eq!(bench.session.kind(), StateKind::OpenSent);

    assert_eq!(said(&bench.hears(conn, &open(2).encode()), conn), [Message::Keepalive]);
    assert_eq!(bench.session.kind(), StateKind::OpenConfirm);

    let actions = bench.hears(conn, &encode_keepalive());
    assert!(matches!(actions.as_slice(), [Action::Up { local: LOCAL, .. }]), "{actions:?}");
    let Counters { messages_in, messages_out } = bench.counters;
    assert_eq!((messages_in, messages_out), (2, 2));
}

#[test]
fn each_message_counts_however_many_are_sent_at_once() {
    let mut bench = Bench::new();
    bench.established(ACCEPTED, &open(2));
    let before = bench.counters.messages_out;
    let routes = [encode_end_of_rib(AfiSafi::Ipv4Unicast), encode_end_of_rib(AfiSafi::Ipv6Unicast)].concat();
    bench.act(|session, turn| session.send(routes.into(), turn));
    assert_eq!(bench.counters.messages_out - before, 2);
}

#[test]
fn the_terms_are_known_once_both_have_said_open_until_the_end() {
    let mut bench = Bench::new();
    bench.connected(ACCEPTED);
    assert_eq!(bench.session.terms(), None);
    bench.hears(ACCEPTED, &Open { hold_time: 7, ..open(2) }.encode());
    assert_eq!(bench.session.terms().map(|terms| terms.hold_time), Some(7));
    bench.hears(ACCEPTED, &encode_keepalive());
    // Those of the session, not of what comes beside it.
    bench.connected(ACCEPTED_LATER);
    assert_eq!(bench.session.terms().map(|terms| terms.hold_time), Some(7));
    bench.act(|session, turn| session.closed(ACCEPTED, turn));
    assert_eq!(bench.session.terms(), None);
}

#[test]
fn a_session_that_is_abandoned_ends_without_a_word_and_rests() {
    let mut bench = Bench::graceful();
    bench.established(ACCEPTED, &with_restart(open(2), false, true));
    bench.connected(ACCEPTED_LATER);
    let actions = bench.act(|session, turn| session.abandon(&DownReason::Restarting, turn));
    let down = Action::Down(Kept::Nothing);
    assert_eq!(actions, [Action::Abort(ACCEPTED), down, Action::Abort(ACCEPTED_LATER)]);
    assert_eq!(bench.tick_after(Duration::from_secs(1000)), []);
    assert_eq!(bench.session.kind(), StateKind::Idle);
}

#[test]
fn messages_out_of_turn_have_the_subcode_of_their_state() {
    let update = encode_end_of_rib(AfiSafi::Ipv4Unicast);
    let open_sent = |bench: &mut Bench| drop(bench.connected(ACCEPTED));
    let open_confirm = |bench: &mut Bench| {
        bench.connected(ACCEPTED);
        bench.hears(ACCEPTED, &open(2).encode());
    };
    let established = |bench: &mut Bench| bench.established(ACCEPTED, &open(2));
    type Prepare<'a> = &'a dyn Fn(&mut Bench);
    let cases: [(Prepare<'_>, &[u8], UnexpectedIn); 5] = [
        (&open_sent, &update, UnexpectedIn::OpenSent),
        (&open_sent, &encode_keepalive(), UnexpectedIn::OpenSent),
        (&open_confirm, &update, UnexpectedIn::OpenConfirm),
        (&open_confirm, &open(2).encode(), UnexpectedIn::OpenConfirm),
        (&established, &open(2).encode(), UnexpectedIn::Established),
    ];
    for (prepare, bytes, state) in cases {
        let mut bench = Bench::new();
        prepare(&mut bench);
        assert_eq!(last_word(&bench.hears(ACCEPTED, bytes), ACCEPTED), Notification::fsm_error(state));
    }
}

#[test]
fn a_notification_is_not_answered() {
    let mut bench = Bench::new();
    bench.established(ACCEPTED, &open(2));
    let cease = Notification::cease(CeaseReason::AdministrativeReset, None);
    let actions = bench.hears(ACCEPTED, &cease.encode());
    assert_eq!(actions, [Action::Abort(ACCEPTED), Action::Down(Kept::Nothing)]);
    assert!(bench.session.last_down().unwrap().contains("6/4"));
}

#[test]
fn what_outlives_a_session_depends_on_how_it_ended() {
    let cease = Notification::cease(CeaseReason::AdministrativeReset, None);
    let hard = Notification::hard_reset(&cease);
    let collision = Notification::cease(CeaseReason::ConnectionCollision, None);
    for (notification_bit, ending, kept) in [
        (true, None, Kept::Session),
        (false, None, Kept::Session),
        (true, Some(&cease), Kept::Session),
        (false, Some(&cease), Kept::Nothing),
        (true, Some(&hard), Kept::Nothing),
        (true, Some(&collision), Kept::All),
        (false, Some(&collision), Kept::All),
    ] {
        let mut bench = Bench::graceful();
        bench.established(ACCEPTED, &with_restart(open(2), false, notification_bit));
        let actions = match ending {
            None => bench.act(|session, turn| session.closed(ACCEPTED, turn)),
            Some(notification) => bench.hears(ACCEPTED, &notification.encode()),
        };
        assert_eq!(down(&actions), Some(kept), "N {notification_bit}, {ending:?}");
    }
}

#[test]
fn our_stop_is_a_hard_reset_only_where_a_cease_would_not_be_enough() {
    let cease = Notification::cease(CeaseReason::AdministrativeShutdown, Some("bye"));
    for (notification_bit, expected) in [(false, cease.clone()), (true, Notification::hard_reset(&cease))] {
        let mut bench = Bench::graceful();
        bench.established(ACCEPTED, &with_restart(open(2), false, notification_bit));
        let actions = bench.act(|session, turn| session.stop(&cease, true, turn));
        assert_eq!(last_word(&actions, ACCEPTED), expected);
        assert_eq!(bench.session.next_deadline(), None);
        assert_eq!(bench.tick_after(Duration::from_secs(1000)), [], "until it is started");
    }
}

#[test]
fn a_refresh_of_a_family_that_was_not_negotiated_is_ignored() {
    let mut bench = Bench::new();
    let mut theirs = open(2);
    theirs.capabilities.families = vec![AfiSafi::Ipv4Unicast];
    bench.established(ACCEPTED, &theirs);
    assert_eq!(bench.hears(ACCEPTED, &encode_route_refresh(AfiSafi::Ipv6Unicast)), []);
    let refresh = bench.hears(ACCEPTED, &encode_route_refresh(AfiSafi::Ipv4Unicast));
    assert_eq!(refresh, [Action::Refresh(AfiSafi::Ipv4Unicast)]);
}

#[test]
fn late_events_of_a_connection_that_is_gone_are_ignored() {
    let mut bench = Bench::new();
    bench.established(ACCEPTED, &open(2));
    bench.act(|session, turn| session.closed(ACCEPTED, turn));
    assert_eq!(bench.hears(ACCEPTED, &encode_keepalive()), []);
    assert_eq!(bench.act(|session, turn| session.closed(ACCEPTED, turn)), []);
}
