//! Tables, chains, rules, sets and elements as messages of a batch.
//!
//! In: one typed object. Out: its messages on a [`Writer`]. Names that `nft list` shows and userdata follow nft's own
//! conventions. Each rule also carries a digest of itself in its userdata: that is how a fresh agent knows, without
//! memory, that the rule it finds is the rule it wants (see [`super::dump`]).

use weft_api::hash::fnv1a;

use super::consts::*;
use super::wire::Writer;
use super::{TABLE, expr, key};
use crate::ruleset::{
    BaseChain, ChainKind, End, Hook, Key, KeyType, Match, PortKey, Rule, Value, ValueType, Verdict,
};

/// An element list is one attribute, whose length has 16 bits; an element is far smaller than what is left.
const MAX_LIST: usize = 60_000;

/// nft's limit, in bytes.
const MAX_COMMENT: usize = 127;

/// Identifies a rule's whole content, encoding included: a release that encodes a rule otherwise rewrites it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleDigest(pub(super) u64);

impl RuleDigest {
    pub fn of(rule: &Rule) -> Self {
        let mut out = Writer::new(0);
        write_rule(&mut out, "", rule, &mut SetIds::default(), None);
        Self(fnv1a(out.into_bytes()))
    }
}

/// Sets are numbered within a batch.
#[derive(Default)]
pub(super) struct SetIds {
    last: u32,
}

impl SetIds {
    fn take(&mut self) -> u32 {
        self.last += 1;
        self.last
    }
}

pub(super) fn table(out: &mut Writer, flags: u32) {
    out.message(NEWTABLE, NLM_F_CREATE | NLM_F_ACK, NFPROTO_INET, |out| {
        out.attr_str(OBJECT_TABLE, TABLE);
        out.attr_u32(TABLE_FLAGS, flags);
    });
}

pub(super) fn delete_table(out: &mut Writer) {
    out.message(DELTABLE, NLM_F_ACK, NFPROTO_INET, |out| out.attr_str(OBJECT_TABLE, TABLE));
}

pub(super) fn add_chain(out: &mut Writer, name: &str, base: Option<BaseChain>) {
    out.message(NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL, NFPROTO_INET, |out| {
        out.attr_str(OBJECT_TABLE, TABLE);
        out.attr_str(CHAIN_NAME, name);
        if let Some(base) = base {
            out.nest(CHAIN_HOOK, |out| {
                out.attr_u32(HOOK_HOOKNUM, hook_number(base.hook));
                out.attr(HOOK_PRIORITY, &base.priority.to_be_bytes());
            });
            out.attr_u32(CHAIN_POLICY, NF_ACCEPT.unsigned_abs());
            out.attr_str(CHAIN_TYPE, kind_name(base.kind));
        }
    });
}

pub(super) fn delete_chain(out: &mut Writer, name: &str) {
    out.message(DELCHAIN, 0, NFPROTO_INET, |out| {
        out.attr_str(OBJECT_TABLE, TABLE);
        out.attr_str(CHAIN_NAME, name);
    });
}

/// Deletes all rules of the chain.
pub(super) fn flush_chain(out: &mut Writer, name: &str) {
    out.message(DELRULE, 0, NFPROTO_INET, |out| {
        out.attr_str(OBJECT_TABLE, TABLE);
        out.attr_str(RULE_CHAIN, name);
    });
}

pub(super) fn add_rule(out: &mut Writer, chain: &str, rule: &Rule, ids: &mut SetIds) {
    write_rule(out, chain, rule, ids, Some(RuleDigest::of(rule)));
}

/// A named set, or a map to `value`s.
pub(super) fn add_set(
    out: &mut Writer,
    name: &str,
    fields: &[KeyType],
    size: Option<u32>,
    value: Option<ValueType>,
    ids: &mut SetIds,
) {
    let id = ids.take();
    out.message(NEWSET, NLM_F_CREATE | NLM_F_EXCL, NFPROTO_INET, |out| {
        set_head(out, name, if value.is_some() { SET_MAP } else { 0 }, fields);
        set_value(out, value);
        out.attr_u32(SET_ID, id);
        if let Some(size) = size {
            out.nest(SET_DESC, |out| out.attr_u32(SET_DESC_SIZE, size));
        }
        set_userdata(out, key::byteorder(fields), value.is_some());
    });
}

/// A set or a map.
pub(super) fn delete_set(out: &mut Writer, name: &str) {
    out.message(DELSET, 0, NFPROTO_INET, |out| {
        out.attr_str(OBJECT_TABLE, TABLE);
        out.attr_str(SET_NAME, name);
    });
}

