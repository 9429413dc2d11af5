//! Adj-RIB-Out of one stream and family: what was announced of each prefix and not withdrawn since.
//!
//! An array over destinations in pages, so that both a speaker that announces three prefixes of a million and one that
//! announces them all pay for what they announce: 12 octets per prefix in the full case.
//!
//! What is kept is not what was sent but what it was made from: the path's attributes and nexthop before the export
//! policy. The policy is a constant of the group, so the one tells the other, and no second attribute set is stored.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::super::attributes::{AttributesId, NexthopId};
use super::super::peers::Slot;
use super::super::table::DestId;

/// A route as announced. Attributes and nexthop hold a reference each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Sent {
    /// None when all that is known is that something was announced: it will be announced again.
    pub(super) attributes: AttributesId,
    pub(super) nexthop: NexthopId,
    /// Whose path it is. That peer itself has not been told (split horizon).
    pub(super) source: Slot,
}

/// The source of an entry that is not there.
const ABSENT: Slot = Slot::MAX;
const NOTHING: Sent = Sent { attributes: AttributesId::NONE, nexthop: NexthopId::NONE, source: ABSENT };

const PAGE: usize = 256;

#[derive(Clone, Debug)]
struct Page {
    entries: [Sent; PAGE],
    used: usize,
}

#[derive(Clone, Debug)]
pub(super) struct SentMap {
    pages: Vec<Option<Box<Page>>>,
    by_source: BTreeMap<Slot, u32>,
    len: u32,
    /// The sum of the entries' hashes, so that it is kept up to date with each of them.
    digest: u64,
    hasher: FixedState,
}

impl SentMap {
    pub(super) fn new(hasher: FixedState) -> Self {
        Self { pages: Vec::new(), by_source: BTreeMap::new(), len: 0, digest: 0, hasher }
    }

    /// Both hold the same routes. By a hash of 64 bits, which peers cannot aim at.
    pub(super) fn equals(&self, other: &Self) -> bool {
        (self.len, self.digest) == (other.len, other.digest)
    }

    pub(super) fn get(&self, dest: DestId) -> Option<Sent> {
        let (page, at) = place(dest);
        let entry = self.pages.get(page)?.as_ref()?.entries[at];
        (entry.source != ABSENT).then_some(entry)
    }

    /// Returns what was there. References are the caller's affair.
    pub(super) fn set(&mut self, dest: DestId, sent: Option<Sent>) -> Option<Sent> {
        let (page, at) = place(dest);
        if sent.is_none() && self.pages.get(page).is_none_or(Option::is_none) {
            return None;
        }
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        let slot = &mut self.pages[page];
        let entries = slot.get_or_insert_with(|| Box::new(Page { entries: [NOTHING; PAGE], used: 0 }));
        let old = std::mem::replace(&mut entries.entries[at], sent.unwrap_or(NOTHING));
        let old = (old.source != ABSENT).then_some(old);
        entries.used = entries.used + usize::from(sent.is_some()) - usize::from(old.is_some());
        if entries.used == 0 {
            *slot = None;
        }
        self.count(dest, old, sent);
        old
    }

    fn count(&mut self, dest: DestId, old: Option<Sent>, new: Option<Sent>) {
        let hash = |sent: Option<Sent>| sent.map_or(0, |sent| self.hasher.hash_one((dest, sent)));
        self.digest = self.digest.wrapping_sub(hash(old)).wrapping_add(hash(new));
        if let Some(Sent { source, .. }) = old {
            self.len -= 1;
            if let Some(count) = self.by_source.get_mut(&source) {
                *count -= 1;
            }
        }
        if let Some(Sent { source, .. }) = new {
            self.len += 1;
            *self.by_source.entry(source).or_default() += 1;
        }
    }

    /// Routes that `member` has been told.
    pub(super) fn count_for(&self, member: Slot) -> u32 {
        self.len - self.by_source.get(&member).copied().unwrap_or(0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (DestId, Sent)> + '_ {
        let pages = self.pages.iter().enumerate().filter_map(|(at, page)| Some((at, page.as_ref()?)));
        pages.flat_map(|(at, page)| entries(at, page))
    }

    /// Takes the contents of the entries that do not `stand` away, so that they count as changed; returns them for
    /// release.
    pub(super) fn forget(
        &mut self,
        mut stands: impl FnMut(DestId, Sent) -> bool,
    ) -> Vec<(AttributesId, NexthopId)> {
        let fallen = self.iter().filter(|(dest, sent)| !sent.attributes.is_none() && !stands(*dest, *sent));
        let fallen: Vec<(DestId, Sent)> = fallen.collect();
        for (dest, sent) in &fallen {
            let (attributes, nexthop) = (AttributesId::NONE, NexthopId::NONE);
            self.set(*dest, Some(Sent { attributes, nexthop, ..*sent }));
        }
        fallen.into_iter().map(|(_, sent)| (sent.attributes, sent.nexthop)).collect()
    }

    /// Takes entries of one page, until there are none. For giving references back in slices.
    pub(super) fn pop_page(&mut self) -> Option<Vec<(DestId, Sent)>> {
        loop {
            let at = self.pages.len().checked_sub(1)?;
            if let Some(page) = self.pages.pop()? {
                return Some(entries(at, &page).collect());
            }
        }
    }
}

fn place(dest: DestId) -> (usize, usize) {
    let dest = dest as usize;
    (dest / PAGE, dest % PAGE)
}

fn entries(page: usize, content: &Page) -> impl Iterator<Item = (DestId, Sent)> + '_ {
    let first = DestId::try_from(page * PAGE).unwrap_or(DestId::MAX);
    (first..).zip(content.entries).filter(|(_, sent)| sent.source != ABSENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(source: Slot) -> Sent {
        Sent { source, ..NOTHING }
    }

    #[test]
    fn a_member_is_not_counted_as_told_of_its_own_routes() {
        let mut sent = SentMap::new(FixedState::default());
        sent.set(3, Some(from(1)));
        sent.set(900, Some(from(2)));
        assert_eq!((sent.count_for(1), sent.count_for(2), sent.count_for(7)), (1, 1, 2));

        assert_eq!(sent.set(3, Some(from(2))), Some(from(1)));
        assert_eq!((sent.count_for(1), sent.count_for(2)), (2, 0));
        assert_eq!(sent.iter().map(|(dest, _)| dest).collect::<Vec<_>>(), [3, 900]);
    }

    #[test]
    fn maps_are_equal_when_they_hold_the_same_however_they_came_to_it() {
        let (mut one, mut other) = (SentMap::new(FixedState::default()), SentMap::new(FixedState::default()));
        one.set(3, Some(from(1)));
        one.set(900, Some(from(2)));
        other.set(900, Some(from(1)));
        other.set(3, Some(from(2)));
        assert!(!one.equals(&other), "as many entries of the same, at other places");
        other.set(3, Some(from(1)));
        assert!(!one.equals(&other));
        other.set(900, Some(from(2)));
        other.set(5000, Some(from(2)));
        other.set(5000, None);
        assert!(one.equals(&other));
    }

    #[test]
    fn an_empty_page_is_given_back() {
        let mut sent = SentMap::new(FixedState::default());
        assert_eq!(sent.set(5000, None), None);
        assert!(sent.pages.is_empty());

        sent.set(5000, Some(from(1)));
        assert_eq!(sent.set(5000, None), Some(from(1)));
        assert!(sent.pages.iter().all(Option::is_none));
        assert_eq!((sent.len, sent.pop_page()), (0, None));
    }
}
