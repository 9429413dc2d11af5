//! The agent's life: what is started in which order, and how it ends.
//!
//! Nothing is written to the kernel before the datastore has been listed once and shows our Node. Then: sysctls, own
//! routes, the CNI server (which tells the policy owner about pods that live on), policy, BGP. A stop for a restart
//! leaves routes, rules, links and the conflist where they are; only the sockets go.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use weft_bgp::speaker::Shutdown;

use crate::cni::conflist;
use crate::cni::{CniConfig, CniHandle, CniService};
use crate::config::{Config, DatastoreConfig};
use crate::kernel::route::RouteSocket;
use crate::kernel::{sysctl, uplink};
use crate::plan::{self, Desired, NotYet};
use crate::readiness;
use crate::reconcile::policy::PolicyHandle;
use crate::reconcile::routes::RouteHandle;
use crate::reconcile::{policy, routes, speaker};
use crate::server::{self, Agent};
use crate::watch::dir::DirDatastore;
use crate::watch::{Datastore, Problem, SnapshotReceiver};

/// Links that go down at once beyond this number wait for hold timers.
const LOST_NEXTHOPS: usize = 256;
/// Where nothing says otherwise.
const DEFAULT_MTU: u32 = 1500;

/// Runs until a signal or a request to stop.
pub async fn run(config: Config) -> anyhow::Result<()> {
    info!(node = config.node, version = env!("CARGO_PKG_VERSION"), "agent starting");
    std::fs::create_dir_all(&config.run_dir)
        .with_context(|| format!("cannot make {}", config.run_dir.display()))?;
    let cancel = CancellationToken::new();
    let (snapshots, datastore) = watch_datastore(&config.datastore, cancel.clone());
    let (lost_sender, lost) = mpsc::channel(LOST_NEXTHOPS);
    let (routes, restarting) = routes::spawn(lost_sender).await.context("cannot read kernel routes")?;
    let policy = policy::spawn(snapshots.clone()).context("cannot claim the nftables table")?;
    let desired = plan_forever(config.node.clone(), snapshots.clone(), routes.clone());
    let speaker = speaker::spawn(speaker::Inputs {
        desired: desired.clone(),
        lost,
        routes: routes.clone(),
        restarting,
        seed: plan::seed(&config.node),
    });

    let (cni_sender, cni) = watch::channel(None);
    let (sysctl_sender, sysctl_problems) = watch::channel(Vec::new());
    let (stop_sender, stop_requests) = mpsc::channel(1);
    let agent = Arc::new(Agent {
        config: config.clone(),
        datastore,
        started: Instant::now(),
        snapshots,
        desired: desired.clone(),
        routes: routes.clone(),
        policy: policy.clone(),
        speaker: speaker.clone(),
        cni,
        sysctl_problems,
        stop: stop_sender,
    });
    server::spawn(Arc::clone(&agent), cancel.clone()).await?;

    let wired = wire_pods(config.clone(), desired, routes, policy, cni_sender.clone(), sysctl_sender);
    let how = tokio::select! {
        how = until_stopped(stop_requests) => how?,
        result = async { wired.await?; readiness::keep(agent).await } => return result,
    };
    info!(?how, "agent stopping");
    // The runtime must find nobody, rather than somebody who is leaving.
    drop(cni_sender.send_replace(None));
    server::remove_sockets(&config.run_dir);
    let running = speaker.borrow().clone();
    if let Some(speaker) = running {
        // It may have ended by itself.
        let _ = speaker.shutdown(how).await;
    }
    cancel.cancel();
    info!("agent stopped");
    Ok(())
}

fn watch_datastore(config: &DatastoreConfig, cancel: CancellationToken) -> (SnapshotReceiver, String) {
    let (sender, snapshots) = watch::channel(None);
    let DatastoreConfig::Dir(path) = config;
    let datastore = DirDatastore::new(path.clone());
    let name = datastore.name();
    tokio::spawn(datastore.run(sender, cancel));
    (snapshots, name)
}

