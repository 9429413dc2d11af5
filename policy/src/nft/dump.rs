//! What the kernel's table holds, read from netlink dumps.
//!
//! In: the replies to [`Dump::requests`] and [`Dump::element_requests`]. Out: a [`Dump`], which
//! [`Dump::recognise`] turns into a [`Ruleset`] that can be diffed against the wanted one.
//!
//! Sets, maps and elements are read back as values. Rules are not decompiled: each carries a digest of itself in its
//! userdata, and a chain whose digests are those of the wanted chain is that chain. Userdata belongs to the rule and the
//! kernel never edits a rule, so whoever replaced, added or removed one has changed the list of digests.

use std::collections::BTreeMap;

use super::TABLE;
use super::consts::*;
use super::key;
use super::object::{RuleDigest, hook_number, kind_name};
use super::wire::{self, Message, Writer};
use crate::ruleset::{
    BaseChain, Chain, ChainKind, End, Family, Hook, Key, KeyType, Map, Name, Rule, Ruleset, Set, Value,
    ValueType, Verdict,
};

/// Our table as found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    table: Option<TableState>,
    chains: BTreeMap<Name, FoundChain>,
    sets: BTreeMap<Name, FoundSet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableState {
    /// `NFT_TABLE_F_*`
    pub flags: u32,
    /// Netlink port of the socket that owns it.
    pub owner: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct FoundChain {
    base: Option<BaseChain>,
    /// `None`: a rule that is not ours.
    rules: Vec<Option<RuleDigest>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FoundSet {
    /// Empty when it is a kind of set that we do not make.
    key: Vec<KeyType>,
    size: Option<u32>,
    /// `None`: a plain set.
    value: Option<ValueType>,
    /// The value is `None` in a plain set.
    elements: Vec<(Key, Option<Value>)>,
}

impl Dump {
    /// Dumps of the table, its chains, rules and sets; send each when the one before is done.
    pub fn requests(sequence: u32) -> Vec<Vec<u8>> {
        [GETTABLE, GETCHAIN, GETRULE, GETSET]
            .into_iter()
            .zip(sequence..)
            .map(|(kind, sequence)| dump_request(kind, sequence, |out| out.attr_str(OBJECT_TABLE, TABLE)))
            .collect()
    }

    /// Dumps of the elements, a request for each set found.
    pub fn element_requests(&self, sequence: u32) -> Vec<Vec<u8>> {
        self.sets
            .keys()
            .zip(sequence..)
            .map(|(set, sequence)| {
                dump_request(GETSETELEM, sequence, |out| {
                    out.attr_str(OBJECT_TABLE, TABLE);
                    out.attr_str(SETELEM_SET, set);
                })
            })
            .collect()
    }

    /// Takes note of one message; those about other tables are passed over.
    pub fn absorb(&mut self, message: &Message<'_>) {
        if !names_our_table(message) {
            return;
        }
        match message.kind {
            NEWTABLE => self.table = Some(table_state(message)),
            NEWCHAIN => drop(self.absorb_chain(message)),
            NEWRULE => drop(self.absorb_rule(message)),
            NEWSET => drop(self.absorb_set(message)),
            NEWSETELEM => drop(self.absorb_elements(message)),
            _ => {}
        }
    }

    /// `None`: there is no such table.
    pub fn table(&self) -> Option<TableState> {
        self.table
    }

    /// What was found, in the words of the wanted ruleset. A chain that is not as wanted gets a rule that equals no
    /// wanted one, and a set of a foreign kind gets an impossible key, so that a diff replaces them.
    pub fn recognise(&self, want: &Ruleset) -> Ruleset {
        let mut have = Ruleset::default();
        for (name, found) in &self.chains {
            let wanted = want.chains.get(name).filter(|wanted| found.holds(&wanted.rules));
            let rules = match wanted {
                Some(wanted) => wanted.rules.clone(),
                None => found.rules.iter().map(|_| unrecognised()).collect(),
            };
            have.chains.insert(name.clone(), Chain { base: found.base, rules });
        }
        for (name, found) in &self.sets {
            let (key, size) = (found.key.clone(), found.size);
            if let Some(value) = found.value {
                let entries = found.elements.iter();
                let elements =
                    entries.filter_map(|(key, value)| Some((key.clone(), value.clone()?))).collect();
                have.maps.insert(name.clone(), Map { key, value, size, elements });
            } else {
                let elements = found.elements.iter().map(|(key, _)| key.clone()).collect();
                have.sets.insert(name.clone(), Set { key, size, elements });
            }
        }
        have
    }

    fn absorb_chain(&mut self, message: &Message<'_>) -> Option<()> {
        let name = wire::text(message.attribute(CHAIN_NAME)?)?;
        let kind = message.attribute(CHAIN_TYPE).and_then(wire::text);
        let base = message.attribute(CHAIN_HOOK).and_then(|hook| base_chain(kind?, hook));
        self.chains.entry(name.to_owned()).or_default().base = base;
        Some(())
    }

    fn absorb_rule(&mut self, message: &Message<'_>) -> Option<()> {
        let chain = wire::text(message.attribute(RULE_CHAIN)?)?;
        let digest = message.attribute(RULE_USERDATA).and_then(digest);
        self.chains.entry(chain.to_owned()).or_default().rules.push(digest);
        Some(())
    }

    fn absorb_set(&mut self, message: &Message<'_>) -> Option<()> {
        let flags = message.attribute(SET_FLAGS).and_then(wire::be_u32).unwrap_or_default();
        if flags & SET_ANONYMOUS != 0 {
            return None; // Part of its rule, and of the rule's digest.
        }
        let name = wire::text(message.attribute(SET_NAME)?)?;
        let number = message.attribute(SET_KEY_TYPE).and_then(wire::be_u32)?;
        let is_map = flags & SET_MAP != 0;
        let value = message.attribute(SET_DATA_TYPE).and_then(wire::be_u32).and_then(value_type);
        let ours = flags & !SET_MAP == 0 && is_map == value.is_some();
        let found = FoundSet {
            key: key::parse_type_number(number).filter(|_| ours).unwrap_or_default(),
            size: message
                .attribute(SET_DESC)
                .and_then(|desc| wire::find(desc, SET_DESC_SIZE))
                .and_then(wire::be_u32),
            // A map to something else is taken for one with an impossible key.
            value: is_map.then(|| value.unwrap_or(ValueType::Verdict)),
            elements: Vec::new(),
        };
        self.sets.insert(name.to_owned(), found);
        Some(())
    }

    fn absorb_elements(&mut self, message: &Message<'_>) -> Option<()> {
        let set = wire::text(message.attribute(SETELEM_SET)?)?;
        let found = self.sets.get_mut(set)?;
        for (_, element) in wire::attributes(message.attribute(SETELEM_LIST)?) {
            let bytes = wire::find(element, ELEM_KEY).and_then(|key| wire::find(key, DATA_VALUE));
            let Some(key) = bytes.and_then(|bytes| key::decode(&found.key, bytes)) else { continue };
            let data = wire::find(element, ELEM_DATA);
            found.elements.push((key, found.value.zip(data).and_then(|(kind, data)| value(kind, data))));
        }
        Some(())
    }
}

impl FoundChain {
    fn holds(&self, rules: &[Rule]) -> bool {
        self.rules.len() == rules.len()
            && self.rules.iter().zip(rules).all(|(found, rule)| *found == Some(RuleDigest::of(rule)))
    }
}

/// Whether a dumped object or a notification is about table `inet weft`.
pub fn names_our_table(message: &Message<'_>) -> bool {
    message.kind >> 8 == NFNL_SUBSYS_NFTABLES
        && message.kind != NEWGEN
        && message.family() == NFPROTO_INET
        && message.attribute(OBJECT_TABLE).and_then(wire::text) == Some(TABLE)
}

/// Who committed, from the notification that ends each commit: process id and name.
pub fn parse_commit(message: &Message<'_>) -> Option<(u32, String)> {
    const GEN_PROC_PID: u16 = 2;
    const GEN_PROC_NAME: u16 = 3;
    if message.kind != NEWGEN {
        return None;
    }
    let pid = message.attribute(GEN_PROC_PID).and_then(wire::be_u32)?;
    let name = message.attribute(GEN_PROC_NAME).and_then(wire::text)?;
    Some((pid, name.to_owned()))
}

fn dump_request(kind: u16, sequence: u32, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::new(sequence);
    out.message(kind, NLM_F_DUMP, NFPROTO_INET, body);
    out.into_bytes()
}

fn table_state(message: &Message<'_>) -> TableState {
    TableState {
        flags: message.attribute(TABLE_FLAGS).and_then(wire::be_u32).unwrap_or_default(),
        owner: message.attribute(TABLE_OWNER).and_then(wire::be_u32),
    }
}

fn base_chain(kind: &str, hook: &[u8]) -> Option<BaseChain> {
    let number = wire::find(hook, HOOK_HOOKNUM).and_then(wire::be_u32)?;
    let priority = i32::from_be_bytes(wire::find(hook, HOOK_PRIORITY)?.try_into().ok()?);
    let hooks = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];
    let hook = hooks.into_iter().find(|hook| hook_number(*hook) == number)?;
    let kind = [ChainKind::Filter, ChainKind::Nat].into_iter().find(|known| kind_name(*known) == kind)?;
    Some(BaseChain { kind, hook, priority })
}

fn digest(mut userdata: &[u8]) -> Option<RuleDigest> {
    while let [kind, len, rest @ ..] = userdata {
        let value = rest.get(..usize::from(*len))?;
        if *kind == UDATA_RULE_DIGEST {
            return Some(RuleDigest(u64::from_be_bytes(value.try_into().ok()?)));
        }
        userdata = &rest[value.len()..];
    }
    None
}

fn value_type(number: u32) -> Option<ValueType> {
    let endpoint = |family| (ValueType::Endpoint(family), key::type_number(&key::endpoint_fields(family)));
    [(ValueType::Verdict, DATA_TYPE_VERDICT), endpoint(Family::V4), endpoint(Family::V6)]
        .into_iter()
        .find_map(|(kind, known)| (known == number).then_some(kind))
}

fn value(kind: ValueType, data: &[u8]) -> Option<Value> {
    match kind {
        ValueType::Verdict => verdict(data).map(Value::Verdict),
        ValueType::Endpoint(family) => key::decode_endpoint(family, wire::find(data, DATA_VALUE)?),
    }
}

fn verdict(data: &[u8]) -> Option<Verdict> {
    let verdict = wire::find(data, DATA_VERDICT)?;
    let chain = || wire::find(verdict, VERDICT_CHAIN).and_then(wire::text).map(str::to_owned);
    match i32::from_be_bytes(wire::find(verdict, VERDICT_CODE)?.try_into().ok()?) {
        NF_ACCEPT => Some(Verdict::Accept),
        NF_DROP => Some(Verdict::Drop),
        NFT_RETURN => Some(Verdict::Return),
        NFT_JUMP => chain().map(Verdict::Jump),
        NFT_GOTO => chain().map(Verdict::Goto),
        _ => None,
    }
}

/// The compiler never makes a rule that does nothing.
fn unrecognised() -> Rule {
    Rule { end: End::Continue, comment: Some("not recognised".to_owned()), ..Rule::default() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_arrives_is_read_without_a_panic(kind in 0_u16..20, body: Vec<u8>) {
            let mut payload = vec![NFPROTO_INET, 0, 0, 0, 9, 0, 1, 0];
            payload.extend_from_slice(b"weft\0\0\0\0");
            payload.extend(body);
            let kind = NFNL_SUBSYS_NFTABLES << 8 | kind;
            let message = Message { kind, flags: 0, sequence: 0, port: 0, payload: &payload };

            let mut dump = Dump::default();
            dump.absorb(&message);
            dump.recognise(&Ruleset::default());
            parse_commit(&message);
        }
    }

    #[test]
    fn userdata_of_others_is_not_taken_for_a_digest() {
        assert_eq!(digest(&[0, 2, b'a', 0]), None);
        assert_eq!(digest(&[UDATA_RULE_DIGEST, 8, 1, 2]), None);
        assert_eq!(
            digest(&[0, 2, b'a', 0, UDATA_RULE_DIGEST, 8, 0, 0, 0, 0, 0, 0, 0, 7]),
            Some(RuleDigest(7))
        );
    }

    #[test]
    fn a_chain_is_the_wanted_one_only_if_its_rules_carry_the_digests_of_the_wanted_rules() {
        let rule = |verdict| Rule { end: End::Verdict(verdict), ..Rule::default() };
        let (kept, other) = (rule(Verdict::Drop), rule(Verdict::Accept));
        let chain = Chain { base: None, rules: vec![kept.clone(), kept.clone()] };
        let want = Ruleset { chains: [("c".to_owned(), chain)].into(), ..Ruleset::default() };
        let found = |rules: &[Option<&Rule>]| {
            let rules = rules.iter().map(|rule| rule.map(RuleDigest::of)).collect();
            let chains = [("c".to_owned(), FoundChain { base: None, rules })].into();
            Dump { chains, ..Dump::default() }.recognise(&want)
        };
        assert_eq!(found(&[Some(&kept), Some(&kept)]), want);
        for changed in [&[Some(&kept), Some(&other)][..], &[Some(&kept), None], &[Some(&kept)], &[]] {
            assert_ne!(found(changed), want, "{changed:?}");
        }
    }
}
