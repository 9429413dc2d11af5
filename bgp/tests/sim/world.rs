//! A network of speakers in virtual time.
//!
//! Everything random comes from one seed, so a failure is repeated by its number.

mod tcp;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use ipnetwork::IpNetwork;
use weft_bgp::random::SplitMix64;
use weft_bgp::session::StateKind;
use weft_bgp::speaker::{
    Effect, Input, LocalNexthop, OriginConfig, PeerConfig, PeerKey, PeerStatus, RouteFilter, RouteStatus,
    Speaker, SpeakerConfig,
};
use weft_bgp::types::{AfiSafi, Asn, ConnId, FibNexthop, Instant, PeerId, RemoteAsn, RouterId};

use tcp::{End, Wire};

/// One node: its speaker, and the kernel that survives it.
pub(crate) struct Node {
    pub(crate) speaker: Option<Speaker>,
    pub(crate) fib: BTreeMap<IpNetwork, Vec<FibNexthop>>,
    /// Prefixes that the speaker has confirmed since it started; the rest goes when it has converged.
    fresh: BTreeSet<IpNetwork>,
    pub(crate) origin: Vec<IpNetwork>,
    pub(crate) peers: Vec<PeerConfig>,
    config: SpeakerConfig,
    /// Counts starts: what was under way for an earlier one does not arrive.
    epoch: u32,
    accepted: u64,
    pub(crate) converged_at: Option<Instant>,
    /// Every withdrawal from the FIB, and when.
    pub(crate) lost: Vec<(Instant, IpNetwork)>,
    pub(crate) transitions: Vec<(Instant, PeerKey, StateKind)>,
    /// The one alarm that is set; earlier settings of it are void.
    alarm: Option<u64>,
}

enum Event {
    Tick(usize, u32),
    /// A SYN.
    Dial {
        from: End,
        to: usize,
    },
    Input(End, Input),
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) random: SplitMix64,
    pub(crate) nodes: Vec<Node>,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    events: BTreeMap<u64, Event>,
    numbered: u64,
    /// By the end that sends.
    wires: BTreeMap<End, Wire>,
    /// Nothing passes from one node to another before then.
    silence: BTreeMap<(usize, usize), Instant>,
    /// Largest piece that TCP hands out.
    pub(crate) piece: u64,
    pub(crate) latency: u64,
    /// By the end that sends: the last that it has sent.
    last_sent: BTreeMap<End, Bytes>,
}

pub(crate) fn address(node: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, u8::try_from(node + 1).unwrap()))
}

pub(crate) fn key(node: usize) -> PeerKey {
    PeerKey { address: address(node), interface: None }
}

pub(crate) fn prefix(node: usize, index: u8) -> IpNetwork {
    format!("10.{}.{index}.0/24", 100 + node).parse().unwrap()
}

pub(crate) fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

impl World {
    /// A full mesh; each node announces a prefix of its own and one that it shares with all others.
    pub(crate) fn mesh(seed: u64, size: usize, asn: impl Fn(usize) -> u32) -> Self {
        let mut random = SplitMix64::new(seed);
        let nodes = (0..size).map(|index| node(index, size, &asn, random.below(u64::MAX))).collect();
        Self {
            now: Instant(secs(100)),
            random,
            nodes,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            numbered: 0,
            wires: BTreeMap::new(),
            silence: BTreeMap::new(),
            piece: 4096,
            latency: 20_000,
            last_sent: BTreeMap::new(),
        }
    }

    pub(crate) fn span_below(&mut self, micros: u64) -> Duration {
        Duration::from_micros(self.random.below(micros))
    }

