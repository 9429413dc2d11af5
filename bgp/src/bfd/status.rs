//! What a session shows of itself: values for people and metrics.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::Path;
use super::drops::Drops;
use super::packet::Diagnostic;
use super::{Discriminator, State};
use crate::types::PeerKey;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub key: PeerKey,
    pub path: Path,
    pub discriminator: Discriminator,
    pub state: State,
    /// Time in this state.
    pub state_age: Duration,
    /// Between our packets, before jitter; `None`: the peer wants none.
    pub transmit_interval: Option<Duration>,
    /// Silence after which the peer is given up; `None` while it is not heard.
    pub detection_time: Option<Duration>,
    /// While it is heard.
    pub remote: Option<Remote>,
    /// Why the session went down last, and how long ago.
    pub last_down: Option<(Diagnostic, Duration)>,
    /// Times that it came up.
    pub up_count: u64,
    /// Times that it went down because the path was gone.
    pub failed_count: u64,
    pub packets_in: u64,
    pub packets_out: u64,
    pub drops: Drops,
}

/// What the peer says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    pub discriminator: Discriminator,
    pub state: State,
    pub diagnostic: Diagnostic,
    pub desired_min_tx: Duration,
    pub required_min_rx: Duration,
    pub detect_multiplier: u8,
}
