//! The peers of the RIB: who they are, which of their paths count, and how many those are.
//!
//! A path carries the small slot of its peer and the session (epoch) that it was learned in. So a lost session changes
//! one number here, and a million paths are stale (RFC 4724 §4.2) or dead at once; [`super::Rib::sweep`] takes the dead
//! ones out later, in slices.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::RibPeer;
use super::policy::Rejection;
use crate::types::{AfiSafi, Kept, PeerId};

/// Index of a peer; used again when nothing refers to the peer any more.
pub(super) type Slot = u16;

/// The slot of what we originate ourselves.
pub(super) const LOCAL: Slot = 0;

/// Sessions that may come and go before the dead paths of the first are taken out; the number of epochs bounds it.
const MAX_UNSWEPT_EPOCHS: u8 = 200;

/// How a path stands with its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    Fresh,
    /// From an earlier session, kept by graceful restart.
    Stale,
    /// Not in use any more, only not yet taken out.
    Dead,
}

/// Routes of one peer and family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Learned, and taken by the import policy. Stale ones included.
    pub accepted: u32,
    /// Learned, and refused by the import policy or a loop check. Stale ones included.
    pub rejected: u32,
    /// Of both: kept over a restart of the peer and not confirmed since.
    pub stale: u32,
    /// Told to the peer, or on the way.
    pub advertised: u32,
    /// The peer has sent its End-of-RIB in this session.
    pub end_of_rib: bool,
}

/// Index of a stream of UPDATEs, which peers share.
pub(super) type StreamId = u32;

/// A peer's place in its stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
    pub(super) stream: StreamId,
    /// Of the next chunk to take.
    pub(super) position: u64,
}

/// A peer whose session is up, or of which there are paths.
#[derive(Debug)]
pub(super) struct KnownPeer {
    pub(super) id: PeerId,
    /// As of the last session.
    pub(super) config: RibPeer,
    /// Set while the session is up.
    pub(super) out: Option<Membership>,
    families: [Marks; AfiSafi::ALL.len()],
}

/// The state of one peer and family.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    epoch: u8,
    /// The oldest epoch whose paths are still in use.
    kept: u8,
    /// Epochs ended since the last time that nothing was dead.
    unswept: u8,
    fresh: Tally,
    stale: Tally,
    dead: Tally,
    end_of_rib: bool,
    /// What the sweep that is not over has to do.
    review: Review,
}

/// What is to be done with the paths of a peer whose rules have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Review {
    #[default]
    Nothing,
    /// They are judged anew, and those with another verdict have changed.
    Verdicts,
    /// As well, and all have changed: others may be told of them.
    Audience,
}

/// What one path adds to a tally: its verdict and the octets of its attributes.
type Load = (Option<Rejection>, u64);

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    accepted: u32,
    rejected: u32,
    /// Of the attributes, as if no two paths shared them.
    octets: u64,
}

impl Tally {
    fn of(&mut self, rejection: Option<Rejection>) -> &mut u32 {
        if rejection.is_some() { &mut self.rejected } else { &mut self.accepted }
    }

    fn add(&mut self, (rejection, octets): Load) {
        *self.of(rejection) += 1;
        self.octets += octets;
    }

    fn subtract(&mut self, (rejection, octets): Load) {
        *self.of(rejection) -= 1;
        self.octets -= octets;
    }

    fn total(self) -> u32 {
        self.accepted + self.rejected
    }

    fn absorb(&mut self, other: &mut Self) {
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.octets += other.octets;
        *other = Self::default();
    }
}

impl Marks {
    fn age(self, epoch: u8) -> Age {
        let age = self.epoch.wrapping_sub(epoch);
        match age {
            0 => Age::Fresh,
            age if age <= self.epoch.wrapping_sub(self.kept) => Age::Stale,
            _ => Age::Dead,
        }
    }

    fn tally(&mut self, age: Age) -> &mut Tally {
        match age {
            Age::Fresh => &mut self.fresh,
            Age::Stale => &mut self.stale,
            Age::Dead => &mut self.dead,
        }
    }

    fn end_epoch(&mut self, kept: Kept) {
        // The oldest must not be mistaken for one to come.
        let are_few = self.epoch.wrapping_sub(self.kept) < MAX_UNSWEPT_EPOCHS;
        if kept != Kept::All || !are_few {
            self.drop_stale();
        }
        self.stale.absorb(&mut self.fresh);
        self.unswept += 1;
        self.epoch = self.epoch.wrapping_add(1);
        if kept == Kept::Nothing {
            self.drop_stale();
        }
        self.end_of_rib = false;
    }

    fn drop_stale(&mut self) {
        self.kept = self.epoch;
        self.dead.absorb(&mut self.stale);
    }

    fn is_empty(self) -> bool {
        self.fresh.total() + self.stale.total() + self.dead.total() == 0
    }
}

