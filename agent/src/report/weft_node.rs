//! The node's WeftNode: what it says, made from the same parts that the control API shows.
//!
//! It says what is, not what is tried: a peer is established or not since some time, whatever its session does meanwhile.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use weft_api::control::{Peer, Pool, SessionState, Status};
use weft_api::crd::{PeerDown, PeerSessions, PolicySummary, PoolSummary, WeftNode, WeftNodeStatus};
use weft_intent::plan::peers::MESH;

use super::MANAGER;
use crate::agent::Agent;
use crate::server::summary;
use crate::watch::SnapshotReceiver;

/// What is listed of each kind; all are counted.
const MAX_PEERS_DOWN: usize = 5;
const MAX_BGP_PEERS: usize = 16;
const MAX_POOLS: usize = 4;
const MAX_PROBLEMS: usize = 5;
/// Longer texts are cut: names of objects have up to 253 characters, reasons quote what users wrote.
const MAX_TEXT: usize = 160;
/// Of the JSON form, whatever texts are in it: with a thousand nodes, etcd holds a thousand of these, each several times.
const MAX_BYTES: usize = 1900;

/// In full, without `observedTime`.
pub(super) async fn collect(agent: &Agent) -> WeftNodeStatus {
    let (status, peers, pools) = summary(agent).await;
    assemble(status, peers, pools)
}

fn assemble(status: Status, peers: Vec<Peer>, pools: Vec<Pool>) -> WeftNodeStatus {
    let bgp_peers = sessions(&peers);
    // Routers first: what is listed is cut, and a mesh is long.
    let mut down: Vec<_> =
        peers.into_iter().filter(|peer| peer.state != SessionState::Established).map(down).collect();
    down.sort_by_key(|peer| peer.name.starts_with(MESH));
    WeftNodeStatus {
        conditions: vec![ready(status.ready, &status.waiting_for)],
        version: status.version,
        observed_time: None,
        peers_established: format!("{}/{}", status.peers.established, status.peers.total),
        peers_down: down,
        bgp_peers,
        routes: status.kernel_routes.values().sum(),
        pods: status.pods,
        pools: pools.into_iter().map(pool).collect(),
        policy: PolicySummary { revision: status.policy.revision, policies: status.policy.policies },
        pod_mtu: status.pod_mtu,
        problem_count: u32::try_from(status.problems.len()).unwrap_or(u32::MAX),
        problems: status.problems,
    }
}

fn ready(ready: bool, waiting_for: &[String]) -> Condition {
    let (status, reason, message) = match ready {
        true => ("True", "Ready", "routes and policy are in the kernel".to_owned()),
        false => ("False", "Waiting", waiting_for.join("; ")),
    };
    Condition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        observed_generation: None,
    }
}

fn down(peer: Peer) -> PeerDown {
    PeerDown { name: peer.name, address: peer.address.to_string(), since: None, last_error: peer.last_error }
}

/// Of each BGPPeer.
fn sessions(peers: &[Peer]) -> Vec<PeerSessions> {
    let mut sessions: BTreeMap<&str, PeerSessions> = BTreeMap::new();
    for peer in peers.iter().filter(|peer| !peer.name.starts_with(MESH)) {
        let of_peer = sessions.entry(&peer.name).or_default();
        of_peer.name.clone_from(&peer.name);
        of_peer.established += u32::from(peer.state == SessionState::Established);
        of_peer.total += 1;
    }
    sessions.into_values().collect()
}

fn pool(pool: Pool) -> PoolSummary {
    PoolSummary { cidr: pool.cidr, size: pool.size, used: pool.used }
}

/// What has not changed since `before` keeps its time.
pub(super) fn date(status: &mut WeftNodeStatus, before: &WeftNodeStatus, now: Timestamp) {
    for condition in &mut status.conditions {
        let same = |other: &&Condition| other.type_ == condition.type_ && other.status == condition.status;
        let since = before.conditions.iter().find(same).map(|other| other.last_transition_time.clone());
        condition.last_transition_time = since.unwrap_or(Time(now));
    }
    let known: BTreeMap<_, _> =
        before.peers_down.iter().map(|peer| ((&peer.name, &peer.address), &peer.since)).collect();
    for peer in &mut status.peers_down {
        let since = known.get(&(&peer.name, &peer.address)).copied().cloned().flatten();
        peer.since = since.or(Some(Time(now)));
    }
}

