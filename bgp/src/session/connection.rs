//! One TCP connection of a session: its bytes become messages, its state answers them.
//!
//! In: bytes as they arrive, time, and how much was sent. Out: actions, and the state it is in.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::types::{ConnId, Instant};
use crate::wire::{Frame, Framer, Message};

use super::Turn;
use super::action::{Action, DownReason};
use super::state::{Event, Outbox, State};
use super::timers::send_hold;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnId,
    pub(super) state: State,
    local: IpAddr,
    framer: Framer,
    /// Bytes that the shell has taken and TCP has not.
    unsent: usize,
    /// RFC 9687: when the peer will have read nothing for too long. Runs while there are unsent bytes.
    send_hold_at: Option<Instant>,
}

impl Connection {
    pub(super) fn new(
        id: ConnId,
        local: IpAddr,
        start: impl FnOnce(&mut Outbox<'_, '_>) -> State,
        turn: &mut Turn<'_>,
    ) -> Self {
        let mut connection = Self {
            id,
            state: State::Closed(DownReason::ConnectionLost),
            local,
            framer: Framer::default(),
            unsent: 0,
            send_hold_at: None,
        };
        connection.step(turn, |_, out| start(out));
        connection
    }

    pub(super) fn handle(&mut self, event: Event, turn: &mut Turn<'_>) {
        self.step(turn, |state, out| state.handle(event, out));
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.framer.push(bytes);
    }

    /// The next event in what was received; `None` when more is needed.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        match self.framer.next_frame() {
            Ok(None) => None,
            Ok(Some(frame)) => Some(self.read(&frame)),
            Err(notification) => Some(Event::Malformed(notification)),
        }
    }

    fn read(&self, frame: &Frame) -> Event {
        let Some(context) = self.state.context_for(frame.kind) else {
            return Event::Unexpected;
        };
        match Message::decode(frame, context) {
            Ok(message) => Event::Message(message),
            Err(notification) => Event::Malformed(notification),
        }
    }

    /// Routes for the peer.
    pub(super) fn send(&mut self, bytes: Bytes, turn: &mut Turn<'_>) {
        self.step(turn, |state, out| {
            out.send(bytes);
            state
        });
    }

    pub(super) fn is_established(&self) -> bool {
        matches!(self.state, State::Established(_))
    }

    /// TCP has taken so many bytes.
    pub(super) fn sent(&mut self, len: usize, now: Instant) {
        self.unsent = self.unsent.saturating_sub(len);
        self.send_hold_at = (self.unsent > 0).then(|| now + self.send_hold());
    }

    pub(super) fn unsent(&self) -> usize {
        self.unsent
    }

    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) {
        let stuck = self.send_hold_at.is_some_and(|at| at <= turn.now);
        let event = if stuck { Event::Drop(DownReason::SendHoldExpired) } else { Event::Tick };
        self.handle(event, turn);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.state.next_deadline().into_iter().chain(self.send_hold_at).min()
    }

    fn send_hold(&self) -> Duration {
        send_hold(self.state.terms().map_or(0, |terms| terms.hold_time))
    }

    fn step(&mut self, turn: &mut Turn<'_>, transition: impl FnOnce(State, &mut Outbox<'_, '_>) -> State) {
        let before = turn.actions.len();
        let state = std::mem::replace(&mut self.state, State::Closed(DownReason::ConnectionLost));
        self.state = transition(state, &mut Outbox { conn: self.id, local: self.local, turn });
        for action in turn.actions.iter().skip(before) {
            if let Action::Send(_, bytes) = action {
                self.unsent += bytes.len();
            }
        }
        if self.unsent > 0 && self.send_hold_at.is_none() {
            self.send_hold_at = Some(turn.now + self.send_hold());
        }
    }
}
