//! How fast and in how much memory a speaker passes a full table from one peer to another.
//!
//! Two namespaces on one wire: the speaker under test alone in one, a sender and a receiver in the other. The receiver
//! checks off every prefix, so a speaker that loses one never finishes. Each speaker is a fresh process per run.

mod codec;
mod receiver;
mod routes;
mod sender;
mod session;
mod speaker;
mod testbed;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

pub use speaker::{Kind, run_weft};

use self::receiver::Receiver;
use self::routes::Routes;
use self::sender::Sender;
use self::speaker::Speaker;
use self::testbed::Testbed;

/// Until a speaker that does not converge is given up.
const LIMIT: Duration = Duration::from_secs(300);

/// What one speaker needed for one table.
struct Outcome {
    elapsed: Duration,
    /// Of the speaker's process, user and system.
    cpu: Duration,
    peak_rss_kib: u64,
}

/// Prints a table: the codec alone, then every size with every speaker, medians of `runs`.
pub fn run(sizes: &[u32], runs: usize) -> Result<()> {
    for size in sizes {
        ensure!(*size > 0 && *size <= routes::MAX, "between 1 and {} prefixes", routes::MAX);
    }
    ensure!(runs > 0, "at least one run");
    codec::run();
    let testbed = Testbed::raise()?;
    println!("\n{:>9} {:8} {:>10} {:>10} {:>10}", "prefixes", "speaker", "time s", "cpu s", "peak MiB");
    for &size in sizes {
        let routes = Routes::new(size);
        let mut outcomes = Vec::new();
        for kind in [Kind::Bird, Kind::Weft] {
            let outcome = median(|| measure(&testbed, kind, &routes), runs)?;
            print_outcome(size, kind, &outcome);
            outcomes.push(outcome);
        }
        if let [bird, weft] = &outcomes[..] {
            print_ratio(size, weft, bird);
        }
    }
    Ok(())
}

fn median(measure: impl Fn() -> Result<Outcome>, runs: usize) -> Result<Outcome> {
    let mut outcomes = (0..runs).map(|_| measure()).collect::<Result<Vec<_>>>()?;
    outcomes.sort_by_key(|outcome| outcome.elapsed);
    Ok(outcomes.swap_remove(runs / 2))
}

/// From the first octet sent to the last prefix received.
fn measure(testbed: &Testbed, kind: Kind, routes: &Routes) -> Result<Outcome> {
    let speaker = Speaker::start(testbed, kind)?;
    let receiver = Receiver::connect(testbed, routes)?;
    let sender = Sender::connect(testbed)?;
    let start = Instant::now();
    let sending = sender.send(routes)?;
    receiver.wait_for_all(LIMIT)?;
    let elapsed = start.elapsed();
    sending.finish()?;
    let (cpu, peak_rss_kib) = speaker.usage()?;
    Ok(Outcome { elapsed, cpu, peak_rss_kib })
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn print_outcome(size: u32, kind: Kind, outcome: &Outcome) {
    let (elapsed, cpu) = (outcome.elapsed.as_secs_f64(), outcome.cpu.as_secs_f64());
    println!("{size:>9} {:8} {elapsed:>10.3} {cpu:>10.3} {:>10.1}", kind.name(), mib(outcome.peak_rss_kib));
}

fn print_ratio(size: u32, weft: &Outcome, bird: &Outcome) {
    let time = weft.elapsed.as_secs_f64() / bird.elapsed.as_secs_f64();
    let cpu = weft.cpu.as_secs_f64() / bird.cpu.as_secs_f64();
    let memory = mib(weft.peak_rss_kib) / mib(bird.peak_rss_kib);
    println!("{size:>9} {:8} {time:>9.2}x {cpu:>9.2}x {memory:>9.2}x", "ratio");
}
