//! Accepted beside a live session: the peer speaks first.
//!
//! RFC 4271 §8.2.2, Active with a running DelayOpenTimer. A second connection is either the tail of a race of two dials,
//! then it must go, or the peer has restarted without our noticing, then it is the session (RFC 4724 §5). Only the
//! peer's OPEN tells; until then ours would invite it to judge the collision from its side, and perhaps otherwise.

use crate::types::Instant;
use crate::wire::{Message, UnexpectedIn};

use super::super::action::DownReason;
use super::super::negotiate::Offer;
use super::super::timers::Jitter;
use super::open_sent::OpenSent;
use super::{Event, Outbox, State, out_of_turn};

#[derive(Debug)]
pub(in super::super) struct OpenDelayed {
    pub(super) offer: Offer,
    pub(super) wait_until: Instant,
    pub(super) jitter: Jitter,
}

impl OpenDelayed {
    pub(super) fn handle(self, event: Event, out: &mut Outbox<'_, '_>) -> State {
        match event {
            // The arbiter has let it pass.
            Event::Message(Message::Open(open)) => {
                OpenSent::start(self.offer, self.jitter, out).handle(Event::Message(Message::Open(open)), out)
            }
            Event::Tick if out.now() < self.wait_until => State::OpenDelayed(self),
            Event::Tick => out.abandon(DownReason::ConnectionLost),
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
}
