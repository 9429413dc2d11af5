//! The Node object: its condition NetworkUnavailable, and its startup taint.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::server::Agent;
use crate::watch::NodeInfo;
use crate::watch::object::NETWORK_READY;

/// Patches what the last snapshot shows to be missing; nothing when all is there.
pub(super) async fn make_usable(agent: &Agent, client: &Client) -> kube::Result<()> {
    let Some(info) = own_node(agent) else { return Ok(()) };
    let name = &agent.config.node;
    let api: Api<Node> = Api::all(client.clone());
    if !info.network_available {
        api.patch_status(name, &PatchParams::default(), &Patch::Strategic(condition())).await?;
    }
    let taint = agent.config.startup_taint.as_deref();
    if let Some(patch) = taint.and_then(|key| without_taint(&info.taints, key)) {
        let patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
        api.patch(name, &PatchParams::default(), &Patch::<()>::Json(patch)).await?;
    }
    Ok(())
}

fn own_node(agent: &Agent) -> Option<Arc<NodeInfo>> {
    agent.snapshots.borrow().as_ref()?.nodes.get(&agent.config.node).cloned()
}

fn condition() -> Value {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({ "status": { "conditions": [{
        "type": "NetworkUnavailable", "status": "False", "reason": NETWORK_READY,
        "message": "routes and policy are in the kernel",
        "lastTransitionTime": now, "lastHeartbeatTime": now,
    }]}})
}

/// A JSON patch that removes every taint with this key, and fails when the taints have changed meanwhile.
fn without_taint(taints: &[Value], key: &str) -> Option<Value> {
    let rest: Vec<_> = taints.iter().filter(|taint| taint["key"] != key).collect();
    (rest.len() < taints.len()).then(|| {
        json!([
            { "op": "test", "path": "/spec/taints", "value": taints },
            { "op": "replace", "path": "/spec/taints", "value": rest },
        ])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_startup_taint_goes_and_only_if_it_is_there() {
        let ours = json!({ "key": "weft.dev/starting", "effect": "NoSchedule" });
        let other = json!({ "key": "gpu", "effect": "NoSchedule", "value": "x" });
        let taints = [ours, other.clone()];
        let patch = without_taint(&taints, "weft.dev/starting").unwrap();
        assert_eq!(patch[0]["value"], json!(taints));
        assert_eq!(patch[1]["value"], json!([other]));
        assert_eq!(without_taint(&taints[1..], "weft.dev/starting"), None);
    }
}
