//! `nft` understands what we send, and so do we when we read it back.

use std::collections::{BTreeMap, BTreeSet};

use weft_policy::nft::Transaction;
use weft_policy::render;
use weft_policy::ruleset::*;

use crate::kernel_table::KernelTable;
use crate::netns::{enter_new, run};
use crate::worlds::Random;

/// Each kind of match, statement, end, key and verdict at least once.
fn every_kind() -> Ruleset {
    Ruleset { sets: sets(), maps: maps(), chains: chains() }
}

fn sets() -> BTreeMap<Name, Set> {
    BTreeMap::from([
        ("u4".into(), set(&[KeyType::Ipv4Addr], Some(1024), &["10.0.0.1", "10.0.0.2"])),
        ("u6".into(), set(&[KeyType::Ipv6Addr], None, &["fd00::1"])),
        ("n4".into(), set(&[KeyType::Ipv4Addr, KeyType::InetProto, KeyType::InetService], None, &[])),
        ("n6".into(), ports_of_pods()),
        ("src4".into(), set(&[KeyType::Ifname, KeyType::Ipv4Addr], Some(64), &[])),
        ("src6".into(), links_and_addresses()),
        ("hairpin".into(), set(&[KeyType::Ifname, KeyType::Ifname], None, &[])),
    ])
}

fn maps() -> BTreeMap<Name, Map> {
    use Family::{V4, V6};
    BTreeMap::from([
        ("pod_e4".into(), map(KeyType::Ipv4Addr, &[("10.0.0.1", Verdict::Return)])),
        ("pod_i6".into(), map(KeyType::Ipv6Addr, &[("fd00::1", Verdict::Goto("deny".into()))])),
        ("any4".into(), host_ports(V4, None, "10.0.0.1")),
        ("any6".into(), host_ports(V6, None, "fd00::1")),
        ("at4".into(), host_ports(V4, Some("192.0.2.1"), "10.0.0.1")),
        ("at6".into(), host_ports(V6, Some("2001:db8::1"), "fd00::1")),
    ])
}

fn chains() -> BTreeMap<Name, Chain> {
    let jump = rule(vec![], End::Verdict(Verdict::Jump("every".into())));
    let base = |kind, hook, priority, rules| Chain { base: Some(BaseChain { kind, hook, priority }), rules };
    let regular = |rules| Chain { base: None, rules };
    BTreeMap::from([
        ("deny".into(), regular(deny())),
        ("every".into(), regular(rules())),
        ("forward".into(), base(ChainKind::Filter, Hook::Forward, 10, vec![jump])),
        ("pre".into(), base(ChainKind::Filter, Hook::Prerouting, -300, vec![])),
        ("ports".into(), regular(translations())),
        ("nat_pre".into(), base(ChainKind::Nat, Hook::Prerouting, -95, vec![to_node()])),
        ("nat_out".into(), base(ChainKind::Nat, Hook::Output, -95, vec![to_node()])),
        ("nat_post".into(), base(ChainKind::Nat, Hook::Postrouting, 105, vec![masquerade()])),
    ])
}

fn rules() -> Vec<Rule> {
    use Family::{V4, V6};
    use Side::{Destination, Source};
    let goto_deny = || End::Verdict(Verdict::Goto("deny".into()));
    let mut rules: Vec<Rule> = matches().into_iter().map(|m| rule(vec![m], goto_deny())).collect();
    let both = vec![Match::CtEstablished, Match::CtMark { mask: 0x4000_0000, set: false }];
    rules.push(rule(both, End::Verdict(Verdict::Accept)));
    let neighbour = vec![prefix(Source, true, "fe80::/10"), Match::Icmpv6Type([133, 135].into())];
    rules.push(rule(neighbour, End::Verdict(Verdict::Return)));
    let cut_out = vec![prefix(Source, true, "10.0.0.0/8"), prefix(Source, false, "10.96.0.0/12")];
    rules.push(rule(cut_out, End::Verdict(Verdict::Return)));
    rules.push(rule(vec![], End::AddrMap { side: Source, family: V4, map: "pod_e4".into() }));
    rules.push(rule(vec![], End::AddrMap { side: Destination, family: V6, map: "pod_i6".into() }));
    rules.push(rule(vec![], ports(&[(6, 80, 80), (17, 53, 53), (132, 9, 9)])));
    rules.push(rule(vec![], ports(&[(6, 80, 80), (6, 8080, 8089), (17, 0, 65535)])));
    rules.push(rule(vec![], End::Verdict(Verdict::Drop)));
    rules
}

