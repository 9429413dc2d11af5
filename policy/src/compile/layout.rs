//! The fixed part of the table: base chains, anti-spoofing, dispatch, and the chains that deny.
//!
//! A new connection between two pods of this node runs `from_pod`, then `to_pod`; allow is `return` and never
//! `accept`, so the first half cannot skip the second. Established connections pass before, unless they bear the
//! revoked mark. Traffic of the node itself passes INPUT and OUTPUT, which are not hooked.

use std::collections::{BTreeMap, BTreeSet};

use super::Options;
use super::address::address_type;
use super::builder::Builder;
use crate::ruleset::{
    BaseChain, Chain, ChainKind, Direction, End, Family, Hook, Key, KeyType, Map, Match, Rule, Set, Side,
    Statement, Value, ValueType, Verdict,
};

/// Where a local pod goes of which nothing is known yet.
pub(super) const PENDING: &str = "pending";

/// Elements that the sets and maps of local pods can hold: more than a node can have pods. Declared, because a sized
/// hash is nearly twice as fast; when it is full, the kernel refuses the commit.
pub(super) const LOCAL_SIZE: u32 = 16384;

const RAW: i32 = -300;
/// After kube-proxy's (-110) and the host's own (0) filters: they reject and count first.
const AFTER_FILTER: i32 = 10;

/// fe80::/10, and the unspecified address during address configuration.
const UNROUTED_V6: [&str; 2] = ["fe80::/10", "::/128"];
/// Router and neighbour solicitation, neighbour advertisement, MLDv2 report.
const UNROUTED_ICMPV6: [u8; 4] = [133, 135, 136, 143];

/// What the local pods fill in.
#[derive(Default)]
pub(super) struct Local {
    /// `address : verdict`, for each direction and family.
    pub(super) egress: [BTreeMap<Key, Verdict>; 2],
    pub(super) ingress: [BTreeMap<Key, Verdict>; 2],
    /// `link . address`, for each family.
    pub(super) sources: [BTreeSet<Key>; 2],
    /// `link . link`
    pub(super) hairpins: BTreeSet<Key>,
}

pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

pub(super) fn add(builder: &mut Builder, local: Local, options: &Options) {
    let Local { egress, ingress, sources, hairpins } = local;
    let dispatch = |family, elements: BTreeMap<Key, Verdict>| {
        let elements = elements.into_iter().map(|(key, verdict)| (key, Value::Verdict(verdict))).collect();
        let (key, value) = (vec![address_type(family)], ValueType::Verdict);
        Map { key, value, size: Some(LOCAL_SIZE), elements }
    };
    for ((family, digit), (egress, ingress)) in
        FAMILIES.into_iter().zip(["4", "6"]).zip(egress.into_iter().zip(ingress))
    {
        builder.fixed_map(&format!("pod_e{digit}"), dispatch(family, egress));
        builder.fixed_map(&format!("pod_i{digit}"), dispatch(family, ingress));
    }
    for ((family, digit), elements) in FAMILIES.into_iter().zip(["4", "6"]).zip(sources) {
        let key = vec![KeyType::Ifname, address_type(family)];
        builder.fixed_set(&format!("src{digit}"), Set { key, size: Some(LOCAL_SIZE), elements });
    }
    let key = vec![KeyType::Ifname, KeyType::Ifname];
    builder.fixed_set("hairpin", Set { key, size: Some(LOCAL_SIZE), elements: hairpins });
    for (name, chain) in fixed_chains(options) {
        builder.fixed_chain(name, chain);
    }
}

