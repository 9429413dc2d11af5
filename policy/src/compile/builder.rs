//! A ruleset in the making: gives names to chains and sets, and shares those that are equal.
//!
//! A chain is named by the hash of its text, a set by the hash of what it stands for: its members may change under its
//! name, which is what makes a new pod one new element. Should two contents have one hash, the later gets another name.

use std::collections::BTreeMap;

use weft_api::hash::fnv1a;

use super::follow::Sources;
use crate::ruleset::{Chain, Map, Name, Rule, Ruleset, Set};

#[derive(Default)]
pub(super) struct Builder {
    ruleset: Ruleset,
    /// What each generated name stands for.
    meanings: BTreeMap<Name, Vec<u8>>,
    /// Where what is in sets comes from.
    pub(super) sources: Sources,
}

impl Builder {
    pub(super) fn chain(&mut self, prefix: &str, rules: Vec<Rule>) -> Name {
        let chain = Chain { base: None, rules };
        let (name, is_new) = self.name(prefix, chain.to_string().into_bytes());
        if is_new {
            self.ruleset.chains.insert(name.clone(), chain);
        }
        name
    }

    pub(super) fn set(&mut self, prefix: &str, meaning: Vec<u8>, make: impl FnOnce() -> Set) -> Name {
        let (name, is_new) = self.name(prefix, meaning);
        if is_new {
            self.ruleset.sets.insert(name.clone(), make());
        }
        name
    }

    /// Whether there is such a set already.
    pub(super) fn knows(&self, prefix: &str, meaning: &[u8]) -> bool {
        self.meanings
            .get(&format!("{prefix}_{:016x}", fnv1a(meaning.iter().copied())))
            .is_some_and(|known| known == meaning)
    }

    pub(super) fn fixed_chain(&mut self, name: &str, chain: Chain) {
        self.ruleset.chains.insert(name.to_owned(), chain);
    }

    pub(super) fn fixed_set(&mut self, name: &str, set: Set) {
        self.ruleset.sets.insert(name.to_owned(), set);
    }

    pub(super) fn fixed_map(&mut self, name: &str, map: Map) {
        self.ruleset.maps.insert(name.to_owned(), map);
    }

    pub(super) fn finish(self) -> (Ruleset, Sources) {
        (self.ruleset, self.sources)
    }

    fn name(&mut self, prefix: &str, meaning: Vec<u8>) -> (Name, bool) {
        let mut hash = fnv1a(meaning.iter().copied());
        loop {
            let name = format!("{prefix}_{hash:016x}");
            match self.meanings.get(&name) {
                None => {
                    self.meanings.insert(name.clone(), meaning);
                    return (name, true);
                }
                Some(same) if *same == meaning => return (name, false),
                Some(_) => hash = hash.wrapping_add(1),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_contents_with_one_hash_the_later_gets_another_name() {
        let mut builder = Builder::default();
        let taken = format!("u4_{:016x}", fnv1a(*b"a"));
        builder.meanings.insert(taken.clone(), b"of the same hash".to_vec());
        assert!(!builder.knows("u4", b"a"));
        let set = || Set { key: Vec::new(), size: None, elements: [].into() };
        let name = builder.set("u4", b"a".to_vec(), set);
        assert_ne!(name, taken);
        assert_eq!(builder.set("u4", b"a".to_vec(), set), name, "and keeps it");
        assert_eq!(builder.finish().0.sets.into_keys().collect::<Vec<_>>(), [name]);
    }
}
