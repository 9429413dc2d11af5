//! A list that is nearly always empty, in 8 octets instead of the 24 of a `Vec`: a table keeps very many of them.

use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};

/// Used as the `Vec` that it stands for. Empty ones are equal, whether they have been filled before or not.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<T>", into = "Vec<T>", bound(serialize = "T: Clone + Serialize"))]
#[expect(clippy::box_collection, reason = "the point is the size of an empty one")]
pub struct RareList<T>(Option<Box<Vec<T>>>);

impl<T> RareList<T> {
    pub fn clear(&mut self) {
        self.0 = None;
    }

    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        if let Some(list) = &mut self.0 {
            list.retain(keep);
        }
    }
}

impl<T> Default for RareList<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Deref for RareList<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        self.0.as_deref().unwrap_or(const { &Vec::new() })
    }
}

impl<T> DerefMut for RareList<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        self.0.get_or_insert_default()
    }
}

impl<T: PartialEq> PartialEq for RareList<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for RareList<T> {}

impl<T: Hash> Hash for RareList<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl<T> From<Vec<T>> for RareList<T> {
    fn from(list: Vec<T>) -> Self {
        Self((!list.is_empty()).then(|| Box::new(list)))
    }
}

impl<T> From<RareList<T>> for Vec<T> {
    fn from(list: RareList<T>) -> Self {
        list.0.map(|list| *list).unwrap_or_default()
    }
}

impl<T> FromIterator<T> for RareList<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Vec::from_iter(items).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emptied_list_is_an_empty_list() {
        let mut list = RareList::from(vec![1]);
        list.retain(|_| false);
        assert_eq!(list, RareList::default());
        assert_ne!(list, RareList::from(vec![1]));
        assert_eq!(size_of_val(&list), 8);
    }

    #[test]
    fn a_list_comes_back_as_the_vec_that_it_stands_for() {
        let mut list: RareList<u8> = [3, 1].into_iter().collect();
        list.push(2);
        assert_eq!(Vec::from(list.clone()), [3, 1, 2]);
        list.clear();
        assert!(Vec::from(list).is_empty());
    }
}
