//! Intervals, jitter, detection times and Poll Sequences (RFC 5880 §6.5, §6.8.2-6.8.4, §6.8.7).

use super::*;

fn spans(times: &[u64]) -> Vec<u64> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

fn within(spans: &[u64], least: u64, most: u64) {
    assert!(spans.iter().all(|span| (least..=most).contains(span)), "{least}-{most}: {spans:?}");
}

/// GoBGP sent on a fixed period (gobgp#3562).
#[test]
fn no_two_packets_are_a_whole_interval_apart_by_rule() {
    let mut end = End::up(FAST);
    let spans = spans(&end.sends(1, 200, &from_peer(State::Up)));
    within(&spans, 225, 301);
    let (least, most) = (spans.iter().min().unwrap(), spans.iter().max().unwrap());
    assert!(*least < 240 && *most > 285, "{least}-{most}");
}

#[test]
fn with_a_multiplier_of_one_a_packet_comes_before_the_peer_gives_up() {
    let mut end = End::up(Terms { detect_multiplier: 1, ..FAST });
    let spans = spans(&end.sends(1, 200, &from_peer(State::Up)));
    within(&spans, 225, 271);
    assert!(*spans.iter().max().unwrap() > 260);
}

/// GoBGP sent at its own interval whatever the peer bore (gobgp#3563).
#[test]
fn a_peer_that_wants_fewer_packets_gets_fewer() {
    let mut end = End::up(FAST);
    let slow = Packet { required_min_rx: ms(1000), ..from_peer(State::Up) };
    end.hear(1, slow.clone());
    let times = end.sends(1, 20, &slow);
    within(&spans(&times), 750, 1001);
    // And more again, counted from the last packet.
    let last = times[19];
    end.hear(last + 1, from_peer(State::Up));
    within(&[end.sends(last + 1, 1, &from_peer(State::Up))[0] - last], 225, 301);
}

/// GoBGP sent at full rate to peers that were not there (gobgp#3564).
#[test]
fn whoever_is_not_up_sends_once_a_second_and_says_so() {
    let mut down = End::new(FAST);
    let silent = Packet { your_discriminator: None, ..from_peer(State::AdminDown) };
    let times = down.sends(0, 20, &silent);
    within(&spans(&times), 750, 1001);
    assert!(down.sent.is_empty() || down.sent[0].desired_min_tx == ms(1000));

    let mut fallen = End::up(FAST);
    fallen.tick(900);
    assert_eq!(fallen.sent[0].desired_min_tx, ms(1000));
    within(&spans(&fallen.sends(901, 20, &silent)), 750, 1001);
    assert_eq!(fallen.sent[0].required_min_rx, ms(300));
}

#[test]
fn an_interval_above_a_second_is_kept_while_down() {
    let mut end = End::new(Terms { interval: ms(5000), detect_multiplier: 3 });
    end.tick(0);
    assert_eq!(end.sent[0].desired_min_tx, ms(5000));
}

#[test]
fn the_peer_is_given_up_by_its_multiplier_and_the_slower_of_both() {
    for (multiplier, tx, expected) in
        [(3, 300, 900), (5, 300, 1500), (3, 100, 900), (3, 1000, 3000), (1, 300, 300)]
    {
        let mut end = End::up(FAST);
        end.hear(0, Packet { detect_multiplier: multiplier, desired_min_tx: ms(tx), ..from_peer(State::Up) });
        assert_eq!(end.session.detection_time(), Some(ms(expected)), "{multiplier} x {tx}");
        end.tick(expected - 1);
        assert_eq!(end.session.state(), State::Up);
        end.tick(expected);
        assert_eq!(end.session.state(), State::Down);
    }
}

#[test]
fn the_peers_patience_is_by_our_multiplier() {
    let mut end = End::up(Terms { detect_multiplier: 5, ..FAST });
    assert_eq!(end.session.patience(), Some(ms(1500)));
    end.hear(0, Packet { required_min_rx: ms(1000), detect_multiplier: 9, ..from_peer(State::Up) });
    assert_eq!(end.session.patience(), Some(ms(5000)));
}

#[test]
fn coming_up_polls_for_the_faster_interval_until_it_is_answered() {
    let mut end = End::new(FAST);
    end.hear(0, from_peer(State::Down));
    assert!(!end.sent[0].poll, "not up");
    end.hear(1, from_peer(State::Up));
    assert!(end.sent[0].poll && end.sent[0].desired_min_tx == ms(300));
    let next = end.sends(2, 1, &from_peer(State::Up))[0];
    within(&[next - 1], 225, 301);
    assert!(end.sent[0].poll, "asked again");
    end.hear(next + 1, Packet { is_final: true, ..from_peer(State::Up) });
    let next = end.sends(next + 1, 1, &from_peer(State::Up))[0];
    end.tick(next);
    assert!(end.session.is_agreed());
    end.handle(next + 400, Input::Tick);
    assert!(!end.sent[0].poll);
}

