//! Which connection may become the session when the peer has more than one (RFC 4271 §6.8, RFC 4724 §5).
//!
//! In: an OPEN and all connections. Out: a [`Verdict`] on the connection that it came on; those that must go for it are
//! closed. Who keeps which of two dials is [`super::collision`]'s arithmetic.

use super::action::DownReason;
use super::collision::{End, Keep, keep};
use super::state::{Event, State};
use super::{Connection, Session, Turn, negotiate};
use crate::types::{ConnId, Instant};
use crate::wire::{CeaseReason, Notification, Open};

impl Session {
    /// A peer that opens another connection has given up the one on which it has not said a word.
    pub(super) fn drop_unanswered(&mut self, turn: &mut Turn<'_>) {
        let unanswered = |connection: &&Connection| {
            matches!(connection.id, ConnId::Accepted(_)) && connection.state.offer().is_some()
        };
        if let Some(id) = self.connections.iter().find(unanswered).map(|connection| connection.id) {
            self.step_connection(id, Event::Drop(DownReason::Replaced), turn);
        }
    }

    /// RFC 4271 §6.8: makes room for `conn`, or says that it must go.
    pub(super) fn judge(&mut self, conn: ConnId, open: &Open, turn: &mut Turn<'_>) -> Verdict {
        let Some(offer) = self.connection(conn).and_then(|connection| connection.state.offer()) else {
            return Verdict::Proceed; // Out of turn: its state will say so.
        };
        if negotiate::negotiate(offer, open).is_err() {
            return Verdict::Proceed; // Refused for what it says, not for what else there is.
        }
        let remote = End { router_id: open.router_id, asn: open.asn };
        let keep = keep(offer.end(), remote);
        for other in self.ids().into_iter().filter(|other| *other != conn) {
            match self.contest(conn, other, open, keep, turn.now) {
                Contest::None => {}
                Contest::Lost => return Verdict::Lost,
                Contest::Won => self.step_connection(other, Event::Stop(collision_cease()), turn),
                Contest::Restarted => self.step_connection(other, Event::Drop(DownReason::Replaced), turn),
            }
        }
        Verdict::Proceed
    }

    fn contest(&self, conn: ConnId, other: ConnId, open: &Open, keep: Keep, now: Instant) -> Contest {
        let Some(rival) = self.connection(other) else {
            return Contest::None;
        };
        match &rival.state {
            State::Established(session) if session.yields_to(open, now) => Contest::Restarted,
            State::Established(_) => Contest::Lost,
            State::OpenConfirm(_) => match (conn, other, keep) {
                (ConnId::Dialed { .. }, ConnId::Accepted(_), Keep::Accepted)
                | (ConnId::Accepted(_), ConnId::Dialed { .. }, Keep::Dialed) => Contest::Lost,
                // Ours to keep, or the same side dialed both: then it wants the newer.
                (ConnId::Dialed { .. } | ConnId::Accepted(_), _, _) => Contest::Won,
            },
            State::OpenDelayed(_) | State::OpenSent(_) | State::Closed(_) => Contest::None,
        }
    }
}

/// Whether a connection may go on after its peer's OPEN.
pub(super) enum Verdict {
    Proceed,
    Lost,
}

/// A connection against one other.
enum Contest {
    None,
    Won,
    Lost,
    /// The other is what is left of a session that the peer has forgotten.
    Restarted,
}

pub(super) fn collision_cease() -> Notification {
    Notification::cease(CeaseReason::ConnectionCollision, None)
}
