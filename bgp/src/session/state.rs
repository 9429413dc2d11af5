//! The states of one connection as one type, and the events that move it. What a state does stands in its own file below.

mod established;
mod open_confirm;
mod open_delayed;
mod open_sent;

use std::net::IpAddr;

use bytes::Bytes;

use crate::types::{ConnId, Instant};
use crate::wire::{
    DecodeContext, Message, MessageKind, Notification, UnexpectedIn, count_messages, encode_keepalive,
};

use super::action::{Action, DownReason};
use super::negotiate::{Negotiated, Offer};
use super::timers::{Jitter, OPEN_WAIT};
use super::{StateKind, Turn};

use established::Established;
use open_confirm::OpenConfirm;
use open_delayed::OpenDelayed;
use open_sent::OpenSent;

#[derive(Debug)]
pub(super) enum State {
    OpenDelayed(OpenDelayed),
    OpenSent(OpenSent),
    OpenConfirm(OpenConfirm),
    Established(Box<Established>),
    /// Nothing follows.
    Closed(DownReason),
}

/// RFC 4271 §8.1, as far as it concerns a connection that exists.
#[derive(Debug)]
pub(super) enum Event {
    Message(Message),
    /// A message that this state does not look into.
    Unexpected,
    /// What was received cannot be read; this says what to answer.
    Malformed(Notification),
    /// Some deadline may have passed.
    Tick,
    /// Close, saying why.
    Stop(Notification),
    /// Close without a word.
    Drop(DownReason),
}

/// The time, and where the actions of one connection go.
pub(super) struct Outbox<'a, 'b> {
    pub(super) conn: ConnId,
    /// Our end of the connection.
    pub(super) local: IpAddr,
    pub(super) turn: &'a mut Turn<'b>,
}

impl Outbox<'_, '_> {
    pub(super) fn now(&self) -> Instant {
        self.turn.now
    }

    pub(super) fn push(&mut self, action: Action) {
        self.turn.actions.push(action);
    }

    /// Whole messages.
    pub(super) fn send(&mut self, messages: Bytes) {
        self.turn.counters.messages_out += count_messages(&messages);
        self.push(Action::Send(self.conn, messages));
    }

    pub(super) fn keepalive(&mut self) {
        self.send(encode_keepalive());
    }

    pub(super) fn up(&mut self, terms: &Negotiated) {
        self.push(Action::Up { terms: Box::new(terms.clone()), local: self.local });
    }

    /// A last word, then close.
    pub(super) fn notify(&mut self, notification: Notification) -> State {
        self.send(notification.encode());
        self.push(Action::Close(self.conn));
        State::Closed(DownReason::Sent(notification))
    }

    /// The peer has said its last word, or there is nobody to say one to.
    pub(super) fn abandon(&mut self, reason: DownReason) -> State {
        self.push(Action::Abort(self.conn));
        State::Closed(reason)
    }
}

impl State {
    /// Says OPEN.
    pub(super) fn open(offer: Offer, jitter: Jitter, out: &mut Outbox<'_, '_>) -> Self {
        Self::OpenSent(OpenSent::start(offer, jitter, out))
    }

    /// Says OPEN when the peer has.
    pub(super) fn delay_open(offer: Offer, jitter: Jitter, now: Instant) -> Self {
        Self::OpenDelayed(OpenDelayed { offer, wait_until: now + OPEN_WAIT, jitter })
    }

    pub(super) fn handle(self, event: Event, out: &mut Outbox<'_, '_>) -> Self {
        match self {
            Self::OpenDelayed(state) => state.handle(event, out),
            Self::OpenSent(state) => state.handle(event, out),
            Self::OpenConfirm(state) => state.handle(event, out),
            Self::Established(state) => state.handle(event, out),
            Self::Closed(reason) => Self::Closed(reason),
        }
    }

    pub(super) fn kind(&self) -> StateKind {
        match self {
            // RFC 4271 §8.2.2: DelayOpenTimer runs in the Active state.
            Self::OpenDelayed(_) => StateKind::Active,
            Self::OpenSent(_) => StateKind::OpenSent,
            Self::OpenConfirm(_) => StateKind::OpenConfirm,
            Self::Established(_) => StateKind::Established,
            Self::Closed(_) => StateKind::Idle,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self {
            Self::OpenDelayed(state) => Some(state.wait_until),
            Self::OpenSent(state) => Some(state.wait_until),
            Self::OpenConfirm(state) => state.liveness.next_deadline(),
            Self::Established(state) => state.liveness.next_deadline(),
            Self::Closed(_) => None,
        }
    }

    /// The terms, once both OPENs are known.
    pub(super) fn terms(&self) -> Option<&Negotiated> {
        match self {
            Self::OpenConfirm(state) => Some(&state.terms),
            Self::Established(state) => Some(&state.terms),
            Self::OpenDelayed(_) | Self::OpenSent(_) | Self::Closed(_) => None,
        }
    }

    /// Our offer, while it waits for an answer.
    pub(super) fn offer(&self) -> Option<&Offer> {
        match self {
            Self::OpenDelayed(state) => Some(&state.offer),
            Self::OpenSent(state) => Some(&state.offer),
            Self::OpenConfirm(_) | Self::Established(_) | Self::Closed(_) => None,
        }
    }

    /// How this state reads a message; `None`: it does not want it, whatever is in it.
    pub(super) fn context_for(&self, kind: MessageKind) -> Option<&DecodeContext> {
        match (kind, self) {
            (MessageKind::Update | MessageKind::RouteRefresh, Self::Established(state)) => {
                Some(&state.context)
            }
            (MessageKind::Update | MessageKind::RouteRefresh, _) => None,
            (MessageKind::Open | MessageKind::Notification | MessageKind::Keepalive, _) => {
                static UNNEGOTIATED: DecodeContext = DecodeContext::UNNEGOTIATED;
                Some(&UNNEGOTIATED)
            }
        }
    }
}

/// RFC 6608: a message out of turn.
pub(super) fn out_of_turn(state: UnexpectedIn, out: &mut Outbox<'_, '_>) -> State {
    out.notify(Notification::fsm_error(state))
}
