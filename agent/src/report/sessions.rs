//! Of each BGPPeer how many of its sessions are established, as the WeftNodes of the nodes say.
//!
//! In: all WeftNodes. Out: `status.sessionsEstablished`, like `38/40`, where the server shows something else. That takes a view of
//! all nodes, so [`COUNTERS`] agents do it, the first in an order of the nodes' names; the others never ask for the WeftNodes. They
//! agree on nothing: the second writes what has not been right for some looks, so that while the first lives it writes nothing.

mod nodes;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, warn};
use weft_api::crd::{BGPPeer, WeftNode};
use weft_intent::plan::peers;
use weft_intent::{Kind, NodeInfo, ObjectKey, Snapshot};
use weft_policy::model::CopyOnWrite;

use self::nodes::Nodes;
use super::place;
use crate::agent::Agent;

/// Names the order of those who count.
const ORDER: &str = "sessions";
/// One may be away.
const COUNTERS: usize = 2;
/// Between two looks: each write is an event for every agent.
const LOOK: Duration = Duration::from_secs(30);
/// Looks that the second leaves to the first.
const PATIENCE: usize = 3;
/// Objects per page.
const PAGE: u32 = 100;
/// Not the manager of the conditions, which would give those up.
const MANAGER: &str = "weft-agent-sessions";

/// Until the snapshots end.
pub(super) async fn keep(agent: &Agent, client: Client) {
    let mut snapshots = agent.snapshots.clone();
    let mut turn = Turn::new(&agent.config.node);
    loop {
        if snapshots.wait_for(|snapshot| turn.rank(snapshot.as_deref()).is_some()).await.is_err() {
            return;
        }
        tokio::select! {
            () = count(agent, client.clone()) => return,
            other = snapshots.wait_for(|snapshot| turn.rank(snapshot.as_deref()).is_none()) => match other {
                Ok(_) => debug!("others count the sessions of peers"),
                Err(_) => return,
            },
        }
    }
}

/// Whether it is this node that counts. Asked of each snapshot, answered for each set of Nodes: most differ in pods alone.
struct Turn<'a> {
    node: &'a str,
    nodes: CopyOnWrite<BTreeMap<String, Arc<NodeInfo>>>,
    rank: Option<usize>,
}

impl<'a> Turn<'a> {
    fn new(node: &'a str) -> Self {
        Self { node, nodes: CopyOnWrite::default(), rank: None }
    }

    fn rank(&mut self, snapshot: Option<&Snapshot>) -> Option<usize> {
        let Snapshot { nodes, .. } = snapshot?;
        if *nodes != self.nodes {
            self.nodes = nodes.clone();
            self.rank = rank(nodes, self.node);
        }
        self.rank
    }
}

/// Among those who count; `None`: others do.
fn rank(nodes: &BTreeMap<String, Arc<NodeInfo>>, node: &str) -> Option<usize> {
    let own = place(ORDER, node, nodes.get(node)?);
    let earlier = nodes.iter().filter(|(name, info)| place(ORDER, name, info) < own);
    Some(earlier.take(COUNTERS).count()).filter(|rank| *rank < COUNTERS)
}

/// Of each peer: established of all on the nodes that it selects. A node of which nothing is known has one that is not.
fn counts(snapshot: &Snapshot, nodes: &Nodes, now: Instant) -> BTreeMap<String, String> {
    let count = |(name, spec): (&String, _)| {
        let (mut established, mut total) = (0, 0);
        for node in peers::selected(snapshot, spec).ok()? {
            let sessions = nodes.sessions(node, name, now);
            established += sessions.established;
            total += sessions.total.max(1);
        }
        Some((name.clone(), format!("{established}/{total}")))
    };
    snapshot.bgp.peers.iter().filter_map(count).collect()
}

async fn count(agent: &Agent, client: Client) {
    let api: Api<WeftNode> = Api::all(client.clone());
    let config = watcher::Config::default().page_size(PAGE);
    let mut events = pin!(watcher(api, config).default_backoff());
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut nodes, mut differing, mut failing) = (Nodes::default(), Differing::default(), false);
    loop {
        tokio::select! {
            event = events.try_next() => match event {
                Ok(Some(event)) => nodes.take(event, Instant::now(), Timestamp::now()),
                Ok(None) => return,
                Err(error) if nodes.is_deaf() => debug!(%error, "watch of WeftNode failed again, retrying"),
                Err(error) => {
                    nodes.lose(Instant::now());
                    warn!(%error, "watch of WeftNode failed, retrying");
                }
            },
            _ = ticks.tick(), if nodes.is_complete() => {
                let Some(snapshot) = agent.snapshots.borrow().clone() else { continue };
                let Some(rank) = rank(&snapshot.nodes, &agent.config.node) else { continue };
                let counts = counts(&snapshot, &nodes, Instant::now());
                let outcome = write(&client, differing.poll(&snapshot, counts, 1 + rank * PATIENCE)).await;
                match &outcome {
                    Err(error) if !failing => warn!(%error, "sessions not counted, retrying"),
                    Err(_) | Ok(()) => {}
                }
                failing = outcome.is_err();
            }
        }
    }
}

