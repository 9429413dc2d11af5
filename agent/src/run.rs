//! The agent's life: what is started in which order, and how it ends.
//!
//! Nothing is written to the kernel before there is a plan: the datastore has been listed once and shows our Node, or it
//! does not answer and something is remembered. Then: sysctls, own routes, BGP, and the CNI server, which tells the policy
//! owner about pods of its forerunner. Policy waits for the list whatever is remembered, and pods for policy. A stop for a
//! restart leaves routes, rules, links and the conflist where they are; only the sockets go.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use weft_api::{AGENT_SOCKET, CNI_SOCKET};
use weft_bgp::speaker::Shutdown;

use crate::cni::conflist;
use crate::cni::{CniConfig, CniHandle, CniService};
use crate::config::{Config, DatastoreConfig};
use crate::kernel::sysctl;
use crate::lock::RunDirLock;
use crate::plan::{self, Desired, NotYet};
use crate::reconcile::mtu::{self, MtuReceiver};
use crate::reconcile::policy::PolicyHandle;
use crate::reconcile::routes::RouteHandle;
use crate::reconcile::{policy, routes, speaker};
use crate::remember::{self, Remembered};
use crate::server::{self, Agent};
use crate::supervise::{Ends, Supervisor, supervisor};
use crate::watch::dir::DirDatastore;
use crate::watch::kubernetes::KubernetesDatastore;
use crate::watch::kubernetes::client::{Heard, client};
use crate::watch::{Datastore, Problem, Snapshot, SnapshotReceiver, SnapshotSender};
use crate::{readiness, report};

/// Links that go down at once beyond this number wait for hold timers.
const LOST_NEXTHOPS: usize = 256;
/// How long the API server may take to list everything before BGP begins with what is remembered: routers give a node that
/// restarts some time, and every second of it counts.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// How long a forerunner may take to leave: as long as the chart lets it.
const FORERUNNER_LEAVES: Duration = Duration::from_secs(10);

/// Runs until a signal or a request to stop, or until a part of it has ended by itself.
pub async fn run(config: Config) -> anyhow::Result<()> {
    // Before anything else: a container's first process does not get signals that it has not asked for.
    let signalled = signals()?;
    let (tasks, ends) = supervisor();
    live(config, tasks, ends, signalled).await
}

async fn live(
    config: Config,
    tasks: Supervisor,
    mut ends: Ends,
    signalled: impl Future<Output = Shutdown>,
) -> anyhow::Result<()> {
    let mut signalled = pin!(signalled);
    info!(node = config.node, version = env!("CARGO_PKG_VERSION"), "agent starting");
    let _lock = tokio::select! {
        lock = RunDirLock::take(&config.run_dir, FORERUNNER_LEAVES) => lock?,
        how = &mut signalled => {
            info!(?how, "agent stops before it has begun");
            return Ok(());
        }
    };
    let cancel = CancellationToken::new();
    let heard = heard_by(&config.datastore);
    let client = api_client(&config.datastore, heard.clone()).await?;
    let (snapshots, datastore) = watch_datastore(&tasks, &config, client.clone(), cancel.clone());
    let remembered = match &config.datastore {
        DatastoreConfig::Dir(_) => None,
        DatastoreConfig::Kubernetes { state, .. } => {
            tasks.task("memory", remember::keep(state.clone(), config.node.clone(), snapshots.clone()));
            remember::recall(state, &config.node).await
        }
    };
    let source = remembered.as_ref().map(|remembered| remembered.source.clone());
    let (lost_sender, lost) = mpsc::channel(LOST_NEXTHOPS);
    let (routes, restarting) =
        routes::spawn(&tasks, lost_sender).await.context("cannot read kernel routes")?;
    let policy = policy::spawn(&tasks, snapshots.clone()).context("cannot start the policy thread")?;
    let desired = plan_forever(&tasks, config.node.clone(), snapshots.clone(), routes.clone(), remembered);
    let (mtu, mtu_task) = mtu::keep(config.mtu, desired.clone(), routes.status());
    tasks.task("mtu", mtu_task);
    let inputs = speaker::Inputs {
        desired: desired.clone(),
        lost,
        addresses: routes.addresses_changed(),
        routes: routes.clone(),
        restarting,
        seed: RandomState::new().hash_one(()),
    };
    let speaker = speaker::spawn(&tasks, inputs);

    let (cni_sender, cni) = watch::channel(None);
    let (sysctl_sender, sysctl_problems) = watch::channel(Vec::new());
    let (stop_sender, mut stop_requests) = mpsc::channel(1);
    let agent = Arc::new(Agent {
        config: config.clone(),
        datastore,
        heard,
        remembered: source,
        started: Instant::now(),
        snapshots,
        desired: desired.clone(),
        routes: routes.clone(),
        policy: policy.clone(),
        speaker: speaker.clone(),
        cni,
        sysctl_problems,
        mtu: mtu.clone(),
        stop: stop_sender,
    });
    let servers = server::spawn(&tasks, Arc::clone(&agent), client.clone(), cancel.clone()).await?;
    if let Some(client) = client {
        tasks.task("report", report::run(Arc::clone(&agent), client, cancel.clone()));
    }

    let work = async {
        let cni = wire_pods(&tasks, &config, desired.clone(), mtu.clone(), policy, &sysctl_sender).await?;
        cni_sender.send_replace(Some(cni.clone()));
        tokio::join!(feed_cni(cni, desired, mtu, routes), readiness::keep(agent));
        anyhow::Ok(())
    };
    let how = tokio::select! {
        how = signalled => how,
        Some(text) = stop_requests.recv() => Shutdown::Stop { text },
        parts = ends.first() => bail!("the agent cannot go on: {parts}"),
        result = work => return result,
    };
    info!(?how, "agent stopping");
    // The runtime must find nobody, rather than somebody who is leaving. This is the last handle: the server ends.
    drop(cni_sender.send_replace(None));
    server::remove_socket(&config.run_dir, CNI_SOCKET);
    let running = speaker.borrow().clone();
    if let Some(speaker) = running {
        // It may have ended by itself.
        let _ = speaker.shutdown(how).await;
    }
    server::remove_socket(&config.run_dir, AGENT_SOCKET);
    cancel.cancel();
    // Who asked for the stop is told that it comes.
    servers.wait().await;
    info!("agent stopped");
    Ok(())
}

