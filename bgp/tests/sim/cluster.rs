//! Whole clusters: how long they take to begin, what one more node costs them, and whether they forward while everybody
//! restarts.
//!
//! `make simulate NODES=1000` does it at the size that people run.

use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use weft_bgp::rib::ExportRoutes;
use weft_bgp::speaker::PeerConfig;

use super::world::{MAX_NODES, Messages, Node, World, peer, prefix, secs};
use super::{for_seeds, internal, number};

/// How the nodes of a cluster find each other.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// All with all.
    Mesh,
    /// All of a rack with each other, and all nodes with [`REFLECTORS`] that stand above the racks.
    Racks { of: usize },
}

/// Any of them may be away.
const REFLECTORS: usize = 2;
/// Nodes that one wave of an upgrade takes: one in so many.
const WAVE: usize = 10;
/// Of so many nodes one comes back with another route in the place of one of its own.
const CHANGES: usize = 4;
/// Seeds that each test tries.
const FEW: u64 = 2;
/// What no cluster needs to settle.
const PATIENCE: Duration = secs(300);

impl Shape {
    fn reflectors(self) -> usize {
        match self {
            Self::Mesh => 0,
            Self::Racks { .. } => REFLECTORS,
        }
    }

    /// Whether `one` speaks with `other`, both of `nodes` or, behind them, reflectors.
    fn joins(self, nodes: usize, one: usize, other: usize) -> bool {
        match self {
            _ if one == other => false,
            Self::Mesh => true,
            Self::Racks { of } => one >= nodes || other >= nodes || one / of == other / of,
        }
    }
}

/// So many nodes, of which the last is still to come, and reflectors behind them.
struct Cluster {
    world: World,
    shape: Shape,
    nodes: usize,
}

impl Cluster {
    fn new(seed: u64, nodes: usize, shape: Shape) -> Self {
        let all = nodes + shape.reflectors();
        assert!(all <= MAX_NODES);
        let world = World::new(seed, all, |index, seed| Node::new(index, internal(index), seed));
        let mut cluster = Self { world, shape, nodes };
        cluster.world.piece = 64 * 1024;
        cluster.world.keeps_history = false;
        for index in 0..all {
            if index != nodes - 1 {
                cluster.world.nodes[index].peers = cluster.peers_of(index, nodes - 1);
            }
            cluster.world.nodes[index].origin = if index < nodes - 1 { origin(index) } else { Vec::new() };
        }
        cluster
    }

    /// `without`: whom nobody knows yet.
    fn peers_of(&self, index: usize, without: usize) -> Vec<PeerConfig> {
        let others = (0..self.world.nodes.len()).filter(|other| *other != without);
        others
            .filter(|other| self.shape.joins(self.nodes, index, *other))
            .map(|other| self.peer(index, other))
            .collect()
    }

    fn peer(&self, index: usize, other: usize) -> PeerConfig {
        let reflects = index >= self.nodes;
        PeerConfig {
            let_peer_dial: index < other,
            export: if reflects { ExportRoutes::Transit } else { ExportRoutes::Own },
            client: reflects && other < self.nodes,
            ..peer(index, other, internal(other))
        }
    }

    /// Within two seconds, as a cluster starts the pods of a DaemonSet.
    fn start_all(&mut self, nodes: impl IntoIterator<Item = usize>) {
        for index in nodes {
            let at = self.world.span_below(2_000_000);
            self.world.start_after(at, index);
        }
    }

    fn members(&self) -> impl Iterator<Item = usize> + use<> {
        let last = self.nodes - 1;
        (0..self.world.nodes.len()).filter(move |index| *index != last)
    }

    /// The span until all sessions are up and every FIB is right, and what was sent meanwhile.
    fn settle(&mut self) -> (Duration, Messages) {
        let (began, sent) = (self.world.now, self.world.sent);
        let settled = self.world.run_until(PATIENCE, World::is_settled);
        assert!(settled, "not settled: {}", self.world.describe());
        (self.world.now.since(began), self.world.sent.since(sent))
    }

    /// Everybody hears of the last node within a second, and it starts.
    fn join(&mut self) {
        let last = self.nodes - 1;
        for index in self.members() {
            if self.shape.joins(self.nodes, index, last) {
                let newcomer = self.peer(index, last);
                self.world.nodes[index].peers.push(newcomer);
                let after = self.world.span_below(1_000_000);
                self.world.set_peers_after(after, index);
            }
        }
        self.world.nodes[last].peers = self.peers_of(last, last);
        self.world.nodes[last].origin = origin(last);
        self.world.start(last);
    }

