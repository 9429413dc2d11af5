//! One session against a peer made of bytes.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::timers::DIAL_TIMEOUT;
use super::*;
use crate::speaker::RemoteAsn;
use crate::types::{AfiSafi, Asn, RouterId};
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
    ours: Open,
}

impl Bench {
    fn new() -> Self {
        Self::with(RULES)
    }

    fn with(rules: DialRules) -> Self {
        let now = Instant(Duration::from_secs(1000));
        Self { session: Session::new(PEER, rules, Jitter::new(1), now), now, ours: open(5) }
    }

    fn graceful() -> Self {
        let mut bench = Self::new();
        bench.ours = with_restart(open(5), false, true);
        bench
    }

    fn act(&mut self, act: impl FnOnce(&mut Session, &mut super::Step<'_>)) -> Vec<Effect> {
        let mut effects = Vec::new();
        act(&mut self.session, &mut super::Step { now: self.now, effects: &mut effects });
        effects
    }

    fn tick_after(&mut self, span: Duration) -> Vec<Effect> {
        self.now = self.now + span;
        self.act(Session::tick)
    }

    fn connected(&mut self, conn: ConnId) -> Vec<Effect> {
        let offer = Offer { open: self.ours.clone(), remote: RemoteAsn::Internal };
        self.act(|session, step| session.connected(conn, LOCAL, offer, step))
    }

    fn hears(&mut self, conn: ConnId, bytes: &[u8]) -> Vec<Effect> {
        self.act(|session, step| session.received(conn, bytes, step))
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

fn dialed(effects: &[Effect]) -> ConnId {
    match effects {
        [Effect::Dial(conn)] => *conn,
        other => panic!("no dial in {other:?}"),
    }
}

/// What was said on a connection.
fn said(effects: &[Effect], conn: ConnId) -> Vec<Message> {
    let mut framer = Framer::default();
    for effect in effects {
        if let Effect::Send(on, bytes) = effect
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

fn last_word(effects: &[Effect], conn: ConnId) -> Notification {
    assert!(effects.contains(&Effect::Close(conn)), "not closed: {effects:?}");
    match said(effects, conn).pop() {
        Some(Message::Notification(notification)) => notification,
        other => panic!("last word was {other:?}"),
    }
}

fn down(effects: &[Effect]) -> Option<bool> {
    effects.iter().find_map(|effect| match effect {
        Effect::Down { graceful } => Some(*graceful),
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

    let effects = bench.hears(conn, &encode_keepalive());
    assert!(matches!(effects.as_slice(), [Effect::Up { local: LOCAL, .. }]), "{effects:?}");
    let Counters { messages_in, messages_out } = bench.session.counters();
    assert_eq!((messages_in, messages_out), (2, 2));
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
    bench.act(|session, step| session.closed(ACCEPTED, step));
    assert_eq!(bench.session.terms(), None);
}

#[test]
fn a_passive_session_never_dials() {
    let mut bench = Bench::with(DialRules { passive: true, ..RULES });
    assert_eq!(bench.session.next_deadline(), None);
    bench.established(ACCEPTED, &open(2));
    bench.act(|session, step| session.closed(ACCEPTED, step));
    assert_eq!(bench.session.kind(), StateKind::Active);
    assert_eq!(bench.session.next_deadline(), None);
}

#[test]
fn a_peer_that_is_to_dial_first_is_dialed_when_it_does_not() {
    let mut bench = Bench::with(DialRules { let_peer_dial: true, ..RULES });
    assert_eq!(bench.tick_after(Duration::from_millis(1900)), []);
    bench.established(ACCEPTED, &open(2));

    // Lost, and it does not come back: something is between it and us.
    bench.act(|session, step| session.closed(ACCEPTED, step));
    assert_eq!(bench.tick_after(Duration::from_secs(2)), []);
    let conn = dialed(&bench.tick_after(Duration::from_secs(1)));
    bench.established(conn, &open(2));
}

#[test]
fn a_dial_that_fails_is_tried_again_within_the_retry_time() {
    let mut bench = Bench::new();
    let first = dialed(&bench.tick_after(Duration::ZERO));
    let now = bench.now;
    bench.act(|session, _| session.dial_failed(first, "refused".to_owned(), now));
    assert_eq!(bench.session.kind(), StateKind::Active);

    let again = dialed(&bench.tick_after(RULES.connect_retry));
    assert_ne!(first, again);
}

#[test]
fn a_dial_that_hangs_is_given_up() {
    let mut bench = Bench::new();
    let conn = dialed(&bench.tick_after(Duration::ZERO));
    assert_eq!(bench.tick_after(Duration::from_secs(9)), []);
    assert_eq!(bench.tick_after(Duration::from_secs(1)), [Effect::Abort(conn)]);
    // When it succeeds after all, nobody wants it: not while we wait, and not beside the next.
    assert_eq!(bench.connected(conn), [Effect::Abort(conn)]);
    let next = dialed(&bench.tick_after(RULES.connect_retry));
    assert_eq!(bench.connected(conn), [Effect::Abort(conn)]);
    let now = bench.now;
    bench.act(|session, _| session.dial_failed(conn, "refused".to_owned(), now));
    assert_eq!(bench.session.kind(), StateKind::Connect);
    assert_eq!(said(&bench.connected(next), next), [Message::Open(open(5))]);
}

#[test]
fn new_rules_count_from_the_next_attempt() {
    let mut bench = Bench::new();
    let conn = dialed(&bench.tick_after(Duration::ZERO));
    let now = bench.now;
    bench.act(|session, _| {
        session.set_rules(DialRules { connect_retry: Duration::from_secs(60), ..RULES });
        session.dial_failed(conn, "refused".to_owned(), now);
    });
    assert_eq!(bench.tick_after(Duration::from_secs(44)), []);
    dialed(&bench.tick_after(Duration::from_secs(16)));
}

#[test]
fn neither_a_link_that_goes_nor_a_connection_that_says_nothing_is_held_against_a_peer() {
    let mut bench = Bench::new();
    for attempt in 0..20 {
        let conn = ConnId::Accepted(attempt);
        if attempt % 2 == 0 {
            bench.established(conn, &open(2));
            bench.act(Session::unreachable);
        } else {
            bench.connected(conn);
            bench.act(|session, step| session.closed(conn, step));
        }
        assert_eq!(bench.session.kind(), StateKind::Active, "after {attempt}");
    }
}

#[test]
fn a_session_that_is_abandoned_ends_without_a_word_and_rests() {
    let mut bench = Bench::graceful();
    bench.established(ACCEPTED, &with_restart(open(2), false, true));
    bench.connected(ACCEPTED_LATER);
    let effects = bench.act(|session, step| session.abandon(&DownReason::Restarting, step));
    let down = Effect::Down { graceful: false };
    assert_eq!(effects, [Effect::Abort(ACCEPTED), down, Effect::Abort(ACCEPTED_LATER)]);
    assert_eq!(bench.tick_after(Duration::from_secs(1000)), []);
    assert_eq!(bench.session.kind(), StateKind::Idle);
}

#[test]
fn a_silent_peer_is_closed_when_the_hold_timer_expires() {
    let mut bench = Bench::new();
    bench.established(ACCEPTED, &open(2));
    for _ in 0..2 {
        let kept_alive = bench.tick_after(Duration::from_secs(3));
        assert_eq!(said(&kept_alive, ACCEPTED), [Message::Keepalive]);
    }
    let effects = bench.tick_after(Duration::from_secs(3));
    assert_eq!(last_word(&effects, ACCEPTED), Notification::hold_timer_expired());
    assert_eq!(down(&effects), Some(false));
}

#[test]
fn without_a_hold_time_nothing_expires() {
    let mut bench = Bench::new();
    bench.ours.hold_time = 0;
    bench.established(ACCEPTED, &open(2));
    assert_eq!(bench.tick_after(Duration::from_secs(100_000)), []);
    assert_eq!(bench.session.kind(), StateKind::Established);
    // TCP has taken all we said, so there is nothing that the peer would have to read either.
    assert_eq!((bench.session.unsent(), bench.session.next_deadline()), (Some(0), None));
}

#[test]
fn a_peer_that_never_reads_is_cut_off_without_a_word() {
    let mut bench = Bench::graceful();
    bench.established(ACCEPTED, &with_restart(open(2), false, true));
    // RFC 9687: it is alive and talks to us, but takes nothing.
    let mut ended = None;
    for _ in 0..=(8 * 60 / 3) {
        bench.hears(ACCEPTED, &encode_keepalive());
        ended = ended.or(down(&bench.tick_after(Duration::from_secs(3))));
    }
    // Nor would it use what we tell it: its routes do not outlive the session.
    assert_eq!(ended, Some(false));
    assert!(bench.session.last_down().unwrap().contains("send hold timer"));
}

#[test]
fn a_peer_that_reads_a_little_is_kept() {
    let mut bench = Bench::new();
    bench.established(ACCEPTED, &open(2));
    for _ in 0..(20 * 60 / 3) {
        bench.hears(ACCEPTED, &encode_keepalive());
        let now = bench.now;
        bench.act(|session, _| session.sent(ACCEPTED, 1, now));
        bench.tick_after(Duration::from_secs(3));
    }
    assert_eq!(bench.session.kind(), StateKind::Established);
}

#[test]
fn what_a_peer_takes_gives_it_eight_minutes_for_the_rest() {
    let mut bench = Bench::new();
    bench.ours.hold_time = 0;
    bench.established(ACCEPTED, &open(2));
    let left = |bench: &Bench| {
        let until = bench.session.next_deadline().map(|at| at.since(bench.now).as_secs());
        (bench.session.unsent(), until)
    };
    bench.act(|session, step| session.send(Bytes::from(vec![0; 100]), step));
    assert_eq!(left(&bench), (Some(100), Some(480)));
    assert_eq!(bench.tick_after(Duration::from_secs(100)), []);
    assert_eq!(left(&bench), (Some(100), Some(380)));
    bench.act(|session, step| session.sent(ACCEPTED, 1, step.now));
    assert_eq!(left(&bench), (Some(99), Some(480)));
    bench.act(|session, step| session.sent(ACCEPTED, 99, step.now));
    assert_eq!(left(&bench), (Some(0), None));
}

#[test]
fn a_peer_that_has_come_to_us_is_not_dialed() {
    let mut bench = Bench::new();
    bench.connected(ACCEPTED);
    assert_eq!(bench.tick_after(Duration::ZERO), []);
    assert_eq!(bench.session.kind(), StateKind::OpenSent);
}

#[test]
fn time_spent_up_is_forgiven_however_much_was_said_in_it() {
    let mut bench = Bench::new();
    let cease = Notification::cease(CeaseReason::AdministrativeReset, None).encode();
    for attempt in 1..=4 {
        let conn = ConnId::Accepted(attempt);
        bench.established(conn, &open(2));
        if attempt == 4 {
            for _ in 0..100 {
                bench.now = bench.now + Duration::from_secs(3);
                bench.hears(conn, &encode_keepalive());
            }
        }
        bench.hears(conn, &cease);
    }
    assert_eq!(bench.session.kind(), StateKind::Active);
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
    let effects = bench.hears(ACCEPTED, &cease.encode());
    assert_eq!(effects, [Effect::Abort(ACCEPTED), Effect::Down { graceful: false }]);
    assert!(bench.session.last_down().unwrap().contains("6/4"));
}

#[test]
fn of_two_connections_both_ends_keep_the_one_dialed_by_the_greater_identifier() {
    for (id, keeps_dialed) in [(2, true), (9, false)] {
        for dialed_first in [true, false] {
            let mut bench = Bench::new();
            let dialed = dialed(&bench.tick_after(Duration::ZERO));
            bench.connected(dialed);
            bench.connected(ACCEPTED);
            let (first, second) = if dialed_first { (dialed, ACCEPTED) } else { (ACCEPTED, dialed) };
            bench.hears(first, &open(id).encode());
            let effects = bench.hears(second, &open(id).encode());

            let (kept, lost) = if keeps_dialed { (dialed, ACCEPTED) } else { (ACCEPTED, dialed) };
            let cease = Notification::cease(CeaseReason::ConnectionCollision, None);
            assert_eq!(last_word(&effects, lost), cease, "identifier {id}, dialed first: {dialed_first}");
            assert_eq!(bench.session.last_down(), None, "nothing went down");
            bench.hears(kept, &encode_keepalive());
            assert_eq!(bench.session.kind(), StateKind::Established);
        }
    }
}

#[test]
fn a_peer_that_connects_anew_has_given_up_the_connection_on_which_it_said_nothing() {
    let mut bench = Bench::new();
    let dialed = dialed(&bench.tick_after(Duration::ZERO));
    bench.connected(dialed);
    bench.connected(ACCEPTED);
    let effects = bench.connected(ACCEPTED_LATER);
    assert_eq!(effects[0], Effect::Abort(ACCEPTED));
    assert_eq!(said(&effects, ACCEPTED_LATER), [Message::Open(open(5))]);
    // Not ours, and not one on which it has spoken.
    bench.hears(ACCEPTED_LATER, &open(9).encode());
    let effects = bench.connected(ConnId::Accepted(3));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Abort(_))), "{effects:?}");
}

#[test]
fn a_second_connection_does_not_disturb_a_session() {
    let mut bench = Bench::new();
    bench.established(ACCEPTED, &open(9));
    // Not a word before the peer's OPEN, by which it could judge otherwise than we do.
    assert_eq!(bench.connected(ACCEPTED_LATER), []);
    let effects = bench.hears(ACCEPTED_LATER, &open(9).encode());
    assert_eq!(
        last_word(&effects, ACCEPTED_LATER),
        Notification::cease(CeaseReason::ConnectionCollision, None)
    );
    assert_eq!(bench.session.kind(), StateKind::Established);
}

#[test]
fn a_second_connection_that_stays_silent_is_closed_without_a_word_after_a_minute() {
    let mut bench = Bench::new();
    bench.ours.hold_time = 0;
    bench.established(ACCEPTED, &open(9));
    bench.connected(ACCEPTED_LATER);
    assert_eq!(bench.session.next_deadline().map(|at| at.since(bench.now)), Some(OPEN_WAIT));
    assert_eq!(bench.tick_after(OPEN_WAIT - Duration::from_secs(1)), []);
    assert_eq!(bench.tick_after(Duration::from_secs(1)), [Effect::Abort(ACCEPTED_LATER)]);
    assert_eq!(bench.session.kind(), StateKind::Established);
}

#[test]
fn a_peer_that_never_says_open_is_told_so_after_a_minute() {
    let mut bench = Bench::new();
    bench.connected(ACCEPTED);
    assert_eq!(bench.tick_after(OPEN_WAIT - Duration::from_secs(1)), []);
    let effects = bench.tick_after(Duration::from_secs(1));
    assert_eq!(last_word(&effects, ACCEPTED), Notification::hold_timer_expired());
}

#[test]
fn a_second_connection_that_fails_is_no_error_of_the_session() {
    let mut bench = Bench::new();
    bench.established(ACCEPTED, &open(9));
    for attempt in 2..9 {
        let conn = ConnId::Accepted(attempt);
        bench.connected(conn);
        // Not an OPEN.
        last_word(&bench.hears(conn, &encode_keepalive()), conn);
    }
    assert_eq!(bench.session.last_down(), None);
    // Nor did it flap.
    bench.act(|session, step| session.closed(ACCEPTED, step));
    assert_eq!(bench.session.kind(), StateKind::Active);
}

#[test]
fn a_peer_that_restarted_unnoticed_replaces_its_session_and_keeps_its_routes() {
    let mut bench = Bench::graceful();
    bench.established(ACCEPTED, &with_restart(open(2), false, true));
    bench.connected(ACCEPTED_LATER);
    let effects = bench.hears(ACCEPTED_LATER, &with_restart(open(2), true, true).encode());
    assert!(effects.starts_with(&[Effect::Abort(ACCEPTED), Effect::Down { graceful: true }]));
    bench.hears(ACCEPTED_LATER, &encode_keepalive());
    assert_eq!(bench.session.kind(), StateKind::Established);
}

#[test]
fn a_second_connection_of_a_race_of_dials_is_not_a_restart() {
    let (race_tail, before) = (Duration::from_secs(15), Duration::from_secs(1));
    let theirs = with_restart(open(2), false, true);
    for (age, replaced) in [(before, false), (race_tail, false), (race_tail + before, true)] {
        let mut bench = Bench::graceful();
        bench.ours.hold_time = 90;
        bench.established(ACCEPTED, &Open { hold_time: 90, ..theirs.clone() });
        bench.now = bench.now + age;
        bench.connected(ACCEPTED_LATER);
        let effects = bench.hears(ACCEPTED_LATER, &theirs.encode());
        assert_eq!(effects.contains(&Effect::Abort(ACCEPTED)), replaced, "after {age:?}");
        assert_eq!(effects.contains(&Effect::Close(ACCEPTED_LATER)), !replaced, "after {age:?}");
    }
}

#[test]
fn what_outlives_a_session_depends_on_how_it_ended() {
    let cease = Notification::cease(CeaseReason::AdministrativeReset, None);
    let hard = Notification::hard_reset(&cease);
    for (notification_bit, ending, graceful) in [
        (true, None, true),
        (false, None, true),
        (true, Some(&cease), true),
        (false, Some(&cease), false),
        (true, Some(&hard), false),
    ] {
        let mut bench = Bench::graceful();
        bench.established(ACCEPTED, &with_restart(open(2), false, notification_bit));
        let effects = match ending {
            None => bench.act(|session, step| session.closed(ACCEPTED, step)),
            Some(notification) => bench.hears(ACCEPTED, &notification.encode()),
        };
        assert_eq!(down(&effects), Some(graceful), "N {notification_bit}, {ending:?}");
    }
}

#[test]
fn our_stop_is_a_hard_reset_only_where_a_cease_would_not_be_enough() {
    let cease = Notification::cease(CeaseReason::AdministrativeShutdown, Some("bye"));
    for (notification_bit, expected) in [(false, cease.clone()), (true, Notification::hard_reset(&cease))] {
        let mut bench = Bench::graceful();
        bench.established(ACCEPTED, &with_restart(open(2), false, notification_bit));
        let effects = bench.act(|session, step| session.stop(&cease, true, step));
        assert_eq!(last_word(&effects, ACCEPTED), expected);
        assert_eq!(bench.session.next_deadline(), None);
        assert_eq!(bench.tick_after(Duration::from_secs(1000)), [], "until it is started");
    }
}

#[test]
fn a_silent_peer_is_dead_even_with_graceful_restart() {
    let mut bench = Bench::graceful();
    bench.established(ACCEPTED, &with_restart(open(2), false, true));
    let effects = bench.tick_after(Duration::from_secs(9));
    let expired = Notification::hold_timer_expired();
    assert_eq!(last_word(&effects, ACCEPTED), Notification::hard_reset(&expired));
    assert_eq!(down(&effects), Some(false));
}

#[test]
fn a_refresh_of_a_family_that_was_not_negotiated_is_ignored() {
    let mut bench = Bench::new();
    let mut theirs = open(2);
    theirs.capabilities.families = vec![AfiSafi::Ipv4Unicast];
    bench.established(ACCEPTED, &theirs);
    assert_eq!(bench.hears(ACCEPTED, &encode_route_refresh(AfiSafi::Ipv6Unicast)), []);
    let refresh = bench.hears(ACCEPTED, &encode_route_refresh(AfiSafi::Ipv4Unicast));
    assert_eq!(refresh, [Effect::Refresh(AfiSafi::Ipv4Unicast)]);
}

#[test]
fn a_peer_that_flaps_is_left_alone_and_refused_meanwhile() {
    let mut bench = Bench::new();
    let cease = Notification::cease(CeaseReason::AdministrativeReset, None).encode();
    for attempt in 1..=4 {
        let conn = ConnId::Accepted(attempt);
        bench.established(conn, &open(2));
        bench.hears(conn, &cease);
    }
    assert_eq!(bench.session.kind(), StateKind::Idle);
    assert_eq!(bench.connected(ConnId::Accepted(9)), [Effect::Abort(ConnId::Accepted(9))]);
    dialed(&bench.tick_after(RULES.connect_retry));
}

#[test]
fn a_peer_that_breaks_every_connection_is_left_alone_before_it_was_ever_up() {
    let mut bench = Bench::new();
    let dial = dialed(&bench.tick_after(Duration::ZERO));
    for attempt in 1..=3 {
        let conn = ConnId::Accepted(attempt);
        bench.connected(conn);
        last_word(&bench.hears(conn, &[0; 19]), conn);
        assert_eq!(bench.session.kind(), StateKind::Connect);
    }
    bench.connected(ACCEPTED);
    let effects = bench.hears(ACCEPTED, &[0; 19]);
    assert!(effects.contains(&Effect::Abort(dial)));
    assert_eq!(bench.session.kind(), StateKind::Idle);
    assert_eq!(bench.connected(ConnId::Accepted(9)), [Effect::Abort(ConnId::Accepted(9))]);
    dialed(&bench.tick_after(RULES.connect_retry));
}

#[test]
fn after_a_link_was_down_the_peer_is_tried_often_for_a_while() {
    let rules = DialRules { connect_retry: Duration::from_secs(60), ..RULES };
    let mut bench = Bench::with(rules);
    bench.established(ACCEPTED, &open(2));
    let effects = bench.act(Session::unreachable);
    assert_eq!(effects, [Effect::Abort(ACCEPTED), Effect::Down { graceful: false }]);

    let second = Duration::from_secs(1);
    // A dial that fails at once, one that hangs, and one that the link's next failure finds under way.
    let failing = dialed(&bench.tick_after(second));
    let now = bench.now;
    bench.act(|session, _| session.dial_failed(failing, "no route".to_owned(), now));
    let hanging = dialed(&bench.tick_after(second));
    assert_eq!(bench.tick_after(2 * second), [Effect::Abort(hanging)]);
    let cut = dialed(&bench.tick_after(second));
    assert_eq!(bench.act(Session::unreachable), [Effect::Abort(cut)]);
    let late = dialed(&bench.tick_after(second));

    bench.act(|session, step| session.dial_failed(late, "no route".to_owned(), step.now));
    bench.act(Session::unreachable);
    bench.now = bench.now + EAGER;
    let over = dialed(&bench.tick_after(Duration::ZERO));
    assert_eq!(bench.session.next_deadline().map(|at| at.since(bench.now)), Some(DIAL_TIMEOUT));
    bench.act(|session, step| session.dial_failed(over, "no route".to_owned(), step.now));
    let wait = bench.session.next_deadline().unwrap().since(bench.now);
    assert!(wait >= Duration::from_secs(45), "not for ever: {wait:?}");
}

#[test]
fn late_events_of_a_connection_that_is_gone_are_ignored() {
    let mut bench = Bench::new();
    bench.established(ACCEPTED, &open(2));
    bench.act(|session, step| session.closed(ACCEPTED, step));
    assert_eq!(bench.hears(ACCEPTED, &encode_keepalive()), []);
    assert_eq!(bench.act(|session, step| session.closed(ACCEPTED, step)), []);
}
