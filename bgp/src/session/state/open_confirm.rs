//! OpenConfirm: both OPENs are fine, the peer's KEEPALIVE is awaited (RFC 4271 §8.2.2).

use crate::wire::{Message, Notification, UnexpectedIn};

use super::super::action::DownReason;
use super::super::negotiate::Negotiated;
use super::super::timers::{Due, Liveness};
use super::established::Established;
use super::{Event, Outbox, State, out_of_turn};

#[derive(Debug)]
pub(in super::super) struct OpenConfirm {
    pub(super) terms: Negotiated,
    pub(super) liveness: Liveness,
}

impl OpenConfirm {
    pub(super) fn handle(mut self, event: Event, out: &mut Outbox<'_, '_>) -> State {
        match event {
            Event::Message(Message::Keepalive) => {
                out.up(&self.terms);
                self.liveness.heard(out.now());
                State::Established(Box::new(Established::new(self.terms, self.liveness, out.now())))
            }
            Event::Tick => self.tick(out),
            Event::Message(Message::Notification(notification)) => {
                out.abandon(DownReason::Received(notification))
            }
            Event::Stop(notification) | Event::Malformed(notification) => out.notify(notification),
            Event::Drop(reason) => out.abandon(reason),
            // §6.6: a second OPEN, or routes before the session is confirmed.
            Event::Message(
                Message::Open(_)
                | Message::Update(_)
                | Message::RouteRefresh(_)
                | Message::RouteRefreshIgnored,
            )
            | Event::Unexpected => out_of_turn(UnexpectedIn::OpenConfirm, out),
        }
    }

    fn tick(mut self, out: &mut Outbox<'_, '_>) -> State {
        match self.liveness.due(out.now()) {
            Some(Due::HoldExpired) => return out.notify(Notification::hold_timer_expired()),
            Some(Due::Keepalive) => {
                out.keepalive();
                self.liveness.keepalive_sent(out.now());
            }
            None => {}
        }
        State::OpenConfirm(self)
    }
}
