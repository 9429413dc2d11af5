//! Loc-RIB of one family: prefixes, their paths, and the order in which they changed.
//!
//! A trie finds the destination of a prefix; its paths are a chain in a slab, the best first. There is no Adj-RIB-In
//! beside it: a path is what its peer sent, with the verdict of the import policy on it. About 56 octets per IPv4
//! prefix with one path, attributes aside.
//!
//! The change log is how everybody else follows the table. Each change moves its prefix to the end of the log, so the
//! log holds every prefix once, at its latest change; older entries are holes, squeezed out when they are the majority.
//! A reader (the FIB, an update group) is a cursor into it, an initial walk is a cursor at the start, and a reader
//! however slow holds nothing back but its own place.

use std::fmt::Debug;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use prefix_trie::PrefixMap;
use smallvec::SmallVec;

use super::attributes::{AttributesId, GatewaysId, NexthopId};
use super::peers::Slot;
use super::policy::Rejection;
use super::slab::{NIL, Slab};
use crate::types::AfiSafi;
use crate::wire;

/// A prefix of one family.
pub(super) trait TablePrefix:
    prefix_trie::Prefix + wire::Prefix + Ord + Debug + Into<IpNetwork>
{
    /// Stands in vacant places; never looked up there.
    const VACANT: Self;
}

impl TablePrefix for Ipv4Network {
    const VACANT: Self = match Self::new_checked(std::net::Ipv4Addr::UNSPECIFIED, 0) {
        Some(any) => any,
        None => unreachable!(),
    };
}

impl TablePrefix for Ipv6Network {
    const VACANT: Self = match Self::new_checked(std::net::Ipv6Addr::UNSPECIFIED, 0) {
        Some(any) => any,
        None => unreachable!(),
    };
}

/// Index of a destination; used again when nothing refers to it any more.
pub(super) type DestId = u32;
/// Index of a path.
pub(super) type PathId = u32;

/// A prefix that has paths, or that somebody has to be told is gone.
#[derive(Debug)]
pub(super) struct Dest<P> {
    pub(super) prefix: P,
    /// Chain of paths; the first is the best if any is usable.
    first: PathId,
    /// Place in the change log; [`NIL`] when the place in the slab is vacant.
    changed: u32,
    /// What the FIB was told.
    pub(super) gateways: GatewaysId,
    /// Update streams in which it is announced.
    pins: u32,
}

/// What one peer said of one prefix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) attributes: AttributesId,
    /// None for our own.
    pub(super) nexthop: NexthopId,
    next: PathId,
    pub(super) peer: Slot,
    pub(super) epoch: u8,
    pub(super) rejection: Option<Rejection>,
}

impl Path {
    pub(super) fn new(
        attributes: AttributesId,
        nexthop: NexthopId,
        (peer, epoch): (Slot, u8),
        rejection: Option<Rejection>,
    ) -> Self {
        Self { attributes, nexthop, next: NIL, peer, epoch, rejection }
    }
}

const VACANT_PATH: Path = Path {
    attributes: AttributesId::NONE,
    nexthop: NexthopId::NONE,
    next: NIL,
    peer: 0,
    epoch: 0,
    rejection: None,
};

/// Holes in the change log that are not worth squeezing out. Few in tests, so that they meet the squeeze.
const LOG_SLACK: usize = if cfg!(test) { 4 } else { 1024 };

#[derive(Debug)]
pub(super) struct Table<P: TablePrefix> {
    trie: PrefixMap<P, DestId>,
    dests: Slab<Dest<P>>,
    paths: Slab<Path>,
    log: Vec<DestId>,
}

impl<P: TablePrefix> Table<P> {
    pub(super) const FAMILY: AfiSafi = <P as wire::Prefix>::FAMILY;

    pub(super) fn new() -> Self {
        Self { trie: PrefixMap::new(), dests: Slab::new(), paths: Slab::new(), log: Vec::new() }
    }

