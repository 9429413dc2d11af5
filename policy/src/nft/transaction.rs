//! The difference between two rulesets, as an ordered list of changes for one atomic batch.
//!
//! In: what we want and what the kernel has. Out: a [`Transaction`], empty when they are equal. Pure.
//!
//! Within a batch packets see only the end, so the order serves the kernel's reference counts alone: references are
//! cut first (rules flushed, map entries removed), then what is unused goes, then the new comes, leaf first.

use std::collections::{BTreeMap, BTreeSet};

use crate::ruleset::{
    BaseChain, Chain, End, Key, KeyType, Map, Match, Name, Rule, Ruleset, Set, SetChange, Value, ValueType,
};

/// One step; applying all of them in order to `have` gives `want`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Removes all rules of a chain.
    FlushChain(Name),
    DeleteMapElements {
        map: Name,
        keys: Vec<Key>,
    },
    DeleteSetElements {
        set: Name,
        keys: Vec<Key>,
    },
    DeleteMap(Name),
    DeleteSet(Name),
    DeleteChain(Name),
    /// Without rules.
    AddChain {
        chain: Name,
        base: Option<BaseChain>,
    },
    /// Without elements.
    AddSet {
        set: Name,
        key: Vec<KeyType>,
        size: Option<u32>,
    },
    /// Without elements.
    AddMap {
        map: Name,
        key: Vec<KeyType>,
        value: ValueType,
        size: Option<u32>,
    },
    AddSetElements {
        set: Name,
        keys: Vec<Key>,
    },
    AddMapElements {
        map: Name,
        entries: Vec<(Key, Value)>,
    },
    /// Appends to a chain that is empty at this point.
    AddRules {
        chain: Name,
        rules: Vec<Rule>,
    },
}

/// What one commit changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    changes: Vec<Change>,
}

impl Transaction {
    /// What turns `have` into `want`; empty when they are equal.
    pub fn diff(want: &Ruleset, have: &Ruleset) -> Self {
        let chains = ChainPlan::new(want, have);
        let mut changes = Vec::new();
        chains.cut(&mut changes);
        remove_map_elements(want, have, &mut changes);
        remove_set_elements(want, have, &mut changes);
        remove_objects(want, have, &chains, &mut changes);
        add_objects(want, have, &chains, &mut changes);
        add_elements(want, have, &mut changes);
        chains.fill(want, &mut changes);
        Self { changes }
    }

    /// Of sets alone.
    pub fn of_sets(sets: &[SetChange]) -> Self {
        let removed = sets.iter().filter(|set| !set.removed.is_empty());
        let removed = removed.map(|SetChange { set, removed, .. }| Change::DeleteSetElements {
            set: set.clone(),
            keys: removed.iter().cloned().collect(),
        });
        let added = sets.iter().filter(|set| !set.added.is_empty());
        let added = added.map(|SetChange { set, added, .. }| Change::AddSetElements {
            set: set.clone(),
            keys: added.iter().cloned().collect(),
        });
        Self { changes: removed.chain(added).collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Keeps a model of the kernel's table in step: call it after the commit was acknowledged.
    pub fn apply_to(self, have: &mut Ruleset) {
        for change in self.changes {
            apply(change, have);
        }
    }
}

/// Which chains are emptied, deleted, created and filled.
#[derive(Default)]
struct ChainPlan<'a> {
    flush: BTreeSet<&'a Name>,
    delete: BTreeSet<&'a Name>,
    create: BTreeSet<&'a Name>,
    fill: BTreeSet<&'a Name>,
}

impl<'a> ChainPlan<'a> {
    fn new(want: &'a Ruleset, have: &'a Ruleset) -> Self {
        let reshaped = reshaped(want, have);
        let mut plan = Self::default();
        for (name, chain) in &have.chains {
            match want.chains.get(name) {
                Some(wanted) if wanted.base == chain.base => {
                    let uses_reshaped = !reshaped.is_empty() && uses_any(chain, &reshaped);
                    if wanted.rules != chain.rules || uses_reshaped {
                        plan.rewrite(name, chain, wanted);
                    }
                }
                // A base chain's hook and priority cannot be changed in place.
                Some(wanted) => {
                    plan.delete.insert(name);
                    plan.create.insert(name);
                    plan.rewrite(name, chain, wanted);
                }
                None => {
                    plan.delete.insert(name);
                    if !chain.rules.is_empty() {
                        plan.flush.insert(name);
                    }
                }
            }
        }
        for (name, chain) in &want.chains {
            if !have.chains.contains_key(name) {
                plan.create.insert(name);
                plan.rewrite(name, chain, chain);
                plan.flush.remove(name);
            }
        }
        plan
    }

