//! What of a peer reaches the operator's log. A peer can break something with every message that it sends, and a log that
//! it fills hides all others.

use std::time::Duration;

use crate::types::Instant;
use crate::wire::AttributeError;

/// Lines of one peer at once: its session comes up, goes and comes back, and something is malformed.
const BURST: u32 = 4;
/// Of which so many are for sessions that come up and go, however much is malformed and however many attempts fail.
const FOR_SESSIONS: u32 = 2;
/// Then one line in this time.
const REFILL: Duration = Duration::from_secs(60);

/// The lines that a peer may still cause.
#[derive(Debug, Default)]
pub(super) struct LogBudget {
    /// When there will be [`BURST`] again.
    full_at: Instant,
    /// Malformed attributes: all are counted, few are logged.
    malformed: u64,
    unlogged: u64,
}

impl LogBudget {
    /// Whether to log that a session has come up or gone.
    pub(super) fn allows_session(&mut self, now: Instant) -> bool {
        self.draw(BURST, now)
    }

    /// Whether to log an attempt that has failed.
    pub(super) fn allows_attempt(&mut self, now: Instant) -> bool {
        self.draw(BURST - FOR_SESSIONS, now)
    }

    /// Of the errors of one UPDATE the one to log, and how many there were beside it since the last; `None`: none is
    /// to be logged.
    pub(super) fn malformed(
        &mut self,
        errors: &[AttributeError],
        now: Instant,
    ) -> Option<(AttributeError, u64)> {
        // The first of the most severe.
        let worst = *errors.iter().rev().max_by_key(|error| error.action)?;
        self.malformed += errors.len() as u64;
        self.unlogged += errors.len() as u64;
        if !self.allows_attempt(now) {
            return None;
        }
        Some((worst, std::mem::take(&mut self.unlogged) - 1))
    }

    pub(super) fn malformed_total(&self) -> u64 {
        self.malformed
    }

    /// A line, unless as many as this were drawn and have not come back.
    fn draw(&mut self, most: u32, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + REFILL;
        let granted = full_at.since(now) <= REFILL * most;
        if granted {
            self.full_at = full_at;
        }
        granted
    }
}