/// As much of it as an object in etcd may hold.
pub(super) fn bounded(mut status: WeftNodeStatus) -> WeftNodeStatus {
    status.peers_down.truncate(MAX_PEERS_DOWN);
    status.bgp_peers.truncate(MAX_BGP_PEERS);
    status.pools.truncate(MAX_POOLS);
    status.problems.truncate(MAX_PROBLEMS);
    let problems = status.problems.iter_mut().flat_map(|problem| [&mut problem.object, &mut problem.reason]);
    let peers =
        status.peers_down.iter_mut().flat_map(|peer| [Some(&mut peer.name), peer.last_error.as_mut()]);
    let conditions = status.conditions.iter_mut().map(|condition| &mut condition.message);
    problems.chain(peers.flatten()).chain(conditions).for_each(shorten);
    while size(&status) > MAX_BYTES {
        // The last of the longest list is missed least, and what is counted elsewhere most.
        let shortened = if status.problems.len() >= status.peers_down.len() {
            status.problems.pop().is_some()
        } else {
            status.peers_down.pop().is_some()
        };
        if !shortened && status.bgp_peers.pop().is_none() {
            break;
        }
    }
    status
}

fn shorten(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
        text.push('…');
    }
}

fn size(status: &WeftNodeStatus) -> usize {
    serde_json::to_vec(status).map_or(0, |bytes| bytes.len())
}

/// Makes the object where there is none; it goes with its Node. Returns what it says; `None` while the datastore does not
/// show our Node, as without an owner it would stay for ever.
pub(super) async fn ensure(
    name: &str,
    snapshots: &SnapshotReceiver,
    client: &Client,
) -> kube::Result<Option<WeftNodeStatus>> {
    let snapshot = snapshots.borrow().clone();
    let Some(uid) = snapshot.and_then(|snapshot| snapshot.nodes.get(name)?.uid.clone()) else {
        return Ok(None);
    };
    let owner = json!({ "apiVersion": "v1", "kind": "Node", "name": name, "uid": uid });
    let object = patch(&json!({ "metadata": { "name": name, "ownerReferences": [owner] }, "spec": {} }));
    let api: Api<WeftNode> = Api::all(client.clone());
    let shown = api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object)).await?;
    Ok(Some(shown.status.unwrap_or_default()))
}

/// Also where somebody has deleted the object, unless it went with our Node.
pub(super) async fn write(
    name: &str,
    snapshots: &SnapshotReceiver,
    client: &Client,
    status: WeftNodeStatus,
) -> kube::Result<()> {
    let status = WeftNodeStatus { observed_time: Some(Time(now())), ..status };
    let patch = Patch::Apply(patch(&json!({ "status": status })));
    let api: Api<WeftNode> = Api::all(client.clone());
    let params = PatchParams::apply(MANAGER).force();
    let write = || api.patch_status(name, &params, &patch);
    match write().await {
        Err(kube::Error::Api(answer)) if answer.code == 404 => match ensure(name, snapshots, client).await? {
            Some(_) => write().await.map(drop),
            None => Ok(()),
        },
        answer => answer.map(drop),
    }
}

fn patch(fields: &Value) -> Value {
    let mut patch = json!({ "apiVersion": "weft.dev/v1alpha1", "kind": "WeftNode" });
    if let (Value::Object(patch), Value::Object(fields)) = (&mut patch, fields) {
        patch.extend(fields.clone());
    }
    patch
}

