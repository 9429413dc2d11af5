//! What changes the Loc-RIB: routes learned, withdrawn, judged anew; and the choice of the best among them.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::RibConfig;
use super::attributes::{AttributesId, NexthopId, Shared};
use super::decision::{self, Candidate};
use super::peers::{Age, KnownPeer, LOCAL, Peers, Review, Slot};
use super::policy::{DEFAULT_LOCAL_PREF, Rejection, path_rejection};
use super::table::{DestId, Path, PathId, Table, TablePrefix};
use crate::types::{AfiSafi, FibNexthop, Nexthop, PeerId, PeerKind};

/// What the attributes of a peer's routes may take in one family, at most, even if no two have the same: so much for each
/// prefix of its limit, several times what routes of the Internet have, ...
const ATTRIBUTE_OCTETS_PER_PREFIX: u64 = 256;
/// ... and so much in any case, for peers with a small limit.
const ATTRIBUTE_OCTETS: u64 = 64 * 1024;

/// The peer sent more than we are ready to take; its session is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LimitExceeded {
    /// Cease/1 (RFC 4486).
    #[error("more than {limit} {family} prefixes")]
    Prefixes { family: AfiSafi, limit: u32 },
    /// Cease/8.
    #[error("attributes of {family} routes take more than {limit} octets")]
    Attributes { family: AfiSafi, limit: u64 },
}

/// What both families' tables share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) config: RibConfig,
    pub(super) peers: Peers,
    pub(super) shared: Shared,
}

/// What the prefixes of one announcement have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announcement {
    pub(super) peer: Slot,
    pub(super) attributes: AttributesId,
    pub(super) nexthop: NexthopId,
    /// Of the path itself; the prefix may add its own.
    pub(super) rejection: Option<Rejection>,
}

/// A sweep over a table in slices, which takes out dead paths and applies changed import policies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sweep {
    next: Option<DestId>,
    /// Something happened behind the sweep: it goes around once more.
    again: bool,
}

impl Sweep {
    pub(super) fn request(&mut self) {
        match self.next {
            None => self.next = Some(0),
            Some(_) => self.again = true,
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.next.is_some()
    }
}

impl<P: TablePrefix> Table<P> {
    /// Counts against the peer's limits, then judges, stores and selects.
    pub(super) fn learn(
        &mut self,
        core: &mut Core,
        announcement: Announcement,
        prefix: P,
    ) -> Result<(), LimitExceeded> {
        let Announcement { peer, attributes, nexthop, rejection } = announcement;
        let dest = self.find_or_insert(prefix);
        let old = self.path_from(dest, peer);
        let age = old.map(|id| core.peers.age(peer, Self::FAMILY, self.path(id).epoch));
        let octets = core.octets(attributes);
        let replaced =
            old.filter(|_| age == Some(Age::Fresh)).map(|id| core.octets(self.path(id).attributes));
        if let Err(exceeded) = core.check_limits(peer, Self::FAMILY, octets, replaced) {
            self.free_if_unused(dest);
            return Err(exceeded);
        }
        let (attributes, rejection) = match rejection {
            Some(_) => (core.shared.attributes.retained(attributes), rejection),
            None => core.judge(peer, attributes, prefix),
        };
        let epoch = core.peers.epoch(peer, Self::FAMILY);
        let new = Path::new(attributes, core.shared.nexthops.retained(nexthop), (peer, epoch), rejection);
        core.peers.add(peer, Self::FAMILY, (rejection, octets));
        match old {
            None => self.push_path(dest, new),
            Some(id) => {
                let old = self.replace_path(id, new);
                core.forget(Self::FAMILY, &old);
                core.shared.release((old.attributes, old.nexthop));
                let same = (old.attributes, old.nexthop, old.rejection) == (attributes, nexthop, rejection);
                if same && age != Some(Age::Dead) {
                    return Ok(());
                }
            }
        }
        self.select(core, dest);
        Ok(())
    }

    /// The peer has no route to this prefix any more.
    pub(super) fn withdraw(&mut self, core: &mut Core, peer: Slot, prefix: P) {
        let Some(dest) = self.find(prefix) else { return };
        let Some(path) = self.path_from(dest, peer) else { return };
        self.drop_path(core, dest, path);
        self.select(core, dest);
    }

    /// Takes the next `limit` places of a sweep. True while more remain.
    pub(super) fn advance(&mut self, core: &mut Core, sweep: &mut Sweep, limit: u32) -> bool {
        let Some(from) = sweep.next else { return false };
        let to = from.saturating_add(limit);
        for dest in from..to {
            // The table shrinks when its last destination goes.
            if dest >= self.places() {
                break;
            }
            // A vacant one has no paths.
            self.refresh_paths(core, dest);
        }
        sweep.next = if to < self.places() {
            Some(to)
        } else if std::mem::take(&mut sweep.again) {
            Some(0)
        } else {
            core.peers.swept(Self::FAMILY);
            None
        };
        sweep.next.is_some()
    }

