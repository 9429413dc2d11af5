//! When the first round of routes is complete: every peer has sent its End-of-RIB, or has had its time.
//!
//! RFC 4724 §4.1. Peers without graceful restart need not mark the end: they have come to it when they fall silent
//! ([`QUIET`]). A peer that does not come up is waited for in two ways: what others say is used soon, because a dead
//! peer must not keep the living from being heard; what an earlier speaker left in the FIB stays for longer, because a
//! router that is rebooting comes back to it.

use std::time::Duration;

use crate::types::Instant;

/// A peer that marks no end and has sent no UPDATE for so long has sent everything that it had. Longer than the pauses
/// that other speakers make to fill their messages (FRR: 1 s and 50 ms per peer).
pub(super) const QUIET: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Convergence {
    /// The peers are not known yet.
    Unstarted,
    /// Nothing is chosen yet.
    Waiting {
        settle_at: Instant,
        until: Instant,
    },
    /// What is known is used; somebody may still come back.
    Settled {
        until: Instant,
    },
    Done,
}

impl Convergence {
    /// The peers are known. Only the first time counts.
    pub(super) fn start(&mut self, settle: Duration, deferral: Duration, now: Instant) -> bool {
        let first = *self == Self::Unstarted;
        if first {
            *self = Self::Waiting { settle_at: now + settle, until: now + settle.max(deferral) };
        }
        first
    }

    /// The next step, once each: from waiting to settled, from there to done.
    pub(super) fn advance(&mut self, all_peers_ready: impl FnOnce() -> bool, now: Instant) -> bool {
        let (due, next) = match *self {
            Self::Waiting { settle_at, until } => (settle_at, Self::Settled { until }),
            Self::Settled { until } => (until, Self::Done),
            Self::Unstarted | Self::Done => return false,
        };
        let done = due <= now || all_peers_ready();
        if done {
            *self = next;
        }
        done
    }

    /// What is known is used, and the FIB is current.
    pub(super) fn is_settled(self) -> bool {
        matches!(self, Self::Settled { .. } | Self::Done)
    }

    pub(super) fn is_done(self) -> bool {
        self == Self::Done
    }

    pub(super) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Waiting { settle_at: due, .. } | Self::Settled { until: due } => Some(due),
            Self::Unstarted | Self::Done => None,
        }
    }
}
