//! How often the two ends of a session send, and after which silence the other is given up (RFC 5880 §6.8.2-6.8.4, §6.8.7).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::random::SplitMix64;

/// Nobody sends more often than this while the session is not up (§6.8.3).
pub(super) const SLOW: Duration = Duration::from_secs(1);

/// What we ask for. What comes of it depends on the peer as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Between packets, both ways; not zero.
    pub interval: Duration,
    /// Intervals of silence after which the peer gives us up; at least 1.
    pub detect_multiplier: u8,
}

impl Terms {
    /// A path that is gone is noticed within a second.
    pub const DEFAULT: Self = Self { interval: Duration::from_millis(300), detect_multiplier: 3 };
}

impl Default for Terms {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Of one end, for both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Intervals {
    pub(super) desired_min_tx: Duration,
    pub(super) required_min_rx: Duration,
}

impl Intervals {
    /// §6.8.3: a change that is for the worse of who listens waits until it is known there.
    pub(super) fn until_known(self, told: Self) -> Self {
        Self {
            desired_min_tx: self.desired_min_tx.min(told.desired_min_tx),
            required_min_rx: self.required_min_rx.max(told.required_min_rx),
        }
    }
}

/// §6.8.7: a quarter less at most, so that senders do not fall into step. With a multiplier of 1 at least a tenth less: the
/// next packet must not be due when the peer's patience ends.
pub(super) fn jittered(interval: Duration, detect_multiplier: u8, random: &mut SplitMix64) -> Duration {
    /// Of 1024.
    const LEAST: u32 = 768;
    let most = if detect_multiplier == 1 { 921 } else { 1024 };
    let drawn = random.below(u64::from(most - LEAST) + 1);
    interval * (LEAST + u32::try_from(drawn).unwrap_or(0)) / 1024
}