    fn refresh_paths(&mut self, core: &mut Core, dest: DestId) {
        let ids: SmallVec<[PathId; 8]> = self.chain(dest).map(|(id, _)| id).collect();
        let mut changed = false;
        for id in ids {
            let path = *self.path(id);
            if core.peers.age(path.peer, Self::FAMILY, path.epoch) == Age::Dead {
                self.drop_path(core, dest, id);
                changed = true;
                continue;
            }
            let review = core.peers.review(path.peer, Self::FAMILY);
            if review != Review::Nothing {
                let (attributes, rejection) = core.judge_again(&path, self.dest(dest).prefix);
                let is_the_same = (attributes, rejection) == (path.attributes, path.rejection);
                changed |= review == Review::Audience || !is_the_same;
                let verdicts = (path.rejection, rejection);
                core.peers.rejudge((path.peer, Self::FAMILY), path.epoch, verdicts);
                core.shared.release_attributes(path.attributes);
                let judged = self.path_mut(id);
                (judged.attributes, judged.rejection) = (attributes, rejection);
            }
        }
        if changed {
            self.select(core, dest);
        }
    }

    fn drop_path(&mut self, core: &mut Core, dest: DestId, id: PathId) {
        let path = self.remove_path(dest, id);
        core.forget(Self::FAMILY, &path);
        core.shared.release((path.attributes, path.nexthop));
    }

    pub(super) fn path_from(&self, dest: DestId, peer: Slot) -> Option<PathId> {
        self.chain(dest).find(|(_, path)| path.peer == peer).map(|(id, _)| id)
    }

    /// Puts the best path first, and tells the readers of the table; forgets a prefix that nobody needs.
    fn select(&mut self, core: &Core, dest: DestId) {
        if self.first(dest).is_none() {
            self.touch(dest);
            self.free_if_unused(dest);
            return;
        }
        if let Some(best) = self.elect(core, dest) {
            self.make_first(dest, best);
        }
        self.touch(dest);
    }

    /// The best path. The chain's first, unless its session has ended since it was chosen.
    pub(super) fn best(&self, core: &Core, dest: DestId) -> Option<PathId> {
        let first = self.first(dest)?;
        if core.is_usable(self, first) { Some(first) } else { self.elect(core, dest) }
    }

    fn elect(&self, core: &Core, dest: DestId) -> Option<PathId> {
        let candidates = self.candidates(core, dest);
        if let [only] = candidates.as_slice() {
            return Some(only.path);
        }
        let outcome = decision::decide(&candidates);
        candidates.iter().zip(outcome).find(|(_, lost)| lost.is_none()).map(|(best, _)| best.path)
    }

    /// The usable paths of a prefix. The first of the chain counts as the incumbent.
    pub(super) fn candidates(&self, core: &Core, dest: DestId) -> SmallVec<[Candidate; 8]> {
        let first = self.first(dest);
        let usable = self.chain(dest).filter(|(id, _)| core.is_usable(self, *id));
        usable
            .map(|(id, path)| {
                let incumbent = core.config.keep_incumbent && first == Some(id);
                core.candidate(id, path, incumbent)
            })
            .collect()
    }

    /// The nexthops that the FIB should hold; none for what is our own.
    pub(super) fn gateways(&self, core: &Core, dest: DestId) -> SmallVec<[FibNexthop; 8]> {
        let Some(best) = self.best(core, dest) else { return SmallVec::new() };
        let alone = self.chain(dest).nth(1).is_none();
        let chosen = if alone || core.config.max_paths <= 1 {
            SmallVec::from_slice(&[best])
        } else {
            decision::multipath(&self.candidates(core, dest), core.config.max_paths)
        };
        let mut gateways: SmallVec<[FibNexthop; 8]> =
            chosen.into_iter().filter_map(|id| core.gateway(self.path(id))).collect();
        gateways.sort_unstable();
        gateways.dedup();
        gateways
    }
}

impl Core {
    /// A path does not count any more. Its references are the caller's affair.
    fn forget(&mut self, family: AfiSafi, path: &Path) {
        let octets = self.octets(path.attributes);
        self.peers.subtract(path.peer, family, path.epoch, (path.rejection, octets));
    }

    fn octets(&self, attributes: AttributesId) -> u64 {
        self.shared.attributes.get(attributes).octets.into()
    }

