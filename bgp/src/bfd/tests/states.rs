//! The state machine of RFC 5880 §6.2 and §6.8.6.

use State::{AdminDown, Down, Init, Up};

use super::*;

/// Ends in each state, none of which has a Poll Sequence under way.
fn end_in(state: State) -> End {
    let mut end = match state {
        Up => return End::up(FAST),
        AdminDown | Down | Init => End::new(FAST),
    };
    match state {
        AdminDown => end.handle(0, Input::AdminDown),
        Init => end.hear(0, from_peer(Down)),
        Down | Up => end.tick(0),
    }
    end
}

#[test]
fn each_state_goes_where_the_rfc_says() {
    for (state, next) in [
        // What the peer says:  AdminDown  Down       Init       Up
        (AdminDown, [AdminDown, AdminDown, AdminDown, AdminDown]),
        (Down, [Down, Init, Up, Down]),
        (Init, [Down, Init, Up, Up]),
        (Up, [Down, Down, Up, Up]),
    ] {
        for (heard, next) in [AdminDown, Down, Init, Up].into_iter().zip(next) {
            let mut end = end_in(state);
            end.hear(1, from_peer(heard));
            assert_eq!(end.session.state(), next, "{state} heard {heard}");
            let changes: Vec<_> = end.changes.iter().map(|change| (change.from, change.to)).collect();
            assert_eq!(changes, if state == next { vec![] } else { vec![(state, next)] });
        }
    }
}

#[test]
fn silence_takes_down_what_was_heard() {
    for (state, next) in [(AdminDown, AdminDown), (Down, Down), (Init, Down), (Up, Down)] {
        let mut end = end_in(state);
        let heard = end.session.heard().is_some();
        end.tick(899);
        assert_eq!(end.session.state(), state);
        end.tick(900);
        assert_eq!(end.session.state(), next);
        let why = end.changes.first().map(|change| change.diagnostic);
        assert_eq!(why, heard.then_some(Diagnostic::ControlDetectionTimeExpired), "{state}");
    }
}

#[test]
fn what_an_end_takes_down_on_purpose_has_not_failed() {
    for (heard, failed) in [(Down, true), (AdminDown, false)] {
        let mut end = end_in(Up);
        end.hear(1, from_peer(heard));
        let [change] = &end.changes[..] else { panic!("{:?}", end.changes) };
        assert_eq!(
            (change.failure.is_some(), change.diagnostic),
            (failed, Diagnostic::NeighborSignaledSessionDown)
        );
    }
    let mut end = end_in(Up);
    end.handle(1, Input::AdminDown);
    assert!(end.changes[0].failure.is_none());
}

#[test]
fn only_what_was_up_can_fail() {
    let mut end = end_in(Init);
    end.tick(900);
    assert!(end.changes[0].failure.is_none());
}

#[test]
fn a_failure_says_whether_the_peers_bfd_depends_on_its_control_plane() {
    for control_plane_independent in [false, true] {
        let mut end = end_in(Up);
        end.hear(1, Packet { control_plane_independent, ..from_peer(Up) });
        end.tick(901);
        let change = &end.changes[0];
        assert_eq!(change.failure, Some(Failure { silent: ms(900), control_plane_independent }));
    }
}

#[test]
fn every_change_is_told_at_once() {
    let mut end = End::new(FAST);
    end.tick(0);
    assert_eq!(end.sent[0].your_discriminator, None);
    for (millis, heard, said) in [(1, Down, Init), (2, Init, Up), (3, Down, Down), (4, Down, Init)] {
        end.hear(millis, from_peer(heard));
        let said_of: Vec<_> =
            end.sent.iter().map(|packet| (packet.state, packet.your_discriminator)).collect();
        assert_eq!(said_of, [(said, Some(discriminator(THEIRS)))]);
    }
    end.hear(5, from_peer(Init));
    end.hear(6, from_peer(Up));
    assert_eq!(end.sent, [], "nothing has changed");
    end.tick(906);
    assert_eq!(end.sent[0].diagnostic, Diagnostic::ControlDetectionTimeExpired);
    assert_eq!((end.sent[0].state, end.sent[0].your_discriminator), (Down, None), "the peer is forgotten");
    end.handle(907, Input::AdminDown);
    assert_eq!((end.sent[0].state, end.sent[0].diagnostic), (AdminDown, Diagnostic::AdministrativelyDown));
}

#[test]
fn a_peer_that_is_down_and_silent_is_forgotten() {
    let mut end = end_in(Down);
    end.hear(0, from_peer(AdminDown));
    end.tick(899);
    assert!(end.session.heard().is_some());
    end.tick(900);
    assert!(end.session.heard().is_none() && end.changes.is_empty());
}

#[test]
fn a_peer_that_comes_back_as_another_is_spoken_to_as_that() {
    let mut end = end_in(Up);
    end.hear(1, Packet { my_discriminator: discriminator(77), your_discriminator: None, ..from_peer(Down) });
    assert_eq!(end.session.state(), Down);
    end.hear(2, Packet { my_discriminator: discriminator(77), ..from_peer(Down) });
    end.hear(3, Packet { my_discriminator: discriminator(77), ..from_peer(Up) });
    assert_eq!(end.session.state(), Up);
    assert_eq!(end.sent[0].your_discriminator, Some(discriminator(77)));
}

#[test]
fn a_poll_is_answered_at_once_in_every_state_but_admin_down() {
    for state in [Down, Init, Up, AdminDown] {
        let mut end = end_in(state);
        end.hear(1, Packet { poll: true, ..from_peer(if state == Up { Up } else { AdminDown }) });
        let answers: Vec<_> = end.sent.iter().filter(|packet| packet.is_final).collect();
        assert_eq!(answers.len(), usize::from(state != AdminDown), "{state}");
        assert!(answers.iter().all(|packet| !packet.poll && packet.state == end.session.state()));
    }
}

#[test]
fn an_end_that_is_held_down_comes_back_when_it_is_let() {
    let mut end = end_in(AdminDown);
    end.handle(1, Input::Enable);
    assert_eq!((end.session.state(), end.session.diagnostic()), (Down, Diagnostic::None));
    end.handle(2, Input::Enable);
    assert!(end.changes.is_empty());
    end.hear(3, from_peer(Down));
    end.handle(4, Input::Enable);
    assert_eq!(end.session.state(), Init);
}
