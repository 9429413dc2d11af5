//! The routing table: what peers told us, what we chose, and what we tell them.
//!
//! In: decoded UPDATEs of established peers, and our own prefixes. Out: [`Change`]s for the FIB
//! ([`Rib::poll_change`]) and encoded UPDATEs for every peer ([`Rib::poll_advertise`]). Pure: no clock, no socket.

mod decision;
mod policy;
mod view;

use std::collections::BTreeSet;
use std::net::IpAddr;

use bytes::Bytes;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

pub use decision::Step;
pub use policy::{Accept, ExportPolicy, ExportRoutes, ImportPolicy, OriginAttributes, Rejection};
pub use view::{AdvertisedRoute, Counts, PathView, PrefixLimitExceeded, RouteView, Standing};

use crate::types::{AfiSafi, Asn, Change, PeerId, PeerKind, RouterId};
use crate::wire::{EncodeContext, Update};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RibConfig {
    pub local_asn: Asn,
    pub router_id: RouterId,
    /// Nexthops of one FIB entry, at least 1.
    pub max_paths: usize,
    /// Of the hash tables, whose keys peers choose: any number they cannot know.
    pub hash_seed: u64,
    /// Among otherwise equal external paths the current best stays (RFC 5004). Less churn; the price is that the
    /// choice depends on who was first.
    pub keep_incumbent: bool,
}

/// An established peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RibPeer {
    pub kind: PeerKind,
    pub asn: Asn,
    /// From its OPEN.
    pub router_id: RouterId,
    pub address: IpAddr,
    /// Index of the interface that link-local nexthops of this peer belong to.
    pub interface: Option<u32>,
    /// Negotiated.
    pub families: Vec<AfiSafi>,
    /// It marks the end of its first routes: graceful restart negotiated, and it is not restarting itself
    /// (RFC 4724 §4.1). Otherwise a deferred selection does not wait for it.
    pub sends_end_of_rib: bool,
    pub import: ImportPolicy,
    pub export: ExportPolicy,
    /// Per family; counts what the peer sends, before the import policy.
    pub max_prefixes: u32,
    pub encode: EncodeContext,
}

/// See the module.
#[derive(Debug)]
pub struct Rib {
    config: RibConfig,
}

impl Rib {
    pub fn new(config: RibConfig) -> Self {
        Self { config }
    }

    /// A session is established. The peer is told everything from the start, then End-of-RIB per family.
    pub fn peer_up(&mut self, _id: PeerId, _peer: RibPeer) {}

    /// A session has ended. `keep_stale`: graceful restart, its routes stay in use until they are learned anew, or
    /// swept. What was stale already goes. Constant time; [`Rib::sweep`] does the rest.
    pub fn peer_down(&mut self, _id: PeerId, _keep_stale: bool) {}

    /// The stale routes of a peer go; of all families when `None`. Constant time, as [`Rib::peer_down`].
    pub fn sweep_stale(&mut self, _id: PeerId, _family: Option<AfiSafi>) {}

    /// Routes that ended at once (a peer down) are taken out in slices. True while more remain: call again soon.
    pub fn sweep(&mut self) -> bool {
        false
    }

    /// One UPDATE of an established peer (of others: ignored). On error the rest of it is not applied.
    pub fn apply(&mut self, _id: PeerId, _update: Update) -> Result<(), PrefixLimitExceeded> {
        Ok(())
    }

    /// The peer has sent all it had: stale routes go, and a deferred selection no longer waits for it.
    pub fn end_of_rib(&mut self, _id: PeerId, _family: AfiSafi) {}

    /// New import rules for an established peer, applied to what it sent before too.
    pub fn set_import(&mut self, _id: PeerId, _import: ImportPolicy, _max_prefixes: u32) {}

    /// New export rules for an established peer: it is told the difference, and everything kept once more.
    pub fn set_export(&mut self, _id: PeerId, _export: ExportPolicy) {}

    /// Announces one of our own prefixes (host bits are cut off), in place of what was said of it before.
    pub fn originate(&mut self, _prefix: IpNetwork, _attributes: OriginAttributes) {}

    pub fn withdraw_origin(&mut self, _prefix: IpNetwork) {}

    /// A restarting speaker chooses and announces nothing until these peers have sent End-of-RIB for all their
    /// families, or [`Rib::release_selection`] (RFC 4724 §4.1).
    pub fn defer_selection(&mut self, _expected: BTreeSet<PeerId>) {}

    /// Ends the deferral, whatever is missing.
    pub fn release_selection(&mut self) {}

    /// Still waiting.
    pub fn selection_deferred(&self) -> bool {
        false
    }

    /// The next prefix whose nexthops are not what the caller was told last. At most one change per prefix waits.
    pub fn poll_change(&mut self) -> Option<Change> {
        None
    }

    /// The next whole UPDATE messages for this peer (one or more, at most some 64 KiB), to be sent in this order.
    /// Poll when there is room to send: what a peer is behind is kept as prefixes, not as messages.
    pub fn poll_advertise(&mut self, _id: PeerId) -> Option<Bytes> {
        None
    }

    /// Tells the peer everything of this family once more (ROUTE-REFRESH, RFC 2918).
    pub fn refresh(&mut self, _id: PeerId, _family: AfiSafi) {}

    /// Every prefix, in order, IPv4 first.
    pub fn routes(&self) -> Vec<RouteView> {
        Vec::new()
    }

    /// Exactly this prefix.
    pub fn explain(&self, _prefix: IpNetwork) -> Option<RouteView> {
        None
    }

    /// What this peer has been told, in order; empty when it is not established.
    pub fn advertised(&self, _id: PeerId) -> Vec<AdvertisedRoute> {
        Vec::new()
    }

    /// Zeroes when it is not established and no stale routes of it are left.
    pub fn counts(&self, _id: PeerId, _family: AfiSafi) -> Counts {
        Counts::default()
    }
}