    /// Whether one more path of the peer, with so many octets of attributes, is within its limits. `replaced`: the octets
    /// of the one that it sent for the same prefix earlier in this session, if it did.
    fn check_limits(
        &self,
        peer: Slot,
        family: AfiSafi,
        octets: u64,
        replaced: Option<u64>,
    ) -> Result<(), LimitExceeded> {
        let limit = self.peers.get(peer).map_or(u32::MAX, |peer| peer.config.max_prefixes);
        if replaced.is_none() && self.peers.learned(peer, family) >= limit {
            return Err(LimitExceeded::Prefixes { family, limit });
        }
        let taken = (self.peers.octets(peer, family) + octets).saturating_sub(replaced.unwrap_or(0));
        let limit = ATTRIBUTE_OCTETS + u64::from(limit) * ATTRIBUTE_OCTETS_PER_PREFIX;
        if taken > limit {
            return Err(LimitExceeded::Attributes { family, limit });
        }
        Ok(())
    }

    /// In use and accepted.
    fn is_usable<P: TablePrefix>(&self, table: &Table<P>, id: PathId) -> bool {
        let path = table.path(id);
        path.rejection.is_none() && self.peers.age(path.peer, Table::<P>::FAMILY, path.epoch) != Age::Dead
    }

    /// What the peer's import policy makes of what it has sent. The attributes hold a reference.
    fn judge<P: TablePrefix>(
        &mut self,
        peer: Slot,
        received: AttributesId,
        prefix: P,
    ) -> (AttributesId, Option<Rejection>) {
        let values = &self.shared.attributes.get(received).values;
        let verdict = match self.peers.get(peer) {
            Some(KnownPeer { config, .. }) => config.import.judge(config.kind, prefix.into(), values),
            None => Ok(Cow::Borrowed(values)),
        };
        match verdict {
            Ok(Cow::Owned(edited)) => (self.shared.intern_edited(&edited, received), None),
            Ok(Cow::Borrowed(_)) => (self.shared.attributes.retained(received), None),
            Err(rejection) => (self.shared.attributes.retained(received), Some(rejection)),
        }
    }

    /// As [`Core::judge`], of a path that is known.
    fn judge_again<P: TablePrefix>(&mut self, path: &Path, prefix: P) -> (AttributesId, Option<Rejection>) {
        let received = self.shared.received(path.attributes);
        let rejection = self.peers.get(path.peer).and_then(|peer| {
            let values = &self.shared.attributes.get(received).values;
            let nexthop = self.shared.nexthops.get(path.nexthop).nexthop;
            path_rejection(&self.config, &peer.config, values, nexthop)
        });
        match rejection {
            Some(_) => (self.shared.attributes.retained(received), rejection),
            None => self.judge(path.peer, received, prefix),
        }
    }

    fn candidate(&self, id: PathId, path: &Path, incumbent: bool) -> Candidate {
        let set = self.shared.attributes.get(path.attributes);
        let peer = self.peers.get(path.peer);
        let router_id = peer.map_or(self.config.router_id, |peer| peer.config.router_id);
        Candidate {
            path: id,
            local: path.peer == LOCAL,
            local_pref: set.values.local_pref.unwrap_or(DEFAULT_LOCAL_PREF),
            as_path_length: set.as_path_length,
            origin: set.values.origin,
            neighbor: set.neighbor,
            med: set.values.med.unwrap_or(0),
            kind: peer.map_or(PeerKind::Internal, |peer| peer.config.kind),
            // Our nexthops are on the link or reached alike: there is no IGP to tell them apart.
            igp_cost: 0,
            incumbent,
            router_id: set.values.originator_id.unwrap_or(router_id),
            cluster_list_length: set.values.cluster_list.len(),
            peer: peer.map_or(UNSPECIFIED_PEER, |peer| (peer.config.address, peer.config.interface, peer.id)),
        }
    }

    /// The address to send packets to: the link-local one where the peer is on a known link (RFC 2545 §3).
    fn gateway(&self, path: &Path) -> Option<FibNexthop> {
        let via = self.shared.via(path.nexthop)?;
        let interface = self.peers.get(path.peer).and_then(|peer| peer.config.interface);
        let address: IpAddr = match via.nexthop {
            Nexthop::V4(address) => address.into(),
            Nexthop::V6 { link_local: Some(link_local), .. } if interface.is_some() => link_local.into(),
            Nexthop::V6 { global, .. } => global.into(),
        };
        match address {
            // Without an interface it leads nowhere.
            IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                interface.map(|index| FibNexthop { address, interface: Some(index) })
            }
            IpAddr::V4(_) | IpAddr::V6(_) => Some(FibNexthop { address, interface: None }),
        }
    }
}

/// Stands for ourselves; never compared, as [`Step::Local`](decision::Step::Local) comes first.
const UNSPECIFIED_PEER: (IpAddr, Option<u32>, PeerId) =
    (IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), None, PeerId(0));
