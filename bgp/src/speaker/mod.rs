//! Sessions and RIB as one pure object: inputs and a time go in, effects come out.
//!
//! In: [`Speaker::handle`]. Out: [`Speaker::poll_effect`] until it is empty, the FIB's changes from
//! [`Speaker::poll_change`] whenever the caller has room for them, and [`Speaker::next_deadline`], at which the caller
//! comes back with [`Input::Tick`]. The caller owns clock, sockets and queues.

mod config;
mod convergence;
mod io;
mod peer;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use bytes::Bytes;
use ipnetwork::IpNetwork;

pub use config::{
    Hops, LocalNexthop, OriginConfig, Password, PeerConfig, PeerKey, RemoteAsn, Shutdown, SpeakerConfig,
    Transport,
};
pub use io::{Effect, Input};
pub use status::{FamilyStatus, PathStatus, PeerStatus, RouteFilter, RouteStatus};

use convergence::{Convergence, QUIET};
use peer::{Peer, export_policy, import_policy};

use crate::rib::{LimitExceeded, OriginAttributes, PathView, Rib, RibConfig, RouteView, Standing};
use crate::session::{DownReason, Effect as SessionEffect, Jitter, Negotiated, Session, StateKind, Step};
use crate::types::{AfiSafi, Change, ConnId, Instant, PeerId};
use crate::wire::{CeaseReason, Notification, Update};

/// A peer is given no more routes while it has this much to read. What it misses is kept as prefixes in the RIB.
const SEND_WINDOW: usize = 256 * 1024;
/// A peer that sent more than its limits is left alone this long; what it sends will hardly be less at once.
const AFTER_LIMIT: std::time::Duration = std::time::Duration::from_secs(300);

/// See the module.
#[derive(Debug)]
pub struct Speaker {
    config: SpeakerConfig,
    rib: Rib,
    peers: BTreeMap<PeerId, Peer>,
    by_key: BTreeMap<PeerKey, PeerId>,
    last_id: u32,
    /// Who owns a connection that the shell accepted.
    accepted: BTreeMap<ConnId, PeerId>,
    deadlines: BTreeSet<(Instant, PeerId)>,
    /// Peers that may have something to be told.
    untold: BTreeSet<PeerId>,
    /// Routes have changed: every peer may.
    all_untold: bool,
    origin: BTreeMap<IpNetwork, OriginAttributes>,
    convergence: Convergence,
    /// Routes of a lost peer are being taken out, a slice per [`Input::Tick`].
    sweeping: bool,
    ended: bool,
    jitter: Jitter,
    effects: VecDeque<Effect>,
}

impl Speaker {
    pub fn new(config: SpeakerConfig) -> Self {
        let rib = Rib::new(RibConfig {
            local_asn: config.asn,
            router_id: config.router_id,
            max_paths: config.max_paths.max(1),
            hash_seed: config.seed,
            // The table is then a function of what was learned, not of its order; and as equal paths are used side
            // by side, a change among them does not move traffic.
            keep_incumbent: false,
        });
        Self {
            jitter: Jitter::new(config.seed),
            config,
            rib,
            peers: BTreeMap::new(),
            by_key: BTreeMap::new(),
            last_id: 0,
            accepted: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            untold: BTreeSet::new(),
            all_untold: false,
            origin: BTreeMap::new(),
            convergence: Convergence::Unstarted,
            sweeping: false,
            ended: false,
            effects: VecDeque::new(),
        }
    }

    /// `now` never goes back.
    pub fn handle(&mut self, now: Instant, input: Input) {
        if self.ended {
            return;
        }
        let deferred = self.rib.selection_deferred();
        self.take(now, input);
        if self.convergence.check(|| self.peers.values().all(|peer| peer.is_converged(&self.rib)), now) {
            self.rib.release_selection();
            self.effects.push_back(Effect::Converged);
        }
        self.all_untold |= deferred && !self.rib.selection_deferred();
        self.tell(now);
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The next prefix whose nexthops are not what the caller was told last; while nobody asks, one change per
    /// prefix waits.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.rib.poll_change()
    }

