//! Idle: the peer is left alone, both ways (RFC 4271 §8.2.2).

use crate::types::Instant;

/// Connections are refused and none is tried.
#[derive(Debug)]
pub(super) struct Idle {
    /// `None`: until somebody starts the session.
    pub(super) until: Option<Instant>,
}

impl Idle {
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}
