//! What the agent tells the API server: its NodeStatus, the node's condition NetworkUnavailable, that a startup taint may
//! go, and whether objects that users wrote are in force.
//!
//! In: the agent's parts, looked at when one of them changes. Out: patches, only where the server does not say so
//! already. Nothing here is on the way of a pod or a route: when the server is away, what we want to say waits.

mod acceptance;
mod node;
mod node_status;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::readiness;
use crate::server::Agent;

/// Changes within this time make one report: a thousand pods that start are not a thousand requests.
const COALESCE: Duration = Duration::from_secs(10);
/// How soon the node's readiness is told, which pods wait for.
const READY_POLL: Duration = Duration::from_millis(200);
/// Whose fields these are, for server-side apply.
const MANAGER: &str = "weft-agent";

/// Reports until `cancel`. Errors are logged and tried again.
pub async fn run(agent: Arc<Agent>, client: Client, cancel: CancellationToken) {
    let reports = async {
        tokio::join!(
            keep_node_status(&agent, client.clone()),
            keep_node_usable(&agent, client.clone()),
            acceptance::keep(&agent, client.clone()),
        )
    };
    cancel.run_until_cancelled(reports).await;
}

async fn keep_node_status(agent: &Agent, client: Client) {
    let (mut told, mut failing) = (None, false);
    let mut ticks = interval(COALESCE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let want = node_status::collect(agent).await;
        if told.as_ref() == Some(&want) {
            continue;
        }
        match node_status::write(agent, &client, &want).await {
            Ok(()) => (told, failing) = (Some(want), false),
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(%error, "node status not written, retrying");
                }
            }
        }
    }
}

/// The node takes pods when routes and policy are in the kernel, and not before. It stays usable when the agent is
/// replaced: a restart keeps forwarding.
async fn keep_node_usable(agent: &Agent, client: Client) {
    let mut ticks = interval(READY_POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = None;
    loop {
        ticks.tick().await;
        if !readiness::waiting(agent).is_empty() {
            continue;
        }
        match node::make_usable(agent, &client).await {
            Ok(()) => failed = None,
            Err(error) => {
                let reason = error.to_string();
                if failed.as_ref() != Some(&reason) {
                    warn!(error = reason, "node not marked usable, retrying");
                }
                failed = Some(reason);
                tokio::time::sleep(COALESCE).await;
            }
        }
    }
}
