//! Which ports a rule names: numbers, ranges and names, which are the destination pod's.

use std::sync::Arc;

use super::{egress, ingress};
use crate::model::Protocol;
use crate::testing::{Cluster, named};

#[test]
fn ports_are_tcp_unless_they_say_otherwise() {
    ingress("[{ports: [{port: 80}, {port: 53, protocol: UDP}]}]").expect(&[
        ("y/a -> x/a tcp/80", true),
        ("y/a -> x/a udp/80", false),
        ("y/a -> x/a udp/53", true),
        ("y/a -> x/a tcp/53", false),
        ("y/a -> x/a sctp/80", false),
        ("y/a -> x/a icmp", false),
    ]);
    // A protocol without a port means all its ports; TCP if that is missing too.
    ingress("[{ports: [{protocol: SCTP}]}]").expect(&[
        ("y/a -> x/a sctp/9", true),
        ("y/a -> x/a sctp/65535", true),
        ("y/a -> x/a tcp/80", false), // "SCTP only" isolates TCP
    ]);
    ingress("[{ports: [{}]}]").expect(&[("y/a -> x/a tcp/9", true), ("y/a -> x/a udp/9", false)]);
}

#[test]
fn ranges_hold_both_ends() {
    ingress("[{ports: [{port: 80, endPort: 90}, {port: 85, endPort: 100}, {port: 443, endPort: 443}]}]")
        .expect(&[
            ("y/a -> x/a tcp/79", false),
            ("y/a -> x/a tcp/80", true),
            ("y/a -> x/a tcp/90", true),
            ("y/a -> x/a tcp/100", true),
            ("y/a -> x/a tcp/101", false),
            ("y/a -> x/a tcp/443", true),
            ("y/a -> x/a udp/85", false),
        ]);
}

#[test]
fn overlapping_ranges_unite_their_peers_piece_by_piece() {
    let rules = "[{from: [{podSelector: {matchLabels: {pod: b}}}], ports: [{port: 80, endPort: 90}]},
                  {from: [{podSelector: {matchLabels: {pod: c}}}], ports: [{port: 85, endPort: 95}]},
                  {ports: [{port: 88}]},
                  {from: [{namespaceSelector: {matchLabels: {ns: z}}}]}]";
    ingress(rules).expect(&[
        ("x/b -> x/a tcp/84", true),
        ("x/c -> x/a tcp/84", false),
        ("x/b -> x/a tcp/86", true),
        ("x/c -> x/a tcp/86", true),
        ("x/b -> x/a tcp/91", false),
        ("x/c -> x/a tcp/95", true),
        ("y/a -> x/a tcp/88", true),
        ("y/a -> x/a tcp/87", false),
        ("z/a -> x/a tcp/86", true),
        ("z/a -> x/a icmp", true),
        ("x/b -> x/a icmp", false),
    ]);
}

#[test]
fn ports_that_make_no_sense_match_nothing() {
    for bad in [
        "{port: 90, endPort: 80}",
        "{port: web, endPort: 90}",
        "{endPort: 90}",
        "{port: 0}",
        "{port: 70000}",
        "{port: 80, endPort: 70000}",
        "{port: 80, protocol: ICMP}",
        "{port: 80, protocol: tcp}",
    ] {
        let cluster = ingress(&format!("[{{ports: [{bad}]}}]"));
        cluster.expect(&[
            ("y/a -> x/a tcp/80", false),
            ("y/a -> x/a tcp/85", false),
            ("y/a -> x/a icmp", false),
        ]);
        assert!(
            cluster.problems()[0].contains("spec.ingress[0].ports[0]"),
            "{bad}: {:?}",
            cluster.problems()
        );
    }
}

#[test]
fn a_fragment_without_ports_matches_no_port() {
    ingress("[{ports: [{}]}]").expect(&[("y/a -> x/a tcp", false)]);
    ingress("[{}]").expect(&[("y/a -> x/a tcp", true)]);
}

#[test]
fn named_ports_of_ingress_are_those_of_each_selected_pod() {
    let policy = "{podSelector: {}, ingress: [{ports: [{port: dns, protocol: UDP}]}]}";
    Cluster::with(policy).expect(&[
        ("y/a -> x/a udp/53", true),
        ("y/a -> x/c udp/53", false),
        ("y/a -> x/c udp/1053", true),
        ("y/a -> x/a udp/1053", false),
        ("y/a -> x/a tcp/53", false),
    ]);
    // The name alone does not make the port: the protocol is part of it, and TCP by default.
    Cluster::with("{podSelector: {}, ingress: [{ports: [{port: dns}]}]}")
        .expect(&[("y/a -> x/a udp/53", false), ("y/a -> x/a tcp/53", false)]);
    Cluster::with("{podSelector: {}, ingress: [{ports: [{port: nosuch}]}]}")
        .expect(&[("y/a -> x/a tcp/80", false)]);
}

#[test]
fn a_port_name_that_repeats_means_all_its_ports() {
    let mut cluster = ingress("[{ports: [{port: web}]}]");
    Arc::make_mut(&mut cluster.pod("x/a").ports).insert(named("web", Protocol::Tcp, 8080));
    cluster.expect(&[
        ("y/a -> x/a tcp/80", true),
        ("y/a -> x/a tcp/8080", true),
        ("y/a -> x/a tcp/81", false),
    ]);
}

#[test]
fn named_ports_of_egress_are_those_of_each_destination_pod() {
    egress("[{to: [{namespaceSelector: {matchLabels: {ns: y}}}], ports: [{port: dns, protocol: UDP}]}]")
        .expect(&[
            ("x/a -> y/a udp/53", true),
            ("x/a.6 -> y/a.6 udp/53", true),
            ("x/a -> y/c udp/53", false),
            ("x/a -> y/c udp/1053", true),
            ("x/a -> z/a udp/53", false),
            ("x/a -> y/a tcp/53", false),
        ]);
    egress("[{ports: [{port: dns}]}]").expect(&[("x/a -> y/a tcp/53", false), ("x/a -> y/a udp/53", false)]);
    egress("[{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.3.0/24]}}], ports: [{port: web}]}]")
        .expect(&[("x/a -> y/a tcp/80", true), ("x/a -> z/a tcp/80", false)]);
    // Without `to`: every pod of the cluster that has the name, and nobody outside.
    egress("[{ports: [{port: dns, protocol: UDP}]}]").expect(&[
        ("x/a -> z/c udp/1053", true),
        ("x/a -> x/b udp/53", true),
        ("x/a -> 203.0.113.9 udp/53", false),
    ]);
    egress("[{to: [{ipBlock: {cidr: 10.0.2.0/24}}], ports: [{port: dns, protocol: UDP}]}]").expect(&[
        ("x/a -> y/a udp/53", true),
        ("x/a -> 10.0.2.99 udp/53", false),
        ("x/a -> z/a udp/53", false),
        ("x/a.6 -> y/a.6 udp/53", false),
    ]);
}

#[test]
fn named_ports_of_a_pod_that_has_ended_are_gone() {
    let mut cluster = egress("[{ports: [{port: web}]}]");
    cluster.pod("y/b").active = false;
    cluster.expect(&[("x/a -> 10.0.2.2 tcp/80", false), ("x/a -> y/a tcp/80", true)]);
}
