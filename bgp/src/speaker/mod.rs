//! Sessions and RIB as one pure object: inputs and a time go in, effects come out.
//!
//! In: [`Speaker::handle`]. Out: [`Speaker::poll_effect`] until it is empty, the FIB's changes from
//! [`Speaker::poll_change`] whenever the caller has room for them, and [`Speaker::next_deadline`], at which the caller
//! comes back with [`Input::Tick`]. The caller owns clock, sockets and queues.
//!
//! The path of an UPDATE, from a peer's bytes to the kernel and to the other peers:
//!
//! ```text
//!  Input::Received                                    Effect::Send, as Input::Sent makes room
//!        |                                                          ^
//!        v                                                          |
//!  session: frames, wire::decode, the FSM              session.send |
//!        | Action::Update                                           |
//!        v                                                          |
//!  outcome ---> rib.apply                             rib.poll_advertise
//!                 | import policy, the path's standing              ^
//!                 v                                                 | export policy, once per update group
//!               loc_rib: decision ---> the table's log -------------+
//!                                           |
//!                                           +---> rib.poll_change ---> Speaker::poll_change ---> the FIB
//! ```
//!
//! The log names prefixes and not routes: each reader asks what holds when it comes by, so one that is slow is told the last of
//! many changes and nothing in between.

mod config;
mod configure;
mod convergence;
mod io;
mod log_budget;
mod outcome;
mod peer;
mod refresh;
mod show;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

pub use config::{
    Hops, LocalNexthop, OriginConfig, Password, PeerConfig, Shutdown, SpeakerConfig, Transport,
};
pub use io::{Effect, Input};
pub use status::{PeerStatus, RouteFilter};

use convergence::Convergence;
use peer::Peer;

use crate::bfd::Failure;
use crate::rib::{OriginAttributes, Rib, RibConfig};
use crate::session::{DownReason, Jitter, Session};
use crate::types::{Change, ConnId, Instant, PeerId};
pub use crate::types::{PeerKey, RemoteAsn};
use crate::wire::{CeaseReason, Notification};

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
    /// Peers for which there may be something to advertise.
    unadvertised: BTreeSet<PeerId>,
    /// Routes have changed: for every peer there may be.
    all_unadvertised: bool,
    origin: BTreeMap<IpNetwork, OriginAttributes>,
    convergence: Convergence,
    /// Somebody who has not sent everything yet, when it was asked last.
    awaited: Option<PeerId>,
    ended: bool,
    jitter: Jitter,
    effects: VecDeque<Effect>,
}

