//! More than one connection (RFC 4271 §6.8), and a peer that has restarted unnoticed.

use super::*;

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
            let actions = bench.hears(second, &open(id).encode());

            let (kept, lost) = if keeps_dialed { (dialed, ACCEPTED) } else { (ACCEPTED, dialed) };
            let cease = Notification::cease(CeaseReason::ConnectionCollision, None);
            assert_eq!(last_word(&actions, lost), cease, "identifier {id}, dialed first: {dialed_first}");
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
    let actions = bench.connected(ACCEPTED_LATER);
    assert_eq!(actions[0], Action::Abort(ACCEPTED));
    assert_eq!(said(&actions, ACCEPTED_LATER), [Message::Open(open(5))]);
    // Not ours, and not one on which it has spoken.
    bench.hears(ACCEPTED_LATER, &open(9).encode());
    let actions = bench.connected(ConnId::Accepted(3));
    assert!(!actions.iter().any(|action| matches!(action, Action::Abort(_))), "{actions:?}");
}

#[test]
fn a_second_connection_does_not_disturb_a_session() {
    let mut bench = Bench::new();
    bench.established(ACCEPTED, &open(9));
    // Not a word before the peer's OPEN, by which it could judge otherwise than we do.
    assert_eq!(bench.connected(ACCEPTED_LATER), []);
    let actions = bench.hears(ACCEPTED_LATER, &open(9).encode());
    assert_eq!(
        last_word(&actions, ACCEPTED_LATER),
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
    assert_eq!(bench.tick_after(Duration::from_secs(1)), [Action::Abort(ACCEPTED_LATER)]);
    assert_eq!(bench.session.kind(), StateKind::Established);
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
    bench.act(|session, turn| session.closed(ACCEPTED, turn));
    assert_eq!(bench.session.kind(), StateKind::Active);
}

#[test]
fn a_peer_that_restarted_unnoticed_replaces_its_session_and_keeps_its_routes() {
    let mut bench = Bench::graceful();
    bench.established(ACCEPTED, &with_restart(open(2), false, true));
    bench.connected(ACCEPTED_LATER);
    let actions = bench.hears(ACCEPTED_LATER, &with_restart(open(2), true, true).encode());
    assert!(actions.starts_with(&[Action::Abort(ACCEPTED), Action::Down(Kept::Session)]));
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
        let actions = bench.hears(ACCEPTED_LATER, &theirs.encode());
        assert_eq!(actions.contains(&Action::Abort(ACCEPTED)), replaced, "after {age:?}");
        assert_eq!(actions.contains(&Action::Close(ACCEPTED_LATER)), !replaced, "after {age:?}");
    }
}
