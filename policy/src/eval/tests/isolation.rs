//! Who is isolated: the pods that a policy selects, in the directions of its types; and what no rules, empty rules and
//! several policies mean.

use super::{egress, ingress};
use crate::testing::Cluster;

#[test]
fn without_policies_everything_passes() {
    Cluster::new().expect(&[
        ("y/a -> x/a tcp/80", true),
        ("x/a -> y/a udp/53", true),
        ("x/a.6 -> x/b.6 sctp/9", true),
        ("203.0.113.9 -> x/a icmp", true),
        ("y/a -> z/a tcp/80", true),
    ]);
}

#[test]
fn isolation_is_per_pod_and_per_direction() {
    ingress("[]").expect(&[
        ("y/a -> x/a tcp/80", false),
        ("x/b -> x/a tcp/80", false),
        ("y/a.6 -> x/a.6 tcp/80", false),
        ("y/a -> x/a icmp", false),
        ("x/a -> y/a tcp/80", true),
        ("y/a -> x/b tcp/80", true),
        ("y/b -> y/a tcp/80", true),
    ]);
    egress("[]").expect(&[
        ("x/a -> y/a tcp/80", false),
        ("x/a -> 203.0.113.9 udp/53", false),
        ("x/a.6 -> x/b.6 tcp/80", false),
        ("y/a -> x/a tcp/80", true),
        ("x/b -> y/a tcp/80", true),
    ]);
}

#[test]
fn a_connection_needs_both_halves() {
    let policies = "
{name: in, podSelector: {matchLabels: {pod: b}}, ingress: [{from: [{podSelector: {matchLabels: {pod: a}}}]}]}
---
{name: out, podSelector: {matchLabels: {pod: c}}, policyTypes: [Egress], egress: [{}]}
---
{name: shut, podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress]}";
    Cluster::with(policies).expect(&[
        ("x/a -> x/b tcp/80", false), // allowed in, not out
        ("x/c -> x/b tcp/80", false), // allowed out, not in
        ("x/c -> x/a tcp/80", true),
    ]);
}

#[test]
fn no_rules_deny_all_and_an_empty_rule_allows_all() {
    for none in ["[]", "null"] {
        ingress(none).expect(&[("y/a -> x/a tcp/80", false), ("x/a -> y/a tcp/80", true)]);
    }
    ingress("[{}]").expect(&[("y/a -> x/a tcp/80", true), ("203.0.113.9 -> x/a icmp", true)]);
    egress("[{}]").expect(&[("x/a -> y/a tcp/80", true), ("x/a -> 203.0.113.9 icmp", true)]);
}

#[test]
fn empty_lists_and_missing_lists_are_the_same() {
    for rules in ["[{from: [], ports: []}]", "[{from: null, ports: null}]", "[{}]"] {
        ingress(rules).expect(&[("y/a -> x/a tcp/80", true), ("203.0.113.9 -> x/a sctp/1", true)]);
    }
    ingress("[{from: [], ports: [{port: 80}]}]").expect(&[
        ("203.0.113.9 -> x/a tcp/80", true),
        ("203.0.113.9 -> x/a tcp/81", false),
        ("203.0.113.9 -> x/a udp/80", false),
    ]);
    ingress("[{from: [{podSelector: {}}], ports: []}]").expect(&[
        ("x/b -> x/a udp/9", true),
        ("x/b -> x/a icmp", true),
        ("y/b -> x/a udp/9", false),
    ]);
}

#[test]
fn policy_types_default_to_ingress_and_to_egress_if_there_are_egress_rules() {
    let both = [("y/a -> x/a tcp/80", false), ("x/a -> y/a tcp/80", true), ("x/a -> y/b tcp/80", false)];
    let to_a = "egress: [{to: [{namespaceSelector: {}, podSelector: {matchLabels: {pod: a}}}]}]";
    Cluster::with(&format!("{{podSelector: {{}}, {to_a}}}")).expect(&both);
    Cluster::with(&format!("{{podSelector: {{}}, policyTypes: [], {to_a}}}")).expect(&both);
    for egress in ["egress: []", "egress: null"] {
        Cluster::with(&format!("{{podSelector: {{}}, {egress}}}"))
            .expect(&[("y/a -> x/a tcp/80", false), ("x/a -> y/b tcp/80", true)]);
    }
}

#[test]
fn a_section_whose_type_is_not_listed_is_ignored() {
    Cluster::with("{podSelector: {}, policyTypes: [Egress], ingress: [], egress: []}")
        .expect(&[("y/a -> x/a tcp/80", true), ("x/a -> y/a tcp/80", false)]);
    Cluster::with("{podSelector: {}, policyTypes: [Ingress], ingress: [], egress: [{to: []}]}")
        .expect(&[("y/a -> x/a tcp/80", false), ("x/a -> y/a tcp/80", true)]);
}

#[test]
fn policies_only_add() {
    let policies = "
{name: deny, podSelector: {}, policyTypes: [Ingress]}
---
{name: web, podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 80}]}]}
---
{name: from-y, podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}]}]}";
    Cluster::with(policies).expect(&[
        ("z/a -> x/a tcp/80", true),
        ("z/a -> x/b tcp/80", false),
        ("z/a -> x/a tcp/81", false),
        ("y/a -> x/a tcp/81", true),
        ("y/a -> x/b udp/9", true),
    ]);
}

#[test]
fn a_missing_pod_selector_selects_the_whole_namespace() {
    for selector in ["podSelector: {}, ", "podSelector: null, ", ""] {
        Cluster::with(&format!("{{{selector}policyTypes: [Ingress]}}")).expect(&[
            ("y/a -> x/a tcp/80", false),
            ("y/a -> x/c tcp/80", false),
            ("x/a -> y/a tcp/80", true),
        ]);
    }
}

#[test]
fn a_policy_reaches_no_other_namespace() {
    Cluster::with("{namespace: y, podSelector: {}, policyTypes: [Ingress]}")
        .expect(&[("z/a -> x/a tcp/80", true), ("z/a -> y/a tcp/80", false)]);
}

#[test]
fn an_unknown_policy_type_denies_both_directions() {
    let cluster =
        Cluster::with("{podSelector: {matchLabels: {pod: a}}, policyTypes: [ingress], ingress: [{}]}");
    cluster.expect(&[
        ("y/a -> x/a tcp/80", false),
        ("x/a -> y/a tcp/80", false),
        ("y/a -> x/b tcp/80", true),
    ]);
    assert!(cluster.problems()[0].contains("`ingress` is neither Ingress nor Egress"));
}
