use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bytes_of_lines::Lines;
use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tower::{BoxError, service_fn};
use weft_intent::{Kind, Snapshot};

use super::*;
use crate::supervise::{Ends, brief, supervisor};
use crate::testing::eventually;
use crate::watch::SnapshotReceiver;
use crate::watch::kubernetes::client::Heard;
use crate::watch::kubernetes::{KINDS, keep};

const LONG: Duration = Duration::from_secs(3600);

/// What an answer consists of.
mod bytes_of_lines {
    use std::convert::Infallible;
    use std::pin::Pin;

    use futures::stream::{self, Stream};
    use http_body_util::StreamBody;
    use hyper::body::{Bytes, Frame};
    use tokio::sync::mpsc;

    pub(super) type Lines = StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>>;

    pub(super) fn body(lines: mpsc::UnboundedReceiver<String>) -> Lines {
        StreamBody::new(Box::pin(stream::unfold(lines, async |mut lines| {
            let line = lines.recv().await?;
            Some((Ok(Frame::data(Bytes::from(line))), lines))
        })))
    }
}

/// An API server that has listed all kinds but Secrets, and the datastore that asks it.
struct Server {
    /// What was asked for Secrets.
    asked: Arc<Mutex<Vec<String>>>,
    open: Arc<Mutex<BTreeMap<Scope, mpsc::UnboundedSender<String>>>>,
    heard: Heard,
    snapshots: SnapshotReceiver,
    _ends: Ends,
}

impl Server {
    fn start(peers: &[Value], patience: Duration) -> Self {
        let (asked, open) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<BTreeMap<_, _>>>::default());
        let (tasks, ends) = supervisor();
        let client = {
            let (asked, open, peers) = (Arc::clone(&asked), Arc::clone(&open), peers.to_vec());
            let answer = move |request: Request<Body>| {
                let scope = Scope::of(request.uri()).expect("a list or a watch of ours");
                let (sender, lines) = mpsc::unbounded_channel();
                match scope.kind() {
                    Kind::Secret => asked.lock().unwrap().push(request.uri().to_string()),
                    Kind::BgpPeer => list(&sender, &peers),
                    _ => list(&sender, &[]),
                }
                open.lock().unwrap().insert(scope, sender);
                std::future::ready(Ok::<Response<Lines>, BoxError>(Response::new(bytes_of_lines::body(
                    lines,
                ))))
            };
            Client::new(service_fn(answer), "default")
        };
        let (out, snapshots) = watch::channel(None);
        let heard = Heard::new();
        let datastore =
            KubernetesDatastore::new(client, heard.clone(), "weft-system".to_owned(), "n1".to_owned(), tasks);
        brief(keep(datastore.watches(patience), out));
        Self { asked, open, heard, snapshots, _ends: ends }
    }

    /// Of each Secret that it is asked for, once that has happened.
    async fn is_asked_for(&self, names: &[&str]) {
        let names: BTreeSet<_> = names.iter().map(|name| secret(name)).collect();
        let open = || self.open.lock().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        eventually("asked", || names.is_subset(&open())).await;
    }

    fn send(&self, scope: impl Into<Scope>, what: &str, object: &Value) {
        event(&self.open.lock().unwrap()[&scope.into()], what, object);
    }

    /// The list of a Secret that is there.
    fn lists(&self, name: &str) {
        let object = json!({ "metadata": { "name": name, "namespace": "weft-system" }, "data": { "password": "eA==" } });
        list(&self.open.lock().unwrap()[&secret(name)], &[object]);
    }

    /// The first snapshot that was not seen.
    async fn next(&mut self) -> Arc<Snapshot> {
        tokio::time::timeout(Duration::from_secs(10), self.snapshots.changed()).await.expect("none").unwrap();
        self.snapshots.borrow_and_update().clone().unwrap()
    }
}

fn event(to: &mpsc::UnboundedSender<String>, what: &str, object: &Value) {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = json!("7");
    to.send(format!("{}\n", json!({ "type": what, "object": object }))).unwrap();
}

fn list(to: &mpsc::UnboundedSender<String>, objects: &[Value]) {
    for object in objects {
        event(to, "ADDED", object);
    }
    let end = json!({ "annotations": { "k8s.io/initial-events-end": "true" } });
    event(to, "BOOKMARK", &json!({ "apiVersion": "v1", "kind": "Any", "metadata": end }));
}

fn secret(name: &str) -> Scope {
    Scope::Secret(name.to_owned())
}

/// Its password stands in this Secret; nowhere for none.
fn peer(name: &str, password: &str) -> Value {
    let mut peer =
        json!({ "metadata": { "name": name }, "spec": { "address": "192.0.2.9", "asn": "external" } });
    if !password.is_empty() {
        peer["spec"]["session"] = session(password);
    }
    peer
}

fn session(password: &str) -> Value {
    json!({ "security": { "passwordSecret": { "name": password } } })
}

fn names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.secrets.keys().map(String::as_str).collect()
}

