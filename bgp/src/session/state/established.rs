//! Established: routes flow (RFC 4271 §8.2.2).

use std::time::Duration;

use crate::types::Instant;
use crate::wire::{DecodeContext, Message, Notification, Open, UnexpectedIn};

use super::super::action::{Action, DownReason};
use super::super::negotiate::Negotiated;
use super::super::timers::{Due, Liveness};
use super::{Event, Outbox, State, out_of_turn};

/// For so long after a session came up, a second connection may be the tail of a race of two dials. Later the peer
/// would not open one, had it not lost the first.
const RACE_TAIL: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(in super::super) struct Established {
    pub(super) terms: Negotiated,
    pub(super) liveness: Liveness,
    /// Of the terms; kept, because every UPDATE is read with it.
    pub(super) context: DecodeContext,
    since: Instant,
}

impl Established {
    pub(super) fn new(terms: Negotiated, liveness: Liveness, since: Instant) -> Self {
        Self { context: terms.decode_context(), terms, liveness, since }
    }

    /// RFC 4724 §5: a peer with graceful restart that opens a second connection has restarted; this session is over.
    /// The R bit says so at once, unless this session began with it: then both belong to the same restart.
    pub(in super::super) fn yields_to(&self, open: &Open, now: Instant) -> bool {
        let before = self.terms.graceful_restart.as_ref();
        let again = open.capabilities.graceful_restart.as_ref();
        before.zip(again).is_some_and(|(before, again)| {
            !self.terms.restart_families().is_empty()
                && (now.since(self.since) > RACE_TAIL || (again.restarting && !before.restarting))
        })
    }

    pub(super) fn handle(mut self: Box<Self>, event: Event, out: &mut Outbox<'_, '_>) -> State {
        match event {
            Event::Message(Message::Update(update)) => {
                self.liveness.heard(out.now());
                out.push(Action::Update(update));
                State::Established(self)
            }
            Event::Message(Message::Keepalive | Message::RouteRefreshIgnored) => {
                self.liveness.heard(out.now());
                State::Established(self)
            }
            Event::Message(Message::RouteRefresh(family)) => {
                self.liveness.heard(out.now());
                // RFC 2918 §4: a family that was not negotiated is ignored.
                if self.terms.families.contains(&family) {
                    out.push(Action::Refresh(family));
                }
                State::Established(self)
            }
            Event::Tick => self.tick(out),
            Event::Message(Message::Notification(notification)) => {
                self.down(DownReason::Received(notification), out)
            }
            Event::Stop(notification) | Event::Malformed(notification) => self.notify(notification, out),
            Event::Drop(reason) => self.down(reason, out),
            Event::Message(Message::Open(_)) | Event::Unexpected => {
                let closed = out_of_turn(UnexpectedIn::Established, out);
                self.ended(closed, out)
            }
        }
    }

    fn tick(mut self: Box<Self>, out: &mut Outbox<'_, '_>) -> State {
        match self.liveness.due(out.now()) {
            Some(Due::HoldExpired) => {
                let expired = Notification::hold_timer_expired();
                let hard = self.terms.graceful_notification;
                self.notify(if hard { Notification::hard_reset(&expired) } else { expired }, out)
            }
            Some(Due::Keepalive) => {
                out.keepalive();
                self.liveness.keepalive_sent(out.now());
                State::Established(self)
            }
            None => State::Established(self),
        }
    }

    fn notify(&self, notification: Notification, out: &mut Outbox<'_, '_>) -> State {
        let closed = out.notify(notification);
        self.ended(closed, out)
    }

    fn down(&self, reason: DownReason, out: &mut Outbox<'_, '_>) -> State {
        let closed = out.abandon(reason);
        self.ended(closed, out)
    }

    fn ended(&self, closed: State, out: &mut Outbox<'_, '_>) -> State {
        if let State::Closed(reason) = &closed {
            out.push(Action::Down(reason.kept(&self.terms)));
        }
        closed
    }
}
