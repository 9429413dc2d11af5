//! Of each BGPPeer how many of its sessions are established, as the WeftNodes of the nodes say.
//!
//! In: all WeftNodes. Out: `status.sessionsEstablished`, like `38/40`, where it has changed. That takes a view of all nodes,
//! so [`COUNTERS`] agents do it, the first in an order of the nodes' names; the others never ask for the WeftNodes. They agree on
//! nothing: who comes second writes what is there already, which changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};
use weft_api::crd::{BGPPeer, WeftNode};
use weft_intent::plan::peers::{self, MESH};
use weft_intent::plan::seed;
use weft_intent::{NodeInfo, Snapshot};
use weft_policy::model::CopyOnWrite;

use crate::agent::Agent;

/// One may be away.
const COUNTERS: usize = 2;
/// Between two looks: each write is an event for every agent.
const LOOK: Duration = Duration::from_secs(30);
/// A node that has said nothing for so long has no agent, and no sessions: three heartbeats.
const SILENT: Duration = Duration::from_secs(15 * 60);
/// Objects per page.
const PAGE: u32 = 100;
/// Not the manager of the conditions, which would give those up.
const MANAGER: &str = "weft-agent-sessions";

/// Until the snapshots end.
pub(super) async fn keep(agent: &Agent, client: Client) {
    let mut snapshots = agent.snapshots.clone();
    let mut turn = Turn::new(&agent.config.node);
    loop {
        if snapshots.wait_for(|snapshot| turn.is_ours(snapshot.as_deref())).await.is_err() {
            return;
        }
        tokio::select! {
            () = count(agent, client.clone()) => return,
            other = snapshots.wait_for(|snapshot| !turn.is_ours(snapshot.as_deref())) => match other {
                Ok(_) => debug!("others count the sessions of peers"),
                Err(_) => return,
            },
        }
    }
}

/// Whether it is this node that counts. Asked of each snapshot, answered for each set of Nodes: most differ in pods alone.
struct Turn<'a> {
    node: &'a str,
    nodes: Nodes,
    is_ours: bool,
}

type Nodes = CopyOnWrite<BTreeMap<String, Arc<NodeInfo>>>;

impl<'a> Turn<'a> {
    fn new(node: &'a str) -> Self {
        Self { node, nodes: Nodes::default(), is_ours: false }
    }

    fn is_ours(&mut self, snapshot: Option<&Snapshot>) -> bool {
        let Some(Snapshot { nodes, .. }) = snapshot else { return false };
        if *nodes != self.nodes {
            self.nodes = nodes.clone();
            self.is_ours = is_counter(nodes, self.node);
        }
        self.is_ours
    }
}

fn is_counter(nodes: &Nodes, node: &str) -> bool {
    let own = (seed(node), node);
    let before = nodes.keys().filter(|other| (seed(other), other.as_str()) < own);
    nodes.contains_key(node) && before.take(COUNTERS).count() < COUNTERS
}

/// What a WeftNode says of sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    /// BGPPeers that are down, as far as they are listed.
    down: BTreeSet<String>,
    /// More may be.
    cut: bool,
    observed: Timestamp,
}

impl Said {
    /// `None` where no agent has written yet.
    fn of(node: &WeftNode) -> Option<Self> {
        let status = node.status.as_ref()?;
        let (established, total) = status.peers_established.split_once('/')?;
        let down = total.parse::<usize>().ok()?.checked_sub(established.parse().ok()?)?;
        let is_mesh = |name: &str| name.starts_with(MESH);
        let names = status.peers_down.iter().map(|peer| peer.name.clone());
        Some(Self {
            // BGPPeers are listed before the mesh.
            cut: down > status.peers_down.len() && !status.peers_down.iter().any(|peer| is_mesh(&peer.name)),
            down: names.filter(|name| !is_mesh(name)).collect(),
            observed: status.observed_time.as_ref()?.0,
        })
    }

    fn is_established(&self, peer: &str, now: Timestamp) -> bool {
        let is_silent = now.duration_since(self.observed).unsigned_abs() > SILENT;
        !is_silent && !self.cut && !self.down.contains(peer)
    }
}

/// Of each peer: established of all nodes that it selects.
fn counts(snapshot: &Snapshot, said: &BTreeMap<String, Said>, now: Timestamp) -> BTreeMap<String, String> {
    let count = |(name, spec): (&String, _)| {
        let nodes: Vec<_> = peers::selected(snapshot, spec).ok()?.collect();
        let is_up = |node: &&&str| said.get(**node).is_some_and(|said| said.is_established(name, now));
        Some((name.clone(), format!("{}/{}", nodes.iter().filter(is_up).count(), nodes.len())))
    };
    snapshot.bgp.peers.iter().filter_map(count).collect()
}

async fn count(agent: &Agent, client: Client) {
    let api: Api<WeftNode> = Api::all(client.clone());
    let config = watcher::Config::default().page_size(PAGE);
    let mut events = pin!(watcher(api, config).default_backoff());
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut nodes, mut written) = (Known::default(), BTreeMap::new());
    let mut failing = false;
    loop {
        tokio::select! {
            event = events.try_next() => match event {
                Ok(Some(event)) => {
                    failing = false;
                    nodes.take(event);
                }
                Ok(None) => return,
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    warn!(%error, "watch of WeftNode failed, retrying");
                }
                Err(error) => debug!(%error, "watch of WeftNode failed again, retrying"),
            },
            _ = ticks.tick(), if nodes.listed => {
                let Some(snapshot) = agent.snapshots.borrow().clone() else { continue };
                let counts = counts(&snapshot, &nodes.said, Timestamp::now());
                write(&client, counts, &mut written).await;
            }
        }
    }
}