impl Speaker {
    pub fn new(config: SpeakerConfig) -> Self {
        let rib = Rib::new(RibConfig {
            local_asn: config.asn,
            router_id: config.router_id,
            cluster_id: config.cluster_id,
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
            unadvertised: BTreeSet::new(),
            all_unadvertised: false,
            origin: BTreeMap::new(),
            convergence: Convergence::Unstarted,
            awaited: None,
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
        self.dispatch(now, input);
        self.converge(now);
        self.all_unadvertised |= deferred && !self.rib.selection_deferred();
        self.advertise(now);
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
        // A slice per tick.
        let sweep = (!self.ended && self.rib.wants_sweep()).then(Instant::default);
        peers.into_iter().chain(sweep).chain(self.convergence.deadline()).min()
    }

    fn dispatch(&mut self, now: Instant, input: Input) {
        match input {
            Input::SetPeers(peers) => self.set_peers(peers, now),
            Input::SetOrigin(origin) => self.set_origin(&origin),
            Input::SetMaxPaths(max_paths) => self.rib.set_max_paths(max_paths.max(1)),
            Input::SetRestartTime(restart_time) => self.config.restart_time = restart_time,
            Input::Connected { conn, local, remote } => self.connected(conn, local, remote, now),
            Input::DialFailed { conn, error } => {
                self.step(self.owner(conn), now, |session, turn| session.dial_failed(conn, error, turn.now));
            }
            Input::Received { conn, bytes } => {
                self.step(self.owner(conn), now, |session, turn| session.received(conn, &bytes, turn));
            }
            Input::Sent { conn, len } => {
                let owner = self.owner(conn);
                self.step(owner, now, |session, turn| session.sent(conn, len, turn.now));
                self.unadvertised.extend(owner);
            }
            Input::Closed { conn } => {
                self.step(self.owner(conn), now, |session, turn| session.closed(conn, turn));
                self.accepted.remove(&conn);
            }
            Input::Tick => self.tick(now),
            Input::Unreachable(key) => self.unreachable(key, now),
            Input::PathLost { key, failure } => self.path_lost(key, failure, now),
            Input::Shutdown(how) => self.shutdown(&how, now),
        }
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
        let offer = peer.offer(&self.config, !self.convergence.is_settled());
        let id = peer.id;
        if let ConnId::Accepted(_) = conn {
            self.accepted.insert(conn, id);
        }
        self.step(Some(id), now, |session, turn| session.connected(conn, local, offer, turn));
    }

    fn unreachable(&mut self, key: PeerKey, now: Instant) {
        let Some(id) = self.by_key.get(&key).copied() else {
            return;
        };
        self.step(Some(id), now, Session::unreachable);
        // Of a session that had ended already: what it left leads nowhere either.
        self.drop_stale(id);
    }

    /// Not of a session that has come up since BFD heard the peer last: that was the one before. And of a peer that is away,
    /// but restarts, the routes stay: its BFD went with its control plane, unless it says otherwise (RFC 5882 §4.3).
    fn path_lost(&mut self, key: PeerKey, failure: Failure, now: Instant) {
        let Some(peer) = self.by_key.get(&key).and_then(|id| self.peers.get(id)) else {
            return;
        };
        let id = peer.id;
        if peer.up.is_none() && failure.control_plane_independent {
            self.drop_stale(id);
        } else if peer.up.is_some() && now.since(peer.since) > failure.silent {
            self.step(Some(id), now, Session::path_lost);
        }
    }

    fn shutdown(&mut self, how: &Shutdown, now: Instant) {
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            self.step(Some(id), now, |session, turn| match how {
                Shutdown::Stop { text } => {
                    let text = Some(text.as_str()).filter(|text| !text.is_empty());
                    let stop = Notification::cease(CeaseReason::AdministrativeShutdown, text);
                    session.stop(&stop, true, turn);
                }
                Shutdown::Restart => session.abandon(&DownReason::Restarting, turn),
            });
        }
        self.ended = true;
        self.deadlines.clear();
    }

    fn tick(&mut self, now: Instant) {
        while let Some((at, id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, id));
            self.expire(id, now);
            self.step(Some(id), now, Session::tick);
        }
        if self.rib.wants_sweep() {
            self.rib.sweep();
            self.all_unadvertised = true;
        }
    }

    fn expire(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.deadline = None;
        peer.quiet_at = peer.quiet_at.filter(|at| *at > now);
        let families: Vec<_> = std::iter::from_fn(|| peer.refreshes.poll(now)).collect();
        if peer.stale_until.is_some_and(|until| until <= now) {
            self.drop_stale(id);
        }
        for family in families {
            self.refresh(id, family);
        }
    }

    fn drop_stale(&mut self, id: PeerId) {
        if self.peers.get_mut(&id).and_then(|peer| peer.stale_until.take()).is_some() {
            self.rib.sweep_stale(id, None);
        }
    }

    fn owner(&self, conn: ConnId) -> Option<PeerId> {
        match conn {
            ConnId::Dialed { peer, .. } => Some(peer),
            ConnId::Accepted(_) => self.accepted.get(&conn).copied(),
        }
    }

    fn converge(&mut self, now: Instant) {
        let mut convergence = self.convergence;
        while convergence.advance(|| self.all_converged(), now) {
            self.rib.release_selection();
            let mark = if convergence.is_done() { Effect::Converged } else { Effect::Settled };
            self.effects.push_back(mark);
        }
        self.convergence = convergence;
    }

    /// Asked at every input: goes on from whom it waited for the last time, rather than through all each time.
    fn all_converged(&mut self) -> bool {
        let from = self.awaited.unwrap_or(PeerId(0));
        let mut peers = self.peers.range(from..).chain(self.peers.range(..from));
        self.awaited = peers.find(|(_, peer)| !peer.is_converged(&self.rib)).map(|(id, _)| *id);
        self.awaited.is_none()
    }

    /// Gives peers what they have room for.
    fn advertise(&mut self, now: Instant) {
        if std::mem::take(&mut self.all_unadvertised) {
            let has_room = |id| self.peers.get(&id).is_some_and(Peer::has_room);
            self.unadvertised.extend(self.rib.unadvertised(has_room));
        }
        for id in std::mem::take(&mut self.unadvertised) {
            // A peer without room is remembered by its unsent bytes: [`Input::Sent`] comes back to it.
            while self.peers.get(&id).is_some_and(Peer::has_room)
                && let Some(messages) = self.rib.poll_advertise(id)
            {
                self.step(Some(id), now, |session, turn| session.send(messages, turn));
            }
        }
    }
}
