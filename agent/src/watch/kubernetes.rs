//! The datastore `kubernetes`: one watch per kind that we read, on the API server.
//!
//! In: objects as the server has them, cut down at once to the fields that we act on. Out: snapshots, the first when
//! every watch has listed once. While the server is away nothing changes; what was missed meanwhile becomes one snapshot.

pub mod client;
mod objects;
mod raw;
mod shared;

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
use crate::supervise::Supervisor;

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
///
/// Few, as for pages: an event is an object as it came, several times larger than what is kept of it.
const EVENT_QUEUE: usize = 32;
/// The least time between two snapshots: the first event after some quiet makes one at once, a burst one now and then.
const COALESCE: Duration = Duration::from_millis(5);
/// Objects per page where the server cannot stream a list.
const PAGE: u32 = 100;
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
    tasks: Supervisor,
}

impl std::fmt::Debug for KubernetesDatastore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesDatastore").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

type Event = watcher::Event<Raw>;

impl KubernetesDatastore {
    pub fn new(client: Client, namespace: String, node: String, tasks: Supervisor) -> Self {
        Self { client, namespace, node, tasks }
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
        for kind in KINDS {
            self.tasks.task(format!("watch of {kind}"), self.clone().watch(kind, sender.clone()));
        }
        drop(sender);
        let mut objects = Objects::new(&KINDS);
        let mut not_before = Instant::now();
        while let Some(event) = stop.run_until_cancelled(events.recv()).await.flatten() {
            take_batch(event, &mut events, &mut objects, not_before).await;
            if objects.listed() && objects.take_changed() {
                out.send_replace(Some(Arc::new(objects.snapshot())));
                not_before = Instant::now() + COALESCE;
            }
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

/// Takes `first`, all that waits behind it, and what arrives until `deadline`.
async fn take_batch(
    first: (Kind, Event),
    events: &mut mpsc::Receiver<(Kind, Event)>,
    objects: &mut Objects,
    deadline: Instant,
) {
    objects.handle(first.0, first.1);
    while let Ok(Some((kind, event))) = tokio::time::timeout_at(deadline, events.recv()).await {
        objects.handle(kind, event);
    }
}

#[cfg(test)]
mod tests {
    use hyper::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use tokio::sync::watch;
    use tower::BoxError;

    use super::*;
    use crate::supervise::{brief, supervisor};

    fn namespaces(names: &[&str]) -> mpsc::Receiver<(Kind, Event)> {
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        for name in names {
            let object = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
            sender.try_send((Kind::Namespace, Event::Apply(object))).unwrap();
        }
        // Nobody closes it.
        std::mem::forget(sender);
        events
    }

    /// How many namespaces a batch holds, and how long it waited for them.
    async fn batch(names: &[&str], not_before: Duration) -> (usize, Duration) {
        let (mut events, mut objects) = (namespaces(names), Objects::new(&[]));
        let begun = Instant::now();
        let first = events.recv().await.unwrap();
        take_batch(first, &mut events, &mut objects, begun + not_before).await;
        (objects.snapshot().world.namespaces.len(), begun.elapsed())
    }

    #[tokio::test]
    async fn an_event_after_some_quiet_waits_for_no_other_and_takes_what_is_there() {
        for names in [&["a"][..], &["a", "b", "c"]] {
            let (taken, waited) = batch(names, Duration::ZERO).await;
            assert_eq!(taken, names.len());
            assert!(waited < COALESCE * 200, "{waited:?}");
        }
    }

    #[tokio::test]
    async fn an_event_soon_after_a_snapshot_waits_for_its_time() {
        let (taken, waited) = batch(&["a"], COALESCE * 4).await;
        assert!(taken == 1 && waited >= COALESCE * 4, "{waited:?}");
    }

    #[tokio::test]
    async fn a_watch_that_panics_is_missed() {
        let (tasks, mut ends) = supervisor();
        let client = Client::new(
            tower::service_fn(|request: Request<Body>| async move {
                assert!(!request.uri().path().ends_with("/pods"), "injected");
                std::future::pending::<Result<Response<Body>, BoxError>>().await
            }),
            "default",
        );
        let datastore = KubernetesDatastore::new(client, "weft-system".to_owned(), "n1".to_owned(), tasks);
        brief(datastore.run(watch::channel(None).0, CancellationToken::new()));
        assert_eq!(ends.first().await, "watch of Pod panicked");
    }
}
