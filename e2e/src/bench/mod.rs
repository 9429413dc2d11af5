//! Benches: ours beside what people run instead, in one run on one machine. They print ratios and assert nothing.

mod api;
pub mod at_scale;
pub mod bgp;
pub mod cluster;
pub mod cni;
pub mod flows;
mod paper;
pub mod policy_latency;
mod rest;

use std::time::Duration;

pub use self::paper::Scale;

/// The value at `rank` per cent of what was measured, at least one value.
fn percentile(times: &mut [Duration], rank: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * rank / 100]
}