    /// When to come back with [`Input::Tick`]; may lie in the past.
    pub fn next_deadline(&self) -> Option<Instant> {
        let peers = self.deadlines.first().map(|(at, _)| *at);
        let sweep = self.sweeping.then(Instant::default);
        peers.into_iter().chain(sweep).chain(self.convergence.deadline()).min()
    }

    /// In order of name.
    pub fn peers(&self, now: Instant) -> Vec<PeerStatus> {
        let mut peers: Vec<_> =
            self.peers.values().map(|peer| peer.status(&self.config, &self.rib, now)).collect();
        peers.sort_by(|one, other| (&one.name, one.key).cmp(&(&other.name, other.key)));
        peers
    }

    /// In order of prefix.
    pub fn routes(&self, filter: RouteFilter) -> Vec<RouteStatus> {
        let views = match filter {
            RouteFilter::All => self.rib.routes(),
            RouteFilter::Prefix(prefix) => self.rib.explain(prefix).into_iter().collect(),
            RouteFilter::LongestMatch(address) => self.rib.longest_match(address).into_iter().collect(),
        };
        views.into_iter().map(|view| self.route_status(view)).collect()
    }

    /// What a peer has been told; `None` when there is no such peer.
    pub fn advertised(&self, key: PeerKey) -> Option<Vec<RouteStatus>> {
        let id = *self.by_key.get(&key)?;
        let told = self.rib.advertised(id).into_iter().map(|route| RouteStatus {
            prefix: route.prefix,
            paths: vec![PathStatus {
                from: None,
                nexthop: Some(route.nexthop),
                attributes: route.attributes,
                best: true,
                active: true,
                stale: false,
                reason: "advertised".to_owned(),
            }],
        });
        Some(told.collect())
    }

    fn take(&mut self, now: Instant, input: Input) {
        match input {
            Input::SetPeers(peers) => self.set_peers(peers, now),
            Input::SetOrigin(origin) => self.set_origin(&origin),
            Input::Connected { conn, local, remote } => self.connected(conn, local, remote, now),
            Input::DialFailed { conn, error } => {
                self.step(self.owner(conn), now, |session, step| session.dial_failed(conn, error, step.now));
            }
            Input::Received { conn, bytes } => {
                self.step(self.owner(conn), now, |session, step| session.received(conn, &bytes, step));
            }
            Input::Sent { conn, len } => {
                let owner = self.owner(conn);
                self.step(owner, now, |session, step| session.sent(conn, len, step.now));
                self.untold.extend(owner);
            }
            Input::Closed { conn } => {
                self.step(self.owner(conn), now, |session, step| session.closed(conn, step));
                self.accepted.remove(&conn);
            }
            Input::Tick => self.tick(now),
            Input::Unreachable(key) => self.unreachable(key, now),
            Input::Shutdown(how) => self.shutdown(&how, now),
        }
    }

    fn set_peers(&mut self, wanted: Vec<PeerConfig>, now: Instant) {
        let mut gone: BTreeMap<PeerKey, PeerId> = self.by_key.clone();
        let mut seen = BTreeSet::new();
        for config in wanted.into_iter().filter(|config| seen.insert(config.key)) {
            match gone.remove(&config.key) {
                Some(id) => self.change_peer(id, config, now),
                None => self.add_peer(config, now),
            }
        }
        for id in gone.into_values() {
            self.remove_peer(id, now);
        }
        if self.convergence.start(self.config.convergence_cap, now) && self.config.restarting.is_some() {
            self.rib.defer_selection(self.peers.keys().copied().collect());
        }
    }

