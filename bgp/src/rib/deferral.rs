//! Graceful restart, the restarting side: choose nothing before the peers have said what they know (RFC 4724 §4.1).

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{AfiSafi, PeerId};

/// Who still owes an End-of-RIB. Nobody: the selection is not deferred.
#[derive(Debug, Default)]
pub(super) struct Deferral {
    /// `None`: any family, as the session is not up yet.
    waiting: BTreeMap<PeerId, Option<BTreeSet<AfiSafi>>>,
}

impl Deferral {
    pub(super) fn expect(&mut self, peers: BTreeSet<PeerId>) {
        self.waiting = peers.into_iter().map(|peer| (peer, None)).collect();
    }

    pub(super) fn is_active(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What a peer has sent in an earlier session is worth nothing. Peers that do not mark the end, or restart themselves,
    /// are not waited for.
    pub(super) fn session_up(&mut self, peer: PeerId, families: &[AfiSafi], sends_end_of_rib: bool) {
        if !sends_end_of_rib || families.is_empty() {
            self.waiting.remove(&peer);
        } else if let Some(owed) = self.waiting.get_mut(&peer) {
            *owed = Some(families.iter().copied().collect());
        }
    }

    pub(super) fn end_of_rib(&mut self, peer: PeerId, family: AfiSafi) {
        let Some(Some(owed)) = self.waiting.get_mut(&peer) else { return };
        owed.remove(&family);
        if owed.is_empty() {
            self.waiting.remove(&peer);
        }
    }

    pub(super) fn excuse(&mut self, peer: PeerId) {
        self.waiting.remove(&peer);
    }

    pub(super) fn release(&mut self) {
        self.waiting.clear();
    }
}
