//! The datastore `dir:PATH`: a directory of YAML files, watched. No control plane needed.
//!
//! In: files `*.yaml`, `*.yml`, `*.json` directly in the directory (not hidden ones), each with any number of
//! documents, each document what `kubectl apply` takes. Out: snapshots.
//!
//! A file is read when its writer has closed it, or when it is renamed or linked into place; never half-written.
//! While the directory itself is missing, the last snapshot stays in force.

mod changes;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use weft_intent::files::{Files, MAX_FILE_BYTES, is_read};
use weft_intent::{Problem, Snapshot};

use self::changes::{Changed, Changes};
use super::{Datastore, SnapshotSender};

/// How often a missing directory is looked for.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct DirDatastore {
    path: PathBuf,
}

impl DirDatastore {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Until the watch breaks. What was read stays in `files`.
    async fn watch(&self, files: &mut Files, out: &SnapshotSender) -> io::Result<()> {
        let mut changes = Changes::new(&self.path)?;
        self.read_all(files).await?;
        publish(files, BTreeSet::new(), out);
        info!(datastore = self.name(), files = files.count(), "directory listed");
        loop {
            match changes.next().await? {
                Changed::Names(names) => {
                    for name in names {
                        self.read_one(files, &name).await;
                    }
                }
                Changed::Unknown => self.read_all(files).await?,
                Changed::Gone => {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "removed or moved away"));
                }
            }
            publish(files, BTreeSet::new(), out);
        }
    }

    async fn read_all(&self, files: &mut Files) -> io::Result<()> {
        let mut names = BTreeSet::new();
        let mut entries = tokio::fs::read_dir(&self.path).await?;
        while let Some(entry) = entries.next_entry().await? {
            names.extend(entry.file_name().into_string().ok().filter(|name| is_read(name)));
        }
        files.retain(&names);
        for name in &names {
            self.read_one(files, name).await;
        }
        Ok(())
    }

    async fn read_one(&self, files: &mut Files, name: &str) {
        match read(&self.path.join(name)).await {
            Ok(text) => files.update(name, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => files.remove(name),
            Err(error) => files.unreadable(name, &error),
        }
    }
}

/// The objects of one such file, which is read once. Those that are refused are among the problems.
pub async fn read_one_file(path: &Path) -> io::Result<Snapshot> {
    let mut files = Files::default();
    files.update(&path.display().to_string(), &read(path).await?);
    Ok(files.snapshot(BTreeSet::new()))
}

impl Datastore for DirDatastore {
    fn name(&self) -> String {
        weft_api::Datastore::Dir(self.path.clone()).to_string()
    }

    async fn run(self, out: SnapshotSender, stop: CancellationToken) {
        let mut files = Files::default();
        loop {
            let broken = tokio::select! {
                result = self.watch(&mut files, &out) => result.err(),
                () = stop.cancelled() => return,
            };
            if let Some(error) = broken {
                warn!(datastore = self.name(), %error, "directory cannot be watched");
                let problem = Problem::of_source(self.name(), format!("cannot be watched: {error}"));
                if out.borrow().is_some() {
                    publish(&files, [problem].into(), &out);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

fn publish(files: &Files, more: BTreeSet<Problem>, out: &SnapshotSender) {
    let snapshot = files.snapshot(more);
    out.send_if_modified(|current| {
        let changed = current.as_deref() != Some(&snapshot);
        if changed {
            let known = current.as_ref().map(|previous| previous.problems.clone()).unwrap_or_default();
            for problem in snapshot.problems.difference(&known) {
                warn!(object = %problem.about, error = problem.reason, "object refused");
            }
            *current = Some(Arc::new(snapshot));
        }
        changed
    });
}

async fn read(path: &Path) -> io::Result<String> {
    let metadata = tokio::fs::metadata(path).await?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("larger than {MAX_FILE_BYTES} bytes")));
    }
    let bytes = tokio::fs::read(path).await?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("not UTF-8"))
}

#[cfg(test)]
mod tests;
