//! The routing table: what peers told us, what we chose, and what we tell them.
//!
//! In: decoded UPDATEs of established peers, and our own prefixes. Out: [`Change`]s for the FIB
//! ([`Rib::poll_change`]) and encoded UPDATEs for every peer ([`Rib::poll_advertise`]). Pure: no clock, no socket.
//!
//! `table` holds prefixes and paths and logs which prefix changed, `peers` says which paths count, `loc_rib` changes
//! them and chooses by `decision`. The FIB and the update groups of `adj_out` are readers of the log, each at its own
//! pace; `policy` stands at both doors. Attribute sets are kept once (`intern`).
//!
//! Invariants: a prefix is kept exactly while it has a path or somebody must still be told that it is gone; the tables
//! depend on what was said, not on when, except for `keep_incumbent`; nothing is withdrawn that was not announced.

mod adj_out;
mod attributes;
mod decision;
mod deferral;
mod filter;
mod intern;
mod loc_rib;
mod peers;
mod policy;
mod prefixes;
mod slab;
mod table;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bytes::Bytes;
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

pub use adj_out::AdvertisedRoute;
pub use decision::Step;
pub use filter::{
    Administrator, AnyCommunity, CommunityPattern, Filter, FilterAction, FilterRule, Filtered, PrefixRange,
    Purpose, RouteChange, RouteMatch,
};
pub use loc_rib::LimitExceeded;
pub use peers::Counts;
pub use policy::{Accept, ExportPolicy, ExportRoutes, ImportPolicy, OriginAttributes, Rejection};
pub use prefixes::Prefixes;
pub use view::{PathStatus, RefusedRoute, RouteStatus, Standing};

use crate::types::{AfiSafi, Asn, Change, Kept, Nexthop, PeerId, PeerKind, RouterId};
use crate::wire::{EncodeContext, Nlri, PathAttributes, Update};
use adj_out::{AdjOut, Tables};
use attributes::{NexthopId, Shared, Via};
use deferral::Deferral;
use loc_rib::{Announcement, Core, Sweep};
use peers::{KnownPeer, LOCAL, Peers, Review, Slot};
use policy::{GroupKey, path_rejection};
use table::{Table, TablePrefix};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RibConfig {
    pub local_asn: Asn,
    pub router_id: RouterId,
    /// Of this reflector and of those that reflect for the same clients (RFC 4456 §7).
    pub cluster_id: RouterId,
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
    /// We reflect between it and our other internal peers (RFC 4456).
    pub client: bool,
    pub import: ImportPolicy,
    pub export: ExportPolicy,
    /// Per family; counts what the peer sends, before the import policy.
    pub max_prefixes: u32,
    pub encode: EncodeContext,
}

/// Destinations that one call of [`Rib::sweep`] looks at. Few in tests, so that they see the sweep half-way.
const SWEEP_SLICE: u32 = if cfg!(test) { 4 } else { 4096 };
/// Pages of 256 sent routes that one call of [`Rib::sweep`] gives back. Few in tests, for the same reason.
const SWEEP_PAGES: usize = if cfg!(test) { 1 } else { 16 };

/// See the module.
#[derive(Debug)]
pub struct Rib {
    core: Core,
    tables: Tables,
    sweeps: [Sweep; AfiSafi::ALL.len()],
    /// How far the FIB has followed.
    fib: [u32; AfiSafi::ALL.len()],
    out: AdjOut,
    deferral: Deferral,
}

impl Rib {
    pub fn new(config: RibConfig) -> Self {
        let seed = config.hash_seed;
        Self {
            core: Core { config, peers: Peers::new(), shared: Shared::new(seed) },
            tables: Tables { v4: Table::new(), v6: Table::new() },
            sweeps: Default::default(),
            fib: Default::default(),
            out: AdjOut::new(seed),
            deferral: Deferral::default(),
        }
    }