fn heard_by(config: &DatastoreConfig) -> Heard {
    match config {
        DatastoreConfig::Dir(_) => Heard::default(),
        DatastoreConfig::Kubernetes { .. } => Heard::new(),
    }
}

/// For the datastore that needs one.
async fn api_client(config: &DatastoreConfig, heard: Heard) -> anyhow::Result<Option<kube::Client>> {
    match config {
        DatastoreConfig::Dir(_) => Ok(None),
        DatastoreConfig::Kubernetes { .. } => {
            let config = kube::Config::infer().await.context("no way to the Kubernetes API")?;
            client(&config, heard).map(Some).context("no way to the Kubernetes API")
        }
    }
}

fn watch_datastore(
    tasks: &Supervisor,
    config: &Config,
    client: Option<kube::Client>,
    cancel: CancellationToken,
) -> (SnapshotReceiver, String) {
    let (sender, snapshots) = watch::channel(None);
    let name = match (&config.datastore, client) {
        (DatastoreConfig::Kubernetes { namespace, .. }, Some(client)) => {
            let (namespace, node) = (namespace.clone(), config.node.clone());
            start(tasks, KubernetesDatastore::new(client, namespace, node, tasks.clone()), sender, cancel)
        }
        (DatastoreConfig::Kubernetes { .. }, None) => unreachable!("a client was made for it"),
        (DatastoreConfig::Dir(path), _) => start(tasks, DirDatastore::new(path.clone()), sender, cancel),
    };
    (snapshots, name)
}

fn start(
    tasks: &Supervisor,
    datastore: impl Datastore + Send + 'static,
    sender: SnapshotSender,
    cancel: CancellationToken,
) -> String {
    let name = datastore.name();
    tasks.task("datastore", datastore.run(sender, cancel));
    name
}

/// Turns each snapshot, and the pods that are here, into what we want; before the first, if that takes long, what is
/// remembered. Ends with the datastore.
fn plan_forever(
    tasks: &Supervisor,
    node: String,
    mut snapshots: SnapshotReceiver,
    routes: RouteHandle,
    remembered: Option<Remembered>,
) -> watch::Receiver<Option<Arc<Desired>>> {
    let (sender, desired) = watch::channel(None);
    let mut pods = routes.pods();
    tasks.task("planner", async move {
        let answered = timeout(ANSWERS_WITHIN, snapshots.wait_for(Option::is_some)).await.is_ok();
        let mut plan = None;
        if let Some(Remembered { snapshot, source }) = remembered.filter(|_| !answered) {
            info!(source, "the datastore does not answer, bgp begins with what is remembered");
            replan(&mut plan, &snapshot, &node);
        }
        let (mut before, mut planned, mut listed) = (None, false, false);
        loop {
            // Before a speaker can start from this plan, and converge at once because it has no peers.
            if planned && !std::mem::replace(&mut listed, true) {
                routes.set_listed().await;
            }
            if let Some(plan) = plan.clone() {
                let desired = Desired::with_pods(plan, &node, &pods.borrow_and_update().clone());
                publish(&sender, &routes, desired).await;
            }
            planned = tokio::select! {
                snapshot = next_to_plan(&mut snapshots, &mut before) => match snapshot {
                    Some(snapshot) => replan(&mut plan, &snapshot, &node),
                    None => return,
                },
                Ok(()) = pods.changed() => false,
            };
        }
    });
    desired
}