/// Turns each snapshot into what we want. Ends with the datastore.
fn plan_forever(
    node: String,
    mut snapshots: SnapshotReceiver,
    routes: RouteHandle,
) -> watch::Receiver<Option<Arc<Desired>>> {
    let (sender, desired) = watch::channel(None);
    tokio::spawn(async move {
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            let planned =
                snapshot.ok_or(NotYet::NoSnapshot).and_then(|snapshot| plan::desired(&snapshot, &node));
            match planned {
                Ok(planned) => {
                    routes.set_own(planned.pod_cidrs.clone()).await;
                    sender.send_if_modified(|current| {
                        let changed = current.as_deref() != Some(&planned);
                        if changed {
                            log_problems(&planned, current.as_deref());
                            *current = Some(Arc::new(planned));
                        }
                        changed
                    });
                }
                // A node that has gone from the datastore keeps what it has: absent data is no order.
                Err(NotYet::NoNode(_)) if sender.borrow().is_some() => {
                    warn!(node, "our Node is gone, nothing changed")
                }
                Err(error) => info!(%error, "waiting"),
            }
            if snapshots.changed().await.is_err() {
                return;
            }
        }
    });
    desired
}

fn log_problems(planned: &Desired, before: Option<&Desired>) {
    for problem in &planned.problems {
        if before.is_none_or(|before| !before.problems.contains(problem)) {
            warn!(object = problem.object, error = problem.reason, "object does not act as written");
        }
    }
}

/// Starts the CNI server when there is a plan, and keeps its pools as planned from then on.
async fn wire_pods(
    config: Config,
    mut desired: watch::Receiver<Option<Arc<Desired>>>,
    routes: RouteHandle,
    policy: PolicyHandle,
    publish: watch::Sender<Option<CniHandle>>,
    sysctls: watch::Sender<Vec<Problem>>,
) -> anyhow::Result<()> {
    desired.wait_for(Option::is_some).await.context("the datastore has ended")?;
    sysctls.send_replace(sysctl::ensure());
    if let Some(binary) = &config.cni_binary
        && let Err(error) = conflist::install_client(binary, &config.cni_bin_dir)
    {
        warn!(path = %config.cni_bin_dir.display(), %error, "cni binary not installed");
    }
    let mtu = match config.mtu {
        Some(mtu) => mtu,
        None => uplink::mtu(&RouteSocket::open()?.dump().await?).await?.unwrap_or(DEFAULT_MTU),
    };
    let cni = CniConfig { run_dir: config.run_dir.clone(), node: config.node.clone(), mtu };
    let handle = CniService::spawn(cni, policy).await.context("cannot start the CNI server")?;
    info!(mtu, "cni server listening");
    publish.send_replace(Some(handle));
    tokio::spawn(feed_cni(desired, routes, publish));
    Ok(())
}

/// Pools for the CNI server, and the news that somebody took a pod's route away. Ends with the server.
async fn feed_cni(
    mut desired: watch::Receiver<Option<Arc<Desired>>>,
    routes: RouteHandle,
    cni: watch::Sender<Option<CniHandle>>,
) {
    let pod_routes = routes.pod_routes_lost();
    loop {
        let pools = desired.borrow_and_update().as_ref().map(|desired| desired.pod_cidrs.clone());
        let Some(handle) = cni.borrow().clone() else { return };
        handle.set_pools(&pools.unwrap_or_default());
        let ended = tokio::select! {
            changed = desired.changed() => changed.is_err(),
            () = pod_routes.notified() => { handle.audit(); false }
        };
        if ended {
            return;
        }
    }
}

/// SIGTERM: to be back soon. SIGINT, or a request on the socket: for good.
async fn until_stopped(mut requests: mpsc::Receiver<String>) -> anyhow::Result<Shutdown> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => Shutdown::Restart,
        _ = interrupt.recv() => Shutdown::Stop { text: "stopped by an operator".to_owned() },
        Some(text) = requests.recv() => Shutdown::Stop { text },
    })
}
