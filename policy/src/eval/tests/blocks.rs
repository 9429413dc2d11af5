//! What an `ipBlock` holds: CIDRs of either family, their exceptions, and sloppy ways to write them.

use super::{egress, ingress};

#[test]
fn a_block_holds_addresses_inside_and_outside_the_cluster_and_of_pods() {
    ingress("[{from: [{ipBlock: {cidr: 203.0.113.0/24}}, {ipBlock: {cidr: 10.0.2.2/32}}]}]").expect(&[
        ("203.0.113.9 -> x/a tcp/80", true),
        ("203.0.114.9 -> x/a tcp/80", false),
        ("y/b -> x/a tcp/80", true),
        ("y/b.6 -> x/a.6 tcp/80", false),
        ("y/c -> x/a tcp/80", false),
    ]);
    egress("[{to: [{ipBlock: {cidr: 'fd00::2:0/112'}}]}]").expect(&[
        ("x/a.6 -> y/b.6 tcp/80", true),
        ("x/a -> y/b tcp/80", false),
        ("x/a.6 -> z/b.6 tcp/80", false),
    ]);
}

#[test]
fn families_are_independent() {
    ingress("[{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]").expect(&[
        ("203.0.113.9 -> x/a icmp", true),
        ("y/a -> x/a tcp/80", true),
        ("y/a.6 -> x/a.6 tcp/80", false),
    ]);
    ingress("[{from: [{ipBlock: {cidr: '::/0'}}], ports: [{port: 80}]}]")
        .expect(&[("y/a.6 -> x/a.6 tcp/80", true), ("y/a -> x/a tcp/80", false)]);
}

#[test]
fn an_except_carves_only_out_of_its_own_block() {
    let block = "{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.2.0/24, 10.0.3.1/32]}}";
    ingress(&format!("[{{from: [{block}]}}]")).expect(&[
        ("10.9.9.9 -> x/a tcp/80", true),
        ("y/b -> x/a tcp/80", false),
        ("z/a -> x/a tcp/80", false),
        ("z/b -> x/a tcp/80", true),
    ]);
    ingress(&format!("[{{from: [{block}, {{ipBlock: {{cidr: 10.0.2.2/32}}}}]}}]"))
        .expect(&[("y/b -> x/a tcp/80", true), ("y/c -> x/a tcp/80", false)]);
    ingress(&format!("[{{from: [{block}]}}, {{from: [{{namespaceSelector: {{}}}}]}}]"))
        .expect(&[("y/b -> x/a tcp/80", true), ("10.0.2.99 -> x/a tcp/80", false)]);
    ingress("[{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]")
        .expect(&[("y/b -> x/a tcp/80", false)]);
    ingress("[{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}]")
        .expect(&[("y/b -> x/a tcp/80", false), ("11.0.0.1 -> x/a tcp/80", true)]);
}

#[test]
fn sloppy_cidrs_are_understood_and_senseless_ones_match_nothing() {
    ingress("[{from: [{ipBlock: {cidr: 010.0.002.77/24}}]}]")
        .expect(&[("y/b -> x/a tcp/80", true), ("z/b -> x/a tcp/80", false)]);
    ingress("[{from: [{ipBlock: {cidr: '::ffff:10.0.2.0/120'}}]}]")
        .expect(&[("y/b -> x/a tcp/80", true), ("z/b -> x/a tcp/80", false)]);
    let cluster = ingress("[{from: [{ipBlock: {cidr: 10.0.2.0}}, {ipBlock: {cidr: 10.0.3.0/24}}]}]");
    cluster.expect(&[("y/b -> x/a tcp/80", false), ("z/b -> x/a tcp/80", true)]);
    assert_eq!(
        cluster.problems(),
        [
            "networkpolicy x/p: spec.ingress[0].from[0].ipBlock.cidr: `10.0.2.0` is no CIDR; the block matches nothing"
        ]
    );
    let cluster = ingress("[{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.2/24]}}]}]");
    cluster.expect(&[("y/b -> x/a tcp/80", false), ("z/b -> x/a tcp/80", false)]);
    assert!(cluster.problems()[0].contains("from[0].ipBlock.except: `10.0.2/24`"));
    // Both forms in one item: which was meant?
    ingress("[{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]")
        .expect(&[("x/b -> x/a tcp/80", false)]);
}

#[test]
fn many_blocks_mean_the_same_as_few() {
    let blocks: Vec<_> = (0..20)
        .map(|i| format!("{{ipBlock: {{cidr: 172.16.{i}.0/24, except: [172.16.{i}.7/32]}}}}"))
        .collect();
    let wide = "{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.2.0/24]}}, {ipBlock: {cidr: 'fd00::/16'}}";
    ingress(&format!("[{{from: [{}, {wide}]}}]", blocks.join(", "))).expect(&[
        ("172.16.19.1 -> x/a tcp/80", true),
        ("172.16.19.7 -> x/a tcp/80", false),
        ("172.16.20.1 -> x/a tcp/80", false),
        ("z/b -> x/a tcp/80", true),
        ("y/b -> x/a tcp/80", false),
        ("y/b.6 -> x/a.6 tcp/80", true),
    ]);
}
