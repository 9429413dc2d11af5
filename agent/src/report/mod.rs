//! What the agent tells the API server: its WeftNode, the node's condition NetworkUnavailable, that a startup taint may
//! go, whether objects that users wrote are in force, and how many sessions of a BGPPeer are up.
//!
//! In: the agent's parts, looked at when one of them changes. Out: patches, only where the server does not say so
//! already. Nothing here is on the way of a pod or a route: when the server is away, what we want to say waits.

mod acceptance;
mod node;
mod pace;
mod sessions;
mod weft_node;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use weft_api::crd::WeftNodeStatus;
use weft_intent::NodeInfo;
use weft_intent::plan::seed;

use self::pace::Pace;
use crate::agent::Agent;
use crate::readiness;

/// How often the node's status is looked at; [`pace`] says when it is written.
const LOOK: Duration = Duration::from_secs(10);
/// A restart is no news: what an earlier agent wrote holds until this one is ready, or has had time enough for it.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How soon the node's readiness is told, which pods wait for.
const READY_POLL: Duration = Duration::from_millis(200);
/// After a request that failed: pods wait for it, but so do other requests.
const READY_RETRY: Duration = Duration::from_secs(1);
/// Whose fields these are, for server-side apply.
const MANAGER: &str = "weft-agent";

/// Reports until `cancel`. Errors are logged and tried again.
pub async fn run(agent: Arc<Agent>, client: Client, cancel: CancellationToken) {
    let reports = async {
        tokio::join!(
            keep_weft_node(&agent, client.clone()),
            keep_node_usable(&agent, client.clone()),
            acceptance::keep(&agent, client.clone()),
            sessions::keep(&agent, client.clone()),
        )
    };
    cancel.run_until_cancelled(reports).await;
}

async fn keep_weft_node(agent: &Agent, client: Client) {
    let (mut pace, mut before): (Option<Pace>, WeftNodeStatus) = Default::default();
    let mut failing = false;
    if agent.snapshots.clone().wait_for(Option::is_some).await.is_err() {
        return;
    }
    let _ = timeout(READY_WITHIN, until_ready(agent)).await;
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let outcome = match &mut pace {
            None => weft_node::ensure(&agent.config.node, &agent.snapshots, &client).await.map(|shown| {
                let Some(shown) = shown else { return };
                before.clone_from(&shown);
                pace = Some(Pace::new(shown));
                // So that the first word is not a tick late.
                ticks.reset_immediately();
            }),
            Some(pace) => tell(agent, &client, pace, &mut before).await,
        };
        match outcome {
            Ok(()) => failing = false,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(%error, "node status not written, retrying");
                }
            }
        }
    }
}

async fn until_ready(agent: &Agent) {
    while !readiness::waiting(agent).is_empty() {
        sleep(READY_POLL).await;
    }
}

/// `before` is what was last seen, written or not.
async fn tell(
    agent: &Agent,
    client: &Client,
    pace: &mut Pace,
    before: &mut WeftNodeStatus,
) -> kube::Result<()> {
    let mut status = weft_node::collect(agent).await;
    weft_node::date(&mut status, before, weft_node::now());
    before.clone_from(&status);
    let status = weft_node::bounded(status);
    if !pace.is_due(&status, Instant::now()) {
        return Ok(());
    }
    let outcome = weft_node::write(&agent.config.node, &agent.snapshots, client, status.clone()).await;
    match &outcome {
        Ok(()) => pace.wrote(status, Instant::now()),
        Err(_) => pace.failed(Instant::now()),
    }
    outcome
}

/// What a Node carries while its kubelet is not heard, and so most likely no agent either.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// In which order agents say what one of them must: those first that are known to run, in another order for each `what`.
fn place<'a>(what: &str, name: &'a str, node: &NodeInfo) -> (bool, u64, &'a str) {
    let unreachable = node.taints.iter().any(|taint| taint["key"] == UNREACHABLE);
    (unreachable || !node.network_available, seed(&format!("{what} {name}")), name)
}

/// The node takes pods when routes and policy are in the kernel, and not before. It stays usable when the agent is
/// replaced: a restart keeps forwarding.
async fn keep_node_usable(agent: &Agent, client: Client) {
    let mut ticks = interval(READY_POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = Said(None);
    let mut failed = None;
    loop {
        ticks.tick().await;
        let Some(missing) = node::missing(agent).filter(|_| readiness::waiting(agent).is_empty()) else {
            continue;
        };
        if !said.is_due(&missing, Instant::now()) {
            continue;
        }
        let outcome = node::make_usable(agent, &client, &missing).await.map_err(|error| error.to_string());
        if let Err(error) = &outcome
            && failed.as_ref() != Some(error)
        {
            warn!(error, "node not marked usable, retrying");
        }
        if outcome.is_err() {
            said.failed(Instant::now());
        }
        failed = outcome.err();
    }
}

/// What was asked of the server last, and until when it counts as said. It is asked again when something else is to be
/// said, or when the watch has not shown it within [`LOOK`].
#[derive(Debug)]
struct Said<T>(Option<(T, Instant)>);

impl<T: Clone + PartialEq> Said<T> {
    /// If so, it counts as said.
    fn is_due(&mut self, what: &T, now: Instant) -> bool {
        let waits = self.0.as_ref().is_some_and(|(last, until)| last == what && now < *until);
        if !waits {
            self.0 = Some((what.clone(), now + LOOK));
        }
        !waits
    }

    fn failed(&mut self, now: Instant) {
        if let Some((_, until)) = &mut self.0 {
            *until = now + READY_RETRY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_watch_does_not_show_yet_is_not_said_again_at_every_look() {
        let begun = Instant::now();
        let mut said = Said(None);
        let looks = (0..300).map(|step| begun + READY_POLL * step);
        assert_eq!(looks.filter(|now| said.is_due(&"usable", *now)).count(), 6, "a minute");
        let now = begun + READY_POLL * 300;
        assert!(said.is_due(&"something else", now) && !said.is_due(&"something else", now));
    }

    #[test]
    fn who_has_no_agent_or_is_away_comes_last() {
        let agent = NodeInfo { network_available: true, ..NodeInfo::default() };
        let away = serde_json::json!({ "key": UNREACHABLE, "effect": "NoExecute" });
        let away = NodeInfo { taints: vec![away], ..agent.clone() };
        let other = serde_json::json!({ "key": "gpu", "effect": "NoSchedule" });
        let tainted = NodeInfo { taints: vec![other], ..agent.clone() };
        for number in 0..20 {
            let [one, two] = [format!("n{number}"), format!("m{number}")];
            for last in [&away, &NodeInfo::default()] {
                assert!(place("x", &one, &agent) < place("x", &two, last));
                assert!(place("x", &one, &tainted) < place("x", &two, last));
            }
        }
    }

    #[test]
    fn not_the_same_agent_comes_first_everywhere() {
        let (names, node) = (["a", "b", "c", "d"], NodeInfo::default());
        let first = |what: &str| names.into_iter().min_by_key(|name| place(what, name, &node).1);
        let firsts: std::collections::BTreeSet<_> = (0..20).map(|what| first(&what.to_string())).collect();
        assert!(firsts.len() > 1, "{firsts:?}");
    }

    #[test]
    fn what_the_server_has_refused_is_said_again_soon() {
        let begun = Instant::now();
        let mut said = Said(None);
        let looks = (0..50).map(|step| begun + READY_POLL * step);
        let tries = looks.filter(|now| {
            let due = said.is_due(&"usable", *now);
            if due {
                said.failed(*now);
            }
            due
        });
        assert_eq!(tries.count(), 10, "ten seconds");
    }
}
