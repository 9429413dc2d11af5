//! The session with one peer: the FSM of RFC 4271 §8, over as many connections as the peer and we happen to open.
//!
//! In: connections that come and go, received bytes, time. Out: [`Action`]s, in order. Pure.
//!
//! RFC 4271 gives every connection its own FSM; here a peer has one [`Dialing`] side (Idle, Connect, Active) and the
//! states of its connections (OpenSent, OpenConfirm, Established). The session's state is the most advanced of them.
//!
//! ```text
//!  dialing, one per peer                        a connection, up to four per peer
//!
//!     +--------- Idle <------ rest, hold_down            connected, dialed or accepted
//!     | start,            (flaps, refusals)                   |             |
//!     | or held down                                          |      beside a live session
//!     | long enough                                 says OPEN |             v
//!     v          retry_at passes                              |        OpenDelayed
//!  Connect <------------------------ Active                   v             |
//!     |    --------------------------> ^                   OpenSent <-------+ OPEN comes first
//!     |     dial failed, timed out     |                      |
//!     |                                |                 OPEN | says KEEPALIVE  (the arbiter: one is kept)
//!     +---> a connection               |                      v
//!                                      |                 OpenConfirm
//!                                      |                      |
//!                                      |            KEEPALIVE | Action::Up
//!                                      |                      v
//!                                      |                 Established --> Action::Update, Action::Refresh
//!                                      |                      |
//!                                      |  NOTIFICATION either way, a timer, TCP's end, stop
//!                                      |                      v
//!                                      +------------------- Closed ---> Action::Down, if it was Established
//! ```
//!
//! Invariant: at most one connection is Established, at most one was dialed, and at most one that was accepted is
//! still waiting for an OPEN; so there are never more than four.

mod action;
mod active;
mod arbiter;
mod collision;
mod connect;
mod connection;
mod dialing;
mod idle;
mod negotiate;
mod state;
mod timers;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub(crate) use action::Action;
pub use action::DownReason;
pub(crate) use dialing::DialRules;
pub(crate) use negotiate::{Negotiated, Offer};
pub(crate) use timers::Jitter;

use action::RESET;
use active::Active;
use arbiter::{Verdict, collision_cease};
use connection::Connection;
use dialing::{Dialing, EAGER};
use idle::Idle;
use state::{Event, State};
use timers::Flaps;

use crate::types::{ConnId, Instant, PeerId};
use crate::wire::{CeaseReason, Message, Notification};

/// RFC 4271 §8.2.2, in order of progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StateKind {
    Idle,
    Connect,
    Active,
    OpenSent,
    OpenConfirm,
    Established,
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    peer: PeerId,
    rules: DialRules,
    dialing: Dialing,
    attempts: u32,
    connections: Vec<Connection>,
    flaps: Flaps,
    jitter: Jitter,
    last_down: Option<String>,
    /// The link to the peer was gone a moment before this.
    eager_until: Instant,
}

/// Messages in and out over a session's life.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) messages_in: u64,
    pub(crate) messages_out: u64,
}

/// What a session is given for one turn: the time, and where its actions and its messages are noted.
pub(crate) struct Turn<'a> {
    pub(crate) now: Instant,
    pub(crate) actions: &'a mut Vec<Action>,
    pub(crate) counters: &'a mut Counters,
}

impl Session {
    /// Dials at the first [`Session::tick`], unless the rules are otherwise.
    pub(crate) fn new(peer: PeerId, rules: DialRules, jitter: Jitter, now: Instant) -> Self {
        let retry_at = rules.dial_at(now);
        Self {
            peer,
            rules,
            dialing: Dialing::Active(Active { retry_at }),
            attempts: 0,
            connections: Vec::new(),
            flaps: Flaps::default(),
            jitter,
            last_down: None,
            eager_until: Instant::default(),
        }
    }

    /// A dialed or accepted connection is there; `local` is our end of it.
    pub(crate) fn connected(&mut self, conn: ConnId, local: IpAddr, offer: Offer, turn: &mut Turn<'_>) {
        match (conn, &self.dialing) {
            (ConnId::Dialed { .. }, Dialing::Connect(connect)) if connect.conn == conn => {
                self.dialing = Dialing::Active(Active { retry_at: None });
            }
            (ConnId::Accepted(_), Dialing::Connect(_) | Dialing::Active(_)) => self.drop_unanswered(turn),
            // A dial that was given up, or a peer that is left alone.
            (ConnId::Dialed { .. }, _) | (ConnId::Accepted(_), Dialing::Idle(_)) => {
                turn.actions.push(Action::Abort(conn));
                return;
            }
        }
        let established = self.established().is_some();
        let jitter = self.jitter.fork();
        let start = |out: &mut state::Outbox<'_, '_>| {
            if established {
                State::delay_open(offer, jitter, out.now())
            } else {
                State::open(offer, jitter, out)
            }
        };
        self.connections.push(Connection::new(conn, local, start, turn));
    }