    /// A session is established. The peer is told everything from the start, then End-of-RIB per family. Stale routes
    /// of families that the session does not carry go. Beyond some 65000 peers: ignored.
    pub fn peer_up(&mut self, id: PeerId, peer: RibPeer) {
        if self.core.peers.established(id).is_some() {
            self.peer_down(id, Kept::Nothing);
        }
        self.deferral.session_up(id, &peer.families, peer.sends_end_of_rib);
        let key = self.group_key(&peer);
        let before = self.core.peers.slot(id).and_then(|slot| self.core.peers.get(slot));
        let before = before.map_or_else(|| peer.clone(), |before| before.config.clone());
        if before.router_id != peer.router_id {
            // Not the one that restarted: what that one said does not hold any more.
            self.sweep_stale(id, None);
        }
        let review = review(&before, &peer);
        let Some(slot) = self.core.peers.up(id, peer) else { return };
        self.request_review(slot, review);
        self.out.join(&mut self.core, slot, key.clone());
        for family in AfiSafi::ALL.into_iter().filter(|family| !key.families.contains(family)) {
            self.drop_stale(slot, family);
        }
    }

    /// A session has ended. What is kept stays in use until it is learned anew, or swept. Constant time for the routes;
    /// [`Rib::sweep`] does the rest.
    pub fn peer_down(&mut self, id: PeerId, kept: Kept) {
        let Some(slot) = self.core.peers.slot(id) else { return };
        self.out.leave(&mut self.core, slot);
        let urgent = self.core.peers.down(slot, kept);
        self.sweeps.iter_mut().for_each(Sweep::request);
        while urgent && self.sweep() {}
    }

    /// The stale routes of a peer go; of all families when `None`. Constant time, as [`Rib::peer_down`].
    pub fn sweep_stale(&mut self, id: PeerId, family: Option<AfiSafi>) {
        let Some(slot) = self.core.peers.slot(id) else { return };
        for family in AfiSafi::ALL.into_iter().filter(|&each| family.is_none_or(|family| family == each)) {
            self.drop_stale(slot, family);
        }
    }

    /// Routes that ended at once (a peer down) are taken out in slices of bounded work. True while more remain: call
    /// again soon, with other work in between. Changes for the FIB and for peers become visible slice by slice.
    pub fn sweep(&mut self) -> bool {
        let [sweep_v4, sweep_v6] = &mut self.sweeps;
        let v4 = self.tables.v4.advance(&mut self.core, sweep_v4, SWEEP_SLICE);
        let v6 = self.tables.v6.advance(&mut self.core, sweep_v6, SWEEP_SLICE);
        let sent = self.out.sweep(&mut self.tables, &mut self.core, SWEEP_PAGES);
        self.compact();
        v4 || v6 || sent
    }

    /// [`Rib::sweep`] has something to do, whatever it comes from: also what a peer was told, once it shares that with
    /// others again.
    pub fn wants_sweep(&self) -> bool {
        self.sweeps.iter().any(Sweep::is_under_way) || self.out.wants_sweep()
    }