pub(super) fn add_set_elements(out: &mut Writer, set: &str, keys: &[Key]) {
    elements(out, NEWSETELEM, NLM_F_CREATE, set, None, keys.iter(), |out, key| write_key(out, ELEM_KEY, key));
}

pub(super) fn delete_set_elements(out: &mut Writer, set: &str, keys: &[Key]) {
    elements(out, DELSETELEM, 0, set, None, keys.iter(), |out, key| write_key(out, ELEM_KEY, key));
}

pub(super) fn add_map_elements(out: &mut Writer, map: &str, entries: &[(Key, Value)]) {
    elements(out, NEWSETELEM, NLM_F_CREATE, map, None, entries.iter(), |out, (key, value)| {
        write_key(out, ELEM_KEY, key);
        match value {
            Value::Verdict(verdict) => expr::verdict(out, ELEM_DATA, verdict),
            Value::Endpoint(address, port) => write_key(out, ELEM_DATA, &key::endpoint(*address, *port)),
        }
    });
}

pub(super) fn kind_name(kind: ChainKind) -> &'static str {
    match kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
    }
}

pub(super) fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

fn write_rule(out: &mut Writer, chain: &str, rule: &Rule, ids: &mut SetIds, digest: Option<RuleDigest>) {
    let first_anonymous = ids.last + 1;
    for condition in &rule.matches {
        if let Match::Icmpv6Type(types) = condition
            && types.len() != 1
        {
            add_icmpv6_types(out, types.iter().copied(), ids.take());
        }
    }
    if let End::PortMap(ports) = &rule.end {
        let entries: Vec<(PortKey, &Verdict)> = ports.iter().map(|(key, verdict)| (*key, verdict)).collect();
        add_port_map(out, &entries, ids.take());
    }
    out.message(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, NFPROTO_INET, |out| {
        out.attr_str(OBJECT_TABLE, TABLE);
        out.attr_str(RULE_CHAIN, chain);
        out.nest(RULE_EXPRESSIONS, |out| expr::expressions(out, rule, first_anonymous));
        let userdata = rule_userdata(rule.comment.as_deref(), digest);
        if !userdata.is_empty() {
            out.attr(RULE_USERDATA, &userdata);
        }
    });
}

fn add_icmpv6_types(out: &mut Writer, types: impl Iterator<Item = u8> + Clone, id: u32) {
    out.message(NEWSET, NLM_F_CREATE, NFPROTO_INET, |out| {
        out.attr_str(OBJECT_TABLE, TABLE);
        out.attr_str(SET_NAME, ANONYMOUS_SET);
        out.attr_u32(SET_FLAGS, SET_ANONYMOUS | SET_CONSTANT);
        out.attr_u32(SET_KEY_TYPE, TYPE_ICMPV6_TYPE);
        out.attr_u32(SET_KEY_LEN, 1);
        out.attr_u32(SET_ID, id);
        out.nest(SET_DESC, |out| out.attr_u32(SET_DESC_SIZE, count(types.clone().count())));
        set_userdata(out, BYTEORDER_NETWORK, false);
    });
    elements(out, NEWSETELEM, NLM_F_CREATE, ANONYMOUS_SET, Some(id), types, |out, kind| {
        out.nest(ELEM_KEY, |out| out.attr_u8(DATA_VALUE, kind));
    });
}

/// Single ports are a hash map; any range makes the kernel take its (slower) map of concatenated intervals.
fn add_port_map(out: &mut Writer, entries: &[(PortKey, &Verdict)], id: u32) {
    let fields = [KeyType::InetProto, KeyType::InetService];
    let intervals = entries.iter().any(|(key, _)| key.first != key.last);
    let interval_flags = if intervals { SET_INTERVAL | SET_CONCAT } else { 0 };
    out.message(NEWSET, NLM_F_CREATE, NFPROTO_INET, |out| {
        let flags = SET_ANONYMOUS | SET_CONSTANT | SET_MAP | interval_flags;
        set_head(out, ANONYMOUS_MAP, flags, &fields);
        set_value(out, Some(ValueType::Verdict));
        out.attr_u32(SET_ID, id);
        out.nest(SET_DESC, |out| {
            out.attr_u32(SET_DESC_SIZE, count(entries.len()));
            if intervals {
                set_fields(out, &fields);
            }
        });
        set_userdata(out, BYTEORDER_NONE, true);
    });
    let (name, entries) = (ANONYMOUS_MAP, entries.iter());
    elements(out, NEWSETELEM, NLM_F_CREATE, name, Some(id), entries, |out, (key, verdict)| {
        write_port(out, ELEM_KEY, key.proto, key.first);
        if intervals {
            write_port(out, ELEM_KEY_END, key.proto, key.last);
        }
        expr::verdict(out, ELEM_DATA, verdict);
    });
}

