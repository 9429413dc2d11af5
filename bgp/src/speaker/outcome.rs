//! What comes of a step of a session: effects for the shell, routes for the RIB, a state and a deadline.
//!
//! In: a peer, and what its session is to do. All that happens to a session goes through [`Speaker::step`], so none of
//! its actions and no change of its state is missed.

use std::net::IpAddr;
use std::time::Duration;

use super::Speaker;
use super::convergence::QUIET;
use super::io::Effect;
use super::peer::Peer;
use super::refresh::Refreshes;
use crate::rib::LimitExceeded;
use crate::session::{Action, Negotiated, Session, StateKind, Turn};
use crate::types::{AfiSafi, Instant, Kept, PeerId};
use crate::wire::{CeaseReason, Notification, Update};

/// A peer that sent more than its limits is left alone this long; what it sends will hardly be less at once.
const AFTER_LIMIT: Duration = Duration::from_secs(300);

impl Speaker {
    /// Lets a session act, carries out what it wants, and reports what became of it. Without a peer: a late event.
    pub(super) fn step(
        &mut self,
        id: Option<PeerId>,
        now: Instant,
        act: impl FnOnce(&mut Session, &mut Turn<'_>),
    ) {
        let Some((id, peer)) = id.and_then(|id| Some((id, self.peers.get_mut(&id)?))) else {
            return;
        };
        let mut wanted = Vec::new();
        let turn = &mut Turn { now, actions: &mut wanted, counters: &mut peer.counters };
        act(&mut peer.session, turn);
        for action in wanted {
            self.carry_out(id, action, now);
        }
        self.report_state(id, now);
        self.file_deadline(id);
    }

    fn carry_out(&mut self, id: PeerId, action: Action, now: Instant) {
        match action {
            Action::Dial(conn) => {
                if let Some(peer) = self.peers.get(&id) {
                    self.effects.push_back(Effect::Dial { conn, key: peer.config.key });
                }
            }
            Action::Send(conn, bytes) => self.effects.push_back(Effect::Send { conn, bytes }),
            Action::Close(conn) => {
                self.accepted.remove(&conn);
                self.effects.push_back(Effect::Close { conn });
            }
            Action::Abort(conn) => {
                self.accepted.remove(&conn);
                self.effects.push_back(Effect::Abort { conn });
            }
            Action::Up { terms, local } => self.came_up(id, terms, local, now),
            Action::Update(update) => self.update(id, *update, now),
            Action::Refresh(family) => {
                if self.peers.get_mut(&id).is_some_and(|peer| peer.refreshes.ask(family, now)) {
                    self.refresh(id, family);
                }
            }
            Action::Down(kept) => self.went_down(id, kept, now),
        }
    }

    pub(super) fn refresh(&mut self, id: PeerId, family: AfiSafi) {
        self.rib.refresh(id, family);
        self.unadvertised.insert(id);
    }

    fn came_up(&mut self, id: PeerId, terms: Box<Negotiated>, local: IpAddr, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        self.rib.peer_up(id, peer.rib_peer(&terms, local));
        if peer.stale_until.is_some() {
            // What it has not goes at once.
            for family in AfiSafi::ALL.into_iter().filter(|family| !peer.has_kept(&terms, *family)) {
                self.rib.sweep_stale(id, Some(family));
            }
        }
        peer.restart_ended(now);
        peer.established_count += 1;
        (peer.up, peer.local) = (Some(terms), Some(local));
        peer.quiet_at = (!self.convergence.is_done()).then(|| now + QUIET);
        self.unadvertised.insert(id);
    }

    fn went_down(&mut self, id: PeerId, kept: Kept, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.was_reset = kept == Kept::Reset;
        match kept {
            Kept::Nothing => peer.stale_until = None,
            Kept::All if peer.stale_until.is_some() => {} // It has its time.
            Kept::Session | Kept::Reset | Kept::All => peer.restart_began(now),
        }
        let terms = peer.up.take().filter(|_| kept != Kept::Nothing);
        peer.quiet_at = None;
        peer.refreshes = Refreshes::default();
        self.rib.peer_down(id, kept);
        let is_kept = |family| terms.as_ref().is_some_and(|terms| peer.keeps(terms, family));
        for family in AfiSafi::ALL.into_iter().filter(|family| !is_kept(*family)) {
            self.rib.sweep_stale(id, Some(family));
        }
        self.unadvertised.remove(&id);
    }

    fn update(&mut self, id: PeerId, update: Update, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.quiet_at = (!self.convergence.is_done()).then(|| now + QUIET);
        if let Some((worst, others)) = peer.log_budget.malformed(&update.errors, now) {
            self.effects.push_back(Effect::AttributeErrors { key: peer.config.key, worst, others });
        }
        if let Some(family) = update.end_of_rib {
            self.rib.end_of_rib(id, family);
        }
        self.all_unadvertised = true;
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
        self.step(Some(id), now, |session, turn| {
            session.stop(&refusal, true, turn);
            session.start(rules, Some(AFTER_LIMIT), turn.now);
        });
    }

    fn report_state(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let to = peer.session.kind();
        if to == peer.state {
            return;
        }
        let from = std::mem::replace(&mut peer.state, to);
        peer.since = now;
        // The end of a connection, or of an attempt to get one.
        let failed = match (from, to) {
            (StateKind::Connect, StateKind::Active) => true,
            (StateKind::Active, StateKind::Connect) => false,
            _ => to < from,
        };
        let reason = failed.then(|| peer.session.last_down().map(str::to_owned)).flatten();
        let log = if [from, to].contains(&StateKind::Established) {
            peer.log_budget.allows_session(now)
        } else {
            reason.is_some() && peer.log_budget.allows_attempt(now)
        };
        let (key, name) = (peer.config.key, peer.config.name.clone());
        self.effects.push_back(Effect::PeerStateChanged { key, name, from, to, reason, log });
    }

    fn file_deadline(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let deadline = peer.next_deadline();
        if deadline != peer.deadline {
            self.deadlines.extend(deadline.map(|at| (at, id)));
            if let Some(before) = std::mem::replace(&mut peer.deadline, deadline) {
                self.deadlines.remove(&(before, id));
            }
        }
    }
}
