//! When a peer is dialed, when again, and when it is left alone.

use super::*;

#[test]
fn a_passive_session_never_dials() {
    let mut bench = Bench::with(DialRules { passive: true, ..RULES });
    assert_eq!(bench.session.next_deadline(), None);
    bench.established(ACCEPTED, &open(2));
    bench.act(|session, turn| session.closed(ACCEPTED, turn));
    assert_eq!(bench.session.kind(), StateKind::Active);
    assert_eq!(bench.session.next_deadline(), None);
}

#[test]
fn a_peer_that_is_to_dial_first_is_dialed_when_it_does_not() {
    let mut bench = Bench::with(DialRules { let_peer_dial: true, ..RULES });
    assert_eq!(bench.tick_after(Duration::from_millis(1900)), []);
    bench.established(ACCEPTED, &open(2));

    // Lost, and it does not come back: something is between it and us.
    bench.act(|session, turn| session.closed(ACCEPTED, turn));
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
    assert_eq!(bench.tick_after(Duration::from_secs(1)), [Action::Abort(conn)]);
    // When it succeeds after all, nobody wants it: not while we wait, and not beside the next.
    assert_eq!(bench.connected(conn), [Action::Abort(conn)]);
    let next = dialed(&bench.tick_after(RULES.connect_retry));
    assert_eq!(bench.connected(conn), [Action::Abort(conn)]);
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
            bench.act(|session, turn| session.closed(conn, turn));
        }
        assert_eq!(bench.session.kind(), StateKind::Active, "after {attempt}");
    }
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
fn a_peer_that_flaps_is_left_alone_and_refused_meanwhile() {
    let mut bench = Bench::new();
    let cease = Notification::cease(CeaseReason::AdministrativeReset, None).encode();
    for attempt in 1..=4 {
        let conn = ConnId::Accepted(attempt);
        bench.established(conn, &open(2));
        bench.hears(conn, &cease);
    }
    assert_eq!(bench.session.kind(), StateKind::Idle);
    assert_eq!(bench.connected(ConnId::Accepted(9)), [Action::Abort(ConnId::Accepted(9))]);
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
    let actions = bench.hears(ACCEPTED, &[0; 19]);
    assert!(actions.contains(&Action::Abort(dial)));
    assert_eq!(bench.session.kind(), StateKind::Idle);
    assert_eq!(bench.connected(ConnId::Accepted(9)), [Action::Abort(ConnId::Accepted(9))]);
    dialed(&bench.tick_after(RULES.connect_retry));
}

#[test]
fn after_a_link_was_down_the_peer_is_tried_often_for_a_while() {
    let rules = DialRules { connect_retry: Duration::from_secs(60), ..RULES };
    let mut bench = Bench::with(rules);
    bench.established(ACCEPTED, &open(2));
    let actions = bench.act(Session::unreachable);
    assert_eq!(actions, [Action::Abort(ACCEPTED), Action::Down(Kept::Nothing)]);

    let second = Duration::from_secs(1);
    // A dial that fails at once, one that hangs, and one that the link's next failure finds under way.
    let failing = dialed(&bench.tick_after(second));
    let now = bench.now;
    bench.act(|session, _| session.dial_failed(failing, "no route".to_owned(), now));
    let hanging = dialed(&bench.tick_after(second));
    assert_eq!(bench.tick_after(2 * second), [Action::Abort(hanging)]);
    let cut = dialed(&bench.tick_after(second));
    assert_eq!(bench.act(Session::unreachable), [Action::Abort(cut)]);
    let late = dialed(&bench.tick_after(second));

    bench.act(|session, turn| session.dial_failed(late, "no route".to_owned(), turn.now));
    bench.act(Session::unreachable);
    bench.now = bench.now + EAGER;
    let over = dialed(&bench.tick_after(Duration::ZERO));
    assert_eq!(bench.session.next_deadline().map(|at| at.since(bench.now)), Some(DIAL_TIMEOUT));
    bench.act(|session, turn| session.dial_failed(over, "no route".to_owned(), turn.now));
    let wait = bench.session.next_deadline().unwrap().since(bench.now);
    assert!(wait >= Duration::from_secs(45), "not for ever: {wait:?}");
}