    pub(super) fn find(&self, prefix: P) -> Option<DestId> {
        self.trie.get(&prefix).copied()
    }

    /// What contains this prefix, from the shortest to itself.
    pub(super) fn covering(&self, prefix: P) -> impl Iterator<Item = DestId> + '_ {
        self.trie.cover(&prefix).map(|(_, dest)| *dest)
    }

    /// A new one counts as vacant until the caller has given it a path and touched it, which puts it into the log.
    pub(super) fn find_or_insert(&mut self, prefix: P) -> DestId {
        let dests = &mut self.dests;
        *self.trie.entry(prefix).or_insert_with(|| {
            dests.insert(Dest { prefix, first: NIL, changed: NIL, gateways: GatewaysId::NONE, pins: 0 })
        })
    }

    pub(super) fn dest(&self, id: DestId) -> &Dest<P> {
        &self.dests[id]
    }

    pub(super) fn dest_mut(&mut self, id: DestId) -> &mut Dest<P> {
        &mut self.dests[id]
    }

    pub(super) fn path(&self, id: PathId) -> &Path {
        &self.paths[id]
    }

    pub(super) fn path_mut(&mut self, id: PathId) -> &mut Path {
        &mut self.paths[id]
    }

    /// The paths of a prefix, in the order of the chain.
    pub(super) fn chain(&self, dest: DestId) -> impl Iterator<Item = (PathId, &Path)> + '_ {
        let mut next = self.dests[dest].first;
        std::iter::from_fn(move || {
            let id = next;
            let path = (id != NIL).then(|| &self.paths[id])?;
            next = path.next;
            Some((id, path))
        })
    }

    pub(super) fn first(&self, dest: DestId) -> Option<PathId> {
        let first = self.dests[dest].first;
        (first != NIL).then_some(first)
    }

    /// Adds a path behind the best.
    pub(super) fn push_path(&mut self, dest: DestId, mut path: Path) {
        let first = self.dests[dest].first;
        if first == NIL {
            self.dests[dest].first = self.paths.insert(path);
        } else {
            path.next = self.paths[first].next;
            self.paths[first].next = self.paths.insert(path);
        }
    }

    /// Puts another path of the same peer in the place of one.
    pub(super) fn replace_path(&mut self, id: PathId, new: Path) -> Path {
        let next = self.paths[id].next;
        std::mem::replace(&mut self.paths[id], Path { next, ..new })
    }

    pub(super) fn remove_path(&mut self, dest: DestId, id: PathId) -> Path {
        self.unlink(dest, id);
        let path = self.paths[id];
        self.paths.remove(id, VACANT_PATH);
        path
    }

    pub(super) fn make_first(&mut self, dest: DestId, id: PathId) {
        if self.dests[dest].first != id {
            self.unlink(dest, id);
            self.paths[id].next = self.dests[dest].first;
            self.dests[dest].first = id;
        }
    }

    fn unlink(&mut self, dest: DestId, id: PathId) {
        let after = self.paths[id].next;
        let before = self.chain(dest).map(|(at, _)| at).find(|&at| self.paths[at].next == id);
        match before {
            Some(before) => self.paths[before].next = after,
            None => self.dests[dest].first = after,
        }
    }

    /// Records a change: every reader will come to this prefix once more.
    pub(super) fn touch(&mut self, dest: DestId) {
        self.dests[dest].changed = log_len(&self.log);
        self.log.push(dest);
    }

    /// Every prefix with several paths, as if it had changed.
    pub(super) fn touch_choices(&mut self) {
        let choices: Vec<_> = self.iter().filter(|dest| self.chain(*dest).nth(1).is_some()).collect();
        choices.into_iter().for_each(|dest| self.touch(dest));
    }

    pub(super) fn pin(&mut self, dest: DestId) {
        self.dests[dest].pins += 1;
    }

    pub(super) fn unpin(&mut self, dest: DestId) {
        self.dests[dest].pins -= 1;
        self.free_if_unused(dest);
    }

    /// Forgets a prefix without paths that nobody has been told of.
    pub(super) fn free_if_unused(&mut self, dest: DestId) {
        let Dest { prefix, first, gateways, pins, .. } = self.dests[dest];
        if first != NIL || pins > 0 || !gateways.is_none() {
            return;
        }
        self.trie.remove(&prefix);
        let (changed, gateways) = (NIL, GatewaysId::NONE);
        self.dests.remove(dest, Dest { prefix: P::VACANT, first, changed, gateways, pins });
    }

    /// The end of the change log.
    pub(super) fn end(&self) -> u32 {
        log_len(&self.log)
    }

    /// The next prefix at or after the cursor, which moves behind it.
    pub(super) fn next_change(&self, cursor: &mut u32) -> Option<DestId> {
        while let Some(&dest) = self.log.get(*cursor as usize) {
            let at = *cursor;
            *cursor += 1;
            if self.dest_at(dest, at) {
                return Some(dest);
            }
        }
        None
    }

    fn dest_at(&self, dest: DestId, at: u32) -> bool {
        dest < self.dests.places() && self.dests[dest].changed == at
    }

    pub(super) fn wants_compaction(&self) -> bool {
        self.log.len() > 2 * self.dests.len() + LOG_SLACK
    }

    /// Squeezes the holes out of the change log. All cursors into it must be given.
    pub(super) fn compact(&mut self, mut cursors: SmallVec<[&mut u32; 8]>) {
        cursors.sort_by_key(|cursor| **cursor);
        let mut cursors = cursors.into_iter().peekable();
        let mut kept = Vec::with_capacity(self.dests.len());
        for (at, dest) in (0..).zip(std::mem::take(&mut self.log)) {
            while let Some(cursor) = cursors.next_if(|cursor| **cursor <= at) {
                *cursor = log_len(&kept);
            }
            if self.dest_at(dest, at) {
                self.dests[dest].changed = log_len(&kept);
                kept.push(dest);
            }
        }
        cursors.for_each(|cursor| *cursor = log_len(&kept));
        self.log = kept;
    }

    /// Every prefix, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = DestId> + '_ {
        self.trie.values().copied()
    }

    /// Places of destinations, vacant or not, for sweeps in slices.
    pub(super) fn places(&self) -> u32 {
        self.dests.places()
    }

    /// Prefixes that are known, some of them only to be withdrawn.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.dests.len()
    }
}