#[tokio::test]
async fn where_no_peer_has_a_password_nothing_is_asked() {
    let mut server = Server::start(&[peer("a", ""), peer("c", "_")], LONG);
    assert_eq!(server.next().await.bgp.peers.len(), 2);
    assert_eq!(server.asked.lock().unwrap().as_slice(), [""; 0]);
    assert_eq!(server.heard.ages(Instant::now()).len(), KINDS.len(), "no watch, so none that is silent");
}

#[tokio::test]
async fn only_what_peers_name_is_asked_for_and_the_first_snapshot_has_it() {
    let peers = [peer("a", "bgp"), peer("b", "bgp"), peer("c", "tor")];
    let mut server = Server::start(&peers, LONG);
    server.is_asked_for(&["bgp", "tor"]).await;
    server.lists("bgp");
    server.lists("tor");
    assert_eq!(names(&*server.next().await), ["bgp", "tor"]);
    let asked = server.asked.lock().unwrap();
    let is_by_name = |uri: &String| {
        uri.starts_with("/api/v1/namespaces/weft-system/secrets?")
            && uri.contains("fieldSelector=metadata.name%3D")
    };
    assert!(asked.len() == 2 && asked.iter().all(is_by_name), "{asked:?}");
}

#[tokio::test]
async fn what_profiles_and_the_configuration_name_is_asked_for_too() {
    let mut server = Server::start(&[], LONG);
    server.next().await;
    let object = |name: &str, secret: &str| json!({ "metadata": { "name": name }, "spec": { "session": session(secret) } });
    server.send(Kind::BgpPeerProfile, "ADDED", &object("tors", "of-tors"));
    server.is_asked_for(&["of-tors"]).await;
    server.send(Kind::BgpConfiguration, "ADDED", &object("default", "of-all"));
    server.is_asked_for(&["of-all"]).await;
}

#[tokio::test]
async fn a_peer_that_names_another_secret_is_not_seen_without_it() {
    let mut server = Server::start(&[], LONG);
    server.next().await;
    server.send(Kind::BgpPeer, "ADDED", &peer("a", "bgp"));
    server.is_asked_for(&["bgp"]).await;
    assert!(!server.snapshots.has_changed().unwrap());
    server.lists("bgp");
    let snapshot = server.next().await;
    assert_eq!((snapshot.bgp.peers.len(), names(&snapshot)), (1, vec!["bgp"]));
}

#[tokio::test]
async fn a_secret_that_nobody_may_read_is_waited_for_only_so_long() {
    let mut server = Server::start(&[peer("a", "bgp")], Duration::from_millis(50));
    assert_eq!(names(&*server.next().await), [""; 0]);
    server.lists("bgp");
    assert_eq!(names(&*server.next().await), ["bgp"]);
}

#[tokio::test]
async fn a_secret_that_no_peer_names_any_more_is_forgotten_and_its_watch_ends() {
    let mut server = Server::start(&[peer("a", "bgp"), peer("b", "tor")], LONG);
    server.is_asked_for(&["bgp", "tor"]).await;
    server.lists("bgp");
    server.lists("tor");
    server.next().await;
    server.send(Kind::BgpPeer, "DELETED", &peer("a", "bgp"));
    assert_eq!(names(&*server.next().await), ["tor"]);
    let is_closed = || server.open.lock().unwrap()[&secret("bgp")].is_closed();
    eventually("its watch has ended", is_closed).await;
    server.send(Kind::BgpPeer, "DELETED", &peer("b", "tor"));
    assert_eq!(names(&*server.next().await), [""; 0]);
    assert!(!server.heard.ages(Instant::now()).contains_key(&Kind::Secret));
}

#[tokio::test]
async fn a_secret_that_is_not_there_leaves_the_others() {
    let mut server = Server::start(&[peer("a", "bgp"), peer("b", "tor")], LONG);
    server.is_asked_for(&["bgp", "tor"]).await;
    server.lists("bgp");
    list(&server.open.lock().unwrap()[&secret("tor")], &[]);
    assert_eq!(names(&*server.next().await), ["bgp"]);
}

#[tokio::test]
async fn more_secrets_than_can_be_watched_are_named() {
    let peers: Vec<_> = (0..=MAX_SECRETS).map(|n| peer(&format!("p{n}"), &format!("s{n:03}"))).collect();
    let mut server = Server::start(&peers, Duration::from_millis(50));
    let snapshot = server.next().await;
    let last = format!("Secret weft-system/s{MAX_SECRETS:03}");
    let problem = snapshot.problems.iter().find(|problem| problem.about.to_string() == last);
    assert!(
        problem.is_some_and(|problem| problem.reason.contains("more than 64")),
        "{:?}",
        snapshot.problems
    );
    assert!(
        snapshot.problems.iter().all(|problem| problem.about.to_string() == last),
        "{:?}",
        snapshot.problems
    );

    server.send(Kind::BgpPeer, "DELETED", &peers[0]);
    server.is_asked_for(&[&format!("s{MAX_SECRETS:03}")]).await;
    assert!(server.open.lock().unwrap()[&secret("s000")].is_closed());
}