fn set_head(out: &mut Writer, name: &str, flags: u32, fields: &[KeyType]) {
    out.attr_str(OBJECT_TABLE, TABLE);
    out.attr_str(SET_NAME, name);
    out.attr_u32(SET_FLAGS, flags);
    out.attr_u32(SET_KEY_TYPE, key::type_number(fields));
    out.attr_u32(SET_KEY_LEN, count(key::padded_len(fields)));
}

fn set_value(out: &mut Writer, value: Option<ValueType>) {
    match value {
        None => {}
        Some(ValueType::Verdict) => {
            out.attr_u32(SET_DATA_TYPE, DATA_TYPE_VERDICT);
            out.attr_u32(SET_DATA_LEN, 0);
        }
        Some(ValueType::Endpoint(family)) => {
            let fields = key::endpoint_fields(family);
            out.attr_u32(SET_DATA_TYPE, key::type_number(&fields));
            out.attr_u32(SET_DATA_LEN, count(key::padded_len(&fields)));
        }
    }
}

/// Lengths of the fields, which the kernel needs to look up each in its own interval tree.
fn set_fields(out: &mut Writer, fields: &[KeyType]) {
    out.nest(SET_DESC_CONCAT, |out| {
        for field in fields {
            out.nest(LIST_ELEM, |out| out.attr_u32(SET_FIELD_LEN, count(field.len())));
        }
    });
}

fn set_userdata(out: &mut Writer, byteorder: u32, map: bool) {
    let mut userdata = Vec::new();
    push_userdata(&mut userdata, UDATA_SET_KEYBYTEORDER, &byteorder.to_ne_bytes());
    if map {
        push_userdata(&mut userdata, UDATA_SET_DATABYTEORDER, &BYTEORDER_NONE.to_ne_bytes());
    }
    out.attr(SET_USERDATA, &userdata);
}

fn rule_userdata(comment: Option<&str>, digest: Option<RuleDigest>) -> Vec<u8> {
    let mut userdata = Vec::new();
    if let Some(comment) = comment {
        let comment = &comment[..comment.floor_char_boundary(MAX_COMMENT)];
        push_userdata(&mut userdata, UDATA_RULE_COMMENT, format!("{comment}\0").as_bytes());
    }
    if let Some(RuleDigest(digest)) = digest {
        push_userdata(&mut userdata, UDATA_RULE_DIGEST, &digest.to_be_bytes());
    }
    userdata
}

fn push_userdata(userdata: &mut Vec<u8>, kind: u8, value: &[u8]) {
    userdata
        .extend_from_slice(&[kind, u8::try_from(value.len()).expect("comments are cut, the rest is small")]);
    userdata.extend_from_slice(value);
}

/// As many messages as the 64 KB limit of a list asks for.
fn elements<T>(
    out: &mut Writer,
    kind: u16,
    flags: u16,
    set: &str,
    id: Option<u32>,
    items: impl Iterator<Item = T>,
    write: impl Fn(&mut Writer, T),
) {
    let mut items = items.peekable();
    while items.peek().is_some() {
        out.message(kind, flags, NFPROTO_INET, |out| {
            out.attr_str(OBJECT_TABLE, TABLE);
            out.attr_str(SETELEM_SET, set);
            if let Some(id) = id {
                out.attr_u32(SETELEM_SET_ID, id);
            }
            out.nest(SETELEM_LIST, |out| {
                let start = out.len();
                while let Some(item) = items.next_if(|_| out.len() - start < MAX_LIST) {
                    out.nest(LIST_ELEM, |out| write(out, item));
                }
            });
        });
    }
}

fn write_key(out: &mut Writer, kind: u16, key: &Key) {
    let mut bytes = Vec::with_capacity(32);
    key::encode(key, &mut bytes);
    out.nest(kind, |out| out.attr(DATA_VALUE, &bytes));
}

fn write_port(out: &mut Writer, kind: u16, proto: u8, port: u16) {
    let [high, low] = port.to_be_bytes();
    out.nest(kind, |out| out.attr(DATA_VALUE, &[proto, 0, 0, 0, high, low, 0, 0]));
}

fn count(number: usize) -> u32 {
    u32::try_from(number).expect("far fewer than 4 billion in one set")
}
