//! The condition `Accepted` of the objects that users write: whether they are in force as written.
//!
//! In: snapshots, which carry what the server shows. Out: patches, where it shows something else. All agents come to the
//! same verdict and one of them must say it, so each has a rank for each object, out of the nodes' names: the first
//! writes at once, the next when the first has not within [`STEP`], and so on. With 3,000 nodes that is one request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::warn;
use weft_api::crd::{
    BGPAdvertisement, BGPConfiguration, BGPFilter, BGPNodeOverride, BGPPeer, BGPPeerProfile,
};
use weft_intent::plan::acceptance;
use weft_intent::shown::{ACCEPTED, Accepted, Shown};
use weft_intent::{Kind, ObjectKey, Snapshot};

use super::{MANAGER, place};
use crate::agent::Agent;

/// A patch, and its way back through the watches of all the others.
const STEP: Duration = Duration::from_secs(2);
/// Agents of two versions may disagree. Then the condition changes, but not at the pace of the network.
const AGAIN: Duration = Duration::from_secs(60);

/// Writes until the snapshots end.
pub(super) async fn keep(agent: &Agent, client: Client) {
    let mut snapshots = agent.snapshots.clone();
    let mut turns = Turns::new(&agent.config.node);
    let mut judged: Option<Arc<Snapshot>> = None;
    let mut next = None;
    loop {
        let differs = |now: &Option<Arc<Snapshot>>| {
            let Some(now) = now else { return false };
            judged.as_ref().is_none_or(|before| !acceptance::reads_the_same(before, now))
        };
        tokio::select! {
            found = snapshots.wait_for(differs) => match found {
                Ok(found) => judged.clone_from(&found),
                Err(_) => return,
            },
            () = until(next) => {}
        }
        let Some(snapshot) = &judged else { continue };
        let (due, at) = turns.poll(snapshot, Instant::now());
        next = at;
        for (key, verdict) in due {
            if let Err(error) = write(&client, &key, &verdict).await {
                warn!(object = %key, %error, "condition not written, retrying");
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What there is to say of one version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    refusal: Option<String>,
    generation: i64,
    /// When `status` stays what it is.
    since: Option<String>,
}

impl Verdict {
    fn new(refusal: Option<String>, shown: &Shown) -> Self {
        let status = Accepted::new(refusal.as_deref()).status;
        let since = shown.accepted.as_ref().filter(|accepted| accepted.status == status);
        let since = since.map(|accepted| accepted.last_transition_time.clone());
        Self { refusal, generation: shown.generation, since }
    }

    /// Whenever said.
    fn is_same(&self, other: &Self) -> bool {
        self.refusal == other.refusal && self.generation == other.generation
    }

    fn is_shown(&self, shown: &Shown) -> bool {
        let own = Accepted::new(self.refusal.as_deref());
        shown.accepted.as_ref().is_some_and(|accepted| {
            accepted.says_the_same(&own) && accepted.observed_generation == self.generation
        })
    }

    fn condition(&self) -> Value {
        let now = || Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let Accepted { status, reason, message, .. } = Accepted::new(self.refusal.as_deref());
        json!({
            "type": ACCEPTED, "status": status, "reason": reason, "message": message,
            "observedGeneration": self.generation,
            "lastTransitionTime": self.since.clone().unwrap_or_else(now),
        })
    }
}

/// When it is our turn to write. Pure.
#[derive(Debug)]
struct Turns {
    node: String,
    /// Verdicts that the server does not show, and when we say them.
    waiting: BTreeMap<ObjectKey, (Verdict, Instant)>,
    /// What we said last, and until when we do not say it again.
    rest: BTreeMap<ObjectKey, (Verdict, Instant)>,
}

impl Turns {
    fn new(node: &str) -> Self {
        Self { node: node.to_owned(), waiting: BTreeMap::new(), rest: BTreeMap::new() }
    }

    /// What to write, and when to ask again if nothing changes.
    fn poll(&mut self, snapshot: &Snapshot, now: Instant) -> (Vec<(ObjectKey, Verdict)>, Option<Instant>) {
        let verdicts = acceptance::judge(snapshot);
        self.rest.retain(|key, (_, until)| *until > now && verdicts.contains_key(key));
        let mut waiting = BTreeMap::new();
        for (key, refusal) in verdicts {
            let verdict = Verdict::new(refusal, &snapshot.shown[&key]);
            if verdict.is_shown(&snapshot.shown[&key]) {
                continue;
            }
            let turn = match self.waiting.remove(&key) {
                Some((before, turn)) if before == verdict => turn,
                _ => now + STEP * rank(&self.node, &key, snapshot),
            };
            let rest = self.rest.get(&key).filter(|(said, _)| said.is_same(&verdict));
            let turn = rest.map_or(turn, |(_, until)| turn.max(*until));
            waiting.insert(key, (verdict, turn));
        }
        self.waiting = waiting;
        let due: Vec<_> = self
            .waiting
            .iter()
            .filter(|(_, (_, turn))| *turn <= now)
            .map(|(key, (verdict, _))| (key.clone(), verdict.clone()))
            .collect();
        for (key, verdict) in &due {
            self.rest.insert(key.clone(), (verdict.clone(), now + AGAIN));
            self.waiting.entry(key.clone()).and_modify(|(_, turn)| *turn = now + AGAIN);
        }
        (due, self.waiting.values().map(|(_, turn)| *turn).min())
    }
}

/// How many nodes come before this one; another order for each object.
fn rank(node: &str, key: &ObjectKey, snapshot: &Snapshot) -> u32 {
    let what = key.to_string();
    let info = snapshot.nodes.get(node).cloned().unwrap_or_default();
    let own = place(&what, node, &info);
    let before = snapshot.nodes.iter().filter(|(name, info)| place(&what, name, info) < own).count();
    u32::try_from(before).unwrap_or(u32::MAX)
}

async fn write(client: &Client, key: &ObjectKey, verdict: &Verdict) -> kube::Result<()> {
    let resource = match key.kind {
        Kind::BgpConfiguration => ApiResource::erase::<BGPConfiguration>(&()),
        Kind::BgpPeer => ApiResource::erase::<BGPPeer>(&()),
        Kind::BgpPeerProfile => ApiResource::erase::<BGPPeerProfile>(&()),
        Kind::BgpNodeOverride => ApiResource::erase::<BGPNodeOverride>(&()),
        Kind::BgpFilter => ApiResource::erase::<BGPFilter>(&()),
        Kind::BgpAdvertisement => ApiResource::erase::<BGPAdvertisement>(&()),
        Kind::Node | Kind::Namespace | Kind::Pod | Kind::NetworkPolicy | Kind::Secret => return Ok(()),
    };
    let patch = json!({
        "apiVersion": resource.api_version, "kind": resource.kind, "status": { "conditions": [verdict.condition()] },
    });
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let params = PatchParams::apply(MANAGER).force();
    match api.patch_status(&key.name, &params, &Patch::Apply(&patch)).await {
        // It went meanwhile.
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        answer => answer.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use weft_api::crd::BGPPeerSpec;
    use weft_intent::BgpObjects;
    use weft_policy::model::CopyOnWrite;

    use super::*;

    fn key() -> ObjectKey {
        ObjectKey { kind: Kind::BgpPeer, namespace: String::new(), name: "tor".to_owned() }
    }

    fn cluster(address: &str, generation: i64) -> Snapshot {
        let spec: BGPPeerSpec =
            serde_json::from_value(json!({ "address": address, "asn": "external" })).unwrap();
        Snapshot {
            nodes: (0..3_000).map(|n| (format!("n{n}"), Arc::default())).collect(),
            bgp: CopyOnWrite::new(BgpObjects {
                peers: [("tor".to_owned(), spec)].into(),
                ..BgpObjects::default()
            }),
            shown: [(key(), Shown { generation, ..Shown::default() })].into(),
            ..Snapshot::default()
        }
    }

    /// As the server shows it after a write.
    fn told(mut snapshot: Snapshot, verdict: &Verdict) -> Snapshot {
        let accepted: Accepted = serde_json::from_value(verdict.condition()).unwrap();
        let generation = snapshot.shown[&key()].generation;
        snapshot.shown.insert(key(), Shown { generation, accepted: Some(accepted), ..Shown::default() });
        snapshot
    }

    fn in_turn(snapshot: &Snapshot) -> Vec<&str> {
        let mut nodes: Vec<_> = snapshot.nodes.keys().map(String::as_str).collect();
        nodes.sort_by_key(|node| place(&key().to_string(), node, &snapshot.nodes[*node]));
        nodes
    }

    #[test]
    fn one_of_three_thousand_agents_writes_and_the_next_one_only_when_it_does_not() {
        let snapshot = cluster("10.0.0.1", 1);
        let now = Instant::now();
        let nodes = in_turn(&snapshot);
        let (first, second, last) = (nodes[0], nodes[1], nodes[2_999]);
        assert_eq!([first, second, last].map(|node| rank(node, &key(), &snapshot)), [0, 1, 2_999]);

        let (due, _) = Turns::new(first).poll(&snapshot, now);
        assert_eq!(due.len(), 1);
        let mut turns = Turns::new(second);
        assert_eq!(turns.poll(&snapshot, now), (vec![], Some(now + STEP)));
        assert_eq!(turns.poll(&told(snapshot.clone(), &due[0].1), now + STEP), (vec![], None));
        assert_eq!(Turns::new(second).poll(&snapshot, now).0, vec![]);
        let mut turns = Turns::new(second);
        turns.poll(&snapshot, now);
        assert_eq!(turns.poll(&snapshot, now + STEP).0, due);
    }

    #[test]
    fn a_refusal_says_why_and_for_which_version_and_keeps_its_time() {
        let snapshot = cluster("fe80::1", 4);
        let mut turns = Turns::new(in_turn(&snapshot)[0]);
        let now = Instant::now();
        let (due, _) = turns.poll(&snapshot, now);
        let condition = due[0].1.condition();
        assert_eq!((&condition["status"], &condition["observedGeneration"]), (&json!("False"), &json!(4)));
        assert!(condition["message"].as_str().unwrap().starts_with("spec.address: "), "{condition}");

        let mut shown = told(snapshot, &due[0].1);
        shown.shown.get_mut(&key()).unwrap().generation = 5;
        let (due, _) = turns.poll(&shown, now + AGAIN);
        assert_eq!(due[0].1.condition()["lastTransitionTime"], condition["lastTransitionTime"]);
    }

    #[test]
    fn who_is_contradicted_waits_before_writing_again() {
        let snapshot = cluster("10.0.0.1", 1);
        let mut turns = Turns::new(in_turn(&snapshot)[0]);
        let now = Instant::now();
        assert_eq!(turns.poll(&snapshot, now).0.len(), 1);
        let (due, next) = turns.poll(&snapshot, now + STEP);
        assert_eq!((due, next), (vec![], Some(now + AGAIN)));
        assert_eq!(turns.poll(&snapshot, now + AGAIN).0.len(), 1);
    }

    #[test]
    fn another_verdict_need_not_wait() {
        let refused = cluster("fe80::1", 1);
        let mut turns = Turns::new(in_turn(&refused)[0]);
        let now = Instant::now();
        let (due, _) = turns.poll(&refused, now);
        let mut mended = cluster("10.0.0.1", 2);
        mended.shown.insert(key(), told(refused, &due[0].1).shown[&key()].clone());
        mended.shown.get_mut(&key()).unwrap().generation = 2;
        let (due, _) = turns.poll(&mended, now + STEP);
        assert_eq!(due[0].1.condition()["status"], "True");
    }
}
