//! The datastore `kubernetes`: one watch per kind that we read, on the API server.
//!
//! In: objects as the server has them, cut down at once to the fields that we act on. Out: snapshots, the first when
//! every watch has listed once. While the server is away nothing changes; what was missed meanwhile becomes one snapshot.

mod objects;
mod raw;

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::objects::Objects;
use self::raw::Raw;
use super::{Datastore, Kind, SnapshotSender};

/// Every kind that the agent reads. Secrets are those of the agent's own namespace.
const KINDS: [Kind; 7] = [
    Kind::Node,
    Kind::Namespace,
    Kind::Pod,
    Kind::NetworkPolicy,
    Kind::Secret,
    Kind::BgpConfiguration,
    Kind::BgpPeer,
];
/// Events of one watch that wait for the store; the watch waits beyond.
const EVENT_QUEUE: usize = 1024;
/// What arrives within this time of the first event makes one snapshot.
const COALESCE: Duration = Duration::from_millis(5);
/// Objects per page where the server cannot stream a list.
const PAGE: u32 = 500;
/// Agents that start together spread their lists over this time.
const START_SPREAD: Duration = Duration::from_millis(500);

/// What the watches need to know.
#[derive(Clone)]
pub struct KubernetesDatastore {
    client: Client,
    /// Where passwords of BGP peers are looked for.
    namespace: String,
    /// Spreads the agents' start.
    node: String,
}

impl std::fmt::Debug for KubernetesDatastore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesDatastore").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

type Event = watcher::Event<Raw>;

impl KubernetesDatastore {
    pub fn new(client: Client, namespace: String, node: String) -> Self {
        Self { client, namespace, node }
    }

    fn api(&self, kind: Kind) -> Api<Raw> {
        match kind {
            Kind::Secret => Api::namespaced_with(self.client.clone(), &self.namespace, &kind),
            _ => Api::all_with(self.client.clone(), &kind),
        }
    }

    /// Sends the events of one kind until `events` closes. A server that cannot stream lists is asked for pages.
    async fn watch(self, kind: Kind, events: mpsc::Sender<(Kind, Event)>) {
        tokio::time::sleep(self.start_delay()).await;
        let streamed = watcher::Config::default().streaming_lists();
        let paged = watcher::Config::default().page_size(PAGE);
        for config in [streamed, paged] {
            let mut stream = std::pin::pin!(watcher(self.api(kind), config).default_backoff());
            let (mut listed, mut failing) = (false, false);
            while let Some(result) = stream.next().await {
                match result {
                    Ok(event) => {
                        listed |= matches!(event, Event::InitDone);
                        failing &= matches!(event, Event::Init);
                        if events.send((kind, event)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) if !listed && cannot_stream(&error) => {
                        info!(%kind, %error, "the API server does not stream lists; asking for pages");
                        break;
                    }
                    // Once per outage, which may be long.
                    Err(error) if !std::mem::replace(&mut failing, true) => {
                        warn!(%kind, %error, "watch failed, retrying");
                    }
                    Err(error) => debug!(%kind, %error, "watch failed again, retrying"),
                }
            }
        }
    }

    fn start_delay(&self) -> Duration {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&self.node);
        START_SPREAD.mul_f64((hash % 1000) as f64 / 1000.0)
    }
}

impl Datastore for KubernetesDatastore {
    fn name(&self) -> String {
        "kubernetes".to_owned()
    }

    async fn run(self, out: SnapshotSender, stop: CancellationToken) {
        let (sender, mut events) = mpsc::channel(EVENT_QUEUE);
        let watches: Vec<_> = KINDS.map(|kind| tokio::spawn(self.clone().watch(kind, sender.clone()))).into();
        drop(sender);
        let mut objects = Objects::new(&KINDS);
        while let Some(event) = stop.run_until_cancelled(events.recv()).await.flatten() {
            take_batch(event, &mut events, &mut objects).await;
            if objects.listed() {
                publish(&objects, &out);
            }
        }
        for watch in watches {
            watch.abort();
        }
    }
}

/// A server from before streamed lists answers with 400 or 422, one whose etcd is too old (3.4) with an error on the
/// stream; both would do so for ever.
fn cannot_stream(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => matches!(status.code, 400 | 422),
        watcher::Error::WatchError(_) => true,
        _ => false,
    }
}

/// Takes `first` and what follows it closely.
async fn take_batch(first: (Kind, Event), events: &mut mpsc::Receiver<(Kind, Event)>, objects: &mut Objects) {
    objects.handle(first.0, first.1);
    let deadline = Instant::now() + COALESCE;
    while let Ok(Some((kind, event))) = tokio::time::timeout_at(deadline, events.recv()).await {
        objects.handle(kind, event);
    }
}

fn publish(objects: &Objects, out: &SnapshotSender) {
    let snapshot = objects.snapshot();
    out.send_if_modified(|current| {
        let changed = current.as_deref() != Some(&snapshot);
        if changed {
            *current = Some(Arc::new(snapshot));
        }
        changed
    });
}
