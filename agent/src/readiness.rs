//! Ready means: routes and policy are in the kernel. A dead peer is a metric, not a gate.
//!
//! In: how far the reconcilers are. Out: the answer to runtimes (STATUS, and the conflist once pods can be wired) and
//! to `/readyz`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{info, warn};

use crate::agent::Agent;
use crate::cni::conflist;

/// How often the conflist is looked at: without it a runtime can neither start nor delete pods.
const CONFLIST_PERIOD: Duration = Duration::from_secs(2);

/// Why the node is not ready, in words; empty when it is. Runtimes may add pods earlier: see [`waiting_for_pods`].
pub fn waiting(agent: &Agent) -> Vec<String> {
    let mut waiting = waiting_for_pods(agent);
    if !agent.routes.status().borrow().settled {
        waiting.push("bgp has not converged".to_owned());
    }
    waiting
}

/// Why pods cannot be wired.
pub fn waiting_for_pods(agent: &Agent) -> Vec<String> {
    let mut waiting = Vec::new();
    let desired = agent.desired.borrow().clone();
    match desired {
        _ if agent.snapshots.borrow().is_none() => {
            waiting.push("the datastore has not been read yet".to_owned());
        }
        None => waiting.push(format!("the datastore has no Node {}", agent.config.node)),
        Some(desired) if desired.pod_cidrs.is_empty() => {
            waiting.push(format!("Node {} has no podCIDRs", agent.config.node));
        }
        Some(_) => {}
    }
    if !agent.policy.state().borrow().settled {
        waiting.push("policy is not in the kernel".to_owned());
    }
    waiting
}

/// Tells the CNI server, and keeps the conflist from when pods can be wired for the first time. Until the agent ends.
pub async fn keep(agent: Arc<Agent>) {
    let (mut desired, mut policy, mut routes) =
        (agent.desired.clone(), agent.policy.state(), agent.routes.status());
    let (mut conflist, mut was_ready) = (Conflist::default(), false);
    let mut looks = interval_at(Instant::now() + CONFLIST_PERIOD, CONFLIST_PERIOD);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        desired.mark_unchanged();
        policy.mark_unchanged();
        routes.mark_unchanged();
        let waiting_for_pods = waiting_for_pods(&agent);
        if let Some(cni) = agent.cni.borrow().as_ref() {
            cni.set_ready(if waiting_for_pods.is_empty() {
                Ok(())
            } else {
                Err(waiting_for_pods.join("; "))
            });
        }
        if waiting_for_pods.is_empty() && !conflist.announced {
            conflist.write(&agent.config.cni_conf_dir);
            looks.reset();
        }
        let waiting = waiting(&agent);
        if waiting.is_empty() != was_ready {
            was_ready = waiting.is_empty();
            info!(ready = was_ready, waiting_for = waiting.join("; "), "readiness changed");
        }
        let ended = loop {
            tokio::select! {
                changed = desired.changed() => break changed.is_err(),
                changed = policy.changed() => break changed.is_err(),
                changed = routes.changed() => break changed.is_err(),
                _ = looks.tick(), if conflist.announced => conflist.write(&agent.config.cni_conf_dir),
            }
        };
        if ended {
            // Its supervisor knows which.
            return std::future::pending().await;
        }
    }
}

/// Written when pods can be wired for the first time, and again when somebody has removed or changed it.
#[derive(Debug, Default)]
struct Conflist {
    announced: bool,
    failing: bool,
    /// What was there at the last look and is no JSON.
    broken: Option<Vec<u8>>,
}

impl Conflist {
    fn write(&mut self, dir: &Path) {
        self.announced = true;
        let result = conflist::write(dir, &mut self.broken);
        let failed_before = std::mem::replace(&mut self.failing, result.is_err());
        if let (Err(error), false) = (result, failed_before) {
            warn!(path = %dir.display(), %error, "conflist not written, retrying");
        }
    }
}
