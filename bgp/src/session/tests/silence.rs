//! Peers that say nothing, or read nothing.

use super::*;

#[test]
fn a_silent_peer_is_closed_when_the_hold_timer_expires() {
    let mut bench = Bench::new();
    bench.established(ACCEPTED, &open(2));
    for _ in 0..2 {
        let kept_alive = bench.tick_after(Duration::from_secs(3));
        assert_eq!(said(&kept_alive, ACCEPTED), [Message::Keepalive]);
    }
    let actions = bench.tick_after(Duration::from_secs(3));
    assert_eq!(last_word(&actions, ACCEPTED), Notification::hold_timer_expired());
    assert_eq!(down(&actions), Some(Kept::Nothing));
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
    assert_eq!(ended, Some(Kept::Nothing));
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
    bench.act(|session, turn| session.send(Bytes::from(vec![0; 100]), turn));
    assert_eq!(left(&bench), (Some(100), Some(480)));
    assert_eq!(bench.tick_after(Duration::from_secs(100)), []);
    assert_eq!(left(&bench), (Some(100), Some(380)));
    bench.act(|session, turn| session.sent(ACCEPTED, 1, turn.now));
    assert_eq!(left(&bench), (Some(99), Some(480)));
    bench.act(|session, turn| session.sent(ACCEPTED, 99, turn.now));
    assert_eq!(left(&bench), (Some(0), None));
}

#[test]
fn a_peer_that_never_says_open_is_told_so_after_a_minute() {
    let mut bench = Bench::new();
    bench.connected(ACCEPTED);
    assert_eq!(bench.tick_after(OPEN_WAIT - Duration::from_secs(1)), []);
    let actions = bench.tick_after(Duration::from_secs(1));
    assert_eq!(last_word(&actions, ACCEPTED), Notification::hold_timer_expired());
}

#[test]
fn a_silent_peer_is_dead_even_with_graceful_restart() {
    let mut bench = Bench::graceful();
    bench.established(ACCEPTED, &with_restart(open(2), false, true));
    let actions = bench.tick_after(Duration::from_secs(9));
    let expired = Notification::hold_timer_expired();
    assert_eq!(last_word(&actions, ACCEPTED), Notification::hard_reset(&expired));
    assert_eq!(down(&actions), Some(Kept::Nothing));
}
