//! Values at stable `u32` indices; places of removed values are used again.

use std::ops::{Index, IndexMut};

/// An index that is never in use: the end of a chain, or an empty place.
pub(super) const NIL: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Slab<T> {
    items: Vec<T>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { items: Vec::new(), free: Vec::new() }
    }

    pub(super) fn insert(&mut self, item: T) -> u32 {
        if let Some(at) = self.free.pop() {
            self[at] = item;
            return at;
        }
        self.items.push(item);
        u32::try_from(self.items.len() - 1).expect("four billion entries do not fit in memory")
    }

    /// Puts `vacant` in the place of the value. The caller recognises it when it walks over all places.
    pub(super) fn remove(&mut self, at: u32, vacant: T) {
        self[at] = vacant;
        self.free.push(at);
        if self.free.len() == self.items.len() {
            // Give the memory of a past full table back.
            *self = Self::new();
        }
    }

    /// Places, used or not.
    pub(super) fn places(&self) -> u32 {
        u32::try_from(self.items.len()).unwrap_or(NIL)
    }

    /// Values.
    pub(super) fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        &self.items[at as usize]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        &mut self.items[at as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_place_is_used_again_and_counts_for_nothing() {
        let mut slab = Slab::new();
        assert_eq!([slab.insert('a'), slab.insert('b'), slab.insert('c')], [0, 1, 2]);
        slab.remove(1, '-');
        assert_eq!((slab.len(), slab.places()), (2, 3));
        assert_eq!((slab.insert('d'), slab[1], slab.len()), (1, 'd', 3));
        (0..3).for_each(|at| slab.remove(at, '-'));
        assert_eq!((slab.len(), slab.places()), (0, 0));
    }
}
