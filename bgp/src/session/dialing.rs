//! When the peer is dialed: the side of a session that has no connection yet (RFC 4271 §8.2.2, Idle, Connect, Active).
//!
//! In: the rules, and how the last attempt or session ended. Out: [`Action::Dial`], and the time of the next.

use std::time::Duration;

use super::action::Action;
use super::active::Active;
use super::connect::Connect;
use super::idle::Idle;
use super::{Session, StateKind, Turn};
use crate::types::{ConnId, Instant};

/// A session that ends is tried again this soon: mostly the peer restarts, and keeps forwarding meanwhile.
const SOON: Duration = Duration::from_secs(1);
/// After the link to the peer went down it is tried that often for so long: mostly it is back in a moment, and nobody
/// tells.
pub(super) const EAGER: Duration = Duration::from_secs(30);

/// A peer that is to dial first gets this much time for it: more than it takes to notice the end of a session and to
/// dial again.
const HEAD_START: Duration = Duration::from_secs(2);

/// How a session gets its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DialRules {
    pub(crate) passive: bool,
    /// Dial a little later than the peer would.
    pub(crate) let_peer_dial: bool,
    pub(crate) connect_retry: Duration,
}

impl DialRules {
    /// When to dial what may be dialed from `at` on.
    pub(super) fn dial_at(&self, at: Instant) -> Option<Instant> {
        let head_start = if self.let_peer_dial { HEAD_START } else { Duration::ZERO };
        (!self.passive).then(|| at + head_start)
    }
}

/// Where it stands.
#[derive(Debug)]
pub(super) enum Dialing {
    Idle(Idle),
    Connect(Connect),
    Active(Active),
}

impl Dialing {
    pub(super) fn kind(&self) -> StateKind {
        match self {
            Self::Idle(_) => StateKind::Idle,
            Self::Connect(_) => StateKind::Connect,
            Self::Active(_) => StateKind::Active,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self {
            Self::Idle(idle) => idle.until,
            Self::Connect(connect) => Some(connect.give_up_at),
            Self::Active(active) => active.retry_at,
        }
    }
}

impl Session {
    /// Once per flap, not per attempt: two ends that refuse each other's connections would never meet.
    pub(super) fn hold_down(&mut self, wait: Duration, turn: &mut Turn<'_>) {
        let until = Some(turn.now + self.jitter.shorten(wait));
        self.stop_dialing(Dialing::Idle(Idle { until }), turn);
    }

    pub(super) fn retry_later(&mut self, was_up: bool, now: Instant) {
        let retry = self.rules.connect_retry;
        let soon = was_up || now < self.eager_until;
        let wait = if soon { retry.min(SOON) } else { retry };
        let retry_at = self.rules.dial_at(now + self.jitter.shorten(wait));
        self.dialing = Dialing::Active(Active { retry_at });
    }

    pub(super) fn tick_dialing(&mut self, turn: &mut Turn<'_>) {
        match &self.dialing {
            Dialing::Idle(idle) if idle.is_over(turn.now) => self.dial(turn),
            Dialing::Active(active) if active.is_due(turn.now) => self.dial(turn),
            Dialing::Connect(connect) if connect.give_up_at <= turn.now => {
                turn.actions.push(Action::Abort(connect.conn));
                self.last_down = Some("connection attempt timed out".to_owned());
                self.retry_later(false, turn.now);
            }
            Dialing::Idle(_) | Dialing::Active(_) | Dialing::Connect(_) => {}
        }
    }

    /// Dials, unless the peer is to, or has.
    fn dial(&mut self, turn: &mut Turn<'_>) {
        if self.rules.passive || !self.connections.is_empty() {
            self.dialing = Dialing::Active(Active { retry_at: None });
            return;
        }
        self.attempts += 1;
        let conn = ConnId::Dialed { peer: self.peer, attempt: self.attempts };
        self.dialing = Dialing::Connect(Connect::new(conn, turn.now, turn.now < self.eager_until));
        turn.actions.push(Action::Dial(conn));
    }

    /// Until [`Session::start`].
    pub(super) fn rest(&mut self, turn: &mut Turn<'_>) {
        self.stop_dialing(Dialing::Idle(Idle { until: None }), turn);
    }

    pub(super) fn stop_dialing(&mut self, instead: Dialing, turn: &mut Turn<'_>) {
        if let Dialing::Connect(connect) = &self.dialing {
            turn.actions.push(Action::Abort(connect.conn));
        }
        self.dialing = instead;
    }
}
