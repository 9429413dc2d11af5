//! Against real inotify in a temporary directory: every assertion waits for a snapshot, with a deadline.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::watch;
use tokio::time::timeout;
use weft_intent::Snapshot;

use super::*;
use crate::supervise::brief;
use crate::watch::SnapshotReceiver;

const DEADLINE: Duration = Duration::from_secs(5);

struct Watched {
    path: PathBuf,
    snapshots: SnapshotReceiver,
    stop: CancellationToken,
}

impl Watched {
    fn new(prepare: impl FnOnce(&Path)) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("weft-dir-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        prepare(&path);
        let (sender, snapshots) = watch::channel(None);
        let stop = CancellationToken::new();
        brief(DirDatastore::new(path.clone()).run(sender, stop.clone()));
        Self { path, snapshots, stop }
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let wait = self.snapshots.wait_for(|snapshot| snapshot.as_deref().is_some_and(&holds));
        let found = timeout(DEADLINE, wait).await;
        let found = found.unwrap_or_else(|_| panic!("{what} did not come")).unwrap();
        Arc::clone(found.as_ref().unwrap())
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path.join(name), text).unwrap();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n---\n")
}

fn has(name: &str) -> impl Fn(&Snapshot) -> bool + '_ {
    move |snapshot| snapshot.world.namespaces.contains_key(name)
}

#[tokio::test]
async fn an_empty_directory_is_a_complete_snapshot() {
    let mut watched = Watched::new(|_| {});
    let snapshot = watched.until("the first snapshot", |_| true).await;
    assert_eq!(*snapshot, Snapshot::default());
}

#[tokio::test]
async fn files_are_read_at_start_and_when_written_changed_and_removed() {
    let mut watched = Watched::new(|path| fs::write(path.join("a.yaml"), namespace("one")).unwrap());
    let first = watched.until("the first snapshot", |_| true).await;
    assert!(has("one")(&first), "the first snapshot is complete");

    watched.write("b.yml", &namespace("two"));
    watched.until("a new file", has("two")).await;
    watched.write("b.yml", &(namespace("three")));
    watched.until("a changed file", |s| has("three")(s) && !has("two")(s)).await;
    fs::remove_file(watched.path.join("a.yaml")).unwrap();
    watched.until("a removed file", |s| !has("one")(s) && has("three")(s)).await;
}

#[tokio::test]
async fn an_editors_rename_over_the_file_replaces_it() {
    let mut watched = Watched::new(|path| fs::write(path.join("a.yaml"), namespace("one")).unwrap());
    watched.until("the first snapshot", has("one")).await;

    watched.write(".a.yaml.swp", &namespace("hidden"));
    watched.write("a.yaml~", &namespace("backup"));
    watched.write("4913", &namespace("probe"));
    fs::rename(watched.path.join(".a.yaml.swp"), watched.path.join("a.yaml")).unwrap();
    let snapshot = watched.until("the renamed file", has("hidden")).await;
    assert_eq!(snapshot.world.namespaces.len(), 1, "neither backup nor probe is read: {snapshot:?}");

    fs::rename(watched.path.join("a.yaml"), watched.path.join("b.txt")).unwrap();
    watched.until("the file moved out of sight", |s| s.world.namespaces.is_empty()).await;
}

#[tokio::test]
async fn a_half_written_file_is_not_read_before_it_is_closed() {
    use std::io::Write;
    let mut watched = Watched::new(|path| fs::write(path.join("a.yaml"), namespace("one")).unwrap());
    watched.until("the first snapshot", has("one")).await;

    let mut half = fs::File::create(watched.path.join("a.yaml")).unwrap();
    half.write_all(b"apiVersion: v1\nkind: Namespace\nmeta").unwrap();
    // Another file proves that events after the truncation have been handled.
    watched.write("b.yaml", &namespace("two"));
    let snapshot = watched.until("the other file", has("two")).await;
    assert!(has("one")(&snapshot) && snapshot.problems.is_empty(), "{snapshot:?}");

    half.write_all(b"data:\n  name: three\n").unwrap();
    drop(half);
    watched.until("the closed file", |s| has("three")(s) && !has("one")(s)).await;
}

#[tokio::test]
async fn bad_yaml_is_refused_by_name_and_the_rest_keeps_working() {
    let mut watched = Watched::new(|path| fs::write(path.join("a.yaml"), namespace("one")).unwrap());
    watched.until("the first snapshot", has("one")).await;

    watched.write("a.yaml", "apiVersion: v1\nkind: {oops\n");
    let snapshot = watched.until("the refusal", |s| !s.problems.is_empty()).await;
    assert_eq!(snapshot.problems.first().unwrap().about.to_string(), "a.yaml");
    assert!(has("one")(&snapshot), "the last good version stays");
    watched.write("b.yaml", &namespace("two"));
    watched.until("another file", |s| has("one")(s) && has("two")(s)).await;
    watched.write("a.yaml", &namespace("three"));
    watched.until("the repaired file", |s| s.problems.is_empty() && has("three")(s)).await;
}

#[tokio::test]
async fn files_behind_a_swapped_link_are_read_again() {
    let mut watched = Watched::new(|path| {
        fs::create_dir(path.join("..v1")).unwrap();
        fs::write(path.join("..v1/a.yaml"), namespace("one")).unwrap();
        std::os::unix::fs::symlink("..v1", path.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/a.yaml", path.join("a.yaml")).unwrap();
    });
    watched.until("the first snapshot", has("one")).await;

    fs::create_dir(watched.path.join("..v2")).unwrap();
    fs::write(watched.path.join("..v2/a.yaml"), namespace("two")).unwrap();
    std::os::unix::fs::symlink("..v2", watched.path.join("..tmp")).unwrap();
    fs::rename(watched.path.join("..tmp"), watched.path.join("..data")).unwrap();
    watched.until("the new version", |s| has("two")(s) && !has("one")(s)).await;
}

#[tokio::test]
async fn a_directory_that_goes_away_leaves_the_last_snapshot_in_force() {
    let mut watched = Watched::new(|path| fs::write(path.join("a.yaml"), namespace("one")).unwrap());
    watched.until("the first snapshot", has("one")).await;

    let aside = watched.path.with_extension("aside");
    fs::rename(&watched.path, &aside).unwrap();
    let snapshot = watched.until("the problem", |s| !s.problems.is_empty()).await;
    assert!(has("one")(&snapshot));
    fs::write(aside.join("b.yaml"), namespace("two")).unwrap();
    fs::rename(&aside, &watched.path).unwrap();
    watched.until("the directory again", |s| has("two")(s) && s.problems.is_empty()).await;
}
