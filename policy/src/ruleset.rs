//! The typed ruleset: exactly the nftables vocabulary that we use, as values that can be compared.
//!
//! The compiler makes it, [`crate::nft`] encodes it, the tests interpret it. Names are hashes of content, so two
//! rulesets differ in names exactly where they differ in meaning. The layout is the one of table `inet weft`:
//! a verdict map of local pods, then a port map, then one hash set of peers.
//!
//! Invariant: every name used by a rule or a map entry is a key of this ruleset.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// Name of a chain, set or map within the table; ASCII, at most 31 bytes.
pub type Name = String;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    pub sets: BTreeMap<Name, Set>,
    pub maps: BTreeMap<Name, Map>,
    pub chains: BTreeMap<Name, Chain>,
}

/// What a set gains and loses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetChange {
    pub set: Name,
    /// In the set.
    pub removed: BTreeSet<Key>,
    /// Not in the set.
    pub added: BTreeSet<Key>,
}

impl SetChange {
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}

impl Ruleset {
    /// Nothing where there is no such set.
    pub fn change_set(&mut self, change: &SetChange) {
        if let Some(set) = self.sets.get_mut(&change.set) {
            for key in &change.removed {
                set.elements.remove(key);
            }
            set.elements.extend(change.added.iter().cloned());
        }
    }
}

/// A named hash set. Never an interval set: those are slow to change (a commit costs O(n)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub key: Vec<KeyType>,
    /// Hard cap and bucket hint; `None` for small peer sets.
    pub size: Option<u32>,
    pub elements: BTreeSet<Key>,
}

/// A named hash map. From local pods to verdicts only: each change of one re-validates the jump graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    pub key: Vec<KeyType>,
    pub value: ValueType,
    pub size: Option<u32>,
    /// Each of the declared type.
    pub elements: BTreeMap<Key, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ValueType {
    Verdict,
    /// `ipv4_addr . inet_service`: where a destination is translated to.
    Endpoint(Family),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    Verdict(Verdict),
    Endpoint(IpAddr, u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyType {
    Ipv4Addr,
    Ipv6Addr,
    InetProto,
    InetService,
    Ifname,
}

/// One element's key, a field for each [`KeyType`].
pub type Key = Vec<KeyField>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyField {
    Ipv4(std::net::Ipv4Addr),
    Ipv6(std::net::Ipv6Addr),
    Proto(u8),
    Port(u16),
    Ifname(String),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(Name),
    Goto(Name),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// `None`: reached by jump or goto only.
    pub base: Option<BaseChain>,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseChain {
    pub kind: ChainKind,
    pub hook: Hook,
    /// Absolute: `filter` is 0, `raw` is -300. The chain's policy is always accept.
    pub priority: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    Filter,
    /// Sees the first packet of a connection only; the rest is translated alike.
    Nat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// Matches are ANDed in order, then statements run, then the verdict; no verdict means "next rule".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub matches: Vec<Match>,
    pub statements: Vec<Statement>,
    pub end: End,
    /// At most 127 bytes.
    pub comment: Option<String>,
}

/// How a rule that matched ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum End {
    #[default]
    Continue,
    Verdict(Verdict),
    /// `ip saddr vmap @map`; a miss goes to the next rule. The address's family is also matched.
    AddrMap {
        side: Side,
        family: Family,
        map: Name,
    },
    /// `meta l4proto . th dport vmap { ... }`, anonymous; ranges are disjoint; a miss goes to the next rule.
    PortMap(BTreeMap<PortKey, Verdict>),
    /// `dnat ip to meta l4proto . th dport map @map`, or with `ip daddr` before it when `by_address`; a miss goes to
    /// the next rule.
    Dnat {
        family: Family,
        by_address: bool,
        map: Name,
    },
    Masquerade,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    Source,
    Destination,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

/// Both ends inclusive, `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey {
    pub proto: u8,
    pub first: u16,
    pub last: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// `ip saddr 10.0.0.0/8`, or `!=`. Matches only packets of the prefix's family, in both forms.
    Prefix { side: Side, equal: bool, prefix: IpNetwork },
    /// `ip saddr @set`
    AddrInSet { side: Side, family: Family, set: Name },
    /// `ip daddr . meta l4proto . th dport @set`
    AddrPortInSet { side: Side, family: Family, set: Name },
    /// `ip saddr & mask @set`: a set of network addresses that share one prefix length.
    MaskedAddrInSet { side: Side, family: Family, prefix_len: u8, set: Name },
    /// `iifname "weft*"` / `oifname "weft*"`
    IfnamePrefix { direction: Direction, prefix: String },
    /// `iifname . ip saddr @set`
    IifAddrInSet { family: Family, set: Name },
    /// `iifname . oifname @set`
    IifOifInSet { set: Name },
    /// `ct state established,related`
    CtEstablished,
    /// `ct status dnat`: the connection's destination was translated.
    CtDnat,
    /// `fib daddr type local`: one of the node's own addresses.
    DestinationIsLocal,
    /// `ct mark & mask == 0`, or `!= 0`
    CtMark { mask: u32, set: bool },
    /// `meta l4proto P`
    L4Proto(u8),
    /// `icmpv6 type { ... }`, anonymous; matches only ICMPv6.
    Icmpv6Type(BTreeSet<u8>),
}

impl Match {
    /// The named set that it looks into.
    pub fn set(&self) -> Option<&Name> {
        match self {
            Self::AddrInSet { set, .. }
            | Self::AddrPortInSet { set, .. }
            | Self::MaskedAddrInSet { set, .. }
            | Self::IifAddrInSet { set, .. }
            | Self::IifOifInSet { set } => Some(set),
            Self::Prefix { .. }
            | Self::IfnamePrefix { .. }
            | Self::CtEstablished
            | Self::CtDnat
            | Self::DestinationIsLocal
            | Self::CtMark { .. }
            | Self::L4Proto(_)
            | Self::Icmpv6Type(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Iif,
    Oif,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    Counter,
    /// `limit rate N/second burst B packets`: later statements and the end run only within the limit.
    Limit {
        per_second: u64,
        burst: u32,
    },
    /// `log group G prefix "..." snaplen N`
    Log {
        group: u16,
        prefix: String,
        snaplen: u32,
    },
}