    /// One UPDATE of an established peer (of others: ignored). On error the rest of it is not applied.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "an UPDATE is consumed: nobody has a use for it afterwards"
    )]
    pub fn apply(&mut self, id: PeerId, update: Update) -> Result<(), LimitExceeded> {
        let Some((slot, _)) = self.core.peers.established(id) else { return Ok(()) };
        for nlri in &update.unreach {
            match nlri {
                Nlri::V4(prefixes) => withdraw_all(&mut self.tables.v4, &mut self.core, slot, prefixes),
                Nlri::V6(prefixes) => withdraw_all(&mut self.tables.v6, &mut self.core, slot, prefixes),
            }
        }
        let mut result = Ok(());
        for reach in &update.reach {
            result = result.and_then(|()| self.learn(slot, &update.attributes, reach.nexthop, &reach.nlri));
        }
        self.compact();
        result
    }

    /// The peer has sent all it had: stale routes go, and a deferred selection no longer waits for it.
    pub fn end_of_rib(&mut self, id: PeerId, family: AfiSafi) {
        let Some((slot, _)) = self.core.peers.established(id) else { return };
        self.core.peers.set_end_of_rib(slot, family);
        self.drop_stale(slot, family);
        self.deferral.end_of_rib(id, family);
    }

    /// At least 1. What has a choice is chosen again.
    pub fn set_max_paths(&mut self, max_paths: usize) {
        if std::mem::replace(&mut self.core.config.max_paths, max_paths) != max_paths {
            self.tables.v4.touch_choices();
            self.tables.v6.touch_choices();
        }
    }

    /// New import rules for a peer, applied to what it sent before too, and to what is kept of one that is away
    /// ([`Rib::sweep`] does it). The limit counts from the next prefix.
    pub fn set_import(&mut self, id: PeerId, import: ImportPolicy, max_prefixes: u32) {
        self.configure(id, |peer| (peer.import, peer.max_prefixes) = (import, max_prefixes));
    }

    /// New export rules for an established peer: it is told the difference.
    pub fn set_export(&mut self, id: PeerId, export: ExportPolicy) {
        self.configure(id, |peer| peer.export = export);
    }

    /// Whether we reflect for an established peer: others are told the difference.
    pub fn set_client(&mut self, id: PeerId, client: bool) {
        self.configure(id, |peer| peer.client = client);
    }

    /// What the new rules do not change is not touched.
    fn configure(&mut self, id: PeerId, change: impl FnOnce(&mut RibPeer)) {
        let Some(slot) = self.core.peers.slot(id) else { return };
        let Some(KnownPeer { config, .. }) = self.core.peers.get_mut(slot) else { return };
        let before = config.clone();
        change(config);
        let after = config.clone();
        self.request_review(slot, review(&before, &after));
        let key = self.group_key(&after);
        if self.group_key(&before) != key {
            self.out.rekey(&mut self.tables, &mut self.core, slot, key);
        }
    }

    /// Announces one of our own prefixes (host bits are cut off), in place of what was said of it before.
    pub fn originate(&mut self, prefix: IpNetwork, attributes: OriginAttributes) {
        let mut values = PathAttributes::default();
        attributes.communities.into_iter().for_each(|community| community.attach(&mut values));
        let attributes = self.core.shared.intern(&values);
        let own = Announcement { peer: LOCAL, attributes, nexthop: NexthopId::NONE, rejection: None };
        // There is no limit on our own prefixes, so this cannot fail.
        let _ = match canonical(prefix) {
            Canonical::V4(prefix) => self.tables.v4.learn(&mut self.core, own, prefix),
            Canonical::V6(prefix) => self.tables.v6.learn(&mut self.core, own, prefix),
        };
        self.core.shared.release_attributes(attributes);
        self.compact();
    }

    pub fn withdraw_origin(&mut self, prefix: IpNetwork) {
        match canonical(prefix) {
            Canonical::V4(prefix) => self.tables.v4.withdraw(&mut self.core, LOCAL, prefix),
            Canonical::V6(prefix) => self.tables.v6.withdraw(&mut self.core, LOCAL, prefix),
        }
        self.compact();
    }

    /// A restarting speaker announces and installs nothing until these peers have sent End-of-RIB for all their
    /// families, or [`Rib::release_selection`] (RFC 4724 §4.1). Peers whose session does not promise one are let off
    /// when it comes up.
    pub fn defer_selection(&mut self, expected: BTreeSet<PeerId>) {
        self.deferral.expect(expected);
    }

    /// Does not wait for this peer: it is not configured any more.
    pub fn excuse(&mut self, id: PeerId) {
        self.deferral.excuse(id);
    }

    /// Ends the deferral, whatever is missing.
    pub fn release_selection(&mut self) {
        self.deferral.release();
    }

    /// Still waiting.
    pub fn selection_deferred(&self) -> bool {
        self.deferral.is_active()
    }

    /// The next prefix whose nexthops are not what the caller was told last. At most one change per prefix waits.
    pub fn poll_change(&mut self) -> Option<Change> {
        if self.deferral.is_active() {
            return None;
        }
        let [fib_v4, fib_v6] = &mut self.fib;
        next_fib_change(&mut self.tables.v4, &mut self.core, fib_v4)
            .or_else(|| next_fib_change(&mut self.tables.v6, &mut self.core, fib_v6))
    }

    /// The next whole UPDATE messages for this peer (one or more, at most some 64 KiB), to be sent in this order.
    /// Poll when there is room to send: what a peer is behind is kept as prefixes, not as messages.
    pub fn poll_advertise(&mut self, id: PeerId) -> Option<Bytes> {
        let (slot, _) = self.core.peers.established(id)?;
        self.out.poll(&mut self.tables, &mut self.core, slot, self.deferral.is_active())
    }

    /// Established peers for which [`Rib::poll_advertise`] may have something, of those that share it with one that has room.
    /// While the selection is deferred: none.
    pub fn unadvertised(&mut self, has_room: impl Fn(PeerId) -> bool) -> Vec<PeerId> {
        if self.deferral.is_active() {
            return Vec::new();
        }
        let slots = self.out.unadvertised(&mut self.tables, &mut self.core, |peer| has_room(peer.id));
        slots.into_iter().filter_map(|slot| Some(self.core.peers.get(slot)?.id)).collect()
    }

    /// Tells the peer everything of this family once more (ROUTE-REFRESH, RFC 2918).
    pub fn refresh(&mut self, id: PeerId, family: AfiSafi) {
        let Some((slot, peer)) = self.core.peers.established(id) else { return };
        if peer.config.families.contains(&family) {
            self.out.restart(&mut self.tables, &mut self.core, slot, family);
        }
    }

    /// Every prefix, in order, IPv4 first.
    pub fn routes(&self) -> Vec<RouteStatus<PeerId>> {
        let mut routes = self.tables.v4.view(&self.core);
        routes.extend(self.tables.v6.view(&self.core));
        routes
    }

    /// Exactly this prefix.
    pub fn explain(&self, prefix: IpNetwork) -> Option<RouteStatus<PeerId>> {
        match canonical(prefix) {
            Canonical::V4(prefix) => self.tables.v4.view_of(&self.core, self.tables.v4.find(prefix)?),
            Canonical::V6(prefix) => self.tables.v6.view_of(&self.core, self.tables.v6.find(prefix)?),
        }
    }

    /// Where a packet to `address` goes: the longest prefix with a path in use, else the longest that is known.
    pub fn longest_match(&self, address: IpAddr) -> Option<RouteStatus<PeerId>> {
        match address {
            IpAddr::V4(address) => self.tables.v4.longest_match(&self.core, address.into()),
            IpAddr::V6(address) => self.tables.v6.longest_match(&self.core, address.into()),
        }
    }

    /// What this peer has been told, or is on its way to it, in order; empty when it is not established.
    pub fn advertised(&self, id: PeerId) -> Vec<AdvertisedRoute> {
        let Some((slot, _)) = self.core.peers.established(id) else { return Vec::new() };
        let mut routes = self.out.advertised(&self.tables.v4, &self.core, slot);
        routes.extend(self.out.advertised(&self.tables.v6, &self.core, slot));
        routes
    }

    /// Of each peer that has any: the first routes that are refused, at most `limit` of each family.
    pub fn refused(&self, limit: u32) -> BTreeMap<PeerId, Vec<RefusedRoute>> {
        let mut refused = self.tables.v4.refused(&self.core, limit);
        for (peer, routes) in self.tables.v6.refused(&self.core, limit) {
            refused.entry(peer).or_default().extend(routes);
        }
        refused
    }

    /// Zeroes when it is not established and no stale routes of it are left.
    pub fn counts(&self, id: PeerId, family: AfiSafi) -> Counts {
        let Some(slot) = self.core.peers.slot(id) else { return Counts::default() };
        let advertised = self.out.count(&self.core, slot, family);
        Counts { advertised, ..self.core.peers.counts(slot, family) }
    }

    fn learn(
        &mut self,
        peer: Slot,
        values: &PathAttributes,
        nexthop: Nexthop,
        nlri: &Nlri,
    ) -> Result<(), LimitExceeded> {
        let Self { core, tables, .. } = self;
        let Some(KnownPeer { config, .. }) = core.peers.get(peer) else { return Ok(()) };
        let rejection = path_rejection(&core.config, config, values, nexthop);
        let via = Via { nexthop, kind: config.kind, router_id: config.router_id };
        let attributes = core.shared.intern(values);
        let nexthop = core.shared.nexthops.intern(&via, |via| *via);
        let announcement = Announcement { peer, attributes, nexthop, rejection };
        let result = match nlri {
            Nlri::V4(prefixes) => learn_all(&mut tables.v4, core, announcement, prefixes),
            Nlri::V6(prefixes) => learn_all(&mut tables.v6, core, announcement, prefixes),
        };
        core.shared.release((attributes, nexthop));
        result
    }

    fn drop_stale(&mut self, slot: Slot, family: AfiSafi) {
        self.core.peers.drop_stale(slot, family);
        self.sweeps[family.index()].request();
    }

    fn request_review(&mut self, slot: Slot, review: Review) {
        if review == Review::Nothing {
            return;
        }
        for family in AfiSafi::ALL {
            self.core.peers.request_review(slot, family, review);
            self.sweeps[family.index()].request();
        }
    }

    fn group_key(&self, peer: &RibPeer) -> GroupKey {
        GroupKey {
            local_asn: self.core.config.local_asn,
            cluster_id: self.core.config.cluster_id,
            kind: peer.kind,
            client: peer.client,
            families: peer.families.clone(),
            export: peer.export.clone(),
            encode: peer.encode.clone(),
        }
    }

    fn compact(&mut self) {
        let [fib_v4, fib_v6] = &mut self.fib;
        if self.tables.v4.wants_compaction() {
            self.tables.v4.compact(self.out.cursors(AfiSafi::Ipv4Unicast).chain([fib_v4]).collect());
        }
        if self.tables.v6.wants_compaction() {
            self.tables.v6.compact(self.out.cursors(AfiSafi::Ipv6Unicast).chain([fib_v6]).collect());
        }
    }
}

