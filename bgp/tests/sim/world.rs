//! A network of speakers in virtual time.
//!
//! Everything random comes from one seed, so a failure is repeated by its number.

mod messages;
mod node;
mod tcp;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ipnetwork::IpNetwork;
use weft_bgp::random::SplitMix64;
use weft_bgp::rib::RouteStatus;
use weft_bgp::session::StateKind;
use weft_bgp::speaker::{Effect, Input, OriginConfig, PeerConfig, PeerStatus, RouteFilter, Speaker};
use weft_bgp::types::{AfiSafi, ConnId, FibNexthop, Instant, PeerId};

pub(crate) use messages::Messages;
use node::node_at;
pub(crate) use node::{MAX_NODES, Node, address, key, peer, prefix};
use tcp::{End, Wire};

/// Of two things at one time, that which was planned first happens first.
type Moment = (Instant, u64);

enum Event {
    Tick(usize, u32),
    Start(usize),
    /// The node hears of its peers.
    SetPeers(usize),
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
    events: BTreeMap<Moment, Event>,
    planned: u64,
    /// By the end that sends.
    wires: BTreeMap<End, Wire>,
    /// Nothing passes from one node to another before then.
    silence: BTreeMap<(usize, usize), Instant>,
    /// Largest piece that TCP hands out.
    pub(crate) piece: u64,
    pub(crate) latency: u64,
    /// Changes of state are kept, and what was sent last.
    pub(crate) keeps_history: bool,
    /// By the end that sends: the last that it has sent.
    last_sent: BTreeMap<End, Bytes>,
    pub(crate) sent: Messages,
}

pub(crate) const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

impl World {
    /// A full mesh; each node announces a prefix of its own and one that it shares with all others.
    pub(crate) fn mesh(seed: u64, size: usize, asn: impl Fn(usize) -> u32) -> Self {
        Self::new(seed, size, |index, seed| {
            let mut node = Node::new(index, asn(index), seed);
            node.config.restart_time = Some(60);
            node.origin.push("10.200.0.0/16".parse().unwrap());
            let others = (0..size).filter(|other| *other != index);
            node.peers =
                others.map(|other| PeerConfig { hold_time: 9, ..peer(index, other, asn(other)) }).collect();
            node
        })
    }

    /// Of so many nodes, each made of its number and a seed.
    pub(crate) fn new(seed: u64, size: usize, node: impl Fn(usize, u64) -> Node) -> Self {
        let mut random = SplitMix64::new(seed);
        let nodes = (0..size).map(|index| node(index, random.draw())).collect();
        Self {
            now: Instant(secs(100)),
            random,
            nodes,
            events: BTreeMap::new(),
            planned: 0,
            wires: BTreeMap::new(),
            silence: BTreeMap::new(),
            piece: 4096,
            latency: 20_000,
            keeps_history: true,
            last_sent: BTreeMap::new(),
            sent: Messages::default(),
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
        node.established = 0;
        node.fresh.clear();
        node.converged_at = None;
        node.speaker = Some(Speaker::new(node.config.clone()));
        // From the second time on there is a FIB to come back to.
        node.config.restarting = Some(AfiSafi::ALL.to_vec());
        node.config.seed = node.config.seed.wrapping_add(1);
        let origin = OriginConfig { prefixes: node.origin.clone(), ..OriginConfig::default() };
        self.input_at(now, index, Input::SetOrigin(origin));
        self.schedule(now, Event::SetPeers(index));
    }

    pub(crate) fn start_after(&mut self, span: Duration, index: usize) {
        self.schedule(self.now + span, Event::Start(index));
    }

    /// As they are by then.
    pub(crate) fn set_peers_after(&mut self, span: Duration, index: usize) {
        self.schedule(self.now + span, Event::SetPeers(index));
    }

    /// SIGKILL: the kernel closes what was open, and keeps the FIB.
    pub(crate) fn kill(&mut self, index: usize) {
        self.nodes[index].speaker = None;
        self.nodes[index].established = 0;
        for end in self.ends_of(index) {
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
        while let Some(next) = self.events.first_entry().filter(|next| next.key().0 <= end) {
            self.now = self.now.max(next.key().0);
            let event = next.remove();
            self.happen(event);
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

    pub(crate) fn routes(&self, index: usize) -> Vec<RouteStatus<String>> {
        self.nodes[index].speaker.as_ref().map(|speaker| speaker.routes(RouteFilter::All)).unwrap_or_default()
    }

    /// Every node has a session with each of its peers, over one connection.
    pub(crate) fn is_meshed(&self) -> bool {
        self.nodes.iter().all(|node| node.established == node.peers.len())
            && self.wires.len() == self.nodes.iter().map(|node| node.peers.len()).sum()
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

    /// Of all that have peers, sessions and FIBs are what they are to be.
    pub(crate) fn is_settled(&self) -> bool {
        let is_right = |index: usize| {
            self.nodes[index].peers.is_empty() || self.nodes[index].fib == self.expected_fib(index)
        };
        self.is_meshed() && (0..self.nodes.len()).all(is_right)
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
            Event::Tick(index, epoch) if self.nodes[index].epoch == epoch => {
                self.nodes[index].alarm = None;
                self.handle(index, Input::Tick);
            }
            Event::Tick(..) => {}
            Event::Start(index) => self.start(index),
            Event::SetPeers(index) => self.handle(index, Input::SetPeers(self.nodes[index].peers.clone())),
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
            self.nodes[index].alarm = Some(self.schedule(at, Event::Tick(index, epoch)));
        }
    }

    fn carry_out(&mut self, index: usize, effect: Effect) {
        let epoch = self.nodes[index].epoch;
        match effect {
            Effect::Dial { conn, key } => {
                let to = node_at(key.address);
                let at = self.arrival(index, to);
                self.schedule(at, Event::Dial { from: (index, epoch, conn), to });
            }
            Effect::Send { conn, bytes } => {
                self.sent.count(&bytes);
                self.send((index, epoch, conn), &bytes);
                if self.keeps_history {
                    self.last_sent.insert((index, epoch, conn), bytes);
                }
            }
            Effect::Close { conn } | Effect::Abort { conn } => self.hang_up((index, epoch, conn)),
            Effect::PeerStateChanged { key, from, to, .. } => {
                let (now, keeps_history) = (self.now, self.keeps_history);
                let node = &mut self.nodes[index];
                node.established += usize::from(to == StateKind::Established);
                node.established -= usize::from(from == StateKind::Established);
                if keeps_history {
                    node.transitions.push((now, key, to));
                }
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

    fn schedule(&mut self, at: Instant, event: Event) -> Moment {
        self.planned += 1;
        let moment = (at, self.planned);
        self.events.insert(moment, event);
        moment
    }
}