    /// A session costs an OPEN, a route or more and an End-of-RIB per family from each side, and to those who are not told of
    /// the newcomer yet one OPEN more; nobody else says a word but of the new routes.
    fn check_join(&self, sent: Messages) {
        let last = self.nodes - 1;
        let sessions = self.world.nodes[last].peers.len() as u64;
        assert!(sent.others <= 4 * sessions, "{sent:?} for {sessions} sessions");
        let updates = match self.shape {
            Shape::Mesh => 6 * sessions,
            // A reflector has a route of each node for the newcomer, and one of the newcomer for each node; it may learn of
            // the newcomer by the other reflector first.
            Shape::Racks { of } => 6 * of as u64 + (REFLECTORS * (4 * self.nodes + 6)) as u64,
        };
        assert!(sent.updates <= updates, "{sent:?}");
    }

    /// Everybody restarts once, nodes some at a time; a few come back with other routes. Gives the number of waves.
    fn upgrade(&mut self) -> usize {
        let mut waiting: Vec<usize> = (0..self.nodes).collect();
        let mut waves = 0;
        while !waiting.is_empty() {
            waves += 1;
            for _ in 0..self.nodes.div_ceil(WAVE).min(waiting.len()) {
                let drawn = self.world.random.below(waiting.len() as u64);
                let index = waiting.swap_remove(usize::try_from(drawn).unwrap());
                if index.is_multiple_of(CHANGES) {
                    self.world.nodes[index].origin = vec![prefix(index, 0), prefix(index, 2)];
                }
                // Gone for one to ten seconds.
                let down = secs(1) + self.world.span_below(9_000_000);
                self.restart(index, down);
            }
            self.settle();
        }
        // All at once, so that none of them knows what another has forgotten.
        (self.nodes..self.world.nodes.len()).for_each(|reflector| self.restart(reflector, secs(5)));
        self.settle();
        waves
    }

    fn restart(&mut self, index: usize, down: Duration) {
        self.world.kill(index);
        self.world.start_after(down, index);
    }
}

fn origin(node: usize) -> Vec<IpNetwork> {
    let mut origin = vec![prefix(node, 0)];
    origin.extend(node.is_multiple_of(CHANGES).then(|| prefix(node, 1)));
    origin
}

/// From a cold start over a node that joins to an upgrade of everything, during which nobody loses a route that is still
/// announced.
fn life(seed: u64, nodes: usize, shape: Shape) {
    let (meter, mut cluster) = (Meter::start(), Cluster::new(seed, nodes, shape));
    println!("{nodes} nodes, {shape:?}, seed {seed}");
    cluster.start_all(cluster.members());
    meter.report("cold start", cluster.settle());

    cluster.join();
    let joined = cluster.settle();
    cluster.check_join(joined.1);
    meter.report("one node more", joined);

    cluster.world.nodes.iter_mut().for_each(|node| node.lost.clear());
    let (began, before) = (cluster.world.now, cluster.world.sent);
    let waves = cluster.upgrade();
    let upgrade = (cluster.world.now.since(began), cluster.world.sent.since(before));
    meter.report(&format!("upgrade in {waves} waves"), upgrade);
    cluster.world.run(secs(30));
    assert!(cluster.world.is_settled(), "did not stay settled");
    for (index, node) in cluster.world.nodes.iter().enumerate() {
        let is_announced =
            |lost: IpNetwork| cluster.world.nodes.iter().any(|node| node.origin.contains(&lost));
        let lost = node.lost.iter().find(|(_, lost)| is_announced(*lost));
        assert_eq!(lost, None, "node {index} has lost a route");
    }
}

/// What a run takes of the machine.
struct Meter {
    clock: Instant,
    memory: usize,
}

impl Meter {
    #[expect(clippy::disallowed_methods, reason = "how long the machine takes is no part of the run")]
    fn start() -> Self {
        Self { clock: Instant::now(), memory: resident() }
    }

    fn report(&self, what: &str, (took, sent): (Duration, Messages)) {
        let (clock, memory) = (self.clock.elapsed(), resident().saturating_sub(self.memory) >> 20);
        println!(
            "  {what}: {took:?}, {sent:?}; {:.1} s of the machine so far, {memory} MiB",
            clock.as_secs_f32()
        );
    }
}

/// Octets of memory that this process has.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn a_mesh_forwards_while_everybody_restarts() {
    for_seeds(FEW, |seed| life(seed, 24, Shape::Mesh));
}

#[test]
fn racks_below_reflectors_forward_while_everybody_restarts() {
    for_seeds(FEW, |seed| life(seed, 24, Shape::Racks { of: 8 }));
}

/// How large `make simulate` wants it.
fn size(name: &str, usual: usize) -> usize {
    number(name).map_or(usual, |size| usize::try_from(size).unwrap())
}

#[test]
#[ignore = "takes minutes"]
fn simulate_mesh() {
    for_seeds(1, |seed| life(seed, size("WEFT_SIM_NODES", 200), Shape::Mesh));
}

#[test]
#[ignore = "takes minutes"]
fn simulate_racks() {
    let racks = Shape::Racks { of: size("WEFT_SIM_RACK", 40) };
    for_seeds(1, |seed| life(seed, size("WEFT_SIM_NODES", 200), racks));
}