/// Whether the snapshot gives a plan.
fn replan(plan: &mut Option<Desired>, snapshot: &Snapshot, node: &str) -> bool {
    match plan::desired(snapshot, node) {
        Ok(planned) => {
            *plan = Some(planned);
            return true;
        }
        // A node that has gone from the datastore keeps what it has: absent data is no order.
        Err(NotYet::NoNode(_)) if plan.is_some() => warn!(node, "our Node is gone, nothing changed"),
        Err(error) => info!(%error, "waiting"),
    }
    false
}

async fn publish(sender: &watch::Sender<Option<Arc<Desired>>>, routes: &RouteHandle, planned: Desired) {
    let peers = planned.peers.iter().map(|peer| peer.key.address).collect();
    routes.set_own(planned.pod_cidrs.clone(), peers).await;
    sender.send_if_modified(|current| {
        let changed = current.as_deref() != Some(&planned);
        if changed {
            log_problems(&planned, current.as_deref());
            *current = Some(Arc::new(planned));
        }
        changed
    });
}

/// The next snapshot that may make another plan. `before` is the last one that was seen, planned or not.
pub(crate) async fn next_to_plan(
    snapshots: &mut SnapshotReceiver,
    before: &mut Option<Arc<Snapshot>>,
) -> Option<Arc<Snapshot>> {
    let differs = |now: &Option<Arc<Snapshot>>| {
        let Some(now) = now else { return false };
        let last = before.replace(Arc::clone(now));
        last.is_none_or(|last| !plan::reads_the_same(&last, now))
    };
    snapshots.wait_for(differs).await.ok()?.clone()
}

fn log_problems(planned: &Desired, before: Option<&Desired>) {
    for problem in &planned.problems {
        if before.is_none_or(|before| !before.problems.contains(problem)) {
            warn!(object = problem.object, error = problem.reason, "object does not act as written");
        }
    }
}

/// Starts the CNI server when there is a plan: never when planning has ended, which its supervisor tells.
async fn wire_pods(
    tasks: &Supervisor,
    config: &Config,
    mut desired: watch::Receiver<Option<Arc<Desired>>>,
    mut mtu: MtuReceiver,
    policy: PolicyHandle,
    sysctls: &watch::Sender<Vec<Problem>>,
) -> anyhow::Result<CniHandle> {
    if desired.wait_for(Option::is_some).await.is_err() {
        return std::future::pending().await;
    }
    sysctls.send_replace(sysctl::ensure(&config.proc_sys_net));
    let installed =
        config.cni_binary.as_deref().map(|binary| conflist::install_client(binary, &config.cni_bin_dir));
    if let Some(Err(error)) = installed {
        warn!(path = %config.cni_bin_dir.display(), %error, "cni binary not installed");
    }
    let mtu = mtu.wait_for(Option::is_some).await.context("no MTU")?.as_ref().map_or(0, |mtu| mtu.bytes);
    let cni = CniConfig {
        run_dir: config.run_dir.clone(),
        node: config.node.clone(),
        mtu,
        proc_sys_net: config.proc_sys_net.clone(),
    };
    let handle = CniService::spawn(tasks, cni, policy).await.context("cannot start the CNI server")?;
    info!(mtu, "cni server listening");
    Ok(handle)
}

/// Pools and the MTU for the CNI server, and the news that somebody took a pod's route away. Ends with the plans.
async fn feed_cni(
    cni: CniHandle,
    mut desired: watch::Receiver<Option<Arc<Desired>>>,
    mut mtu: MtuReceiver,
    routes: RouteHandle,
) {
    let pod_routes = routes.pod_routes_lost();
    loop {
        let pools = desired.borrow_and_update().as_ref().map(|desired| desired.pod_cidrs.clone());
        cni.set_pools(&pools.unwrap_or_default());
        if let Some(mtu) = mtu.borrow_and_update().as_ref() {
            cni.set_mtu(mtu.bytes);
        }
        tokio::select! {
            changed = desired.changed() => if changed.is_err() { return },
            changed = mtu.changed() => if changed.is_err() { return },
            () = pod_routes.notified() => cni.audit(),
        }
    }
}

/// SIGTERM: to be back soon. SIGINT: for good. Both are heard from the call on.
fn signals() -> io::Result<impl Future<Output = Shutdown>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => Shutdown::Restart,
            _ = interrupt.recv() => Shutdown::Stop { text: "stopped by an operator".to_owned() },
        }
    })
}

#[cfg(test)]
mod tests;
