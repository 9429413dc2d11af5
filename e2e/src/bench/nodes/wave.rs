//! Waves of agents killed and started while packets run: between nodes that no wave touches, and to those of the waves.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::stage::Stage;
use super::{convergence, table};
use crate::lab::{Node, Pod};
use crate::net::{EchoServer, Flow, Proto};

/// A tenth of the agents is one wave.
const TENTH: usize = 10;
const PORT: u16 = 7777;
const RATE: u32 = 50;
/// Pairs of pods that talk, in each of both groups.
const PAIRS: usize = 10;
/// How long a killed agent is away.
const AWAY: Duration = Duration::from_secs(2);

pub(super) struct Waves {
    agents: usize,
    ready: Vec<Duration>,
    took: Vec<Duration>,
    /// Sent and lost.
    others: (u64, u64),
    touched: (u64, u64),
}

impl Waves {
    pub(super) fn print(&self) {
        let Self { agents, ready, took, others, touched } = self;
        println!("waves: {agents} agents killed and started; ready {}", table::spread(ready));
        println!("  all sessions, and routes to all nodes, {}", table::spread(took));
        println!("  between other nodes {} packets, {} lost", others.0, others.1);
        println!("  to and from those nodes {} packets, {} lost", touched.0, touched.1);
    }
}

/// `pods` are those for probes, one for each node.
pub(super) fn run(stage: &Stage, pods: &[Pod]) -> Result<Waves> {
    let nodes = stage.nodes();
    let waves: Vec<Vec<Node>> = (0..stage.sizes.waves.min(TENTH - 2))
        .map(|wave| nodes.iter().skip(wave).step_by(TENTH).cloned().collect())
        .collect();
    let in_wave = |pod: &Pod| waves.iter().flatten().any(|node| node.name == pod.node());
    let (touched, others): (Vec<_>, Vec<_>) = pods.iter().partition(|pod| in_wave(pod));
    let mut servers = Vec::new();
    let flows = (flows(&others, &others, &mut servers)?, flows(&others, &touched, &mut servers)?);
    let (mut ready, mut took) = (Vec::new(), Vec::new());
    for wave in &waves {
        wave.iter().try_for_each(|node| stage.cluster.lab().kill_agent(&node.name))?;
        thread::sleep(AWAY);
        let begun = Instant::now();
        wave.iter().try_for_each(|node| stage.start_agent(&node.name))?;
        took.extend(convergence::until_converged(stage, wave, begun)?);
        ready.extend(convergence::ready(stage, wave)?);
    }
    convergence::all_alive(stage)?;
    let agents = waves.iter().map(Vec::len).sum();
    Ok(Waves { agents, ready, took, others: stop(flows.0)?, touched: stop(flows.1)? })
}

/// From the first pods of one group to the last of the other, which are in other racks.
fn flows(from: &[&Pod], to: &[&Pod], servers: &mut Vec<EchoServer>) -> Result<Vec<Flow>> {
    let pairs = from.iter().zip(to.iter().rev()).take(PAIRS).enumerate();
    let mut flow = |(index, (from, to)): (usize, (&&Pod, &&Pod))| {
        servers.push(EchoServer::start(to.namespace(), PORT)?);
        let to = (to.ip(index % 2 == 1), PORT).into();
        Flow::start(from.namespace(), Proto::Udp, to, RATE).with_context(|| format!("{from} to {to}"))
    };
    pairs.map(&mut flow).collect()
}

/// Sent and lost.
fn stop(flows: Vec<Flow>) -> Result<(u64, u64)> {
    flows.into_iter().try_fold((0, 0), |(sent, lost), flow| {
        let report = flow.stop()?;
        Ok((sent + report.sent, lost + report.lost()))
    })
}
