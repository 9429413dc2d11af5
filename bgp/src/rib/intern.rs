//! Hash-consing: equal values are kept once and named by a small [`Id`].
//!
//! Counted by hand: whoever stores an id holds one reference ([`Interner::retain`]) and gives it back
//! ([`Interner::release`]). At zero the value goes and its id may be used again. Peers choose the keys, so the hash is
//! seeded by the caller; nothing ever iterates over the hash table, so the seed cannot show in a result.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::marker::PhantomData;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// Names a value of an [`Interner`] of `T`.
pub(super) struct Id<T>(u32, PhantomData<fn() -> T>);

impl<T> Id<T> {
    /// Names nothing: for places that may be empty. Never retained nor released.
    pub(super) const NONE: Self = Self(u32::MAX, PhantomData);

    pub(super) fn is_none(self) -> bool {
        self == Self::NONE
    }

    fn index(self) -> usize {
        self.0 as usize
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Id<T> {}

impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl<T> Hash for Id<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() { f.write_str("none") } else { write!(f, "#{}", self.0) }
    }
}

#[derive(Debug)]
pub(super) struct Interner<T> {
    index: HashTable<u32>,
    entries: Vec<Option<Entry<T>>>,
    free: Vec<u32>,
    hasher: FixedState,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    hash: u64,
    references: u32,
}

impl<T> Interner<T> {
    pub(super) fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self { index: HashTable::new(), entries: Vec::new(), free: Vec::new(), hasher }
    }

    /// The id of the value equal to `key`, made by `make` when there is none yet. Holds one reference.
    pub(super) fn intern<Q>(&mut self, key: &Q, make: impl FnOnce(&Q) -> T) -> Id<T>
    where
        T: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.intern_where(key, |value| value.borrow() == key, || make(key))
    }

    /// The id of the value with the hash of `key` that `is_same`, made by `make` when there is none yet: for values that differ
    /// in more than a key. Holds one reference.
    pub(super) fn intern_where<Q: Hash + ?Sized>(
        &mut self,
        key: &Q,
        is_same: impl Fn(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> Id<T> {
        let hash = self.hasher.hash_one(key);
        let entries = &self.entries;
        let same = |&at: &u32| {
            entries[at as usize].as_ref().is_some_and(|entry| entry.hash == hash && is_same(&entry.value))
        };
        if let Some(&at) = self.index.find(hash, same) {
            let id = Id(at, PhantomData);
            self.retain(id);
            return id;
        }
        let entry = Some(Entry { value: make(), hash, references: 1 });
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1)
                    .expect("each entry has a referrer, whose index is a u32")
            }
        };
        let entries = &self.entries;
        self.index.insert_unique(hash, at, |&at| entries[at as usize].as_ref().map_or(0, |entry| entry.hash));
        Id(at, PhantomData)
    }

    pub(super) fn get(&self, id: Id<T>) -> &T {
        &self.entries[id.index()].as_ref().expect("an id is held only with a reference").value
    }

    pub(super) fn retain(&mut self, id: Id<T>) {
        if let Some(entry) = self.entries.get_mut(id.index()).and_then(Option::as_mut) {
            entry.references += 1;
        }
    }

    /// For who stores the id that it is given.
    pub(super) fn retained(&mut self, id: Id<T>) -> Id<T> {
        self.retain(id);
        id
    }

    /// The value, when this was the last reference to it.
    pub(super) fn release(&mut self, id: Id<T>) -> Option<T> {
        let slot = self.entries.get_mut(id.index())?;
        let entry = slot.as_mut()?;
        entry.references -= 1;
        if entry.references > 0 {
            return None;
        }
        if let Ok(found) = self.index.find_entry(entry.hash, |&at| at == id.0) {
            found.remove();
        }
        let gone = slot.take();
        self.free.push(id.0);
        if self.index.is_empty() {
            // Give the memory of a past full table back.
            self.index = HashTable::new();
            self.entries = Vec::new();
            self.free = Vec::new();
        }
        gone.map(|entry| entry.value)
    }

    /// Distinct values.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_an_id_and_vanish_with_the_last_reference() {
        let mut interner = Interner::<String>::new(7);
        let a = interner.intern("a", str::to_owned);
        let again = interner.intern("a", str::to_owned);
        let b = interner.intern("b", str::to_owned);
        assert_eq!(a, again);
        assert_ne!(a, b);

        interner.release(a);
        assert_eq!(interner.get(a), "a");
        interner.release(a);
        assert_eq!(interner.len(), 1);

        let c = interner.intern("c", str::to_owned);
        assert_eq!(c, a, "a free place is used again");
        assert_eq!((interner.get(b).as_str(), interner.get(c).as_str()), ("b", "c"));
    }

    #[test]
    fn an_emptied_interner_holds_no_memory() {
        let mut interner = Interner::<String>::new(7);
        let ids: Vec<_> = (0..1000).map(|n| interner.intern(n.to_string().as_str(), str::to_owned)).collect();
        for id in ids {
            interner.release(id);
        }
        assert_eq!((interner.len(), interner.entries.capacity(), interner.index.capacity()), (0, 0, 0));
    }
}