    pub(crate) fn dial_failed(&mut self, conn: ConnId, error: String, now: Instant) {
        if matches!(&self.dialing, Dialing::Connect(connect) if connect.conn == conn) {
            self.last_down = Some(error);
            self.retry_later(false, now);
        }
    }

    pub(crate) fn received(&mut self, conn: ConnId, bytes: &[u8], turn: &mut Turn<'_>) {
        if let Some(connection) = self.connection_mut(conn) {
            connection.push(bytes);
        }
        // The connection is looked up for each message: any of them may have closed it.
        while let Some(event) = self.connection_mut(conn).and_then(Connection::next_event) {
            turn.counters.messages_in += 1;
            self.deliver(conn, event, turn);
        }
    }

    /// TCP has taken so many bytes.
    pub(crate) fn sent(&mut self, conn: ConnId, len: usize, now: Instant) {
        if let Some(connection) = self.connection_mut(conn) {
            connection.sent(len, now);
        }
    }

    /// TCP has ended.
    pub(crate) fn closed(&mut self, conn: ConnId, turn: &mut Turn<'_>) {
        self.step_connection(conn, Event::Drop(DownReason::ConnectionLost), turn);
    }

    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        for id in self.ids() {
            self.with_connection(id, turn, Connection::tick);
        }
        self.tick_dialing(turn);
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let connections = self.connections.iter().filter_map(Connection::next_deadline);
        connections.chain(self.dialing.next_deadline()).min()
    }

    /// Closes every connection with a last word. Graceful restart ends too when `hard` (RFC 8538 §3).
    pub(crate) fn stop(&mut self, notification: &Notification, hard: bool, turn: &mut Turn<'_>) {
        self.close(notification, hard, turn);
        self.rest(turn);
    }

    /// BFD has lost the peer: closes every connection with a last word, as one direction may be left, and tries again as
    /// after any loss.
    pub(crate) fn path_lost(&mut self, turn: &mut Turn<'_>) {
        self.close(&Notification::cease(CeaseReason::BfdDown, None), true, turn);
    }

    /// Closes every connection, to open another on other terms. A peer that keeps what it has of us over a restart keeps it over
    /// this: it is told why where that does not end graceful restart (RFC 8538 §4), and else hears nothing (RFC 4724 §4.2).
    pub(crate) fn reset(&mut self, turn: &mut Turn<'_>) {
        for id in self.ids() {
            let terms = self.connection(id).and_then(|connection| connection.state.terms());
            let hears_why =
                terms.is_none_or(|terms| terms.graceful_restart.is_none() || terms.graceful_notification);
            let event = match hears_why {
                true => Event::Stop(Notification::cease(RESET, None)),
                false => Event::Drop(DownReason::Reset),
            };
            self.step_connection(id, event, turn);
        }
        self.rest(turn);
    }

    /// Closes every connection without a word.
    pub(crate) fn abandon(&mut self, reason: &DownReason, turn: &mut Turn<'_>) {
        for id in self.ids() {
            self.step_connection(id, Event::Drop(reason.clone()), turn);
        }
        self.rest(turn);
    }

    /// The link is gone: closes every connection without a word, and tries again soon.
    pub(crate) fn unreachable(&mut self, turn: &mut Turn<'_>) {
        self.eager_until = turn.now + EAGER;
        for id in self.ids() {
            self.step_connection(id, Event::Drop(DownReason::Unreachable), turn);
        }
        if let Dialing::Connect(connect) = &self.dialing {
            turn.actions.push(Action::Abort(connect.conn));
            self.retry_later(false, turn.now);
        }
    }

    /// After [`Session::stop`]: tries again after the peer has been left alone for some time, or at once, as if it had not
    /// failed before.
    pub(crate) fn start(&mut self, rules: DialRules, delay: Option<Duration>, now: Instant) {
        self.rules = rules;
        self.dialing = match delay {
            Some(delay) => Dialing::Idle(Idle { until: Some(now + self.jitter.shorten(delay)) }),
            None => {
                self.flaps = Flaps::default();
                Dialing::Active(Active { retry_at: rules.dial_at(now) })
            }
        };
    }

    /// The rules for the next attempt; a session that is up stays so.
    pub(crate) fn set_rules(&mut self, rules: DialRules) {
        self.rules = rules;
    }

    /// Queues whole messages on the Established connection.
    pub(crate) fn send(&mut self, messages: Bytes, turn: &mut Turn<'_>) {
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.is_established()) {
            connection.send(messages, turn);
        }
    }

    /// Bytes that wait on the Established connection; `None` when there is none.
    pub(crate) fn unsent(&self) -> Option<usize> {
        self.established().map(Connection::unsent)
    }

    pub(crate) fn kind(&self) -> StateKind {
        let connections = self.connections.iter().map(|connection| connection.state.kind());
        connections.fold(self.dialing.kind(), StateKind::max)
    }

    /// The terms of the Established connection, or of one that is about to be.
    pub(crate) fn terms(&self) -> Option<&Negotiated> {
        let known = self
            .connections
            .iter()
            .filter_map(|Connection { state, .. }| Some((state.kind(), state.terms()?)));
        known.max_by_key(|(kind, _)| *kind).map(|(_, terms)| terms)
    }

    /// Why it went down last, in words.
    pub(crate) fn last_down(&self) -> Option<&str> {
        self.last_down.as_deref()
    }

    fn close(&mut self, notification: &Notification, hard: bool, turn: &mut Turn<'_>) {
        for id in self.ids() {
            let terms = self.connection(id).and_then(|connection| connection.state.terms());
            let last_word = match terms {
                Some(terms) if hard && terms.graceful_notification => Notification::hard_reset(notification),
                Some(_) | None => notification.clone(),
            };
            self.step_connection(id, Event::Stop(last_word), turn);
        }
    }

    fn ids(&self) -> Vec<ConnId> {
        self.connections.iter().map(|connection| connection.id).collect()
    }

    fn established(&self) -> Option<&Connection> {
        self.connections.iter().find(|connection| connection.is_established())
    }

    fn connection(&self, id: ConnId) -> Option<&Connection> {
        self.connections.iter().find(|connection| connection.id == id)
    }

    fn connection_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.id == id)
    }

    /// An OPEN is first judged (§6.8), everything else goes straight to the connection's state.
    fn deliver(&mut self, conn: ConnId, event: Event, turn: &mut Turn<'_>) {
        let event = match event {
            Event::Message(Message::Open(open)) => match self.judge(conn, &open, turn) {
                Verdict::Proceed => Event::Message(Message::Open(open)),
                Verdict::Lost => Event::Stop(collision_cease()),
            },
            other => other,
        };
        self.step_connection(conn, event, turn);
    }

    fn step_connection(&mut self, conn: ConnId, event: Event, turn: &mut Turn<'_>) {
        self.with_connection(conn, turn, |connection, turn| connection.handle(event, turn));
    }

    /// Lets a connection act, then draws the session's conclusions.
    fn with_connection(
        &mut self,
        conn: ConnId,
        turn: &mut Turn<'_>,
        act: impl FnOnce(&mut Connection, &mut Turn<'_>),
    ) {
        let Some(index) = self.connections.iter().position(|connection| connection.id == conn) else {
            return; // A late event of a connection that is gone.
        };
        let connection = &mut self.connections[index];
        let was_established = connection.is_established();
        act(connection, turn);
        if let State::Closed(reason) = &connection.state {
            let reason = reason.clone();
            self.connections.remove(index);
            self.ended(was_established, &reason, turn);
        } else if !was_established && connection.is_established() {
            self.came_up(turn);
        }
    }

    fn came_up(&mut self, turn: &mut Turn<'_>) {
        self.flaps.up(turn.now);
        self.stop_dialing(Dialing::Active(Active { retry_at: None }), turn);
    }

    fn ended(&mut self, was_up: bool, reason: &DownReason, turn: &mut Turn<'_>) {
        if self.established().is_some() {
            return; // A connection beside the session: nothing went down.
        }
        let flapped = reason.is_flap(was_up);
        if !reason.is_collision() {
            self.last_down = Some(reason.to_string());
        }
        if flapped {
            self.flaps.down(turn.now);
        }
        if !self.connections.is_empty() {
            return;
        }
        match self.flaps.hold_down(self.rules.connect_retry).filter(|_| flapped) {
            Some(wait) => self.hold_down(wait, turn),
            None if matches!(self.dialing, Dialing::Active(Active { retry_at: None })) => {
                self.retry_later(was_up, turn.now);
            }
            None => {} // The next attempt is due or under way.
        }
    }
}