fn fixed_chains(options: &Options) -> [(&'static str, Chain); 9] {
    [
        ("deny_e", chain(deny("egress denied", "weft:e", options))),
        ("deny_i", chain(deny("ingress denied", "weft:i", options))),
        ("revoked", chain(vec![counted_drop("revoked established flow")])),
        (PENDING, chain(vec![counted_drop("pod not known yet")])),
        ("from_pod", chain(dispatch(Side::Source, "e"))),
        ("to_pod", chain(dispatch(Side::Destination, "i"))),
        ("antispoof", chain(antispoof())),
        (
            "pre",
            base(ChainKind::Filter, Hook::Prerouting, RAW, vec![pods(Direction::Iif, "antispoof", options)]),
        ),
        ("forward", base(ChainKind::Filter, Hook::Forward, AFTER_FILTER, forward(options))),
    ]
}

fn deny(comment: &str, prefix: &str, options: &Options) -> Vec<Rule> {
    let log = Statement::Log { group: options.log_group, prefix: prefix.to_owned(), snaplen: 96 };
    let statements = vec![Statement::Limit { per_second: 20, burst: 50 }, log];
    vec![
        Rule {
            comment: Some("a pod cannot block itself".to_owned()),
            ..rule(vec![Match::IifOifInSet { set: "hairpin".to_owned() }], Verdict::Return)
        },
        Rule { statements: vec![Statement::Counter], comment: Some(comment.to_owned()), ..Rule::default() },
        Rule { statements, ..Rule::default() },
        rule(Vec::new(), Verdict::Drop),
    ]
}

fn dispatch(side: Side, letter: &str) -> Vec<Rule> {
    let lookup = |family, digit| {
        let map = format!("pod_{letter}{digit}");
        Rule { end: End::AddrMap { side, family, map }, ..Rule::default() }
    };
    vec![lookup(Family::V4, 4), lookup(Family::V6, 6), counted_drop("unknown pod")]
}

fn antispoof() -> Vec<Rule> {
    let own =
        |family, set: &str| rule(vec![Match::IifAddrInSet { family, set: set.to_owned() }], Verdict::Return);
    let mut rules = vec![own(Family::V4, "src4"), own(Family::V6, "src6")];
    for prefix in UNROUTED_V6 {
        let prefix = prefix.parse().expect("a constant prefix");
        let source = Match::Prefix { side: Side::Source, equal: true, prefix };
        rules.push(rule(vec![source, Match::Icmpv6Type(UNROUTED_ICMPV6.into())], Verdict::Return));
    }
    rules.push(counted_drop("spoofed source"));
    rules
}

fn forward(options: &Options) -> Vec<Rule> {
    let revoked = |set| Match::CtMark { mask: options.revoked_mark, set };
    vec![
        rule(vec![Match::CtEstablished, revoked(false)], Verdict::Accept),
        rule(vec![revoked(true)], Verdict::Goto("revoked".to_owned())),
        pods(Direction::Iif, "from_pod", options),
        pods(Direction::Oif, "to_pod", options),
    ]
}

fn pods(direction: Direction, chain: &str, options: &Options) -> Rule {
    let links = Match::IfnamePrefix { direction, prefix: options.link_prefix.clone() };
    rule(vec![links], Verdict::Jump(chain.to_owned()))
}

fn counted_drop(comment: &str) -> Rule {
    let statements = vec![Statement::Counter];
    Rule { statements, comment: Some(comment.to_owned()), ..rule(Vec::new(), Verdict::Drop) }
}

pub(super) fn rule(matches: Vec<Match>, verdict: Verdict) -> Rule {
    Rule { matches, end: End::Verdict(verdict), ..Rule::default() }
}

pub(super) fn chain(rules: Vec<Rule>) -> Chain {
    Chain { base: None, rules }
}

pub(super) fn base(kind: ChainKind, hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { base: Some(BaseChain { kind, hook, priority }), rules }
}

#[cfg(test)]
mod tests {
    use crate::compile::{Options, compile};
    use crate::model::{HostPort, Protocol};
    use crate::testing::Cluster;

    /// Anti-spoofing before connection tracking (-200), so that what is spoofed makes no entry; host ports after kube-proxy
    /// (-100, 100), policy after the host's filters (0).
    #[test]
    fn base_chains_stand_where_others_leave_room() {
        let mut cluster = Cluster::new();
        let port = HostPort { protocol: Protocol::Tcp, host_port: 80, host_ip: None, port: 80 };
        cluster.local[0].ports.insert(port);
        let ruleset = compile(&cluster.world, &cluster.local, &Options::default()).ruleset;
        let base =
            ruleset.chains.iter().filter_map(|(name, chain)| Some((name.as_str(), chain.base?.priority)));
        let expected =
            [("forward", 10), ("nat_out", -95), ("nat_post", 105), ("nat_pre", -95), ("pre", -300)];
        assert_eq!(base.collect::<Vec<_>>(), expected);
    }
}