/// What nodes say.
#[derive(Debug, Default)]
struct Known {
    said: BTreeMap<String, Said>,
    /// Of a list that is under way.
    listing: BTreeMap<String, Said>,
    listed: bool,
}

impl Known {
    fn take(&mut self, event: Event<WeftNode>) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(node) => {
                self.listing.extend(Said::of(&node).map(|said| (node.name_any(), said)));
            }
            Event::InitDone => {
                self.said = std::mem::take(&mut self.listing);
                self.listed = true;
            }
            Event::Apply(node) => match Said::of(&node) {
                Some(said) => drop(self.said.insert(node.name_any(), said)),
                None => drop(self.said.remove(&node.name_any())),
            },
            Event::Delete(node) => drop(self.said.remove(&node.name_any())),
        }
    }
}

/// What has changed since it was written.
async fn write(client: &Client, counts: BTreeMap<String, String>, written: &mut BTreeMap<String, String>) {
    let api: Api<BGPPeer> = Api::all(client.clone());
    let params = PatchParams::apply(MANAGER).force();
    written.retain(|name, _| counts.contains_key(name));
    for (name, count) in counts {
        if written.get(&name) == Some(&count) {
            continue;
        }
        let patch = json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "BGPPeer", "status": { "sessionsEstablished": count },
        });
        match api.patch_status(&name, &params, &Patch::Apply(&patch)).await {
            Ok(_) => drop(written.insert(name, count)),
            // It went meanwhile.
            Err(kube::Error::Api(answer)) if answer.code == 404 => {}
            Err(error) => {
                warn!(object = %format!("BGPPeer {name}"), %error, "sessions not counted, retrying");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use weft_intent::BgpObjects;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    fn weft_node(name: &str, status: &Value) -> WeftNode {
        let object = json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "WeftNode", "metadata": { "name": name }, "spec": {}, "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    fn status(established: &str, down: &[&str], age: i64) -> Value {
        let down: Vec<_> = down.iter().map(|name| json!({ "name": name, "address": "192.0.2.1" })).collect();
        let observed = Timestamp::from_second(NOW - age).unwrap();
        json!({ "peersEstablished": established, "peersDown": down, "observedTime": observed })
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

    #[test]
    fn sessions_count_on_nodes_that_are_selected_and_say_so() {
        let snapshot = cluster(&[("n1", "a"), ("n2", "a"), ("n3", "b"), ("n4", "b"), ("n5", "b")]);
        let nodes = [
            weft_node("n1", &status("3/3", &[], 60)),
            weft_node("n2", &status("2/3", &["a"], 60)),
            // The mesh is down, and with it more than is listed.
            weft_node("n3", &status("1/90", &["mesh/n1", "mesh/n2"], 60)),
            // Six are down, one of them may be ours.
            weft_node("n4", &status("1/7", &["b", "c", "d", "e", "f"], 60)),
            weft_node("n5", &status("3/3", &[], 1000)),
            weft_node("gone", &status("3/3", &[], 60)),
        ];
        let mut known = Known::default();
        nodes.into_iter().for_each(|node| known.take(Event::Apply(node)));
        let expected =
            [("a", "1/2"), ("all", "3/5")].map(|(name, count)| (name.to_owned(), count.to_owned()));
        assert_eq!(counts(&snapshot, &known.said, now()), expected.into());
    }

    #[test]
    fn nodes_that_say_nothing_and_nodes_that_go_do_not_count() {
        let snapshot = cluster(&[("n1", "a"), ("n2", "a")]);
        let all = |nodes: &Known| counts(&snapshot, &nodes.said, now())["all"].clone();
        let mut nodes = Known::default();
        let up = |name| weft_node(name, &status("1/1", &[], 1));
        for node in [up("n1"), up("n2")] {
            nodes.take(Event::Apply(node));
        }
        assert_eq!(all(&nodes), "2/2");
        nodes.take(Event::Apply(weft_node("n2", &json!({}))));
        assert_eq!(all(&nodes), "1/2");
        nodes.take(Event::Delete(up("n1")));
        assert_eq!(all(&nodes), "0/2");
        // A list replaces what was known when it is complete.
        nodes.take(Event::Apply(up("n1")));
        nodes.take(Event::Init);
        nodes.take(Event::InitApply(up("n2")));
        assert_eq!((all(&nodes).as_str(), nodes.listed), ("1/2", false));
        nodes.take(Event::InitDone);
        assert_eq!((all(&nodes).as_str(), nodes.listed, nodes.said.contains_key("n1")), ("1/2", true, false));
    }

    #[test]
    fn two_of_all_nodes_count() {
        let names: Vec<_> = (0..300).map(|n| format!("n{n}")).collect();
        let snapshot = |count: usize| {
            cluster(&names[..count].iter().map(|name| (name.as_str(), "a")).collect::<Vec<_>>())
        };
        for (count, counters) in [(0, 0), (1, 1), (2, 2), (300, 2)] {
            let snapshot = snapshot(count);
            let chosen = names.iter().filter(|name| is_counter(&snapshot.nodes, name)).count();
            assert_eq!(chosen, counters, "{count} nodes");
        }
    }
    #[test]
    fn who_counts_is_asked_again_when_there_are_other_nodes() {
        let names: Vec<_> = (0..300).map(|n| format!("n{n}")).collect();
        let nodes: Vec<_> = names.iter().map(|name| (name.as_str(), "a")).collect();
        let all = cluster(&nodes);
        let other = names.iter().find(|name| !is_counter(&all.nodes, name)).unwrap();
        let mut turn = Turn::new(other);
        let alone = cluster(&[(other, "a")]);
        let asked = [None, Some(&all), Some(&alone), Some(&all), None];
        assert_eq!(asked.map(|snapshot| turn.is_ours(snapshot)), [false, false, true, false, false]);
    }
}
