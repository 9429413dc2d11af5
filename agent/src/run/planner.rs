//! Turns each snapshot, and the pods and addresses that are here, into what we want; before the first, if that takes long,
//! what is remembered.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};
use weft_intent::Snapshot;
use weft_intent::plan::{self, Desired, NotYet};

use crate::fib::LinkAddress;
use crate::kernel::address;
use crate::plan::changes::next_to_plan;
use crate::plan::links::with_links;
use crate::reconcile::routes::RouteHandle;
use crate::remember::Remembered;
use crate::supervise::Supervisor;
use crate::watch::SnapshotReceiver;

/// How long the API server may take to list everything before BGP begins with what is remembered: routers give a node that
/// restarts some time, and every second of it counts.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// Addresses come and go in flocks: what the node has is looked at after this time.
const SETTLE: Duration = Duration::from_millis(200);

struct Planner {
    node: String,
    routes: RouteHandle,
    plan: Option<Desired>,
    addresses: Vec<LinkAddress>,
    publish: watch::Sender<Option<Arc<Desired>>>,
}

/// Ends with the datastore.
pub(super) fn spawn(
    tasks: &Supervisor,
    node: String,
    snapshots: SnapshotReceiver,
    routes: RouteHandle,
    remembered: Option<Remembered>,
) -> watch::Receiver<Option<Arc<Desired>>> {
    let (publish, desired) = watch::channel(None);
    let planner = Planner { node, routes, plan: None, addresses: Vec::new(), publish };
    tasks.task("planner", planner.run(snapshots, remembered));
    desired
}

impl Planner {
    async fn run(mut self, mut snapshots: SnapshotReceiver, remembered: Option<Remembered>) {
        let answered = timeout(ANSWERS_WITHIN, snapshots.wait_for(Option::is_some)).await.is_ok();
        if let Some(Remembered { snapshot, source }) = remembered.filter(|_| !answered) {
            info!(source, "the datastore does not answer, bgp begins with what is remembered");
            self.replan(&snapshot);
        }
        let (mut pods, addresses) = (self.routes.pods(), self.routes.addresses_changed());
        self.look_at_addresses();
        let mut settled = None;
        let (mut before, mut planned, mut listed) = (None, false, false);
        loop {
            // Before a speaker can start from this plan, and converge at once because it has no peers.
            if planned && !std::mem::replace(&mut listed, true) {
                self.routes.set_listed().await;
            }
            if let Some(plan) = self.plan.clone() {
                let pods = pods.borrow_and_update().clone();
                self.publish(with_links(plan.with_pods(&self.node, &pods), &self.addresses)).await;
            }
            planned = tokio::select! {
                snapshot = next_to_plan(&mut snapshots, &mut before) => match snapshot {
                    Some(snapshot) => self.replan(&snapshot),
                    None => return,
                },
                Ok(()) = pods.changed() => false,
                () = addresses.notified() => {
                    settled.get_or_insert_with(|| Instant::now() + SETTLE);
                    false
                }
                () = sleep_until(settled.unwrap_or_else(Instant::now)), if settled.is_some() => {
                    settled = None;
                    self.look_at_addresses();
                    false
                }
            };
        }
    }

    fn look_at_addresses(&mut self) {
        match address::list() {
            Ok(addresses) => self.addresses = addresses,
            Err(error) => warn!(%error, "own addresses cannot be listed"),
        }
    }

    /// Whether the snapshot gives a plan.
    fn replan(&mut self, snapshot: &Snapshot) -> bool {
        match plan::desired(snapshot, &self.node) {
            Ok(planned) => {
                self.plan = Some(planned);
                return true;
            }
            // A node that has gone from the datastore keeps what it has: absent data is no order.
            Err(NotYet::NoNode(_)) if self.plan.is_some() => {
                warn!(node = self.node, "our Node is gone, nothing changed");
            }
            Err(error) => info!(%error, "waiting"),
        }
        false
    }

    async fn publish(&self, planned: Desired) {
        let peers = planned.peers.iter().map(|peer| peer.key.address).collect();
        self.routes.set_own(planned.pod_cidrs.clone(), peers).await;
        self.publish.send_if_modified(|current| {
            let changed = current.as_deref() != Some(&planned);
            if changed {
                log_problems(&planned, current.as_deref());
                *current = Some(Arc::new(planned));
            }
            changed
        });
    }
}

fn log_problems(planned: &Desired, before: Option<&Desired>) {
    for problem in &planned.problems {
        if before.is_none_or(|before| !before.problems.contains(problem)) {
            warn!(object = %problem.about, error = problem.reason, "object does not act as written");
        }
    }
}