    fn rewrite(&mut self, name: &'a Name, chain: &Chain, wanted: &Chain) {
        if !chain.rules.is_empty() {
            self.flush.insert(name);
        }
        if !wanted.rules.is_empty() {
            self.fill.insert(name);
        }
    }

    fn cut(&self, changes: &mut Vec<Change>) {
        changes.extend(self.flush.iter().map(|&name| Change::FlushChain(name.clone())));
    }

    fn fill(&self, want: &Ruleset, changes: &mut Vec<Change>) {
        changes.extend(
            self.fill.iter().map(|&name| Change::AddRules {
                chain: name.clone(),
                rules: want.chains[name].rules.clone(),
            }),
        );
    }
}

/// Names of sets and maps whose type or size differs, so that they must be made anew.
fn reshaped<'a>(want: &'a Ruleset, have: &Ruleset) -> BTreeSet<&'a str> {
    let sets =
        want.sets.iter().filter(|(name, set)| have.sets.get(*name).is_some_and(|old| !same_set(set, old)));
    let maps =
        want.maps.iter().filter(|(name, map)| have.maps.get(*name).is_some_and(|old| !same_map(map, old)));
    sets.map(|(name, _)| name.as_str()).chain(maps.map(|(name, _)| name.as_str())).collect()
}

fn same_set(a: &Set, b: &Set) -> bool {
    a.key == b.key && a.size == b.size
}

fn same_map(a: &Map, b: &Map) -> bool {
    a.key == b.key && a.value == b.value && a.size == b.size
}

fn uses_any(chain: &Chain, names: &BTreeSet<&str>) -> bool {
    chain.rules.iter().any(|rule| {
        let end = match &rule.end {
            End::AddrMap { map, .. } | End::Dnat { map, .. } => Some(map),
            End::Continue | End::Verdict(_) | End::PortMap(_) | End::Masquerade => None,
        };
        rule.matches.iter().filter_map(Match::set).chain(end).any(|name| names.contains(name.as_str()))
    })
}

/// Entries of maps that stay: those that go, and those whose value changes (it has no update in place).
fn remove_map_elements(want: &Ruleset, have: &Ruleset, changes: &mut Vec<Change>) {
    for (name, old) in &have.maps {
        let Some(new) = want.maps.get(name).filter(|new| same_map(new, old)) else { continue };
        let keys: Vec<Key> = old
            .elements
            .iter()
            .filter(|(key, value)| new.elements.get(*key) != Some(value))
            .map(|(key, _)| key.clone())
            .collect();
        if !keys.is_empty() {
            changes.push(Change::DeleteMapElements { map: name.clone(), keys });
        }
    }
}

fn remove_set_elements(want: &Ruleset, have: &Ruleset, changes: &mut Vec<Change>) {
    for (name, old) in &have.sets {
        let Some(new) = want.sets.get(name).filter(|new| same_set(new, old)) else { continue };
        let keys: Vec<Key> = old.elements.difference(&new.elements).cloned().collect();
        if !keys.is_empty() {
            changes.push(Change::DeleteSetElements { set: name.clone(), keys });
        }
    }
}

fn remove_objects(want: &Ruleset, have: &Ruleset, chains: &ChainPlan<'_>, changes: &mut Vec<Change>) {
    for (name, old) in &have.maps {
        if want.maps.get(name).is_none_or(|new| !same_map(new, old)) {
            changes.push(Change::DeleteMap(name.clone()));
        }
    }
    for (name, old) in &have.sets {
        if want.sets.get(name).is_none_or(|new| !same_set(new, old)) {
            changes.push(Change::DeleteSet(name.clone()));
        }
    }
    changes.extend(chains.delete.iter().map(|&name| Change::DeleteChain(name.clone())));
}

fn add_objects(want: &Ruleset, have: &Ruleset, chains: &ChainPlan<'_>, changes: &mut Vec<Change>) {
    changes.extend(
        chains
            .create
            .iter()
            .map(|&name| Change::AddChain { chain: name.clone(), base: want.chains[name].base }),
    );
    for (name, new) in &want.sets {
        if have.sets.get(name).is_none_or(|old| !same_set(new, old)) {
            changes.push(Change::AddSet { set: name.clone(), key: new.key.clone(), size: new.size });
        }
    }
    for (name, new) in &want.maps {
        if have.maps.get(name).is_none_or(|old| !same_map(new, old)) {
            changes.push(Change::AddMap {
                map: name.clone(),
                key: new.key.clone(),
                value: new.value,
                size: new.size,
            });
        }
    }
}