/// What other rules for a peer ask for. Its export rules belong to it, as our nexthops are part of the loop checks; and
/// whether it is a client decides who is told of its routes.
fn review(before: &RibPeer, after: &RibPeer) -> Review {
    if before.client != after.client {
        Review::Audience
    } else if (&before.import, &before.export) != (&after.import, &after.export) {
        Review::Verdicts
    } else {
        Review::Nothing
    }
}

fn withdraw_all<P: TablePrefix>(table: &mut Table<P>, core: &mut Core, peer: Slot, prefixes: &[P]) {
    prefixes.iter().for_each(|&prefix| table.withdraw(core, peer, prefix));
}

fn learn_all<P: TablePrefix>(
    table: &mut Table<P>,
    core: &mut Core,
    announcement: Announcement,
    prefixes: &[P],
) -> Result<(), LimitExceeded> {
    prefixes.iter().try_for_each(|&prefix| table.learn(core, announcement, prefix))
}

fn next_fib_change<P: TablePrefix>(
    table: &mut Table<P>,
    core: &mut Core,
    cursor: &mut u32,
) -> Option<Change> {
    while let Some(dest) = table.next_change(cursor) {
        let nexthops = table.gateways(core, dest);
        let gateways = core.shared.intern_gateways(&nexthops);
        let before = std::mem::replace(&mut table.dest_mut(dest).gateways, gateways);
        core.shared.gateways.release(before);
        if before != gateways {
            let prefix = table.dest(dest).prefix.into();
            table.free_if_unused(dest);
            return Some(Change { prefix, nexthops: nexthops.into_vec() });
        }
    }
    None
}

/// A prefix without host bits.
enum Canonical {
    V4(Ipv4Network),
    V6(Ipv6Network),
}

fn canonical(prefix: IpNetwork) -> Canonical {
    match prefix {
        IpNetwork::V4(net) => {
            Canonical::V4(Ipv4Network::new_checked(net.network(), net.prefix()).unwrap_or(net))
        }
        IpNetwork::V6(net) => {
            Canonical::V6(Ipv6Network::new_checked(net.network(), net.prefix()).unwrap_or(net))
        }
    }
}
