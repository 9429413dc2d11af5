//! Benches: ours beside what people run instead, in one run on one machine. They print ratios and assert nothing.

mod api;
pub mod at_scale;
pub mod bgp;
pub mod cluster;
pub mod cni;
pub mod flows;
pub mod nodes;
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

/// Of the first time in a line of a log, as RFC 3339 has it, in UTC.
fn time_of_day(line: &str) -> Option<Duration> {
    let time = line.split_once('T')?.1.split_once('Z')?.0;
    let mut parts = time.split(':').map(str::parse::<f64>);
    let (hours, minutes, seconds) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    Some(Duration::from_secs_f64(hours * 3600.0 + minutes * 60.0 + seconds))
}