fn add_elements(want: &Ruleset, have: &Ruleset, changes: &mut Vec<Change>) {
    let (no_keys, no_entries) = (BTreeSet::new(), BTreeMap::new());
    for (name, new) in &want.sets {
        let old = have.sets.get(name).filter(|old| same_set(new, old)).map_or(&no_keys, |old| &old.elements);
        let keys: Vec<Key> = new.elements.difference(old).cloned().collect();
        if !keys.is_empty() {
            changes.push(Change::AddSetElements { set: name.clone(), keys });
        }
    }
    for (name, new) in &want.maps {
        let old =
            have.maps.get(name).filter(|old| same_map(new, old)).map_or(&no_entries, |old| &old.elements);
        let added = new.elements.iter().filter(|(key, value)| old.get(*key) != Some(value));
        let entries: Vec<_> = added.map(|(key, value)| (key.clone(), value.clone())).collect();
        if !entries.is_empty() {
            changes.push(Change::AddMapElements { map: name.clone(), entries });
        }
    }
}

fn apply(change: Change, have: &mut Ruleset) {
    match change {
        Change::FlushChain(chain) => edit(&mut have.chains, &chain, |chain| chain.rules.clear()),
        Change::DeleteMapElements { map, keys } => edit(&mut have.maps, &map, |map| {
            for key in &keys {
                map.elements.remove(key);
            }
        }),
        Change::DeleteSetElements { set, keys } => edit(&mut have.sets, &set, |set| {
            for key in &keys {
                set.elements.remove(key);
            }
        }),
        Change::DeleteMap(map) => drop(have.maps.remove(&map)),
        Change::DeleteSet(set) => drop(have.sets.remove(&set)),
        Change::DeleteChain(chain) => drop(have.chains.remove(&chain)),
        Change::AddChain { chain, base } => {
            drop(have.chains.insert(chain, Chain { base, rules: Vec::new() }));
        }
        Change::AddSet { set, key, size } => {
            have.sets.insert(set, Set { key, size, elements: BTreeSet::new() });
        }
        Change::AddMap { map, key, value, size } => {
            have.maps.insert(map, Map { key, value, size, elements: BTreeMap::new() });
        }
        Change::AddSetElements { set, keys } => edit(&mut have.sets, &set, |set| set.elements.extend(keys)),
        Change::AddMapElements { map, entries } => {
            edit(&mut have.maps, &map, |map| map.elements.extend(entries));
        }
        Change::AddRules { chain, rules } => {
            edit(&mut have.chains, &chain, |chain| chain.rules.extend(rules));
        }
    }
}

/// A name that is absent means that `have` is not the ruleset of the diff; then there is nothing to keep in step.
fn edit<T>(objects: &mut BTreeMap<Name, T>, name: &str, change: impl FnOnce(&mut T)) {
    if let Some(object) = objects.get_mut(name) {
        change(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{Family, Side, Verdict};

    /// One chain that looks into a set and two maps, all of this size.
    fn ruleset(size: u32) -> Ruleset {
        let (name, size) = (str::to_owned, Some(size));
        let set = Set { key: vec![KeyType::Ipv4Addr], size, elements: BTreeSet::new() };
        let map = |value| Map { key: vec![KeyType::Ipv4Addr], value, size, elements: BTreeMap::new() };
        let (side, family) = (Side::Source, Family::V4);
        let rules = [
            Rule {
                matches: vec![Match::AddrInSet { side, family, set: name("set") }],
                end: End::Verdict(Verdict::Return),
                ..Rule::default()
            },
            Rule { end: End::AddrMap { side, family, map: name("pods") }, ..Rule::default() },
            Rule { end: End::Dnat { family, by_address: true, map: name("ports") }, ..Rule::default() },
        ];
        let chains =
            [0, 1, 2].map(|i| (format!("chain{i}"), Chain { base: None, rules: vec![rules[i].clone()] }));
        Ruleset {
            sets: [(name("set"), set)].into(),
            maps: [
                (name("pods"), map(ValueType::Verdict)),
                (name("ports"), map(ValueType::Endpoint(Family::V4))),
            ]
            .into(),
            chains: chains.into(),
        }
    }

    /// A set is made anew under its name; a rule that is left would look into the one that is gone.
    #[test]
    fn chains_that_look_into_a_set_that_is_made_anew_are_written_anew() {
        let (old, new) = (ruleset(1), ruleset(2));
        let transaction = Transaction::diff(&new, &old);
        let touched = |wanted: fn(&Change) -> Option<&Name>| {
            transaction.changes().iter().filter_map(wanted).map(String::as_str).collect::<Vec<_>>()
        };
        let chains = ["chain0", "chain1", "chain2"];
        assert_eq!(
            touched(|change| if let Change::FlushChain(name) = change { Some(name) } else { None }),
            chains
        );
        let filled = |change: &Change| matches!(change, Change::AddRules { .. });
        assert_eq!(transaction.changes().iter().filter(|change| filled(change)).count(), chains.len());
        let mut have = old;
        transaction.apply_to(&mut have);
        assert_eq!(have, new);
    }
}
