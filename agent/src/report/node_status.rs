//! The node's NodeStatus: made from the same parts that the control API shows.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use weft_api::control::{Peer, Pool};
use weft_api::crd::{NodeStatus, NodeStatusStatus, PeerSummary, PolicySummary, PoolSummary};

use super::MANAGER;
use crate::server::{Agent, summary};

/// More are only counted by the metrics: an object in etcd must stay small.
const MAX_PROBLEMS: usize = 32;

/// Without times, so that it changes only when something else did.
pub(super) async fn collect(agent: &Agent) -> NodeStatusStatus {
    let (status, peers, pools) = summary(agent).await;
    NodeStatusStatus {
        conditions: vec![ready(status.ready, &status.waiting_for)],
        version: status.version,
        peers_established: format!("{}/{}", status.peers_established, status.peers_total),
        peers: peers.into_iter().map(peer).collect(),
        routes: status.routes.values().sum(),
        pods: status.pods,
        pools: pools.into_iter().map(pool).collect(),
        policy: PolicySummary { revision: status.policy.revision, policies: status.policy.policies },
        problems: status.problems.into_iter().take(MAX_PROBLEMS).collect(),
    }
}

/// Creates the object where there is none; it goes with its Node.
pub(super) async fn write(agent: &Agent, client: &Client, status: &NodeStatusStatus) -> kube::Result<()> {
    let api: Api<NodeStatus> = Api::all(client.clone());
    let name = &agent.config.node;
    let params = PatchParams::apply(MANAGER).force();
    let mut status = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
    status["conditions"][0]["lastTransitionTime"] = json!(Time(Timestamp::now()));
    let patch = json!({ "apiVersion": "weft.dev/v1alpha1", "kind": "NodeStatus", "status": status });
    match api.patch_status(name, &params, &Patch::Apply(&patch)).await {
        Err(kube::Error::Api(answer)) if answer.code == 404 => {
            api.patch(name, &params, &Patch::Apply(&object(agent))).await?;
            api.patch_status(name, &params, &Patch::Apply(&patch)).await.map(drop)
        }
        other => other.map(drop),
    }
}

fn object(agent: &Agent) -> serde_json::Value {
    let name = &agent.config.node;
    let snapshot = agent.snapshots.borrow();
    let uid = snapshot.as_ref().and_then(|snapshot| snapshot.nodes.get(name)?.uid.clone());
    let owners: Vec<_> = uid
        .map(|uid| json!({ "apiVersion": "v1", "kind": "Node", "name": name, "uid": uid }))
        .into_iter()
        .collect();
    json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "NodeStatus",
        "metadata": { "name": name, "ownerReferences": owners }, "spec": {},
    })
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

fn peer(peer: Peer) -> PeerSummary {
    PeerSummary {
        accepted: peer.families.iter().map(|family| family.accepted).sum(),
        advertised: peer.families.iter().map(|family| family.advertised).sum(),
        name: peer.name,
        address: peer.address.to_string(),
        asn: peer.asn,
        state: peer.state,
        last_error: peer.last_error,
    }
}

fn pool(pool: Pool) -> PoolSummary {
    PoolSummary { cidr: pool.cidr, size: pool.size, used: pool.used }
}
