//! Where the truth comes from: a [`Datastore`] turns what users wrote into a stream of complete [`Snapshot`]s.
//!
//! In: Kubernetes objects, from wherever. Out: snapshots over a `watch` channel, where only the newest counts. The
//! first one is sent when everything has been listed once; until then the agent writes nothing.
//!
//! An object that cannot be understood is refused by name as a [`Problem`](weft_intent::Problem) while its last good version stays in force.

pub mod dir;
pub mod kubernetes;

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_intent::Snapshot;

/// `None` until everything has been listed once.
pub type SnapshotSender = watch::Sender<Option<Arc<Snapshot>>>;
pub type SnapshotReceiver = watch::Receiver<Option<Arc<Snapshot>>>;

/// A source of snapshots. It survives any outage of what is behind it, on what it last knew.
pub trait Datastore {
    /// As the user named it, for status and logs.
    fn name(&self) -> String;

    /// Watches until `stop`; each change to the objects ends in one more complete snapshot.
    fn run(self, out: SnapshotSender, stop: CancellationToken) -> impl Future<Output = ()> + Send;
}
