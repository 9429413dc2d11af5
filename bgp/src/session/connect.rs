//! Connect: we have dialed and wait for TCP (RFC 4271 §8.2.2). Connections of the peer are accepted meanwhile.

use crate::types::{ConnId, Instant};

use super::timers::{DIAL_TIMEOUT, EAGER_DIAL_TIMEOUT};

#[derive(Debug)]
pub(super) struct Connect {
    pub(super) conn: ConnId,
    pub(super) give_up_at: Instant,
}

impl Connect {
    /// `eager`: the link may come back at any moment.
    pub(super) fn new(conn: ConnId, now: Instant, eager: bool) -> Self {
        Self { conn, give_up_at: now + if eager { EAGER_DIAL_TIMEOUT } else { DIAL_TIMEOUT } }
    }
}
