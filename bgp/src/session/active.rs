//! Active: we wait for the peer to connect, or for the next time to dial (RFC 4271 §8.2.2).

use crate::types::Instant;

#[derive(Debug)]
pub(super) struct Active {
    /// The connect-retry timer. `None`: we do not dial, because the peer is passive or a connection exists.
    pub(super) retry_at: Option<Instant>,
}

impl Active {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.retry_at.is_some_and(|retry_at| retry_at <= now)
    }
}
