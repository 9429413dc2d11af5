//! A transaction as netlink batches: what one `send` carries, and what the kernel applies whole or not at all.
//!
//! In: a [`Transaction`]. Out: [`Batch`]es, to be sent in order, each after the acknowledgement of the one before.
//!
//! It is one batch, except when new sets are big. The kernel holds one lock per network namespace during a batch, and
//! kube-proxy wants it too, so new sets of many elements are loaded ahead in batches of bounded size. No rule refers to
//! them before the last batch, so packets see one switch; a failure in between leaves unused sets, which the next
//! difference from a dump uses or removes.

use std::collections::BTreeSet;

use super::consts::*;
use super::object::{self, SetIds};
use super::transaction::{Change, Transaction};
use super::wire::{self, Message, Writer};
use crate::ruleset::Key;

/// About 5 ms of the kernel's lock.
const MAX_PRELOAD: usize = 5_000;

/// Bytes of one atomic batch.
#[derive(Clone, Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    first: u32,
    acknowledged: u32,
}

/// Flags of our table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFlags {
    /// `owner,persist` (Linux 6.9): only our socket may change the table, and it outlives us.
    Owned,
    /// For older kernels: anybody with CAP_NET_ADMIN may change it.
    Shared,
}

/// The batch that creates our table, or adopts one that was left with the same flags.
pub fn create_table(flags: TableFlags, sequence: u32) -> Batch {
    const OWNER: u32 = 2;
    const PERSIST: u32 = 4;
    let flags = match flags {
        TableFlags::Owned => OWNER | PERSIST,
        TableFlags::Shared => 0,
    };
    Builder::build(sequence, |builder| object::table(&mut builder.out, flags))
}

/// The batch that removes our table with all that is in it.
pub fn delete_table(sequence: u32) -> Batch {
    Builder::build(sequence, |builder| object::delete_table(&mut builder.out))
}

impl Transaction {
    /// The first message gets `sequence`; the next free number is the last batch's [`Batch::next_sequence`].
    pub fn batches(&self, sequence: u32) -> Vec<Batch> {
        let preloaded = self.preloaded();
        let mut batches = Vec::new();
        let mut next = sequence;
        for change in self.changes() {
            match change {
                Change::AddSet { set, .. } if preloaded.contains(set.as_str()) => {
                    push(&mut batches, &mut next, |builder| builder.change(change));
                }
                Change::AddSetElements { set, keys } if preloaded.contains(set.as_str()) => {
                    for chunk in keys.chunks(MAX_PRELOAD) {
                        push(&mut batches, &mut next, |builder| builder.set_elements(set, chunk));
                    }
                }
                _ => {}
            }
        }
        push(&mut batches, &mut next, |builder| {
            let rest = self.changes().iter().filter(|change| !is_preloaded(change, &preloaded));
            rest.for_each(|change| builder.change(change));
        });
        batches.retain(|batch| !batch.is_empty());
        batches
    }

    /// Sets to load ahead: those that are new (not made anew in place of another), when together they are big.
    fn preloaded(&self) -> BTreeSet<&str> {
        let mut new = BTreeSet::new();
        let mut total = 0;
        for change in self.changes() {
            match change {
                Change::AddSet { set, .. } => {
                    new.insert(set.as_str());
                }
                Change::AddSetElements { set, keys } if new.contains(set.as_str()) => total += keys.len(),
                _ => {}
            }
        }
        for change in self.changes() {
            if let Change::DeleteSet(set) | Change::DeleteMap(set) = change {
                new.remove(set.as_str());
            }
        }
        if total > MAX_PRELOAD { new } else { BTreeSet::new() }
    }
}

fn is_preloaded(change: &Change, preloaded: &BTreeSet<&str>) -> bool {
    match change {
        Change::AddSet { set, .. } | Change::AddSetElements { set, .. } => preloaded.contains(set.as_str()),
        _ => false,
    }
}

fn push(batches: &mut Vec<Batch>, next: &mut u32, body: impl FnOnce(&mut Builder)) {
    let batch = Builder::build(*next, body);
    *next = batch.next_sequence();
    batches.push(batch);
}