/// Counts that the server does not show, and at how many looks in a row. Pure.
#[derive(Debug, Default)]
struct Differing(BTreeMap<String, usize>);

impl Differing {
    /// Those that differ for so many looks.
    fn poll(
        &mut self,
        snapshot: &Snapshot,
        counts: BTreeMap<String, String>,
        looks: usize,
    ) -> Vec<(String, String)> {
        let is_shown = |name: &str, count: &str| {
            let shown = snapshot.shown.get(&ObjectKey::cluster(Kind::BgpPeer, name));
            shown.is_some_and(|shown| shown.sessions.as_deref() == Some(count))
        };
        let differing: Vec<_> = counts.into_iter().filter(|(name, count)| !is_shown(name, count)).collect();
        let before = std::mem::take(&mut self.0);
        let since = |name: &str| before.get(name).map_or(1, |looks| looks + 1);
        self.0 = differing.iter().map(|(name, _)| (name.clone(), since(name))).collect();
        differing.into_iter().filter(|(name, _)| self.0[name] >= looks).collect()
    }
}

/// As far as the server answers: what it says of one object it need not say of the next.
async fn write(client: &Client, counts: Vec<(String, String)>) -> kube::Result<()> {
    let api: Api<BGPPeer> = Api::all(client.clone());
    let params = PatchParams::apply(MANAGER).force();
    let mut refused = Ok(());
    for (name, count) in counts {
        let patch = json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "BGPPeer", "status": { "sessionsEstablished": count },
        });
        match api.patch_status(&name, &params, &Patch::Apply(&patch)).await {
            Ok(_) => {}
            // It went meanwhile.
            Err(kube::Error::Api(answer)) if answer.code == 404 => {}
            Err(kube::Error::Api(answer)) if (400..429).contains(&answer.code) => {
                refused = Err(kube::Error::Api(answer));
            }
            Err(error) => return Err(error),
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::StatusCode;
    use axum::routing::patch;
    use axum::{Json, Router};
    use kube::runtime::watcher::Event;
    use serde_json::Value;
    use weft_intent::BgpObjects;
    use weft_intent::shown::Shown;

    use super::*;

    fn weft_node(name: &str, peers: &[(&str, u32, u32)]) -> WeftNode {
        let sessions = |(name, established, total): &(&str, u32, u32)| json!({ "name": name, "established": established, "total": total });
        let sessions: Vec<_> = peers.iter().map(sessions).collect();
        let object = json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "WeftNode", "metadata": { "name": name }, "spec": {},
            "status": { "bgpPeers": sessions, "observedTime": Timestamp::now() },
        });
        serde_json::from_value(object).unwrap()
    }

    /// BGPPeers `all`, on every node, and `a`, on those of rack a.
    fn cluster(nodes: &[(&str, &str)]) -> Snapshot {
        let node = |(name, rack): &(&str, &str)| {
            let labels = [("rack".to_owned(), (*rack).to_owned())].into();
            ((*name).to_owned(), Arc::new(NodeInfo { labels, ..NodeInfo::default() }))
        };
        let spec = |selector: Value| {
            let spec = json!({ "address": "192.0.2.9", "asn": "external", "nodeSelector": selector });
            serde_json::from_value(spec).unwrap()
        };
        let peers = [
            ("all".to_owned(), spec(json!({}))),
            ("a".to_owned(), spec(json!({ "matchLabels": { "rack": "a" } }))),
        ];
        Snapshot {
            nodes: nodes.iter().map(node).collect(),
            bgp: CopyOnWrite::new(BgpObjects { peers: peers.into(), ..BgpObjects::default() }),
            ..Snapshot::default()
        }
    }

    fn told(counts: &[(&str, &str)]) -> BTreeMap<String, String> {
        counts.iter().map(|(name, count)| ((*name).to_owned(), (*count).to_owned())).collect()
    }

    #[test]
    fn sessions_count_on_nodes_that_are_selected_and_say_that_they_have_them() {
        let snapshot = cluster(&[("n1", "a"), ("n2", "a"), ("n3", "b"), ("n4", "b")]);
        let (mut nodes, now) = (Nodes::default(), Instant::now());
        for node in [
            weft_node("n1", &[("a", 1, 1), ("all", 1, 1)]),
            // Of `all` it has none, for whatever reason: its password is missing, it has just been made.
            weft_node("n2", &[("a", 0, 1)]),
            // No longer selected; of `all` it has several, as it might of a range.
            weft_node("n3", &[("a", 1, 1), ("all", 2, 3)]),
            weft_node("gone", &[("all", 1, 1)]),
        ] {
            nodes.take(Event::Apply(node), now, Timestamp::now());
        }
        assert_eq!(counts(&snapshot, &nodes, now), told(&[("a", "1/2"), ("all", "3/6")]));
    }

    #[test]
    fn two_of_all_nodes_count() {
        let names: Vec<_> = (0..300).map(|n| format!("n{n}")).collect();
        let snapshot = |count: usize| {
            cluster(&names[..count].iter().map(|name| (name.as_str(), "a")).collect::<Vec<_>>())
        };
        for (count, counters) in [(0, 0), (1, 1), (2, 2), (300, 2)] {
            let snapshot = snapshot(count);
            let mut ranks: Vec<_> = names.iter().filter_map(|name| rank(&snapshot.nodes, name)).collect();
            ranks.sort_unstable();
            assert_eq!(ranks, (0..counters).collect::<Vec<_>>(), "{count} nodes");
        }
    }

    #[test]
    fn who_counts_is_asked_again_when_there_are_other_nodes() {
        let names: Vec<_> = (0..300).map(|n| format!("n{n}")).collect();
        let nodes: Vec<_> = names.iter().map(|name| (name.as_str(), "a")).collect();
        let all = cluster(&nodes);
        let other = names.iter().find(|name| rank(&all.nodes, name).is_none()).unwrap();
        let mut turn = Turn::new(other);
        let alone = cluster(&[(other, "a")]);
        let asked = [None, Some(&all), Some(&alone), Some(&all), None];
        assert_eq!(asked.map(|snapshot| turn.rank(snapshot)), [None, None, Some(0), None, None]);
    }

    /// Of four counts, the second answered so: how many were tried, and whether all is well.
    async fn tried(code: u16) -> (usize, bool) {
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        let answer = async move || {
            let failure = json!({ "code": code, "status": "Failure" });
            let spec = json!({ "address": "192.0.2.1", "asn": "external" });
            let written = json!({ "metadata": { "name": "it" }, "spec": spec });
            match counted.fetch_add(1, Ordering::Relaxed) {
                1 => (StatusCode::from_u16(code).unwrap(), Json(failure)),
                _ => (StatusCode::OK, Json(written)),
            }
        };
        let path = "/apis/weft.dev/v1alpha1/bgppeers/{name}/status";
        let client = Client::new(Router::new().route(path, patch(answer)), "default");
        let counts = ["a", "b", "c", "d"].map(|name| (name.to_owned(), "1/1".to_owned()));
        let outcome = write(&client, counts.to_vec()).await;
        (tries.load(Ordering::Relaxed), outcome.is_ok())
    }

    #[tokio::test]
    async fn one_object_that_is_refused_costs_no_other_its_count_and_a_server_that_is_away_is_not_asked_for_each()
     {
        assert_eq!(tried(404).await, (4, true), "it went meanwhile");
        assert_eq!(tried(403).await, (4, false));
        assert_eq!(tried(429).await, (2, false));
        assert_eq!(tried(503).await, (2, false));
    }

    fn shows(snapshot: &mut Snapshot, name: &str, count: Option<&str>) {
        let shown = Shown { sessions: count.map(str::to_owned), ..Shown::default() };
        snapshot.shown.insert(ObjectKey::cluster(Kind::BgpPeer, name), shown);
    }

    #[test]
    fn what_the_server_shows_is_not_written_and_what_it_has_lost_is() {
        let (mut snapshot, mut differing) = (cluster(&[]), Differing::default());
        shows(&mut snapshot, "a", Some("1/2"));
        shows(&mut snapshot, "all", Some("3/6"));
        let counts = || told(&[("a", "1/2"), ("all", "4/6")]);
        let only_all = vec![("all".to_owned(), "4/6".to_owned())];
        assert_eq!(differing.poll(&snapshot, counts(), 1), only_all);
        shows(&mut snapshot, "all", Some("4/6"));
        assert_eq!(differing.poll(&snapshot, counts(), 1), []);
        // Somebody has deleted the object and made it anew, or has written what is not so.
        for count in [None, Some("9/9")] {
            shows(&mut snapshot, "all", count);
            assert_eq!(differing.poll(&snapshot, counts(), 1), only_all);
        }
    }

    #[test]
    fn the_second_writes_only_what_the_first_has_not_for_some_looks() {
        let (mut snapshot, mut differing) = (cluster(&[]), Differing::default());
        let mut writes = |snapshot: &Snapshot, count: &str| {
            !differing.poll(snapshot, told(&[("all", count)]), 1 + PATIENCE).is_empty()
        };
        // The first writes between two looks.
        for count in ["1/6", "2/6", "3/6", "4/6", "5/6"] {
            assert!(!writes(&snapshot, count));
            shows(&mut snapshot, "all", Some(count));
            assert!(!writes(&snapshot, count));
        }
        let looks: Vec<_> = (0..5).map(|_| writes(&snapshot, "6/6")).collect();
        assert_eq!(looks, [false, false, false, true, true]);
    }
}
