//! Hundreds of agents at once, each on a node of its own, on one real API server, in a cluster that is large on paper.
//!
//! ```text
//!   API server, etcd ──┐              ┌── tor1 (FRR)  ── node1 … node13
//!                      spine (BIRD) ──┼── tor2 (BIRD) ── node14 …
//!   Nodes on paper ────┘              └── …
//! ```
//!
//! Agents, sessions, routes, pod links, nftables and tokens are real; kubelets and most Nodes and pods are not. The spine
//! announces the pod CIDRs of the Nodes on paper, as the rest of a fabric would, so each agent has every route of the
//! cluster in its kernel. Status of Nodes is renewed as kubelets do it. One run gives one table: a cold start of all
//! agents, rest, events of pods at a steady rate, and waves of agents killed and started.

mod churn;
mod convergence;
mod meter;
mod stage;
mod table;
mod wave;

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use self::meter::Meter;
use self::stage::Stage;
use self::table::Phase;
use crate::cluster::down;
use crate::lab::Programs;

/// For all agents at once: one core does the work of a hundred machines.
const LIMIT: Duration = Duration::from_secs(1200);
/// After the cold start, until what it stirred up is over: acceptance of objects, first reports, wiring of pods.
const SETTLE: Duration = Duration::from_secs(60);

/// What is built, and for how long it is looked at.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Sizes {
    /// Agents, each with a node of the lab; up to 250.
    #[arg(long, default_value_t = 100)]
    pub count: u8,
    /// Of the lab, each with a router; up to 24.
    #[arg(long, default_value_t = 8)]
    pub racks: u8,
    /// Nodes of the cluster, those of the lab among them.
    #[arg(long, default_value_t = 1000)]
    pub nodes: usize,
    /// On nodes that are on paper.
    #[arg(long, default_value_t = 10_000)]
    pub pods: usize,
    #[arg(long, default_value_t = 200)]
    pub policies: usize,
    #[arg(long, default_value_t = 100)]
    pub namespaces: usize,
    /// Pods wired on each node of the lab, beside one without policies for probes.
    #[arg(long, default_value_t = 3)]
    pub local: usize,
    /// Pod events a second.
    #[arg(long, default_value_t = 50)]
    pub rate: u32,
    /// How long nothing happens, in seconds.
    #[arg(long, default_value_t = 240)]
    pub rest: u64,
    /// How long pods come and go, in seconds.
    #[arg(long, default_value_t = 120)]
    pub events: u64,
    /// How often a tenth of the agents is killed and started.
    #[arg(long, default_value_t = 3)]
    pub waves: usize,
    /// iBGP among the nodes of a rack.
    #[arg(long)]
    pub mesh: bool,
    /// The distribution's etcd, with which an API server does not stream lists.
    #[arg(long)]
    pub paged: bool,
}

pub fn run(sizes: &Sizes, programs: &Programs) -> Result<()> {
    ensure!(
        usize::from(sizes.count) <= sizes.nodes && sizes.nodes <= 1 << 15 && sizes.racks <= sizes.count,
        "agents need racks and Nodes, and Nodes addresses"
    );
    let name = format!("nodes-{}", std::process::id());
    let measured = Stage::raise(&name, sizes, programs).and_then(|stage| measure(&stage));
    down(&name)?;
    measured
}

fn measure(stage: &Stage) -> Result<()> {
    let sizes = &stage.sizes;
    println!("{sizes:?}; load {}", meter::load()?);
    let meter = Meter::new(stage)?;
    let before = meter.read()?;
    let converged = convergence::cold_start(stage)?;
    let started = meter.read()?;
    println!("cold start of all: ready {}", table::spread(&convergence::ready(stage, &stage.nodes())?));
    println!("  all sessions, and routes to all nodes, {}", table::spread(&converged));
    let pods = stage.run_pods()?;
    // No waits for conditions: these times are what is measured.
    thread::sleep(SETTLE);

    let _heartbeats = churn::Heartbeats::start(stage)?;
    let settled = meter.read()?;
    thread::sleep(Duration::from_secs(sizes.rest));
    let rested = meter.read()?;
    let events = churn::churn(stage)?;
    let churned = meter.read()?;
    println!("pod events: {events:.1} a second");
    let waves = wave::run(stage, &pods)?;
    let waved = meter.read()?;
    waves.print();
    let phase = |name, from, to, in_all| Phase { name, from, to, in_all };
    table::print(&[
        phase("cold start", &before, &started, true),
        phase("at rest", &settled, &rested, false),
        phase("pod events", &rested, &churned, false),
        phase("waves", &churned, &waved, true),
    ]);
    meter.print_sizes()
}