struct Builder {
    out: Writer,
    ids: SetIds,
}

impl Builder {
    /// Brackets what `body` writes; the last message before the end asks for the acknowledgement, because older
    /// kernels ignore that wish on the end itself.
    fn build(sequence: u32, body: impl FnOnce(&mut Self)) -> Batch {
        let mut builder = Self { out: Writer::new(sequence), ids: SetIds::default() };
        builder.bracket(NFNL_MSG_BATCH_BEGIN);
        body(&mut builder);
        let acknowledged = builder.out.sequence().wrapping_sub(1);
        builder.out.add_flags(NLM_F_ACK);
        builder.bracket(NFNL_MSG_BATCH_END);
        Batch { bytes: builder.out.into_bytes(), first: sequence, acknowledged }
    }

    fn bracket(&mut self, kind: u16) {
        self.out.message_with_resource(kind, 0, 0, NFNL_SUBSYS_NFTABLES, |_| {});
    }

    fn change(&mut self, change: &Change) {
        let out = &mut self.out;
        match change {
            Change::FlushChain(chain) => object::flush_chain(out, chain),
            Change::DeleteMapElements { map: set, keys } | Change::DeleteSetElements { set, keys } => {
                object::delete_set_elements(out, set, keys);
            }
            Change::DeleteMap(set) | Change::DeleteSet(set) => object::delete_set(out, set),
            Change::DeleteChain(chain) => object::delete_chain(out, chain),
            Change::AddChain { chain, base } => object::add_chain(out, chain, *base),
            Change::AddSet { set, key, size } => object::add_set(out, set, key, *size, None, &mut self.ids),
            Change::AddMap { map, key, value, size } => {
                object::add_set(out, map, key, *size, Some(*value), &mut self.ids);
            }
            Change::AddSetElements { set, keys } => object::add_set_elements(out, set, keys),
            Change::AddMapElements { map, entries } => object::add_map_elements(out, map, entries),
            Change::AddRules { chain, rules } => {
                rules.iter().for_each(|rule| object::add_rule(out, chain, rule, &mut self.ids));
            }
        }
    }

    fn set_elements(&mut self, set: &str, keys: &[Key]) {
        object::add_set_elements(&mut self.out, set, keys);
    }
}

impl Batch {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The sequence number whose acknowledgement says that the whole batch is in force.
    pub fn acknowledged(&self) -> u32 {
        self.acknowledged
    }

    /// The first number behind the batch.
    pub fn next_sequence(&self) -> u32 {
        self.acknowledged.wrapping_add(2)
    }

    /// What the message with that number was about, for people: `rule of chain i4_ab12`.
    pub fn describe(&self, sequence: u32) -> String {
        wire::messages(&self.bytes)
            .find(|message| message.sequence == sequence)
            .map_or_else(|| "the batch".to_owned(), |message| describe(&message))
    }

    fn is_empty(&self) -> bool {
        self.first == self.acknowledged
    }
}

fn describe(message: &Message<'_>) -> String {
    let name = |kind| message.attribute(kind).and_then(wire::text).unwrap_or("?").to_owned();
    match message.kind {
        NEWTABLE => format!("table inet {}", name(OBJECT_TABLE)),
        DELTABLE => format!("deletion of table inet {}", name(OBJECT_TABLE)),
        NEWCHAIN => format!("new chain {}", name(CHAIN_NAME)),
        DELCHAIN => format!("deletion of chain {}", name(CHAIN_NAME)),
        NEWRULE => format!("rule of chain {}", name(RULE_CHAIN)),
        DELRULE => format!("flush of chain {}", name(RULE_CHAIN)),
        NEWSET => format!("new set {}", name(SET_NAME)),
        DELSET => format!("deletion of set {}", name(SET_NAME)),
        NEWSETELEM => format!("new elements of set {}", name(SETELEM_SET)),
        DELSETELEM => format!("deletion of elements of set {}", name(SETELEM_SET)),
        _ => "the batch".to_owned(),
    }
}
