//! OpenSent: our OPEN is out, the peer's is awaited (RFC 4271 §8.2.2).

use crate::types::Instant;
use crate::wire::{Message, Notification, Open, UnexpectedIn};

use super::super::action::DownReason;
use super::super::negotiate::{Offer, negotiate};
use super::super::timers::{Jitter, Liveness, OPEN_WAIT};
use super::open_confirm::OpenConfirm;
use super::{Event, Outbox, State, out_of_turn};

#[derive(Debug)]
pub(in super::super) struct OpenSent {
    pub(super) offer: Offer,
    pub(super) wait_until: Instant,
    jitter: Jitter,
}

impl OpenSent {
    /// Says OPEN.
    pub(super) fn start(offer: Offer, jitter: Jitter, out: &mut Outbox<'_, '_>) -> Self {
        out.send(offer.open.encode());
        Self { offer, wait_until: out.now() + OPEN_WAIT, jitter }
    }

    pub(super) fn handle(self, event: Event, out: &mut Outbox<'_, '_>) -> State {
        match event {
            Event::Message(Message::Open(open)) => self.answer(&open, out),
            Event::Tick if out.now() < self.wait_until => State::OpenSent(self),
            Event::Tick => out.notify(Notification::hold_timer_expired()),
            Event::Message(Message::Notification(notification)) => {
                out.abandon(DownReason::Received(notification))
            }
            Event::Stop(notification) | Event::Malformed(notification) => out.notify(notification),
            Event::Drop(reason) => out.abandon(reason),
            Event::Message(
                Message::Update(_)
                | Message::Keepalive
                | Message::RouteRefresh(_)
                | Message::RouteRefreshIgnored,
            )
            | Event::Unexpected => out_of_turn(UnexpectedIn::OpenSent, out),
        }
    }

    /// The arbiter has made sure that this connection is the one to keep.
    fn answer(self, open: &Open, out: &mut Outbox<'_, '_>) -> State {
        match negotiate(&self.offer, open) {
            Ok(terms) => {
                out.keepalive();
                let liveness = Liveness::new(terms.hold_time, out.now(), self.jitter);
                State::OpenConfirm(OpenConfirm { terms, liveness })
            }
            Err(refusal) => out.notify(refusal),
        }
    }
}
