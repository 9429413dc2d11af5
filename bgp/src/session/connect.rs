//! Connect: we have dialed and wait for TCP (RFC 4271 §8.2.2). Connections of the peer are accepted meanwhile.

use crate::types::{ConnId, Instant};

use super::timers::DIAL_TIMEOUT;

#[derive(Debug)]
pub(super) struct Connect {
    pub(super) conn: ConnId,
    pub(super) give_up_at: Instant,
}

impl Connect {
    pub(super) fn new(conn: ConnId, now: Instant) -> Self {
        Self { conn, give_up_at: now + DIAL_TIMEOUT }
    }
}