/// In whole seconds, as the API writes times.
pub(super) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex};

    use axum::http::StatusCode;
    use axum::routing::patch;
    use axum::{Json, Router};
    use tokio::sync::watch;
    use weft_api::control::Problem;
    use weft_intent::{NodeInfo, Snapshot};

    use super::*;

    /// A node of a full mesh, with some of its peers down.
    pub(in crate::report) fn node(peers: usize, down: usize, attempt: usize) -> WeftNodeStatus {
        let peer = |number: usize| {
            let state = match attempt % 3 {
                _ if number >= down => "Established",
                0 => "Idle",
                1 => "Connect",
                _ => "Active",
            };
            let text = json!({
                "name": format!("mesh/node{number:04}"), "address": "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "port": 179,
                "localAsn": 64512, "state": state, "stateSeconds": attempt, "families": [],
                "lastError": format!("cannot connect: attempt {attempt}"), "messagesIn": attempt, "messagesOut": attempt,
                "establishedCount": 1, "capabilities": [],
            });
            serde_json::from_value::<Peer>(text).unwrap()
        };
        let status = json!({
            "node": "n1", "version": "0.1.0", "ready": true, "waitingFor": [], "uptimeSeconds": attempt,
            "datastore": "kubernetes", "podCidrs": [], "peers": { "established": peers - down, "total": peers },
            "kernelRoutes": { "ipv4": 7 }, "pods": 3, "policy": { "revision": 1, "policies": 0, "chains": 0, "sets": 0, "setElements": 0 },
            "problems": [],
        });
        assemble(serde_json::from_value(status).unwrap(), (0..peers).map(peer).collect(), Vec::new())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn it_is_small_whatever_is_in_it_and_says_how_much_there_is() {
        let mut full = node(1_000, 1_000, 1);
        let problem = |number| Problem {
            object: format!("{number}{}", "\"ü".repeat(400)),
            reason: "\n".repeat(4_000),
        };
        full.problems = (0..500).map(problem).collect();
        full.problem_count = 500;
        full.conditions[0].message = "x".repeat(10_000);
        let pool =
            PoolSummary { cidr: "2001:db8:ffff:ffff:ffff::/80".into(), size: u64::MAX, used: u64::MAX };
        full.pools = vec![pool; 100];
        date(&mut full, &WeftNodeStatus::default(), at(0));
        let status = bounded(full);
        assert!(size(&status) <= MAX_BYTES, "{}", size(&status));
        assert_eq!((status.peers_established.as_str(), status.problem_count), ("0/1000", 500));
        assert!(!status.peers_down.is_empty() && !status.problems.is_empty(), "{status:?}");

        let mut usual = node(1_000, 1_000, 1);
        date(&mut usual, &WeftNodeStatus::default(), at(0));
        assert_eq!(bounded(usual).peers_down.len(), MAX_PEERS_DOWN);
    }

    fn peers(names: &[(&str, &str)]) -> Vec<Peer> {
        let peer = |(name, state): &(&str, &str)| {
            serde_json::from_value(json!({
                "name": name, "address": "192.0.2.1", "port": 179, "localAsn": 64512, "state": state, "stateSeconds": 1,
                "families": [], "messagesIn": 0, "messagesOut": 0, "establishedCount": 1, "capabilities": [],
            }))
            .unwrap()
        };
        names.iter().map(peer).collect()
    }

    #[test]
    fn of_each_bgppeer_it_says_how_many_sessions_there_are_and_are_up() {
        let all =
            peers(&[("tor", "Established"), ("down", "Idle"), ("mesh/n2", "Established"), ("tor", "Active")]);
        let said =
            |name: &str, established, total| PeerSessions { name: name.to_owned(), established, total };
        assert_eq!(sessions(&all), [said("down", 0, 1), said("tor", 1, 2)]);
    }

    #[test]
    fn of_many_bgppeers_as_many_are_named_as_there_is_room_for() {
        let listed = |length: usize| {
            let names: Vec<_> = (10..60).map(|number| format!("{number}{}", "x".repeat(length))).collect();
            let all: Vec<_> = names.iter().map(|name| (name.as_str(), "Established")).collect();
            let status = bounded(WeftNodeStatus { bgp_peers: sessions(&peers(&all)), ..node(3, 0, 0) });
            assert!(size(&status) <= MAX_BYTES, "{}", size(&status));
            status.bgp_peers.len()
        };
        assert_eq!(listed(10), 16);
        assert!((1..16).contains(&listed(200)));
    }

    #[tokio::test]
    async fn it_is_not_made_before_its_owner_is_known() {
        let made = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&made);
        let take = async move |body: String| {
            let object: Value = serde_json::from_str(&body).unwrap();
            seen.lock().unwrap().push(object.clone());
            Json(object)
        };
        let api = Router::new().route("/apis/weft.dev/v1alpha1/weftnodes/n1", patch(take));
        let client = Client::new(api, "default");
        let (snapshots, receiver) = watch::channel(None);
        let show = |uid: Option<&str>| {
            let node = NodeInfo { uid: uid.map(str::to_owned), ..NodeInfo::default() };
            let nodes = [("n1".to_owned(), Arc::new(node))].into();
            snapshots.send_replace(Some(Arc::new(Snapshot { nodes, ..Snapshot::default() })));
        };
        let ensure = || super::ensure("n1", &receiver, &client);

        assert_eq!(ensure().await.unwrap(), None, "nothing is listed");
        snapshots.send_replace(Some(Arc::default()));
        assert_eq!(ensure().await.unwrap(), None, "the Node is gone");
        show(None);
        assert_eq!(ensure().await.unwrap(), None, "no uid");
        assert_eq!(*made.lock().unwrap(), Vec::<Value>::new());

        show(Some("u1"));
        assert_eq!(ensure().await.unwrap(), Some(WeftNodeStatus::default()));
        let owner = json!([{ "apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1" }]);
        assert_eq!(made.lock().unwrap()[0]["metadata"]["ownerReferences"], owner);
    }

    #[tokio::test]
    async fn it_comes_back_when_somebody_has_deleted_it() {
        let is_there = Arc::new(Mutex::new(false));
        let (make, look) = (Arc::clone(&is_there), Arc::clone(&is_there));
        let make = async move |body: String| {
            *make.lock().unwrap() = true;
            body
        };
        let object = json!({ "metadata": { "name": "n1" }, "spec": {} }).to_string();
        let status = async move || match *look.lock().unwrap() {
            true => (StatusCode::OK, object.clone()),
            false => (StatusCode::NOT_FOUND, json!({ "code": 404, "status": "Failure" }).to_string()),
        };
        let path = "/apis/weft.dev/v1alpha1/weftnodes/n1";
        let api = Router::new().route(path, patch(make)).route(&format!("{path}/status"), patch(status));
        let client = Client::new(api, "default");
        let (snapshots, receiver) = watch::channel(None);
        let write = || super::write("n1", &receiver, &client, node(3, 0, 0));

        snapshots.send_replace(Some(Arc::default()));
        write().await.unwrap();
        assert!(!*is_there.lock().unwrap(), "it went with its Node");
        let own = NodeInfo { uid: Some("u1".to_owned()), ..NodeInfo::default() };
        let nodes = [("n1".to_owned(), Arc::new(own))].into();
        snapshots.send_replace(Some(Arc::new(Snapshot { nodes, ..Snapshot::default() })));
        write().await.unwrap();
        assert!(*is_there.lock().unwrap());
    }

    #[test]
    fn times_move_only_with_what_they_date_also_over_a_restart() {
        let mut first = node(3, 1, 0);
        date(&mut first, &WeftNodeStatus::default(), at(100));
        // What the server has is all that the next agent knows.
        let shown: WeftNodeStatus = serde_json::from_value(json!(bounded(first.clone()))).unwrap();
        let mut second = node(3, 2, 1);
        date(&mut second, &shown, at(200));
        assert_eq!(second.conditions[0].last_transition_time, Time(at(100)));
        assert_eq!(second.peers_down[0].since, Some(Time(at(100))));
        assert_eq!(second.peers_down[1].since, Some(Time(at(200))));

        let mut third = node(3, 0, 2);
        third.conditions = vec![super::ready(false, &["policy".to_owned()])];
        date(&mut third, &second, at(300));
        assert_eq!(third.conditions[0].last_transition_time, Time(at(300)));
    }
}
