//! Sessions alone, in pairs over a bad path, and many of them: in virtual time.

mod packets;
mod pair;
mod restarting;
mod routing;
mod states;
mod timing;

use std::time::Duration;

use super::*;
use crate::types::Instant;

pub(super) const FAST: Terms = Terms { interval: Duration::from_millis(300), detect_multiplier: 3 };
pub(super) const OURS: u32 = 1;
pub(super) const THEIRS: u32 = 2;

pub(super) fn at(millis: u64) -> Instant {
    Instant(ms(millis))
}

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn discriminator(number: u32) -> Discriminator {
    Discriminator::new(number).unwrap()
}

/// Of a peer that hears us and asks for what we ask for.
pub(super) fn from_peer(state: State) -> Packet {
    Packet {
        diagnostic: Diagnostic::None,
        state,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        detect_multiplier: 3,
        my_discriminator: discriminator(THEIRS),
        your_discriminator: Some(discriminator(OURS)),
        desired_min_tx: ms(300),
        required_min_rx: ms(300),
        required_min_echo_rx: Duration::ZERO,
    }
}

/// One end, and what came of its last input.
pub(super) struct End {
    pub(super) session: Session,
    pub(super) sent: Vec<Packet>,
    pub(super) changes: Vec<Transition>,
}

impl End {
    pub(super) fn new(terms: Terms) -> Self {
        let session = Session::new(discriminator(OURS), terms, 5, at(0));
        Self { session, sent: Vec::new(), changes: Vec::new() }
    }

    /// Up since 0, and the peer has answered for our terms.
    pub(super) fn up(terms: Terms) -> Self {
        let mut end = Self::new(terms);
        end.hear(0, from_peer(State::Down));
        end.hear(0, from_peer(State::Up));
        end.hear(0, Packet { is_final: true, ..from_peer(State::Up) });
        assert_eq!((end.session.state(), end.session.is_agreed()), (State::Up, true));
        end
    }

    pub(super) fn hear(&mut self, millis: u64, packet: Packet) {
        self.handle(millis, Input::Received(packet));
    }

    pub(super) fn tick(&mut self, millis: u64) {
        self.handle(millis, Input::Tick);
    }

    pub(super) fn handle(&mut self, millis: u64, input: Input) {
        let mut outputs = Vec::new();
        self.session.handle(at(millis), input, &mut outputs);
        (self.sent, self.changes) = (Vec::new(), Vec::new());
        for output in outputs {
            match output {
                Output::Send(packet) => self.sent.push(packet),
                Output::Changed(transition) => self.changes.push(transition),
            }
        }
    }

    /// Times of the next packets, while the peer says `answer` every 100 ms.
    pub(super) fn sends(&mut self, from: u64, count: usize, answer: &Packet) -> Vec<u64> {
        let mut times = Vec::new();
        for millis in from.. {
            self.tick(millis);
            times.extend(self.sent.iter().map(|_| millis));
            if millis % 100 == 0 {
                self.hear(millis, answer.clone());
                assert!(self.sent.is_empty(), "an answer to nothing at {millis}");
            }
            if times.len() >= count {
                break;
            }
        }
        times
    }
}