fn matches() -> Vec<Match> {
    use Direction::{Iif, Oif};
    use Family::{V4, V6};
    use Side::{Destination, Source};
    vec![
        Match::AddrInSet { side: Source, family: V4, set: "u4".into() },
        Match::AddrInSet { side: Destination, family: V6, set: "u6".into() },
        prefix(Source, true, "10.0.0.0/8"),
        prefix(Source, false, "10.96.0.0/12"),
        prefix(Destination, true, "10.1.2.3/32"),
        prefix(Destination, true, "0.0.0.0/0"),
        prefix(Source, true, "fd00::/61"),
        prefix(Source, true, "2001:db8::/32"),
        prefix(Destination, false, "fd00::5/128"),
        Match::AddrPortInSet { side: Destination, family: V4, set: "n4".into() },
        Match::AddrPortInSet { side: Destination, family: V6, set: "n6".into() },
        Match::MaskedAddrInSet { side: Source, family: V4, prefix_len: 20, set: "u4".into() },
        Match::MaskedAddrInSet { side: Destination, family: V6, prefix_len: 64, set: "u6".into() },
        Match::IifAddrInSet { family: V4, set: "src4".into() },
        Match::IifAddrInSet { family: V6, set: "src6".into() },
        Match::IifOifInSet { set: "hairpin".into() },
        Match::IfnamePrefix { direction: Iif, prefix: "weft".into() },
        Match::IfnamePrefix { direction: Oif, prefix: "weft".into() },
        Match::CtEstablished,
        Match::CtMark { mask: 0x4000_0000, set: false },
        Match::CtMark { mask: 0x4000_0000, set: true },
        Match::L4Proto(132),
        Match::Icmpv6Type([133, 135, 136].into()),
    ]
}

fn deny() -> Vec<Rule> {
    vec![
        Rule { comment: Some("egress denied".into()), ..statements(vec![Statement::Counter]) },
        statements(vec![
            Statement::Limit { per_second: 20, burst: 50 },
            Statement::Log { group: 100, prefix: "weft:e".into(), snaplen: 96 },
        ]),
        rule(vec![], End::Verdict(Verdict::Drop)),
    ]
}

fn translations() -> Vec<Rule> {
    use Family::{V4, V6};
    let dnat =
        |family, by_address, map: &str| rule(vec![], End::Dnat { family, by_address, map: map.into() });
    vec![dnat(V4, true, "at4"), dnat(V4, false, "any4"), dnat(V6, true, "at6"), dnat(V6, false, "any6")]
}

fn to_node() -> Rule {
    rule(vec![Match::DestinationIsLocal], End::Verdict(Verdict::Jump("ports".into())))
}

fn masquerade() -> Rule {
    rule(vec![Match::IifOifInSet { set: "hairpin".into() }, Match::CtDnat], End::Masquerade)
}

/// From the ports 80 of the node, at an address of it or at all, to a pod.
fn host_ports(family: Family, node: Option<&str>, pod: &str) -> Map {
    let service = [KeyType::InetProto, KeyType::InetService];
    let address_type = if family == Family::V4 { KeyType::Ipv4Addr } else { KeyType::Ipv6Addr };
    let types = node.map(|_| address_type).into_iter().chain(service).collect();
    let endpoint = Value::Endpoint(pod.parse().unwrap(), 8080);
    let elements = [6, 17, 132].map(|proto| {
        let service = [KeyField::Proto(proto), KeyField::Port(80)];
        (node.map(address).into_iter().chain(service).collect(), endpoint.clone())
    });
    Map { key: types, value: ValueType::Endpoint(family), size: Some(64), elements: elements.into() }
}

#[test]
fn nft_prints_our_encoding_as_it_prints_its_own() {
    let want = every_kind();
    enter_new();
    run("nft", &["-f", "-"], &render::ruleset("weft", &want));
    let theirs = listing();

    enter_new();
    KernelTable::create().commit(&want, &Ruleset::default()).unwrap();

    assert_eq!(listing(), theirs);
}

