//! What the speaker is told to be: its peers and its own prefixes, made so with as little harm as possible.
//!
//! In: the whole of what is wanted. A peer whose configuration is the same keeps its session and routes, and so does one
//! whose change needs neither another OPEN nor another connection: of that the RIB tells the difference.

use std::collections::{BTreeMap, BTreeSet};

use super::Speaker;
use super::config::{OriginConfig, PeerConfig};
use super::log_budget::LogBudget;
use super::peer::{Peer, export_policy, import_policy};
use super::refresh::Refreshes;
use crate::rib::OriginAttributes;
use crate::session::{Counters, Session, StateKind};
use crate::types::{Instant, PeerId, PeerKey};
use crate::wire::{CeaseReason, Notification};

impl Speaker {
    pub(super) fn set_peers(&mut self, wanted: Vec<PeerConfig>, now: Instant) {
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
        let first = self.convergence.start(self.config.settle, self.config.deferral(), now);
        if first && self.config.restarting.is_some() {
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
            counters: Counters::default(),
            since: now,
            stale_until: None,
            was_reset: false,
            established_count: 0,
            log_budget: LogBudget::default(),
            up: None,
            local: None,
            quiet_at: None,
            refreshes: Refreshes::default(),
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
        let rules = Peer::rules(&config);
        // What keeps it from being dialed: it is passive, or it is left alone as it sent too many prefixes.
        let other_way = peer.config.passive != config.passive && peer.up.is_none();
        let more_prefixes = peer.config.max_prefixes != config.max_prefixes && peer.state == StateKind::Idle;
        peer.config = config;
        peer.session.set_rules(rules);
        if reset {
            self.step(Some(id), now, Session::reset);
        }
        self.apply_policy(id);
        if reset || other_way || more_prefixes {
            self.step(Some(id), now, |session, turn| {
                session.start(rules, None, turn.now);
                session.tick(turn);
            });
        }
    }

    /// Import rules count for what a peer that is away has left as well.
    fn apply_policy(&mut self, id: PeerId) {
        let Some((peer, local)) = self.peers.get(&id).and_then(|peer| Some((peer, peer.local?))) else {
            return;
        };
        self.rib.set_import(id, import_policy(&peer.config, local), peer.config.max_prefixes);
        if let Some(terms) = &peer.up {
            self.rib.set_client(id, peer.config.client);
            self.rib.set_export(id, export_policy(&peer.config, terms, local));
            self.unadvertised.insert(id);
        }
    }

    fn remove_peer(&mut self, id: PeerId, now: Instant) {
        let gone = Notification::cease(CeaseReason::PeerDeconfigured, None);
        self.step(Some(id), now, |session, turn| session.stop(&gone, true, turn));
        self.rib.sweep_stale(id, None);
        self.rib.excuse(id);
        self.unadvertised.remove(&id);
        if let Some(peer) = self.peers.remove(&id) {
            self.by_key.remove(&peer.config.key);
            self.deadlines.retain(|(_, other)| *other != id);
        }
    }

    pub(super) fn set_origin(&mut self, origin: &OriginConfig) {
        let attributes = OriginAttributes { communities: origin.communities.clone() };
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
        self.all_unadvertised = true;
    }
}
