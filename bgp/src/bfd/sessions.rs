//! All sessions of a node as one pure object: whose a datagram is, and whose turn it is.
//!
//! In: the peers that want a session, datagrams with where they came from, time. Out: [`Effect`]s, in order, and
//! [`Sessions::next_deadline`]. A peer has one session: it is found by the peer's address, and what the datagram says of
//! discriminators must agree (RFC 5880 §6.8.6, RFC 5881 §3).
//!
//! Invariant: every session with a deadline is in the heap, not later than that deadline.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::{Config, Path};
use super::drops::{DropReason, Drops};
use super::packet::{Diagnostic, Malformed, Packet};
use super::session::{Input, Output, Resumable, Session, Transition};
use super::status::{Remote, Status};
use super::timing::SLOW;
use super::{Discriminator, State};
use crate::random::SplitMix64;
use crate::types::{Instant, PeerKey};

/// A session to go on with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    pub key: PeerKey,
    pub path: Path,
    pub session: Resumable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Send {
        key: PeerKey,
        path: Path,
        packet: [u8; 24],
    },
    Changed {
        key: PeerKey,
        transition: Transition,
    },
    /// Nothing more is sent to this peer.
    Ended {
        key: PeerKey,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Sessions {
    entries: BTreeMap<PeerKey, Entry>,
    pub(super) deadlines: BinaryHeap<Reverse<(Instant, PeerKey)>>,
    /// Taken up by the first peers that are set, and by no others.
    resumed: BTreeMap<PeerKey, Resumed>,
    strangers: u64,
    random: SplitMix64,
    effects: VecDeque<Effect>,
}

#[derive(Debug)]
struct Entry {
    session: Session,
    config: Config,
    /// Nobody wants it any more; the peer is told for so long.
    leaves_at: Option<Instant>,
    /// Its earliest place in the heap.
    filed: Option<Instant>,
    since: Instant,
    last_down: Option<(Diagnostic, Instant)>,
    up_count: u64,
    failed_count: u64,
    packets_in: u64,
    packets_out: u64,
    drops: Drops,
}

impl Sessions {
    /// `seed` is a number that peers cannot know, and another for each process: discriminators are drawn from it.
    pub fn new(seed: u64, resumed: Vec<Resumed>) -> Self {
        Self {
            entries: BTreeMap::new(),
            deadlines: BinaryHeap::new(),
            resumed: resumed.into_iter().map(|resumed| (resumed.key, resumed)).collect(),
            strangers: 0,
            random: SplitMix64::new(seed),
            effects: VecDeque::new(),
        }
    }

    /// Makes these the sessions, and no others. New intervals cost no session; another path costs it.
    pub fn set(&mut self, now: Instant, wanted: &BTreeMap<PeerKey, Config>) {
        for key in self.entries.keys().copied().collect::<Vec<_>>() {
            if !wanted.contains_key(&key) {
                self.retire(key, now);
            }
        }
        for (key, config) in wanted {
            if self.entries.get(key).is_some_and(|entry| entry.config.path != config.path) {
                self.step(*key, now, Input::AdminDown);
                self.end(*key);
            }
            self.want(*key, *config, now);
        }
        self.resumed.clear();
    }

    /// A datagram that came to `path`'s port, from this peer if its address is to be believed.
    pub fn received(&mut self, now: Instant, from: PeerKey, port: u16, ttl: u8, payload: &[u8]) {
        let Some(entry) = self.entries.get_mut(&from) else {
            self.strangers += 1;
            return;
        };
        match entry.admit(port, ttl, payload) {
            Ok(packet) => {
                entry.packets_in += 1;
                self.step(from, now, Input::Received(packet));
            }
            Err(reason) => entry.drops.count(reason),
        }
    }

    /// Carries out what is due.
    pub fn tick(&mut self, now: Instant) {
        while let Some(Reverse((at, key))) =
            self.deadlines.peek().copied().filter(|Reverse((at, _))| *at <= now)
        {
            self.deadlines.pop();
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            if entry.filed == Some(at) {
                entry.filed = None;
            }
            if entry.leaves_at.is_some_and(|at| at <= now) {
                self.end(key);
            } else {
                self.step(key, now, Input::Tick);
            }
        }
    }

    /// When to come back with [`Sessions::tick`].
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.peek().map(|Reverse((at, _))| *at)
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// We are about to be silent for some time: peers of sessions that are up are asked to wait as long as `patience`, and
    /// have answered when [`Sessions::is_agreed`].
    pub fn lengthen(&mut self, now: Instant, patience: Duration) {
        for key in self.entries.keys().copied().collect::<Vec<_>>() {
            if let Some(entry) = self.entries.get(&key) {
                let interval = patience / u32::from(entry.config.terms.detect_multiplier);
                self.step(key, now, Input::Lengthen(interval));
            }
        }
    }

    /// Every session that is up.
    pub fn is_agreed(&self) -> bool {
        let mut up = self.entries.values().filter(|entry| entry.session.state() == State::Up);
        up.all(|entry| entry.session.is_agreed())
    }

    /// The last word of this process. Sessions whose peer waits for so long are left to whoever comes next; all others
    /// are taken down, which is no failure for the peer. `None`: all of them.
    pub fn leave(&mut self, now: Instant, silent: Option<Duration>) -> Vec<Resumed> {
        let mut left = Vec::new();
        for key in self.entries.keys().copied().collect::<Vec<_>>() {
            let Some(entry) = self.entries.get(&key) else { continue };
            let session = silent
                .and_then(|silent| entry.session.resumable().filter(|session| session.is_awaited(silent)));
            match session {
                Some(session) => left.push(Resumed { key, path: entry.config.path, session }),
                None => self.step(key, now, Input::AdminDown),
            }
        }
        left
    }

    /// In order of address.
    pub fn statuses(&self, now: Instant) -> Vec<Status> {
        let wanted = self.entries.iter().filter(|(_, entry)| entry.leaves_at.is_none());
        wanted.map(|(key, entry)| entry.status(*key, now)).collect()
    }

    /// Datagrams from addresses without a session.
    pub fn strangers(&self) -> u64 {
        self.strangers
    }

    fn want(&mut self, key: PeerKey, config: Config, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&key) {
            (entry.config, entry.leaves_at) = (config, None);
            self.step(key, now, Input::Enable);
            self.step(key, now, Input::SetTerms(config.terms));
            return;
        }
        let seed = self.random.draw();
        let session = match self.resumed.remove(&key).filter(|resumed| resumed.path == config.path) {
            Some(Resumed { session, .. }) => Session::resume(session, config.terms, seed, now),
            None => Session::new(self.new_discriminator(), config.terms, seed, now),
        };
        self.entries.insert(key, Entry::new(session, config, now));
        self.step(key, now, Input::Tick);
    }

    fn new_discriminator(&mut self) -> Discriminator {
        loop {
            let [.., a, b, c, d] = self.random.draw().to_be_bytes();
            let drawn = Discriminator::new(u32::from_be_bytes([a, b, c, d]));
            let is_taken = |drawn: &Discriminator| {
                let resumed = self.resumed.values().map(|resumed| resumed.session.discriminator());
                let taken = self.entries.values().map(|entry| entry.session.discriminator());
                taken.chain(resumed).any(|taken| taken == *drawn)
            };
            if let Some(drawn) = drawn.filter(|drawn| !is_taken(drawn)) {
                return drawn;
            }
        }
    }

    /// RFC 5880 §6.8.16: the peer is told for a detection time, so that it does not take silence for a failure.
    fn retire(&mut self, key: PeerKey, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let patience = SLOW * u32::from(entry.config.terms.detect_multiplier);
        entry.leaves_at.get_or_insert(now + patience);
        self.step(key, now, Input::AdminDown);
    }

    fn end(&mut self, key: PeerKey) {
        self.entries.remove(&key);
        self.effects.push_back(Effect::Ended { key });
    }

    fn step(&mut self, key: PeerKey, now: Instant, input: Input) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let mut outputs = Vec::new();
        entry.session.handle(now, input, &mut outputs);
        for output in outputs {
            self.effects.push_back(match output {
                Output::Send(packet) => {
                    entry.packets_out += 1;
                    Effect::Send { key, path: entry.config.path, packet: packet.encode() }
                }
                Output::Changed(transition) => {
                    entry.changed(&transition, now);
                    Effect::Changed { key, transition }
                }
            });
        }
        let deadline = entry.next_deadline();
        // What is filed too early is filed again when it is looked at: most packets move a deadline to later.
        if let Some(at) = deadline.filter(|at| entry.filed.is_none_or(|filed| *at < filed)) {
            entry.filed = Some(at);
            self.deadlines.push(Reverse((at, key)));
        }
    }
}

