//! Which MTU pods get, as uplinks come, go and change.
//!
//! In: the plan, and the uplinks of the route reconciler. Out: the latest choice, for links still to be made.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;
use tokio::sync::watch;
use tracing::{info, warn};
use weft_intent::plan::Desired;

use super::routes::RouteStatus;
use crate::kernel::rtnl::Rtnl;
use crate::kernel::uplink;
use crate::plan::mtu::{PodMtu, choose};

/// After links could not be read.
const RETRY: Duration = Duration::from_secs(1);

/// `None` until the uplinks are known.
pub type MtuReceiver = watch::Receiver<Option<PodMtu>>;

/// The channel, and what keeps it up to date until planning ends.
pub fn keep(
    configured: Option<u32>,
    mut desired: watch::Receiver<Option<Arc<Desired>>>,
    mut routes: watch::Receiver<RouteStatus>,
) -> (MtuReceiver, impl Future<Output = ()>) {
    let (publish, receiver) = watch::channel(None);
    let task = async move {
        let mut chosen_for = None;
        loop {
            let pod_cidrs = desired.borrow_and_update().as_ref().map(|desired| desired.pod_cidrs.clone());
            let uplinks = routes.borrow_and_update().uplinks.clone();
            let now = pod_cidrs.zip(uplinks);
            if let Some((pod_cidrs, uplinks)) = now.as_ref().filter(|_| chosen_for != now) {
                match read(configured, &uplinks.keys().copied().collect(), pod_cidrs) {
                    Some(mtu) => {
                        announce(&publish, mtu);
                        chosen_for = now;
                    }
                    None => {
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                }
            }
            tokio::select! {
                changed = desired.changed() => if changed.is_err() { return },
                changed = routes.changed() => if changed.is_err() { return },
            }
        }
    };
    (receiver, task)
}

fn read(configured: Option<u32>, links: &BTreeSet<u32>, pod_cidrs: &[IpNetwork]) -> Option<PodMtu> {
    match Rtnl::open().and_then(|mut rtnl| uplink::read(&mut rtnl, links)) {
        Ok(uplinks) => Some(choose(configured, &uplinks, pod_cidrs)),
        Err(error) => {
            warn!(%error, "links cannot be read, retrying");
            None
        }
    }
}

fn announce(publish: &watch::Sender<Option<PodMtu>>, mtu: PodMtu) {
    publish.send_if_modified(|current| {
        let changed = current.as_ref() != Some(&mtu);
        if changed {
            info!(mtu = mtu.bytes, link = mtu.link, "mtu of pods chosen");
            if let Some(problem) = &mtu.problem {
                warn!(object = problem.object, error = problem.reason, "an uplink is too small");
            }
            *current = Some(mtu);
        }
        changed
    });
}
