//! The agent's parts, each started once: where the truth comes from, who owns what in the kernel, and who shows it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weft_api::control::Problem;
use weft_bgp::net::bfd::Handle;
use weft_intent::plan::Desired;

use super::planner;
use crate::agent::Agent;
use crate::cni::CniHandle;
use crate::config::{Config, DatastoreConfig};
use crate::reconcile::mtu::{self, MtuReceiver};
use crate::reconcile::policy::PolicyHandle;
use crate::reconcile::routes::RouteHandle;
use crate::reconcile::speaker::SpeakerWatch;
use crate::reconcile::{bfd, policy, routes, speaker};
use crate::remember::{self, Remembered};
use crate::report;
use crate::server;
use crate::supervise::Supervisor;
use crate::watch::dir::DirDatastore;
use crate::watch::kubernetes::KubernetesDatastore;
use crate::watch::kubernetes::client::{Heard, client};
use crate::watch::{Datastore, SnapshotReceiver, SnapshotSender};

/// Links that go down at once beyond this number wait for hold timers.
pub(super) const LOST_NEXTHOPS: usize = 256;

const NO_WAY: &str = "no way to the Kubernetes API";

/// All but the CNI server, which waits for a plan.
pub(super) struct Parts {
    pub(super) agent: Arc<Agent>,
    pub(super) servers: TaskTracker,
    pub(super) cni: watch::Sender<Option<CniHandle>>,
    pub(super) sysctl_problems: watch::Sender<Vec<Problem>>,
    pub(super) stop_requests: mpsc::Receiver<String>,
    /// Ends the datastore, the servers and the reports.
    pub(super) cancel: CancellationToken,
}

impl Parts {
    pub(super) async fn start(config: Config, tasks: &Supervisor) -> anyhow::Result<Self> {
        let way = match &config.datastore {
            DatastoreConfig::Dir(_) => None,
            DatastoreConfig::Kubernetes { .. } => Some(kube::Config::infer().await.context(NO_WAY)?),
        };
        Self::start_over(way, config, tasks).await
    }

    /// `way` is that to the Kubernetes API, for the datastore that needs one.
    pub(super) async fn start_over(
        way: Option<kube::Config>,
        config: Config,
        tasks: &Supervisor,
    ) -> anyhow::Result<Self> {
        let cancel = CancellationToken::new();
        let mut source = Source::open(way, &config, tasks, &cancel).await?;
        let client = source.client.take();
        let owners = Owners::start(&config, tasks, &source).await?;
        let (cni, cni_shown) = watch::channel(None);
        let (sysctl_problems, sysctls_shown) = watch::channel(Vec::new());
        let (stop, stop_requests) = mpsc::channel(1);
        let agent = Arc::new(agent(config, source, owners, (cni_shown, sysctls_shown, stop)));
        let servers = server::spawn(tasks, Arc::clone(&agent), client.clone(), cancel.clone()).await?;
        if let Some(client) = client {
            tasks.task("report", report::run(Arc::clone(&agent), client, cancel.clone()));
        }
        Ok(Self { agent, servers, cni, sysctl_problems, stop_requests, cancel })
    }
}

fn agent(
    config: Config,
    source: Source,
    owners: Owners,
    (cni, sysctl_problems, stop): (
        watch::Receiver<Option<CniHandle>>,
        watch::Receiver<Vec<Problem>>,
        mpsc::Sender<String>,
    ),
) -> Agent {
    Agent {
        config,
        datastore: source.name,
        heard: source.heard,
        remembered: source.remembered.map(|remembered| remembered.source),
        started: Instant::now(),
        snapshots: source.snapshots,
        desired: owners.desired,
        routes: owners.routes,
        policy: owners.policy,
        bfd: owners.bfd,
        speaker: owners.speaker,
        speaker_problem: owners.speaker_problem,
        cni,
        sysctl_problems,
        mtu: owners.mtu,
        stop,
    }
}

/// The datastore, and what is known of it from earlier.
struct Source {
    heard: Heard,
    client: Option<kube::Client>,
    snapshots: SnapshotReceiver,
    /// As the user named it.
    name: String,
    remembered: Option<Remembered>,
}

impl Source {
    async fn open(
        way: Option<kube::Config>,
        config: &Config,
        tasks: &Supervisor,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let (sender, snapshots) = watch::channel(None);
        match (&config.datastore, way) {
            (DatastoreConfig::Kubernetes { .. }, None) => bail!(NO_WAY),
            (DatastoreConfig::Dir(path), _) => {
                let name = start(tasks, DirDatastore::new(path.clone()), sender, cancel);
                Ok(Self { heard: Heard::default(), client: None, snapshots, name, remembered: None })
            }
            (DatastoreConfig::Kubernetes { namespace, state }, Some(way)) => {
                let (heard, node) = (Heard::new(), config.node.clone());
                let client = client(&way, heard.clone()).context(NO_WAY)?;
                let datastore = KubernetesDatastore::new(
                    client.clone(),
                    heard.clone(),
                    namespace.clone(),
                    node.clone(),
                    tasks.clone(),
                );
                let name = start(tasks, datastore, sender, cancel);
                tasks.task("memory", remember::keep(state.clone(), node.clone(), snapshots.clone()));
                let remembered = remember::recall(state, &node).await;
                Ok(Self { heard, client: Some(client), snapshots, name, remembered })
            }
        }
    }
}

fn start(
    tasks: &Supervisor,
    datastore: impl Datastore + Send + 'static,
    sender: SnapshotSender,
    cancel: &CancellationToken,
) -> String {
    let name = datastore.name();
    tasks.task("datastore", datastore.run(sender, cancel.clone()));
    name
}

/// What is wanted, and who makes it so.
struct Owners {
    desired: watch::Receiver<Option<Arc<Desired>>>,
    routes: RouteHandle,
    policy: PolicyHandle,
    mtu: MtuReceiver,
    bfd: Handle,
    speaker: SpeakerWatch,
    speaker_problem: watch::Receiver<Option<Problem>>,
}

impl Owners {
    async fn start(config: &Config, tasks: &Supervisor, source: &Source) -> anyhow::Result<Self> {
        let snapshots = &source.snapshots;
        let (lost_sender, lost) = mpsc::channel(LOST_NEXTHOPS);
        let (routes, restarting) =
            routes::spawn(tasks, lost_sender).await.context("cannot read kernel routes")?;
        let policy = policy::spawn(tasks, snapshots.clone()).context("cannot start the policy thread")?;
        let remembered = source.remembered.clone();
        let desired =
            planner::spawn(tasks, config.node.clone(), snapshots.clone(), routes.clone(), remembered);
        let (mtu, mtu_task) = mtu::keep(config.mtu, desired.clone(), routes.status());
        tasks.task("mtu", mtu_task);
        let left = bfd::take(&config.run_dir, Timestamp::now());
        let (bfd, paths) = bfd::spawn(tasks, seed(), left).context("cannot start the thread of BFD")?;
        let inputs = speaker::Inputs {
            desired: desired.clone(),
            lost,
            bfd: bfd.clone(),
            paths,
            routes: routes.clone(),
            restarting,
            seed: seed(),
        };
        let (speaker, speaker_problem) = speaker::spawn(tasks, inputs);
        Ok(Self { desired, routes, policy, mtu, bfd, speaker, speaker_problem })
    }
}

/// A number that nobody else can know.
fn seed() -> u64 {
    RandomState::new().hash_one(())
}