/// The kernel's own form of each rule, expression by expression, with all operands.
#[test]
fn our_bytecode_is_that_of_nft() {
    let want = every_kind();
    enter_new();
    run("nft", &["-f", "-"], &render::ruleset("weft", &want));
    let theirs = bytecode();
    assert!(theirs.len() > 100, "{theirs:?}");

    enter_new();
    KernelTable::create().commit(&want, &Ruleset::default()).unwrap();

    assert_eq!(bytecode(), theirs);
}

#[test]
fn a_dump_of_what_was_committed_is_recognised_as_equal() {
    let want = every_kind();
    enter_new();
    KernelTable::create().commit(&want, &Ruleset::default()).unwrap();

    let have = KernelTable::create().dump().recognise(&want);

    assert_eq!(have, want);
    assert!(Transaction::diff(&want, &have).is_empty());
}

#[test]
fn foreign_rules_and_objects_are_seen_and_replaced() {
    let want = every_kind();
    enter_new();
    let mut table = KernelTable::create();
    table.commit(&want, &Ruleset::default()).unwrap();
    for damage in [
        "insert rule inet weft deny accept",
        "flush chain inet weft forward",
        "delete element inet weft u4 { 10.0.0.1 }",
        "add element inet weft pod_e4 { 10.0.0.9 : accept }",
        "add element inet weft any4 { tcp . 81 : 10.0.0.9 . 8080 }",
        "delete element inet weft at6 { 2001:db8::1 . udp . 80 }",
        "flush chain inet weft nat_post",
        "add map inet weft marks_of { type ipv4_addr : mark; elements = { 10.0.0.1 : 7 }; }",
        "add chain inet weft foreign { type filter hook input priority 0; }",
        "add set inet weft intervals { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 }; }",
        "add set inet weft marks { type mark; }",
    ] {
        run("nft", &["-f", "-"], damage);

        let have = table.dump().recognise(&want);
        assert_ne!(have, want, "unseen: {damage}");
        table.commit(&want, &have).unwrap();
        assert_eq!(table.dump().recognise(&want), want, "not repaired: {damage}");
    }
}

#[test]
fn any_ruleset_follows_any_other_in_one_commit() {
    enter_new();
    let mut table = KernelTable::create();
    let mut random = Random::new(1);
    let mut have = Ruleset::default();
    for _ in 0..100 {
        let mut want = every_kind();
        mutate(&mut want, &mut random);

        table.commit(&want, &have).unwrap();

        assert_eq!(table.dump().recognise(&want), want);
        let mut model = have;
        Transaction::diff(&want, &model).apply_to(&mut model);
        assert_eq!(model, want);
        have = want;
    }
}

#[test]
fn a_big_set_is_loaded_ahead_and_the_kernel_has_it_all() {
    enter_new();
    let mut want = every_kind();
    let elements = (0..100_000_u32).map(|i| vec![KeyField::Ipv4((0x0a00_0000 + i).into())]).collect();
    want.sets.insert("u4".into(), Set { key: vec![KeyType::Ipv4Addr], size: Some(262_144), elements });
    let batches = Transaction::diff(&want, &Ruleset::default()).batches(1);
    assert!(batches.len() > 20, "{} batches", batches.len());

    let mut table = KernelTable::create();
    table.commit(&want, &Ruleset::default()).unwrap();

    assert_eq!(table.dump().recognise(&want), want);
}

#[test]
fn a_refused_batch_changes_nothing_and_names_the_culprit() {
    enter_new();
    let want = every_kind();
    let mut table = KernelTable::create();
    table.commit(&want, &Ruleset::default()).unwrap();
    let mut broken = want.clone();
    broken.maps.get_mut("pod_e4").unwrap().elements.clear();
    let nowhere = rule(vec![], End::Verdict(Verdict::Goto("nowhere".into())));
    broken.chains.get_mut("deny").unwrap().rules.push(nowhere);

    let error = table.commit(&broken, &want).unwrap_err();

    assert_eq!(error, "rule of chain deny: errno 2");
    assert_eq!(table.dump().recognise(&want), want);
}

fn listing() -> String {
    run("nft", &["list", "table", "inet", "weft"], "")
}

/// `nft` puts a byte swap of one byte, which does nothing, before the look-up in a map of port ranges.
fn bytecode() -> Vec<String> {
    run("nft", &["--debug=netlink", "list", "table", "inet", "weft"], "")
        .lines()
        .filter(|line| line.trim_start().starts_with('[') && !line.contains("byteorder"))
        .map(str::to_owned)
        .collect()
}