impl Entry {
    fn new(session: Session, config: Config, now: Instant) -> Self {
        Self {
            session,
            config,
            leaves_at: None,
            filed: None,
            since: now,
            last_down: None,
            up_count: 0,
            failed_count: 0,
            packets_in: 0,
            packets_out: 0,
            drops: Drops::default(),
        }
    }

    /// Cheap checks first: whoever sends garbage must not make us work.
    fn admit(&self, port: u16, ttl: u8, payload: &[u8]) -> Result<Packet, DropReason> {
        if port != self.config.path.port() {
            return Err(DropReason::Port);
        }
        if ttl < self.config.path.least_ttl() {
            return Err(DropReason::Ttl);
        }
        let packet = Packet::decode(payload).map_err(|malformed| match malformed {
            Malformed::Authentication => DropReason::Authentication,
            _ => DropReason::Malformed,
        })?;
        match packet.your_discriminator {
            Some(yours) if yours != self.session.discriminator() => Err(DropReason::Discriminator),
            Some(_) | None => Ok(packet),
        }
    }

    fn changed(&mut self, transition: &Transition, now: Instant) {
        self.since = now;
        self.up_count += u64::from(transition.to == State::Up);
        self.failed_count += u64::from(transition.failure.is_some());
        if transition.from == State::Up {
            self.last_down = Some((transition.diagnostic, now));
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.session.next_deadline().into_iter().chain(self.leaves_at).min()
    }

    fn status(&self, key: PeerKey, now: Instant) -> Status {
        let remote = self.session.heard().map(|packet| Remote {
            discriminator: packet.my_discriminator,
            state: packet.state,
            diagnostic: packet.diagnostic,
            desired_min_tx: packet.desired_min_tx,
            required_min_rx: packet.required_min_rx,
            detect_multiplier: packet.detect_multiplier,
        });
        Status {
            key,
            path: self.config.path,
            discriminator: self.session.discriminator(),
            state: self.session.state(),
            state_age: now.since(self.since),
            transmit_interval: self.session.transmit_interval(),
            detection_time: self.session.detection_time(),
            remote,
            last_down: self.last_down.map(|(why, at)| (why, now.since(at))),
            up_count: self.up_count,
            failed_count: self.failed_count,
            packets_in: self.packets_in,
            packets_out: self.packets_out,
            drops: self.drops.clone(),
        }
    }
}