    fn add_peer(&mut self, config: PeerConfig, now: Instant) {
        self.last_id += 1;
        let id = PeerId(self.last_id);
        let session = Session::new(id, Peer::rules(&config), self.jitter.fork(), now);
        self.by_key.insert(config.key, id);
        let peer = Peer {
            id,
            config,
            state: session.kind(),
            session,
            since: now,
            stale_until: None,
            established_count: 0,
            up: None,
            quiet_at: None,
            deadline: None,
        };
        self.peers.insert(id, peer);
        self.step(Some(id), now, Session::tick);
    }

    fn change_peer(&mut self, id: PeerId, config: PeerConfig, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.config == config {
            return;
        }
        let reset = peer.must_reset(&config);
        let more_prefixes = peer.config.max_prefixes != config.max_prefixes;
        let rules = Peer::rules(&config);
        peer.config = config;
        peer.session.set_rules(rules);
        if reset {
            let changed = Notification::cease(CeaseReason::OtherConfigurationChange, None);
            self.step(Some(id), now, |session, step| session.stop(&changed, false, step));
        } else if let Some((terms, local)) = &peer.up {
            self.rib.set_import(id, import_policy(&peer.config, *local), peer.config.max_prefixes);
            self.rib.set_export(id, export_policy(&peer.config, terms, *local));
            self.sweeping = true;
            self.untold.insert(id);
        }
        if reset || (more_prefixes && self.peers.get(&id).is_some_and(|peer| peer.state == StateKind::Idle)) {
            self.step(Some(id), now, |session, step| {
                session.start(rules, None, step.now);
                session.tick(step);
            });
        }
    }

    fn remove_peer(&mut self, id: PeerId, now: Instant) {
        let gone = Notification::cease(CeaseReason::PeerDeconfigured, None);
        self.step(Some(id), now, |session, step| session.stop(&gone, true, step));
        self.rib.sweep_stale(id, None);
        self.rib.excuse(id);
        self.sweeping = true;
        self.untold.remove(&id);
        if let Some(peer) = self.peers.remove(&id) {
            self.by_key.remove(&peer.config.key);
            self.deadlines.retain(|(_, other)| *other != id);
        }
    }

    fn set_origin(&mut self, origin: &OriginConfig) {
        let attributes = OriginAttributes {
            communities: origin.communities.clone(),
            large_communities: origin.large_communities.clone(),
        };
        let wanted: BTreeMap<_, _> =
            origin.prefixes.iter().map(|prefix| (*prefix, attributes.clone())).collect();
        for prefix in self.origin.keys().filter(|prefix| !wanted.contains_key(prefix)) {
            self.rib.withdraw_origin(*prefix);
        }
        for (prefix, attributes) in &wanted {
            if self.origin.get(prefix) != Some(attributes) {
                self.rib.originate(*prefix, attributes.clone());
            }
        }
        self.origin = wanted;
        self.all_untold = true;
    }

    fn connected(&mut self, conn: ConnId, local: IpAddr, remote: PeerKey, now: Instant) {
        let owner = match conn {
            ConnId::Dialed { peer, .. } => Some(peer),
            ConnId::Accepted(_) => self.by_key.get(&remote).copied(),
        };
        let Some(peer) = owner.and_then(|id| self.peers.get(&id)) else {
            self.effects.push_back(Effect::Abort { conn });
            return;
        };
        let offer = peer.offer(&self.config, !self.convergence.is_done());
        let id = peer.id;
        if let ConnId::Accepted(_) = conn {
            self.accepted.insert(conn, id);
        }
        self.step(Some(id), now, |session, step| session.connected(conn, local, offer, step));
    }

    fn unreachable(&mut self, key: PeerKey, now: Instant) {
        let Some(id) = self.by_key.get(&key).copied() else {
            return;
        };
        self.step(Some(id), now, Session::unreachable);
    }

