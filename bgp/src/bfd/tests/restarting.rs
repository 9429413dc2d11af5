//! What is left to the next process, and what the peer sees of it.

use super::*;

/// A session that is up, left at `left` and gone on with at `back`.
fn resumed(mut end: End, back: u64) -> End {
    end.handle(0, Input::Lengthen(ms(10_000)));
    end.hear(1, Packet { is_final: true, ..from_peer(State::Up) });
    let left = end.session.resumable().expect("it is up");
    // Through a file.
    let left: Resumable = serde_json::from_str(&serde_json::to_string(&left).unwrap()).unwrap();
    let session = Session::resume(left, FAST, 9, at(back));
    End { session, sent: Vec::new(), changes: Vec::new() }
}

#[test]
fn the_next_process_speaks_as_the_last_one() {
    let mut end = resumed(End::up(FAST), 2000);
    end.tick(2000);
    let [packet] = &end.sent[..] else { panic!("{:?}", end.sent) };
    assert_eq!((packet.state, packet.my_discriminator), (State::Up, discriminator(OURS)));
    assert_eq!(packet.your_discriminator, Some(discriminator(THEIRS)));
    assert!(packet.poll && packet.desired_min_tx == ms(300), "the peer is asked for what it had");
    end.hear(2001, Packet { is_final: true, ..from_peer(State::Up) });
    assert!(end.session.is_agreed() && end.changes.is_empty());
    assert_eq!(end.session.patience(), Some(ms(900)));
}

#[test]
fn the_next_process_speaks_at_once_when_nothing_is_to_be_asked_for() {
    let left = End::up(FAST).session.resumable().unwrap();
    let session = Session::resume(left, FAST, 9, at(500));
    let mut end = End { session, sent: Vec::new(), changes: Vec::new() };
    end.tick(500);
    assert_eq!(end.sent.len(), 1);
}

#[test]
fn a_peer_that_has_given_us_up_meanwhile_is_no_failure() {
    let mut end = resumed(End::up(FAST), 2000);
    end.hear(2001, from_peer(State::Down));
    assert_eq!(end.session.state(), State::Down);
    assert!(end.changes.iter().all(|change| change.failure.is_none()), "{:?}", end.changes);
    let mut silent = resumed(End::up(FAST), 2000);
    silent.tick(2900);
    assert!(silent.session.state() == State::Down && silent.changes[0].failure.is_none());
    // But when it was heard, its silence means what it did.
    let mut heard = resumed(End::up(FAST), 2000);
    heard.hear(2001, from_peer(State::Up));
    heard.tick(2901);
    assert!(heard.changes[0].failure.is_some());
}

#[test]
fn only_what_is_up_at_both_ends_is_left() {
    let mut end = End::new(FAST);
    assert_eq!(end.session.resumable(), None);
    end.hear(0, from_peer(State::Down));
    assert_eq!(end.session.resumable(), None);
    end.hear(1, from_peer(State::Init));
    assert_eq!((end.session.state(), end.session.resumable()), (State::Up, None), "the peer is not up yet");
    end.hear(2, from_peer(State::Up));
    assert!(end.session.resumable().is_some());
}

#[test]
fn a_peer_waits_for_its_detection_time_and_no_longer() {
    let left = End::up(FAST).session.resumable().unwrap();
    assert!(left.is_awaited(ms(899)) && !left.is_awaited(ms(900)));
}

/// As gobgp#3562-3564 were found: at the seams. A process that was killed has said nothing.
#[test]
fn a_process_that_was_killed_is_taken_for_what_it_is_by_the_peer() {
    let mut peer = End::up(FAST);
    let mut after = Session::new(discriminator(99), FAST, 3, at(100));
    let mut outputs = Vec::new();
    after.handle(at(100), Input::Tick, &mut outputs);
    let Some(Output::Send(first)) = outputs.pop() else { panic!("it is silent") };
    assert_eq!((first.state, first.your_discriminator), (State::Down, None), "to whoever it may be");
    peer.hear(101, first);
    assert!(peer.changes[0].failure.is_some(), "it has lost its session");
    assert_eq!(peer.sent[0].your_discriminator, Some(discriminator(99)));
}
