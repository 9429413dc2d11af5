//! The owner of table `inet weft`, its monitor, and conntrack, against the real kernel.
//!
//! Each test has a network namespace of its own, which ends with its thread. Needs root, `nft` and `conntrack`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::{Command, Output};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use weft_agent::kernel::conntrack::{Conntrack, Flow};
use weft_agent::kernel::nft::{ForeignChange, NftError, NftMonitor, NftTable};
use weft_policy::nft::{TableFlags, Transaction};
use weft_policy::ruleset::{
    BaseChain, Chain, ChainKind, End, Family, Hook, KeyField, KeyType, Match, Rule, Ruleset, Set, Side,
    Verdict,
};

const REVOKED: u32 = 0x4000_0000;

#[test]
fn what_a_former_agent_left_is_adopted_without_a_change() {
    enter_new_namespace();
    let want = ruleset(&["10.0.0.1", "10.0.0.2"]);
    let (mut table, dump) = NftTable::open().unwrap();
    assert_eq!(table.flags(), TableFlags::Owned);
    table.commit(&Transaction::diff(&want, &dump.recognise(&want))).unwrap();
    drop(table);
    assert!(run("nft list table inet weft").contains("10.0.0.2"), "rules outlive their owner");

    let (mut table, dump) = NftTable::open().unwrap();

    assert_eq!(dump.recognise(&want), want);
    assert!(table.audit(&want).unwrap().is_empty());
    let next = ruleset(&["10.0.0.1", "10.0.0.3"]);
    table.commit(&Transaction::diff(&next, &want)).unwrap();
    assert!(table.audit(&next).unwrap().is_empty());
}

#[test]
fn a_flush_by_somebody_else_passes_the_owned_table_by() {
    enter_new_namespace();
    let want = ruleset(&["10.0.0.1"]);
    let mut table = open_with(&want);

    run("nft flush ruleset");
    let refused = command("nft delete table inet weft");

    assert!(!refused.status.success());
    assert!(table.audit(&want).unwrap().is_empty());
}

#[test]
fn a_table_that_was_flushed_while_it_had_no_owner_is_made_anew() {
    enter_new_namespace();
    let want = ruleset(&["10.0.0.1"]);
    drop(open_with(&want));
    run("nft flush ruleset");
    assert_eq!(run("nft list ruleset"), "");

    let mut table = open_with(&want);

    assert!(table.audit(&want).unwrap().is_empty());
}

#[test]
fn a_second_agent_is_told_that_the_table_has_an_owner() {
    enter_new_namespace();
    let _first = open_with(&ruleset(&[]));

    let error = NftTable::open().unwrap_err();

    assert!(matches!(error, NftError::ForeignOwner { .. }), "{error}");
}

#[test]
fn a_refusal_names_the_object_and_leaves_the_old_rules() {
    enter_new_namespace();
    let want = ruleset(&["10.0.0.1"]);
    let mut table = open_with(&want);
    let mut broken = ruleset(&["10.0.0.7"]);
    let nowhere = Rule { end: End::Verdict(Verdict::Goto("nowhere".into())), ..Rule::default() };
    broken.chains.get_mut("forward").unwrap().rules.push(nowhere);

    let error = table.commit(&Transaction::diff(&broken, &want)).unwrap_err();

    assert!(error.to_string().starts_with("kernel refused rule of chain forward"), "{error}");
    assert!(table.audit(&want).unwrap().is_empty());
}

/// What an older kernel, without `persist`, makes of it.
#[tokio::test]
async fn in_a_shared_table_foreign_changes_are_reported_and_repaired() {
    enter_new_namespace();
    run("nft add table inet weft");
    let want = ruleset(&["10.0.0.1"]);
    let mut table = open_with(&Ruleset::default());
    assert_eq!(table.flags(), TableFlags::Shared);
    let mut monitor = NftMonitor::open(&table).unwrap();

    table.commit(&Transaction::diff(&want, &Ruleset::default())).unwrap();
    run("nft add table inet other");
    run("nft insert rule inet weft forward accept");
    let reported = tokio::time::timeout(Duration::from_secs(5), monitor.foreign_change()).await.unwrap();

    // Neither our own commit nor the other table counts.
    assert!(
        matches!(&reported.unwrap(), ForeignChange::By { process, .. } if process == "nft"),
        "reported once"
    );
    let repair = table.audit(&want).unwrap();
    assert!(!repair.is_empty());
    table.commit(&repair).unwrap();
    assert!(table.audit(&want).unwrap().is_empty());
}

#[test]
fn a_shared_table_that_was_deleted_comes_back() {
    enter_new_namespace();
    run("nft add table inet weft");
    let want = ruleset(&["10.0.0.1"]);
    let mut table = open_with(&want);
    run("nft flush ruleset");
    let change = Transaction::diff(&ruleset(&["10.0.0.2"]), &want);
    assert!(matches!(table.commit(&change).unwrap_err(), NftError::Refused { .. }));

    let repair = table.audit(&want).unwrap();
    table.commit(&repair).unwrap();

    assert_eq!(table.flags(), TableFlags::Owned);
    assert!(table.audit(&want).unwrap().is_empty());
}