    fn shutdown(&mut self, how: &Shutdown, now: Instant) {
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            self.step(Some(id), now, |session, step| match how {
                Shutdown::Stop { text } => {
                    let text = Some(text.as_str()).filter(|text| !text.is_empty());
                    let stop = Notification::cease(CeaseReason::AdministrativeShutdown, text);
                    session.stop(&stop, true, step);
                }
                Shutdown::Restart => session.abandon(&DownReason::Restarting, step),
            });
        }
        self.ended = true;
        self.deadlines.clear();
        self.sweeping = false;
    }

    fn tick(&mut self, now: Instant) {
        while let Some((at, id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, id));
            self.expire(id, now);
            self.step(Some(id), now, Session::tick);
        }
        if self.sweeping {
            self.sweeping = self.rib.sweep();
            self.all_untold = true;
        }
    }

    fn expire(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.deadline = None;
        peer.quiet_at = peer.quiet_at.filter(|at| *at > now);
        if peer.stale_until.is_some_and(|until| until <= now) {
            peer.stale_until = None;
            self.rib.sweep_stale(id, None);
            self.sweeping = true;
        }
    }

    fn owner(&self, conn: ConnId) -> Option<PeerId> {
        match conn {
            ConnId::Dialed { peer, .. } => Some(peer),
            ConnId::Accepted(_) => self.accepted.get(&conn).copied(),
        }
    }

    /// Lets a session act, carries out what it wants, and notes what became of it. Without a peer: a late event.
    fn step(&mut self, id: Option<PeerId>, now: Instant, act: impl FnOnce(&mut Session, &mut Step<'_>)) {
        let Some((id, peer)) = id.and_then(|id| Some((id, self.peers.get_mut(&id)?))) else {
            return;
        };
        let mut wanted = Vec::new();
        act(&mut peer.session, &mut Step { now, effects: &mut wanted });
        for effect in wanted {
            self.carry_out(id, effect, now);
        }
        self.note(id, now);
    }

    fn carry_out(&mut self, id: PeerId, effect: SessionEffect, now: Instant) {
        match effect {
            SessionEffect::Dial(conn) => {
                if let Some(peer) = self.peers.get(&id) {
                    let (key, transport) = (peer.config.key, peer.config.transport.clone());
                    self.effects.push_back(Effect::Dial { conn, key, transport });
                }
            }
            SessionEffect::Send(conn, bytes) => self.effects.push_back(Effect::Send { conn, bytes }),
            SessionEffect::Close(conn) => {
                self.accepted.remove(&conn);
                self.effects.push_back(Effect::Close { conn });
            }
            SessionEffect::Abort(conn) => {
                self.accepted.remove(&conn);
                self.effects.push_back(Effect::Abort { conn });
            }
            SessionEffect::Up { terms, local } => self.came_up(id, terms, local, now),
            SessionEffect::Update(update) => self.update(id, *update, now),
            SessionEffect::Refresh(family) => {
                self.rib.refresh(id, family);
                self.untold.insert(id);
            }
            SessionEffect::Down { graceful } => self.went_down(id, graceful, now),
        }
    }

    fn came_up(&mut self, id: PeerId, terms: Box<Negotiated>, local: IpAddr, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        self.rib.peer_up(id, peer.rib_peer(&terms, local));
        if peer.stale_until.is_some() {
            // RFC 4724 §4.2: what the peer does not claim to have kept goes at once.
            let kept = |family: &AfiSafi| terms.families.contains(family) && terms.forwarding_kept(*family);
            for family in AfiSafi::ALL.into_iter().filter(|family| !kept(family)) {
                self.rib.sweep_stale(id, Some(family));
                self.sweeping = true;
            }
        }
        peer.restart_ended(now);
        peer.established_count += 1;
        peer.up = Some((terms, local));
        peer.quiet_at = (!self.convergence.is_done()).then(|| now + QUIET);
        self.untold.insert(id);
    }

    fn went_down(&mut self, id: PeerId, graceful: bool, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if graceful {
            peer.restart_began(now);
        } else {
            peer.stale_until = None;
        }
        peer.up = None;
        peer.quiet_at = None;
        self.rib.peer_down(id, graceful);
        self.sweeping = true;
        self.untold.remove(&id);
    }

    fn update(&mut self, id: PeerId, update: Update, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.quiet_at = (!self.convergence.is_done()).then(|| now + QUIET);
        if !update.errors.is_empty() {
            let (key, errors) = (peer.config.key, update.errors.clone());
            self.effects.push_back(Effect::AttributeErrors { key, errors });
        }
        if let Some(family) = update.end_of_rib {
            self.rib.end_of_rib(id, family);
            self.sweeping = true;
        }
        self.all_untold = true;
        if let Err(exceeded) = self.rib.apply(id, update) {
            self.refuse_more(id, exceeded, now);
        }
    }

    fn refuse_more(&mut self, id: PeerId, exceeded: LimitExceeded, now: Instant) {
        let Some(rules) = self.peers.get(&id).map(|peer| Peer::rules(&peer.config)) else {
            return;
        };
        let refusal = match exceeded {
            LimitExceeded::Prefixes { family, limit } => Notification::maximum_prefixes(family, limit),
            LimitExceeded::Attributes { .. } => Notification::cease(CeaseReason::OutOfResources, None),
        };
        self.step(Some(id), now, |session, step| {
            session.stop(&refusal, true, step);
            session.start(rules, Some(AFTER_LIMIT), step.now);
        });
    }

    /// Reports a change of state and files the next deadline.
    fn note(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let to = peer.session.kind();
        if to != peer.state {
            let from = std::mem::replace(&mut peer.state, to);
            peer.since = now;
            let reason = (to < from).then(|| peer.session.last_down().map(str::to_owned)).flatten();
            let (key, name) = (peer.config.key, peer.config.name.clone());
            self.effects.push_back(Effect::PeerStateChanged { key, name, from, to, reason });
        }
        let deadline = peer.next_deadline();
        if deadline != peer.deadline {
            self.deadlines.extend(deadline.map(|at| (at, id)));
            if let Some(before) = std::mem::replace(&mut peer.deadline, deadline) {
                self.deadlines.remove(&(before, id));
            }
        }
    }

    /// Gives peers what they have room for.
    fn tell(&mut self, now: Instant) {
        if std::mem::take(&mut self.all_untold) {
            self.untold.extend(self.peers.keys());
        }
        for id in std::mem::take(&mut self.untold) {
            while self.has_room(id)
                && let Some(messages) = self.rib.poll_advertise(id)
            {
                self.tell_one(id, messages, now);
            }
        }
    }

    /// A peer without room is remembered by its unsent bytes: [`Input::Sent`] comes back to it.
    fn has_room(&self, id: PeerId) -> bool {
        let unsent = self.peers.get(&id).and_then(|peer| peer.session.unsent());
        unsent.is_some_and(|unsent| unsent < SEND_WINDOW)
    }

    fn tell_one(&mut self, id: PeerId, messages: Bytes, now: Instant) {
        self.step(Some(id), now, |session, step| session.send(messages, step));
    }

    fn route_status(&self, view: RouteView) -> RouteStatus {
        let paths = view.paths.into_iter().map(|path| self.path_status(path)).collect();
        RouteStatus { prefix: view.prefix, paths }
    }

    fn path_status(&self, path: PathView) -> PathStatus {
        let name = |id: PeerId| self.peers.get(&id).map_or_else(String::new, |peer| peer.config.name.clone());
        PathStatus {
            from: path.peer.map(name),
            nexthop: path.nexthop,
            attributes: path.attributes,
            best: matches!(path.standing, Standing::Best(_)),
            active: matches!(path.standing, Standing::Best(_) | Standing::Multipath(_)),
            stale: path.stale,
            reason: path.standing.to_string(),
        }
    }
}