#[test]
fn slower_packets_wait_for_the_answer() {
    let mut end = End::up(FAST);
    end.handle(0, Input::SetTerms(Terms { interval: ms(1000), detect_multiplier: 3 }));
    assert!(end.sent[0].poll && end.sent[0].desired_min_tx == ms(1000), "the peer is told at once");
    assert_eq!(end.session.transmit_interval(), Some(ms(300)), "and is not there yet");
    assert_eq!(end.session.patience(), Some(ms(900)));
    // To bear more silence needs nobody's consent.
    assert_eq!(end.session.detection_time(), Some(ms(3000)));
    end.hear(1, Packet { is_final: true, ..from_peer(State::Up) });
    assert_eq!(end.session.transmit_interval(), Some(ms(1000)));
    assert_eq!(end.session.patience(), Some(ms(3000)));
}

#[test]
fn to_hear_more_often_waits_for_the_answer() {
    let mut end = End::up(Terms { interval: ms(1000), detect_multiplier: 3 });
    end.handle(0, Input::SetTerms(FAST));
    assert_eq!(end.session.detection_time(), Some(ms(3000)), "the peer still sends once a second");
    assert_eq!(end.session.transmit_interval(), Some(ms(300)), "more packets need nobody's consent");
    end.hear(1, from_peer(State::Up));
    assert_eq!(end.session.detection_time(), Some(ms(3000)), "that was no answer");
    end.hear(2, Packet { is_final: true, ..from_peer(State::Up) });
    assert_eq!(end.session.detection_time(), Some(ms(900)));
    assert_eq!(end.session.state(), State::Up);
}

#[test]
fn a_second_change_is_asked_for_when_the_first_is_answered() {
    let mut end = End::up(FAST);
    let terms = |millis| Input::SetTerms(Terms { interval: ms(millis), detect_multiplier: 3 });
    end.handle(0, terms(1000));
    end.handle(1, terms(2000));
    assert!(end.sent.iter().all(|packet| packet.desired_min_tx == ms(1000)));
    end.hear(2, Packet { is_final: true, ..from_peer(State::Up) });
    assert_eq!(end.session.transmit_interval(), Some(ms(1000)));
    assert!(end.sent[0].poll && end.sent[0].desired_min_tx == ms(2000));
    end.hear(3, Packet { is_final: true, ..from_peer(State::Up) });
    assert_eq!(end.session.transmit_interval(), Some(ms(2000)));
    assert!(end.session.is_agreed());
}

#[test]
fn another_multiplier_needs_no_answer() {
    let mut end = End::up(FAST);
    end.handle(0, Input::SetTerms(Terms { detect_multiplier: 7, ..FAST }));
    assert!(!end.sent[0].poll && end.sent[0].detect_multiplier == 7);
}

#[test]
fn terms_that_stay_the_same_say_nothing() {
    let mut end = End::up(FAST);
    end.handle(1, Input::SetTerms(FAST));
    assert!(end.sent.is_empty());
}

#[test]
fn an_answer_to_no_question_changes_nothing() {
    let mut end = End::up(FAST);
    end.hear(1, Packet { is_final: true, ..from_peer(State::Up) });
    assert!(end.sent.is_empty() && end.session.is_agreed());
}

#[test]
fn a_peer_that_wants_no_packets_gets_answers_alone() {
    let mute = Packet { required_min_rx: Duration::ZERO, ..from_peer(State::Up) };
    let demanding = Packet { demand: true, ..from_peer(State::Up) };
    for packet in [mute, demanding] {
        let mut end = End::up(FAST);
        for millis in (100..5000).step_by(100) {
            end.hear(millis, packet.clone());
            assert!(end.sent.is_empty(), "{packet:?}");
        }
        end.hear(5000, Packet { poll: true, ..packet.clone() });
        assert!(end.sent.len() == 1 && end.sent[0].is_final);
        // Silence of the peer means what it did.
        end.tick(5900);
        assert_eq!(end.session.state(), State::Down);
    }
}

#[test]
fn a_demanding_peer_is_polled_all_the_same() {
    let demanding = Packet { demand: true, ..from_peer(State::Up) };
    let mut end = End::up(FAST);
    end.hear(0, demanding.clone());
    end.handle(1, Input::SetTerms(Terms { interval: ms(200), detect_multiplier: 3 }));
    assert!(end.sent[0].poll);
    let polls = end.sends(2, 3, &demanding);
    within(&spans(&polls), 225, 301);
    end.hear(2000, Packet { is_final: true, ..demanding.clone() });
    end.tick(2700);
    assert!(end.sent.is_empty());
}

#[test]
fn demand_counts_when_both_are_up() {
    let mut end = End::new(FAST);
    let demanding = Packet { demand: true, ..from_peer(State::AdminDown) };
    within(&spans(&end.sends(0, 5, &demanding)), 750, 1001);
}

#[test]
fn what_makes_the_peer_wait_is_told_and_taken_back() {
    let mut end = End::up(FAST);
    end.handle(0, Input::Lengthen(ms(10_000)));
    assert!(end.sent[0].poll && end.sent[0].desired_min_tx == ms(10_000));
    assert_eq!(end.sent[0].required_min_rx, ms(300), "we bear no more silence than before");
    assert_eq!((end.session.patience(), end.session.is_agreed()), (Some(ms(900)), false));
    end.hear(1, Packet { is_final: true, ..from_peer(State::Up) });
    assert_eq!((end.session.patience(), end.session.is_agreed()), (Some(ms(30_000)), true));
    end.handle(2, Input::SetTerms(FAST));
    assert_eq!(end.sent[0].desired_min_tx, ms(300));
}