fn log_len(log: &[DestId]) -> u32 {
    u32::try_from(log.len()).expect("the log is compacted long before")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_stays_small() {
        assert_eq!((size_of::<Path>(), size_of::<Dest<Ipv4Network>>()), (16, 24));
    }

    #[test]
    fn compaction_keeps_every_reader_at_its_place() {
        let mut table = Table::<Ipv4Network>::new();
        let prefix = |n: u8| Ipv4Network::new([10, n, 0, 0].into(), 16).expect("16 is a length");
        let dests: Vec<DestId> = (0..4).map(|n| table.find_or_insert(prefix(n))).collect();
        dests.iter().for_each(|&dest| table.touch(dest));
        for _ in 0..8 {
            table.touch(dests[1]);
            assert!(!table.wants_compaction(), "as many holes as prefixes, and some, are not worth it");
        }
        table.touch(dests[1]);
        let (mut start, mut middle, mut end) = (0, 3, table.end());
        assert!(table.wants_compaction());
        table.compact([&mut end, &mut start, &mut middle].into_iter().collect());

        let rest = |mut cursor: u32| {
            std::iter::from_fn(|| table.next_change(&mut cursor))
                .map(|dest| dest as usize)
                .collect::<Vec<_>>()
        };
        let at = |n: usize| dests[n] as usize;
        assert_eq!(rest(start), [at(0), at(2), at(3), at(1)]);
        assert_eq!(rest(middle), [at(3), at(1)]);
        assert!(rest(end).is_empty());
    }
}
