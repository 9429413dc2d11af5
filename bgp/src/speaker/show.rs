//! What the speaker shows of itself on request: its state as the values of [`super::status`].

use super::Speaker;
use super::peer::Peer;
use super::status::{PeerStatus, RouteFilter};
use crate::rib::{AdvertisedRoute, RouteStatus};
use crate::types::{Instant, PeerId, PeerKey};

/// Refused routes of a peer and family that its status names: enough to see of what kind they are.
const REFUSED_SHOWN: u32 = 3;

impl Speaker {
    /// In order of name.
    pub fn peers(&self, now: Instant) -> Vec<PeerStatus> {
        let mut refused = self.rib.refused(REFUSED_SHOWN);
        let status = |peer: &Peer| {
            let refused = refused.remove(&peer.id).unwrap_or_default();
            peer.status(&self.config, &self.rib, refused, now)
        };
        let mut peers: Vec<_> = self.peers.values().map(status).collect();
        peers.sort_by(|one, other| (&one.name, one.key).cmp(&(&other.name, other.key)));
        peers
    }

    /// In order of prefix. Peers by name.
    pub fn routes(&self, filter: RouteFilter) -> Vec<RouteStatus<String>> {
        let routes = match filter {
            RouteFilter::All => self.rib.routes(),
            RouteFilter::Prefix(prefix) => self.rib.explain(prefix).into_iter().collect(),
            RouteFilter::LongestMatch(address) => self.rib.longest_match(address).into_iter().collect(),
        };
        let name = |id: PeerId| self.peers.get(&id).map_or_else(String::new, |peer| peer.config.name.clone());
        routes.into_iter().map(|route| route.renamed(name)).collect()
    }

    /// What a peer has been told; `None` when there is no such peer.
    pub fn advertised(&self, key: PeerKey) -> Option<Vec<AdvertisedRoute>> {
        self.by_key.get(&key).map(|id| self.rib.advertised(*id))
    }
}
