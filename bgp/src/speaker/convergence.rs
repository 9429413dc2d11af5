//! When the first round of routes is complete: every peer has sent its End-of-RIB, or has had its time.
//!
//! RFC 4724 §4.1. Peers without graceful restart need not mark the end: they have come to it when they fall silent
//! ([`QUIET`]).

use std::time::Duration;

use crate::types::Instant;

/// A peer that marks no end and has sent no UPDATE for so long has sent everything that it had. Longer than the pauses
/// that other speakers make to fill their messages (FRR: 1 s and 50 ms per peer).
pub(super) const QUIET: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Convergence {
    /// The peers are not known yet.
    Unstarted,
    Waiting {
        until: Instant,
    },
    Done,
}

impl Convergence {
    /// The peers are known. Only the first time counts.
    pub(super) fn start(&mut self, cap: Duration, now: Instant) -> bool {
        let first = *self == Self::Unstarted;
        if first {
            *self = Self::Waiting { until: now + cap };
        }
        first
    }

    /// True once: when it is complete.
    pub(super) fn check(&mut self, all_peers_ready: impl FnOnce() -> bool, now: Instant) -> bool {
        let Self::Waiting { until } = *self else {
            return false;
        };
        let done = until <= now || all_peers_ready();
        if done {
            *self = Self::Done;
        }
        done
    }

    pub(super) fn is_done(self) -> bool {
        self == Self::Done
    }

    pub(super) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Waiting { until } => Some(until),
            Self::Unstarted | Self::Done => None,
        }
    }
}
