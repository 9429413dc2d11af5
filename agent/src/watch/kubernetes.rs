//! The datastore `kubernetes`: one watch per kind that we read, on the API server, and one per Secret that a session names.
//!
//! In: objects as the server has them, cut down at once to the fields that we act on. Out: snapshots, the first when
//! every watch has listed once. While the server is away nothing changes; what was missed meanwhile becomes one snapshot.

pub mod client;
mod objects;
mod part;
mod raw;
mod scope;
mod secrets;
mod shared;

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::OptionFuture;
use futures::stream::{self, BoxStream};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use weft_intent::Kind;

use self::client::Heard;
use self::objects::Objects;
use self::raw::Raw;
use self::scope::Scope;
use self::secrets::Secrets;
use super::{Datastore, SnapshotSender};
use crate::supervise::Supervisor;

/// Every kind that the agent reads all objects of.
const KINDS: [Kind; 10] = [
    Kind::Node,
    Kind::Namespace,
    Kind::Pod,
    Kind::NetworkPolicy,
    Kind::BgpConfiguration,
    Kind::BgpPeer,
    Kind::BgpPeerProfile,
    Kind::BgpNodeOverride,
    Kind::BgpFilter,
    Kind::BgpAdvertisement,
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
    heard: Heard,
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
    /// `client` notes in `heard` what it hears.
    pub fn new(client: Client, heard: Heard, namespace: String, node: String, tasks: Supervisor) -> Self {
        Self { client, heard, namespace, node, tasks }
    }

    fn api(&self, scope: &Scope) -> Api<Raw> {
        match scope {
            Scope::All(kind) => Api::all_with(self.client.clone(), kind),
            Scope::Secret(_) => Api::namespaced_with(self.client.clone(), &self.namespace, &Kind::Secret),
        }
    }

    /// Sends the events of one watch until `events` closes. A server that cannot stream lists is asked for pages.
    async fn watch(self, scope: Scope, events: mpsc::Sender<(Scope, Event)>) {
        let config = watcher::Config { field_selector: scope.field_selector(), ..watcher::Config::default() };
        for config in [config.clone().streaming_lists(), config.page_size(PAGE)] {
            let mut stream = std::pin::pin!(watcher(self.api(&scope), config).default_backoff());
            let (mut listed, mut failing) = (false, false);
            while let Some(result) = stream.next().await {
                match result {
                    Ok(event) => {
                        listed |= matches!(event, Event::InitDone);
                        failing &= matches!(event, Event::Init);
                        if events.send((scope.clone(), event)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) if !listed && cannot_stream(&error) => {
                        info!(watch = %scope, %error, "the API server does not stream lists; asking for pages");
                        break;
                    }
                    // Once per outage, which may be long.
                    Err(error) if !std::mem::replace(&mut failing, true) => {
                        warn!(watch = %scope, %error, "watch failed, retrying");
                    }
                    Err(error) => debug!(watch = %scope, %error, "watch failed again, retrying"),
                }
            }
        }
    }

    /// The same as a stream, which asks only while it is polled.
    fn events(self, scope: Scope) -> BoxStream<'static, (Scope, Event)> {
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        let events = stream::unfold(events, async |mut events| Some((events.recv().await?, events)));
        let work = stream::once(self.watch(scope, sender)).filter_map(async |()| None);
        stream::select(events, work).boxed()
    }

    /// Starts those of kinds. `patience` is that of [`Secrets`].
    fn watches(self, patience: Duration) -> Watches {
        let (sender, kinds) = mpsc::channel(EVENT_QUEUE);
        for kind in KINDS {
            self.tasks.task(format!("watch of {kind}"), self.clone().watch_kind(kind, sender.clone()));
        }
        Watches { kinds, secrets: Secrets::new(self, patience) }
    }

    async fn watch_kind(self, kind: Kind, events: mpsc::Sender<(Scope, Event)>) {
        tokio::time::sleep(self.start_delay()).await;
        self.watch(kind.into(), events).await;
    }

    fn start_delay(&self) -> Duration {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&self.node);
        START_SPREAD.mul_f64((hash % 1000) as f64 / 1000.0)
    }
}

impl Datastore for KubernetesDatastore {
    fn name(&self) -> String {
        weft_api::Datastore::Kubernetes.to_string()
    }

    async fn run(self, out: SnapshotSender, stop: CancellationToken) {
        stop.run_until_cancelled(keep(self.watches(secrets::LISTED_WITHIN), out)).await;
    }
}

/// Makes snapshots of what `watches` say, until they end.
async fn keep(mut watches: Watches, out: SnapshotSender) {
    let mut objects = Objects::new(&KINDS);
    let mut not_before = Instant::now();
    loop {
        let waiting = watches.secrets.wait_until(Instant::now());
        tokio::select! {
            event = watches.next() => match event {
                Some(event) => take_batch(event, &mut watches, &mut objects, not_before).await,
                None => return,
            },
            Some(()) = OptionFuture::from(waiting.map(tokio::time::sleep_until)) => {}
        }
        watches.secrets.follow(&mut objects, Instant::now());
        let complete = objects.listed() && watches.secrets.wait_until(Instant::now()).is_none();
        if complete && objects.take_changed() {
            out.send_replace(Some(Arc::new(objects.snapshot())));
            not_before = Instant::now() + COALESCE;
        }
    }
}

struct Watches {
    kinds: mpsc::Receiver<(Scope, Event)>,
    secrets: Secrets,
}

impl Watches {
    /// `None` when those of kinds have ended.
    async fn next(&mut self) -> Option<(Scope, Event)> {
        tokio::select! {
            event = self.kinds.recv() => event,
            Some(event) = self.secrets.next() => Some(event),
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
async fn take_batch(first: (Scope, Event), watches: &mut Watches, objects: &mut Objects, deadline: Instant) {
    objects.handle(first.0, first.1);
    while let Ok(Some((scope, event))) = tokio::time::timeout_at(deadline, watches.next()).await {
        objects.handle(scope, event);
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

    /// Whose API server does not answer requests, and panics at one that ends so.
    fn datastore(panics_at: &'static str, tasks: Supervisor) -> KubernetesDatastore {
        let client = Client::new(
            tower::service_fn(move |request: Request<Body>| async move {
                assert!(!request.uri().path().ends_with(panics_at), "injected");
                std::future::pending::<Result<Response<Body>, BoxError>>().await
            }),
            "default",
        );
        KubernetesDatastore::new(client, Heard::new(), "weft-system".to_owned(), "n1".to_owned(), tasks)
    }

    /// How many namespaces a batch holds, and how long it waited for them.
    async fn batch(names: &[&str], not_before: Duration) -> (usize, Duration) {
        let (sender, kinds) = mpsc::channel(EVENT_QUEUE);
        for name in names {
            let object = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
            sender.try_send((Kind::Namespace.into(), Event::Apply(object))).unwrap();
        }
        let secrets = Secrets::new(datastore("/", supervisor().0), Duration::ZERO);
        let (mut watches, mut objects) = (Watches { kinds, secrets }, Objects::new(&[]));
        let begun = Instant::now();
        let first = watches.next().await.unwrap();
        take_batch(first, &mut watches, &mut objects, begun + not_before).await;
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
        brief(datastore("/pods", tasks).run(watch::channel(None).0, CancellationToken::new()));
        assert_eq!(ends.first().await, "watch of Pod panicked");
    }
}
