//! The Node object: its condition NetworkUnavailable, and its startup taint.

use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use weft_intent::object::NETWORK_READY;

use super::weft_node::now;
use crate::agent::Agent;

/// What the last snapshot shows to be missing.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Missing {
    /// Since when NetworkUnavailable is False already, for somebody else; `None` where the condition is right.
    condition: Option<Option<String>>,
    /// A JSON patch.
    taint: Option<Value>,
}

/// `None` when all is there.
pub(super) fn missing(agent: &Agent) -> Option<Missing> {
    let snapshot = agent.snapshots.borrow();
    let node = snapshot.as_ref()?.nodes.get(&agent.config.node)?;
    let taint = agent.config.startup_taint.as_deref();
    let missing = Missing {
        condition: (!node.network_available).then(|| node.available_since.clone()),
        taint: taint.and_then(|key| without_taint(&node.taints, key)),
    };
    (missing.condition.is_some() || missing.taint.is_some()).then_some(missing)
}

pub(super) async fn make_usable(agent: &Agent, client: &Client, missing: &Missing) -> kube::Result<()> {
    let name = &agent.config.node;
    let api: Api<Node> = Api::all(client.clone());
    if let Some(since) = &missing.condition {
        let patch = condition(since.as_deref(), &now().to_string());
        api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    }
    if let Some(patch) = &missing.taint {
        let patch = serde_json::from_value(patch.clone()).map_err(kube::Error::SerdeError)?;
        api.patch(name, &PatchParams::default(), &Patch::<()>::Json(patch)).await?;
    }
    Ok(())
}

fn condition(since: Option<&str>, now: &str) -> Value {
    json!({ "status": { "conditions": [{
        "type": "NetworkUnavailable", "status": "False", "reason": NETWORK_READY,
        "message": "routes and policy are in the kernel",
        "lastTransitionTime": since.unwrap_or(now), "lastHeartbeatTime": now,
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
    fn the_condition_keeps_the_time_since_when_it_has_its_status() {
        let (before, now) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let time = |since| condition(since, now)["status"]["conditions"][0]["lastTransitionTime"].clone();
        assert_eq!((time(Some(before)), time(None)), (json!(before), json!(now)));
    }

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
