//! What BGP needs to know, kept over a restart and a reboot: an agent that starts while the API server is away speaks BGP
//! from it, and from what an operator wrote down for that case, until every watch has listed.
//!
//! In: snapshots that were planned from. Out: one file on a disk, and at the next start a [`Remembered`]. It holds nodes
//! and what says how they speak BGP: no pods and no policies, which are in force in the kernel as they were, and no
//! passwords unless that is asked for. A peer whose password is not kept stays down.

mod file;

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;
use tracing::{info, warn};
use weft_intent::Snapshot;

use crate::file::replace;
use crate::plan::changes::next_to_plan;
use crate::watch::{SnapshotReceiver, dir};

/// The state directory, where nothing else is said.
pub const STATE_DIR: &str = "/var/lib/weft";
/// In the state directory.
pub const STATE_FILE: &str = "bgp.json";
/// The least time between two writes: a cluster that grows changes often.
const REST: Duration = Duration::from_secs(10);
/// After a write that failed: a full disk is not emptied by trying.
const RETRY: Duration = Duration::from_secs(60);
/// Larger files are not ours: five thousand nodes are some 2 MB.
const MAX_BYTES: u64 = 64 << 20;

/// Where it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateConfig {
    /// Survives a reboot.
    pub dir: PathBuf,
    /// Keeps passwords of BGP peers too.
    pub passwords: bool,
    /// Objects that an operator wrote for a start without an API server.
    pub bootstrap: Option<PathBuf>,
}

/// What to speak BGP from while the API server has not been heard.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// Nothing in it but what BGP needs.
    pub snapshot: Snapshot,
    /// Where it is from, and of when, for people.
    pub source: String,
}

/// What is there for this node; a file that cannot be used is named in the log and left out.
pub async fn recall(config: &StateConfig, node: &str) -> Option<Remembered> {
    let path = config.dir.join(STATE_FILE);
    let stored = load(&path, node).unwrap_or_else(|error| {
        warn!(path = %path.display(), error = format!("{error:#}"), "what was known of BGP cannot be used");
        None
    });
    let written = match &config.bootstrap {
        None => None,
        Some(path) => read_bootstrap(path).await,
    };
    match (stored, written) {
        (Some(stored), Some(written)) => Some(stored.overridden_by(written)),
        (stored, written) => stored.or(written),
    }
}

impl Remembered {
    /// An operator's word counts more than what was true once: it may be there because that has ceased to be. Who writes
    /// down a Node's address says nothing of its other fields.
    fn overridden_by(mut self, other: Self) -> Self {
        for (name, said) in &other.snapshot.nodes {
            let node = Arc::make_mut(self.snapshot.nodes.entry(name.clone()).or_default());
            node.labels.extend(said.labels.clone());
            replace_by_some(&mut node.internal_ips, &said.internal_ips);
            replace_by_some(&mut node.pod_cidrs, &said.pod_cidrs);
        }
        self.snapshot.bgp.override_by(other.snapshot.bgp.into_inner());
        self.snapshot.secrets.extend(other.snapshot.secrets.into_inner());
        Self { snapshot: self.snapshot, source: format!("{} and {}", self.source, other.source) }
    }
}

fn replace_by_some<T: Clone>(kept: &mut Vec<T>, said: &[T]) {
    if !said.is_empty() {
        *kept = said.to_vec();
    }
}

async fn read_bootstrap(path: &Path) -> Option<Remembered> {
    match dir::read_one_file(path).await {
        Ok(snapshot) => {
            for problem in &snapshot.problems {
                warn!(object = %problem.about, error = problem.reason, "object refused");
            }
            Some(Remembered { snapshot, source: path.display().to_string() })
        }
        Err(error) => {
            warn!(path = %path.display(), %error, "bootstrap file cannot be read");
            None
        }
    }
}

/// `None` when there is none.
fn load(path: &Path, node: &str) -> anyhow::Result<Option<Remembered>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    let (at, snapshot) = file::decode(&text, node)?;
    Ok(Some(Remembered { snapshot, source: format!("{} of {at}", path.display()) }))
}

/// Keeps the file up to date until the snapshots end. What cannot be written is tried again; nothing waits for it.
pub async fn keep(config: StateConfig, node: String, snapshots: SnapshotReceiver) {
    keep_at_pace(config, node, snapshots, REST, RETRY).await;
}

async fn keep_at_pace(
    config: StateConfig,
    node: String,
    mut snapshots: SnapshotReceiver,
    rest: Duration,
    retry: Duration,
) {
    let mut before = None;
    while let Some(snapshot) = next_to_plan(&mut snapshots, &mut before).await {
        let mut failing = false;
        // Nothing is worth keeping before our Node is there.
        while snapshot.nodes.contains_key(&node) {
            match store(&config, &node, &snapshot) {
                Ok(()) => break,
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    warn!(path = %config.dir.display(), %error, "what is known of BGP cannot be kept, retrying");
                }
                Err(_) => {}
            }
            sleep(retry).await;
        }
        sleep(rest).await;
    }
}

fn store(config: &StateConfig, node: &str, snapshot: &Snapshot) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(&config.dir)?;
    let text = file::encode(snapshot, node, Timestamp::now(), config.passwords);
    replace(&config.dir.join(STATE_FILE), text.as_bytes(), 0o600)?;
    info!(path = %config.dir.display(), bytes = text.len(), "kept what is known of BGP");
    Ok(())
}

#[cfg(test)]
mod tests;