/// Drops, renames and changes parts, and keeps the ruleset's invariant.
fn mutate(ruleset: &mut Ruleset, random: &mut Random) {
    let forward = ruleset.chains.get_mut("forward").unwrap();
    let priority = i32::from(random.chance(50));
    forward.base = Some(BaseChain { kind: ChainKind::Filter, hook: Hook::Forward, priority });
    ruleset.chains.get_mut("deny").unwrap().rules.truncate(random.below(4));
    let every = ruleset.chains.get_mut("every").unwrap();
    every.rules.retain(|_| random.chance(70));
    if random.chance(50) {
        let every = ruleset.chains.remove("every").unwrap();
        let name = format!("every{}", random.below(3));
        let jump = rule(vec![], End::Verdict(Verdict::Jump(name.clone())));
        ruleset.chains.get_mut("forward").unwrap().rules = vec![jump];
        ruleset.chains.insert(name, every);
    }
    if random.chance(20) {
        ruleset.sets.get_mut("u4").unwrap().size = Some(2048);
    }
    if random.chance(20) {
        ruleset.maps.get_mut("pod_e4").unwrap().size = Some(2048);
    }
    let verdict = if random.chance(50) { Verdict::Drop } else { Verdict::Goto("deny".into()) };
    for host in 0..random.below(4) {
        let address = KeyField::Ipv4([10, 0, 0, u8::try_from(host).unwrap()].into());
        ruleset
            .maps
            .get_mut("pod_e4")
            .unwrap()
            .elements
            .insert(vec![address.clone()], Value::Verdict(verdict.clone()));
        ruleset.sets.get_mut("u4").unwrap().elements.remove(&vec![address]);
    }
    let endpoint = Value::Endpoint([10, 0, 0, 9].into(), u16::from(random.chance(50)));
    let any4 = ruleset.maps.get_mut("any4").unwrap();
    any4.elements.values_mut().filter(|_| random.chance(50)).for_each(|value| *value = endpoint.clone());
    if random.chance(20) {
        *any4 = host_ports(Family::V6, None, "fd00::1");
        ruleset.chains.get_mut("ports").unwrap().rules.remove(1);
    }
}

fn rule(matches: Vec<Match>, end: End) -> Rule {
    Rule { matches, end, ..Rule::default() }
}

fn statements(statements: Vec<Statement>) -> Rule {
    Rule { statements, ..Rule::default() }
}

fn prefix(side: Side, equal: bool, prefix: &str) -> Match {
    Match::Prefix { side, equal, prefix: prefix.parse().unwrap() }
}

fn ports(ranges: &[(u8, u16, u16)]) -> End {
    let key = |&(proto, first, last)| PortKey { proto, first, last };
    End::PortMap(ranges.iter().map(|range| (key(range), Verdict::Goto("deny".into()))).collect())
}

fn set(key: &[KeyType], size: Option<u32>, addresses: &[&str]) -> Set {
    Set { key: key.to_vec(), size, elements: addresses.iter().map(|text| vec![address(text)]).collect() }
}

fn ports_of_pods() -> Set {
    let element = vec![address("fd00::9"), KeyField::Proto(6), KeyField::Port(8443)];
    let key = vec![KeyType::Ipv6Addr, KeyType::InetProto, KeyType::InetService];
    Set { key, size: Some(65536), elements: BTreeSet::from([element]) }
}

fn links_and_addresses() -> Set {
    let element = vec![KeyField::Ifname("weft0123456789a".into()), address("fd00::9")];
    Set { key: vec![KeyType::Ifname, KeyType::Ipv6Addr], size: None, elements: BTreeSet::from([element]) }
}

fn map(key: KeyType, entries: &[(&str, Verdict)]) -> Map {
    let value = |verdict: &Verdict| Value::Verdict(verdict.clone());
    let elements = entries.iter().map(|(text, verdict)| (vec![address(text)], value(verdict))).collect();
    Map { key: vec![key], value: ValueType::Verdict, size: Some(4096), elements }
}

fn address(text: &str) -> KeyField {
    match text.parse().unwrap() {
        std::net::IpAddr::V4(address) => KeyField::Ipv4(address),
        std::net::IpAddr::V6(address) => KeyField::Ipv6(address),
    }
}