    /// Of two nodes the one with the lower address lets the other dial.
    pub(crate) fn agree_who_dials(&mut self) {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            node.peers.iter_mut().for_each(|peer| peer.let_peer_dial = address(index) < peer.key.address);
        }
    }

    /// Since the beginning.
    pub(crate) fn connections_made(&self) -> u64 {
        self.nodes.iter().map(|node| node.accepted).sum()
    }

    pub(crate) fn start(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        node.epoch += 1;
        node.fresh.clear();
        node.converged_at = None;
        node.speaker = Some(Speaker::new(node.config.clone()));
        // From the second time on there is a FIB to come back to.
        node.config.restarting = Some(AfiSafi::ALL.to_vec());
        node.config.seed = node.config.seed.wrapping_add(1);
        let origin = OriginConfig { prefixes: node.origin.clone(), ..OriginConfig::default() };
        let peers = node.peers.clone();
        self.input_at(now, index, Input::SetOrigin(origin));
        self.input_at(now, index, Input::SetPeers(peers));
    }

    /// SIGKILL: the kernel closes what was open, and keeps the FIB.
    pub(crate) fn kill(&mut self, index: usize) {
        self.nodes[index].speaker = None;
        let ends: Vec<End> = self.wires.keys().copied().filter(|(node, ..)| *node == index).collect();
        for end in ends {
            self.hang_up(end);
        }
    }

    /// An input from the node's own side.
    pub(crate) fn input(&mut self, index: usize, input: Input) {
        self.input_at(self.now, index, input);
    }

    /// Runs everything that happens within `span`.
    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(Reverse((at, number))) =
            self.queue.peek().copied().filter(|Reverse((at, _))| *at <= end)
        {
            self.queue.pop();
            self.now = self.now.max(at);
            if let Some(event) = self.events.remove(&number) {
                self.happen(event);
            }
        }
        self.now = end;
    }

    /// Runs until `done`, at most for `limit`; says whether it came to that.
    pub(crate) fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + limit;
        while self.now < end {
            if done(self) {
                return true;
            }
            self.run(Duration::from_millis(100));
        }
        done(self)
    }

    pub(crate) fn peers(&self, index: usize) -> Vec<PeerStatus> {
        self.nodes[index].speaker.as_ref().map(|speaker| speaker.peers(self.now)).unwrap_or_default()
    }

    pub(crate) fn routes(&self, index: usize) -> Vec<RouteStatus> {
        self.nodes[index].speaker.as_ref().map(|speaker| speaker.routes(RouteFilter::All)).unwrap_or_default()
    }

    /// Every node has a session with every other, over one connection.
    pub(crate) fn is_meshed(&self) -> bool {
        let established = (0..self.nodes.len())
            .all(|index| self.peers(index).iter().all(|peer| peer.state == StateKind::Established));
        let pairs = self.nodes.len() * (self.nodes.len() - 1);
        established && self.wires.len() == pairs
    }

    /// The FIB that a node should have: what all others announce, with all that announce it as nexthops.
    pub(crate) fn expected_fib(&self, index: usize) -> BTreeMap<IpNetwork, Vec<FibNexthop>> {
        let mut fib: BTreeMap<IpNetwork, Vec<FibNexthop>> = BTreeMap::new();
        for (other, node) in self.nodes.iter().enumerate().filter(|(other, _)| *other != index) {
            for prefix in node.origin.iter().filter(|prefix| !self.nodes[index].origin.contains(prefix)) {
                fib.entry(*prefix).or_default().push(FibNexthop { address: address(other), interface: None });
            }
        }
        fib
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.is_meshed()
            && (0..self.nodes.len()).all(|index| self.nodes[index].fib == self.expected_fib(index))
    }

    /// For a test that fails: what each node sees, and what it saw last.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("{:?}, {} ends of connections", self.now, self.wires.len());
        for (index, node) in self.nodes.iter().enumerate() {
            for peer in self.peers(index) {
                text +=
                    &format!("\n{} -> {}: {} {:?}", address(index), peer.key, peer.state, peer.last_error);
            }
            let recent = node.transitions.iter().rev().take(12);
            text += &recent.map(|(at, peer, to)| format!("\n  {:?} {peer} {to}", at.0)).collect::<String>();
        }
        text
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(index, epoch) if self.nodes[index].epoch == epoch => self.handle(index, Input::Tick),
            Event::Tick(..) => {}
            Event::Dial { from, to } => self.dial_arrives(from, to),
            Event::Input(end, input) => {
                if matches!(input, Input::Closed { .. }) {
                    self.hang_up(end);
                }
                if self.nodes[end.0].epoch == end.1 {
                    self.handle(end.0, input);
                }
            }
        }
    }

    fn handle(&mut self, index: usize, input: Input) {
        let Some(speaker) = self.nodes[index].speaker.as_mut() else {
            return;
        };
        speaker.handle(self.now, input);
        let effects: Vec<Effect> = std::iter::from_fn(|| speaker.poll_effect()).collect();
        let changes: Vec<_> = std::iter::from_fn(|| speaker.poll_change()).collect();
        let deadline = speaker.next_deadline();
        let node = &mut self.nodes[index];
        for change in changes {
            node.fresh.insert(change.prefix);
            if change.nexthops.is_empty() {
                node.fib.remove(&change.prefix);
                node.lost.push((self.now, change.prefix));
            } else {
                node.fib.insert(change.prefix, change.nexthops);
            }
        }
        for effect in effects {
            self.carry_out(index, effect);
        }
        if let Some(void) = self.nodes[index].alarm.take() {
            self.events.remove(&void);
        }
        if let Some(deadline) = deadline {
            let epoch = self.nodes[index].epoch;
            // As a clock does: late by a little, never early.
            let at = deadline.max(self.now) + Duration::from_micros(50);
            self.schedule(at, Event::Tick(index, epoch));
            self.nodes[index].alarm = Some(self.numbered);
        }
    }

    fn carry_out(&mut self, index: usize, effect: Effect) {
        let epoch = self.nodes[index].epoch;
        match effect {
            Effect::Dial { conn, key } => {
                let to = (0..self.nodes.len()).find(|other| address(*other) == key.address).expect("a node");
                let at = self.arrival(index, to);
                self.schedule(at, Event::Dial { from: (index, epoch, conn), to });
            }
            Effect::Send { conn, bytes } => {
                self.send((index, epoch, conn), &bytes);
                self.last_sent.insert((index, epoch, conn), bytes);
            }
            Effect::Close { conn } | Effect::Abort { conn } => self.hang_up((index, epoch, conn)),
            Effect::PeerStateChanged { key, to, .. } => {
                let now = self.now;
                self.nodes[index].transitions.push((now, key, to));
            }
            Effect::AttributeErrors { .. } => {}
            Effect::Settled => {}
            Effect::Converged => {
                let node = &mut self.nodes[index];
                node.converged_at = Some(self.now);
                let fresh = std::mem::take(&mut node.fresh);
                node.fib.retain(|prefix, _| fresh.contains(prefix));
            }
        }
    }

    fn input_at(&mut self, at: Instant, index: usize, input: Input) {
        let end = (index, self.nodes[index].epoch, ConnId::Dialed { peer: PeerId(0), attempt: 0 });
        self.schedule(at, Event::Input(end, input));
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.numbered += 1;
        self.queue.push(Reverse((at, self.numbered)));
        self.events.insert(self.numbered, event);
    }
}

fn node(index: usize, size: usize, asn: &impl Fn(usize) -> u32, seed: u64) -> Node {
    let IpAddr::V4(id) = address(index) else { unreachable!("nodes have IPv4 addresses") };
    let mut config = SpeakerConfig::new(Asn(asn(index)), RouterId(id), seed);
    config.restart_time = Some(60);
    let peers = (0..size).filter(|other| *other != index).map(|other| {
        let mut peer =
            PeerConfig::new(format!("n{other}"), address(other), RemoteAsn::Number(Asn(asn(other))));
        peer.accept = vec!["10.0.0.0/8".parse().unwrap()].into();
        peer.hold_time = 9;
        peer.nexthop = LocalNexthop { v4: Some(id), v6: None };
        peer
    });
    Node {
        speaker: None,
        fib: BTreeMap::new(),
        fresh: BTreeSet::new(),
        origin: vec![prefix(index, 0), "10.200.0.0/16".parse().unwrap()],
        peers: peers.collect(),
        config,
        epoch: 0,
        accepted: 0,
        converged_at: None,
        lost: Vec::new(),
        transitions: Vec::new(),
        alarm: None,
    }
}