#[derive(Debug, Default)]
pub(super) struct Peers {
    /// `None`: free. The first belongs to [`LOCAL`] and stays so.
    slots: Vec<Option<KnownPeer>>,
    by_id: BTreeMap<PeerId, Slot>,
}

impl Peers {
    pub(super) fn new() -> Self {
        Self { slots: vec![None], by_id: BTreeMap::new() }
    }

    pub(super) fn slot(&self, id: PeerId) -> Option<Slot> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&KnownPeer> {
        self.slots.get(usize::from(slot))?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut KnownPeer> {
        self.slots.get_mut(usize::from(slot))?.as_mut()
    }

    /// The peer, when its session is up.
    pub(super) fn established(&self, id: PeerId) -> Option<(Slot, &KnownPeer)> {
        let slot = self.slot(id)?;
        self.get(slot).filter(|peer| peer.out.is_some()).map(|peer| (slot, peer))
    }

    /// A session begins. `None` when all slots are taken.
    pub(super) fn up(&mut self, id: PeerId, config: RibPeer) -> Option<Slot> {
        if let Some(slot) = self.slot(id) {
            self.get_mut(slot)?.config = config;
            return Some(slot);
        }
        let free = self.slots.iter().skip(1).position(Option::is_none).map_or(self.slots.len(), |at| at + 1);
        // The last number stands for nobody in lists of what was sent.
        let slot = Slot::try_from(free).ok().filter(|&slot| slot < Slot::MAX)?;
        if free == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[free] = Some(KnownPeer { id, config, out: None, families: Default::default() });
        self.by_id.insert(id, slot);
        Some(slot)
    }

    /// A session ends. True when so many have ended since the last sweep that it cannot wait.
    pub(super) fn down(&mut self, slot: Slot, kept: Kept) -> bool {
        let Some(peer) = self.get_mut(slot) else { return false };
        peer.families.iter_mut().for_each(|marks| marks.end_epoch(kept));
        let urgent = peer.families.iter().any(|marks| marks.unswept >= MAX_UNSWEPT_EPOCHS);
        self.settle(slot);
        urgent
    }

    pub(super) fn drop_stale(&mut self, slot: Slot, family: AfiSafi) {
        if let Some(marks) = self.marks_mut(slot, family) {
            marks.drop_stale();
        }
        self.settle(slot);
    }

    pub(super) fn age(&self, slot: Slot, family: AfiSafi, epoch: u8) -> Age {
        match self.get(slot) {
            Some(peer) => peer.families[family.index()].age(epoch),
            None if slot == LOCAL => Age::Fresh,
            None => Age::Dead,
        }
    }

    pub(super) fn epoch(&self, slot: Slot, family: AfiSafi) -> u8 {
        self.get(slot).map_or(0, |peer| peer.families[family.index()].epoch)
    }

    /// Prefixes that the peer has sent in this session.
    pub(super) fn learned(&self, slot: Slot, family: AfiSafi) -> u32 {
        self.get(slot).map_or(0, |peer| peer.families[family.index()].fresh.total())
    }

    /// Octets of the attributes of the paths that the peer has sent in this session.
    pub(super) fn octets(&self, slot: Slot, family: AfiSafi) -> u64 {
        self.get(slot).map_or(0, |peer| peer.families[family.index()].fresh.octets)
    }

    pub(super) fn add(&mut self, slot: Slot, family: AfiSafi, load: Load) {
        if let Some(marks) = self.marks_mut(slot, family) {
            marks.fresh.add(load);
        }
    }

    pub(super) fn subtract(&mut self, slot: Slot, family: AfiSafi, epoch: u8, load: Load) {
        if let Some(marks) = self.marks_mut(slot, family) {
            marks.tally(marks.age(epoch)).subtract(load);
        }
    }

    /// A path keeps its age and changes its verdict.
    pub(super) fn rejudge(
        &mut self,
        (slot, family): (Slot, AfiSafi),
        epoch: u8,
        (old, new): (Option<Rejection>, Option<Rejection>),
    ) {
        if let Some(marks) = self.marks_mut(slot, family) {
            let tally = marks.tally(marks.age(epoch));
            *tally.of(old) -= 1;
            *tally.of(new) += 1;
        }
    }

    pub(super) fn set_end_of_rib(&mut self, slot: Slot, family: AfiSafi) {
        if let Some(marks) = self.marks_mut(slot, family) {
            marks.end_of_rib = true;
        }
    }

    pub(super) fn request_review(&mut self, slot: Slot, family: AfiSafi, review: Review) {
        if let Some(marks) = self.marks_mut(slot, family) {
            marks.review = marks.review.max(review);
        }
    }

    pub(super) fn review(&self, slot: Slot, family: AfiSafi) -> Review {
        self.get(slot).map_or(Review::Nothing, |peer| peer.families[family.index()].review)
    }

    /// A sweep over the whole table of `family` is over: no dead path is left, and every verdict is current.
    pub(super) fn swept(&mut self, family: AfiSafi) {
        for slot in 1..self.slots.len() {
            let Ok(slot) = Slot::try_from(slot) else { return };
            if let Some(marks) = self.marks_mut(slot, family) {
                marks.unswept = 0;
                marks.review = Review::Nothing;
            }
            self.settle(slot);
        }
    }

    pub(super) fn counts(&self, slot: Slot, family: AfiSafi) -> Counts {
        let Some(peer) = self.get(slot) else { return Counts::default() };
        let Marks { fresh, stale, end_of_rib, .. } = peer.families[family.index()];
        Counts {
            accepted: fresh.accepted + stale.accepted,
            rejected: fresh.rejected + stale.rejected,
            stale: stale.total(),
            advertised: 0,
            end_of_rib,
        }
    }

    /// Refused routes, peer by peer.
    pub(super) fn rejected(&self, family: AfiSafi) -> impl Iterator<Item = u32> {
        let marks = self.slots.iter().flatten().map(move |peer| peer.families[family.index()]);
        marks.map(|marks| marks.fresh.rejected + marks.stale.rejected)
    }

    /// Frees the slot of a peer that is down and has no paths left.
    fn settle(&mut self, slot: Slot) {
        let Some(peer) = self.get(slot) else { return };
        if peer.out.is_none() && peer.families.iter().all(|marks| marks.is_empty()) {
            let id = peer.id;
            self.by_id.remove(&id);
            self.slots[usize::from(slot)] = None;
        }
    }

    fn marks_mut(&mut self, slot: Slot, family: AfiSafi) -> Option<&mut Marks> {
        self.get_mut(slot).map(|peer| &mut peer.families[family.index()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_free_slot_counts_and_all_that_is_our_own_does() {
        let peers = Peers::new();
        assert_eq!(peers.age(1, AfiSafi::Ipv4Unicast, 0), Age::Dead);
        assert_eq!(peers.age(LOCAL, AfiSafi::Ipv4Unicast, 0), Age::Fresh);
    }

    #[test]
    fn the_last_number_is_nobodys_slot() {
        let config = || super::super::tests::external(1);
        let taken = |slot: Slot| KnownPeer {
            id: PeerId(slot.into()),
            config: config(),
            out: None,
            families: Default::default(),
        };
        let mut peers = Peers::new();
        peers.slots.extend((1..Slot::MAX - 1).map(|slot| Some(taken(slot))));
        assert_eq!(peers.up(PeerId(70_000), config()), Some(Slot::MAX - 1));
        assert_eq!(peers.up(PeerId(70_001), config()), None);
    }

    #[test]
    fn tallies_move_with_the_paths_from_fresh_to_stale_to_dead() {
        let mut marks = Marks::default();
        for (load, times) in [((None, 100), 3), ((Some(Rejection::AsLoop), 10), 2)] {
            (0..times).for_each(|_| marks.fresh.add(load));
        }
        let tally = |tally: Tally| (tally.accepted, tally.rejected, tally.octets);
        assert_eq!((tally(marks.fresh), marks.fresh.total()), ((3, 2, 320), 5));
        marks.fresh.subtract((None, 100));
        marks.fresh.subtract((Some(Rejection::AsLoop), 10));
        assert_eq!(tally(marks.fresh), (2, 1, 210));

        marks.end_epoch(Kept::Session);
        assert_eq!((tally(marks.fresh), tally(marks.stale)), ((0, 0, 0), (2, 1, 210)));
        marks.fresh.add((None, 7));
        assert_eq!([marks.age(0), marks.age(1)], [Age::Stale, Age::Fresh]);
        marks.end_epoch(Kept::Session);
        assert_eq!((tally(marks.stale), tally(marks.dead)), ((1, 0, 7), (2, 1, 210)));
        assert_eq!([marks.age(0), marks.age(1), marks.age(2)], [Age::Dead, Age::Stale, Age::Fresh]);
        marks.end_epoch(Kept::Nothing);
        assert_eq!(tally(marks.dead), (3, 1, 217));
        assert!(!marks.is_empty());
        marks.dead = Tally::default();
        assert!(marks.is_empty());
    }

    #[test]
    fn what_several_sessions_have_left_is_stale_together_and_never_fresh_again() {
        let mut marks = Marks::default();
        for _ in 0..3 {
            marks.fresh.add((None, 1));
            marks.end_epoch(Kept::All);
        }
        assert_eq!((marks.stale.accepted, marks.dead.accepted), (3, 0));
        assert_eq!(
            [0, 1, 2, 3].map(|epoch| marks.age(epoch)),
            [Age::Stale, Age::Stale, Age::Stale, Age::Fresh]
        );
        for _ in 0..256 {
            marks.end_epoch(Kept::All);
            assert_ne!(marks.age(0), Age::Fresh);
            if marks.age(0) == Age::Dead {
                break;
            }
        }
        assert_eq!((marks.age(0), marks.dead.accepted), (Age::Dead, 3));
    }
}