#[test]
fn a_flow_is_found_at_either_end_and_marked_and_forgotten() {
    enter_new_namespace();
    run("conntrack -I -p tcp -s 10.0.0.1 -d 10.96.0.1 --sport 1000 --dport 80 -r 10.0.0.2 -q 10.0.0.1 \
         --reply-port-src 80 --reply-port-dst 1000 --state ESTABLISHED -u SEEN_REPLY -t 600 -m 5");
    run("conntrack -I -p udp -s fd00::1 -d fd00::2 --sport 1000 --dport 53 -t 600");
    run("conntrack -I -p udp -s 10.0.0.8 -d 10.0.0.9 --sport 1000 --dport 53 -t 600");
    let mut conntrack = Conntrack::open().unwrap();

    // Behind the service address 10.96.0.1 is 10.0.0.2.
    let flows = flows(&mut conntrack, ["10.0.0.2", "fd00::1"]);
    let [nat, v6] = &flows[..] else { panic!("two flows: {flows:#?}") };
    assert_eq!((nat.protocol, nat.original.destination, nat.mark), (6, ip("10.96.0.1"), 5));
    assert_eq!(
        (nat.reply.source, nat.original.source_port, nat.reply.source_port),
        (ip("10.0.0.2"), 1000, 80)
    );
    assert_eq!((v6.protocol, v6.original.destination_port), (17, 53));

    for flow in &flows {
        conntrack.set_mark_bit(flow, REVOKED, true).unwrap();
    }
    assert_eq!(marks(&mut conntrack), [REVOKED | 5, REVOKED]);
    conntrack.set_mark_bit(nat, REVOKED, false).unwrap();
    assert_eq!(marks(&mut conntrack), [5, REVOKED]);

    assert_eq!(conntrack.delete_flows_of(&[ip("10.0.0.2")].into()).unwrap(), 1);
    assert_eq!(conntrack.delete_flows_of(&[ip("10.0.0.2")].into()).unwrap(), 0);
    conntrack.set_mark_bit(nat, REVOKED, true).expect("a flow that is gone is no error");
    assert_eq!(marks(&mut conntrack), [REVOKED]);
    assert!(run("conntrack -L").contains("10.0.0.9"), "others are left alone");
}

#[test]
fn of_flows_to_a_new_host_port_only_those_to_the_node_that_were_not_translated_are_forgotten() {
    enter_new_namespace();
    let udp = |to: &str, port: u16, reply: &str| {
        let from = if to.contains(':') { "2001:db8::9" } else { "192.0.2.9" };
        run(&format!(
            "conntrack -I -p udp -t 600 -s {from} -d {to} --sport 1000 --dport {port} -r {reply} -q {from} \
             --reply-port-src {port} --reply-port-dst 1000"
        ));
    };
    let own = ["192.0.2.1", "192.0.2.2", "2001:db8::1"];
    udp("192.0.2.1", 53, "192.0.2.1");
    udp("2001:db8::1", 53, "2001:db8::1");
    udp("192.0.2.2", 54, "192.0.2.2");
    // Through the node, translated, at another port or at another address than the port is opened at.
    udp("8.8.8.8", 53, "8.8.8.8");
    udp("192.0.2.2", 53, "10.1.0.2");
    udp("192.0.2.1", 55, "192.0.2.1");
    udp("192.0.2.1", 54, "192.0.2.1");
    let opened = ["0.0.0.0:53", "[::]:53", "192.0.2.2:54"].map(|text| text.parse().unwrap());
    let mut conntrack = Conntrack::open().unwrap();

    assert_eq!(conntrack.delete_untranslated_udp(&opened.into(), &own.map(ip).into()).unwrap(), 3);
    let left = conntrack.flows(&["192.0.2.9"].map(ip).into()).unwrap();
    let mut left: Vec<_> =
        left.iter().map(|flow| (flow.original.destination, flow.original.destination_port)).collect();
    left.sort_unstable();
    let expected = [("8.8.8.8", 53), ("192.0.2.1", 54), ("192.0.2.1", 55), ("192.0.2.2", 53)];
    assert_eq!(left, expected.map(|(to, port)| (ip(to), port)));
}

/// IPv4 first; the kernel lists them as they lie in its table.
fn flows(conntrack: &mut Conntrack, addresses: [&str; 2]) -> Vec<Flow> {
    let mut flows = conntrack.flows(&BTreeSet::from(addresses.map(ip))).unwrap();
    flows.sort_by_key(|flow| flow.original.source);
    flows
}

fn marks(conntrack: &mut Conntrack) -> Vec<u32> {
    flows(conntrack, ["10.0.0.1", "fd00::1"]).iter().map(|flow| flow.mark).collect()
}

fn open_with(want: &Ruleset) -> NftTable {
    let (mut table, dump) = NftTable::open().unwrap();
    table.commit(&Transaction::diff(want, &dump.recognise(want))).unwrap();
    table
}

/// A base chain that lets the peers pass and drops the rest, but for established flows.
fn ruleset(peers: &[&str]) -> Ruleset {
    let elements = peers.iter().map(|peer| vec![KeyField::Ipv4(peer.parse().unwrap())]).collect();
    let end = |verdict| End::Verdict(verdict);
    let from_peer = Match::AddrInSet { side: Side::Source, family: Family::V4, set: "peers".into() };
    let rules = vec![
        Rule { matches: vec![Match::CtEstablished], end: end(Verdict::Accept), ..Rule::default() },
        Rule { matches: vec![from_peer], end: end(Verdict::Accept), ..Rule::default() },
        Rule { end: end(Verdict::Drop), comment: Some("the rest".into()), ..Rule::default() },
    ];
    let base = Some(BaseChain { kind: ChainKind::Filter, hook: Hook::Forward, priority: 10 });
    let peers = Set { key: vec![KeyType::Ipv4Addr], size: None, elements };
    Ruleset {
        sets: BTreeMap::from([("peers".into(), peers)]),
        maps: BTreeMap::new(),
        chains: BTreeMap::from([("forward".into(), Chain { base, rules })]),
    }
}

fn enter_new_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
}

fn command(line: &str) -> Output {
    let mut words = line.split_whitespace();
    Command::new(words.next().unwrap()).args(words).output().unwrap()
}

fn run(line: &str) -> String {
    let output = command(line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
