//! What the speaker shows of itself on request: its state as the values of [`super::status`].

use super::Speaker;
use super::config::PeerKey;
use super::peer::Peer;
use super::status::{PathStatus, PeerStatus, RouteFilter, RouteStatus};
use crate::rib::{PathView, RouteView, Standing};
use crate::types::{Instant, PeerId};

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
