//! Truth tables, written by hand from the Kubernetes documentation: one test for each rule and each trap.
//!
//! [`Cluster::expect`] asks the evaluator first and then the compiled ruleset.

use crate::interpret::{Packet, forwards, passes};
use crate::model::{LocalPod, PodUid, Protocol};
use crate::ruleset::Hook;
use crate::testing::{Cluster, ip, key, named};

/// The only policy selects x/a and allows what `ingress` says.
fn ingress(rules: &str) -> Cluster {
    Cluster::with(&format!(
        "{{podSelector: {{matchLabels: {{pod: a}}}}, policyTypes: [Ingress], ingress: {rules}}}"
    ))
}

fn egress(rules: &str) -> Cluster {
    Cluster::with(&format!(
        "{{podSelector: {{matchLabels: {{pod: a}}}}, policyTypes: [Egress], egress: {rules}}}"
    ))
}

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
fn a_pod_selector_alone_means_the_policy_s_own_namespace() {
    ingress("[{from: [{podSelector: {matchLabels: {pod: b}}}]}]").expect(&[
        ("x/b -> x/a tcp/80", true),
        ("y/b -> x/a tcp/80", false),
        ("x/c -> x/a tcp/80", false),
    ]);
    ingress("[{from: [{podSelector: {}}]}]")
        .expect(&[("x/c -> x/a tcp/1", true), ("y/c -> x/a tcp/1", false)]);
}

#[test]
fn a_namespace_selector_alone_means_all_pods_there() {
    ingress("[{from: [{namespaceSelector: {matchLabels: {ns: y}}}]}]").expect(&[
        ("y/a -> x/a tcp/80", true),
        ("y/c.6 -> x/a.6 tcp/80", true),
        ("z/a -> x/a tcp/80", false),
        ("x/b -> x/a tcp/80", false),
    ]);
    ingress("[{from: [{namespaceSelector: {}}]}]").expect(&[
        ("z/a -> x/a tcp/80", true),
        ("x/b -> x/a tcp/80", true),
        ("203.0.113.9 -> x/a tcp/80", false),
    ]);
}

#[test]
fn both_selectors_in_one_item_are_anded_and_in_two_items_ored() {
    let (namespaces, pods) =
        ("namespaceSelector: {matchLabels: {ns: y}}", "podSelector: {matchLabels: {pod: b}}");
    ingress(&format!("[{{from: [{{{namespaces}, {pods}}}]}}]")).expect(&[
        ("y/b -> x/a tcp/80", true),
        ("y/c -> x/a tcp/80", false),
        ("x/b -> x/a tcp/80", false),
    ]);
    ingress(&format!("[{{from: [{{{namespaces}}}, {{{pods}}}]}}]")).expect(&[
        ("y/b -> x/a tcp/80", true),
        ("y/c -> x/a tcp/80", true),
        ("x/b -> x/a tcp/80", true),
        ("z/b -> x/a tcp/80", false),
    ]);
}

#[test]
fn ports_and_peers_of_one_rule_are_anded_and_rules_ored() {
    let rules = "[{from: [{podSelector: {matchLabels: {pod: b}}}], ports: [{port: 80}]},
                  {from: [{podSelector: {matchLabels: {pod: c}}}], ports: [{port: 81}]}]";
    ingress(rules).expect(&[
        ("x/b -> x/a tcp/80", true),
        ("x/b -> x/a tcp/81", false),
        ("x/c -> x/a tcp/80", false),
        ("x/c -> x/a tcp/81", true),
    ]);
}

#[test]
fn a_peer_without_any_known_field_matches_nothing() {
    let cluster = ingress("[{from: [{}]}]");
    cluster.expect(&[
        ("y/a -> x/a tcp/80", false),
        ("x/b -> x/a tcp/80", false),
        ("9.9.9.9 -> x/a tcp/80", false),
    ]);
    assert_eq!(
        cluster.problems(),
        ["networkpolicy x/p: spec.ingress[0].from[0]: has no field known here; it matches nothing"]
    );
    // Beside it others count.
    ingress("[{from: [{}, {podSelector: {}}]}]")
        .expect(&[("x/b -> x/a tcp/80", true), ("y/b -> x/a tcp/80", false)]);
}

#[test]
fn expressions_and_labels_must_all_hold() {
    let from = |selector: &str| ingress(&format!("[{{from: [{{podSelector: {selector}}}]}}]"));
    from("{matchExpressions: [{key: pod, operator: In, values: [b, c]}]}").expect(&[
        ("x/b -> x/a tcp/80", true),
        ("x/c -> x/a tcp/80", true),
        ("y/b -> x/a tcp/80", false),
    ]);
    from("{matchLabels: {pod: b}, matchExpressions: [{key: pod, operator: NotIn, values: [b]}]}")
        .expect(&[("x/b -> x/a tcp/80", false), ("x/c -> x/a tcp/80", false)]);
    from("{matchExpressions: [{key: pod, operator: Exists}, {key: pod, operator: NotIn, values: [c]}]}")
        .expect(&[("x/b -> x/a tcp/80", true), ("x/c -> x/a tcp/80", false)]);
}

#[test]
fn negative_operators_match_objects_without_the_key() {
    for selector in [
        "{matchExpressions: [{key: tier, operator: NotIn, values: [db]}]}",
        "{matchExpressions: [{key: tier, operator: DoesNotExist}]}",
    ] {
        let mut cluster = ingress(&format!("[{{from: [{{podSelector: {selector}}}]}}]"));
        cluster.pod("x/c").labels.insert("tier".to_owned(), "db".to_owned());
        cluster.expect(&[("x/b -> x/a tcp/80", true), ("x/c -> x/a tcp/80", false)]);
    }
    let exists = "[{from: [{podSelector: {matchExpressions: [{key: tier, operator: Exists}]}}]}]";
    ingress(exists).expect(&[("x/b -> x/a tcp/80", false)]);
    ingress(
        "[{from: [{namespaceSelector: {matchExpressions: [{key: env, operator: NotIn, values: [dev]}]}}]}]",
    )
    .expect(&[("y/a -> x/a tcp/80", true)]);
}

#[test]
fn every_namespace_can_be_selected_by_its_name() {
    ingress("[{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: z}}}]}]")
        .expect(&[("z/a -> x/a tcp/80", true), ("y/a -> x/a tcp/80", false)]);
}

#[test]
fn a_namespace_that_is_not_known_matches_no_selector() {
    let mut cluster = ingress("[{from: [{namespaceSelector: {}}]}]");
    cluster.world.namespaces.remove("y");
    cluster.expect(&[("y/a -> x/a tcp/80", false), ("z/a -> x/a tcp/80", true)]);
}

#[test]
fn selectors_that_make_no_sense_match_nothing_as_peers_and_everything_as_subjects() {
    for bad in [
        "{key: pod, operator: Is, values: [b]}",
        "{key: pod, operator: In}",
        "{key: pod, operator: In, values: []}",
        "{key: pod, operator: NotIn, values: []}",
        "{key: pod, operator: Exists, values: [b]}",
    ] {
        let cluster = ingress(&format!("[{{from: [{{podSelector: {{matchExpressions: [{bad}]}}}}]}}]"));
        cluster.expect(&[("x/b -> x/a tcp/80", false), ("x/c -> x/a tcp/80", false)]);
        assert_eq!(cluster.problems().len(), 1);

        let cluster =
            Cluster::with(&format!("{{podSelector: {{matchExpressions: [{bad}]}}, ingress: [{{}}]}}"));
        cluster.expect(&[
            ("y/b -> x/a tcp/80", false),
            ("y/b -> x/c tcp/80", false),
            ("z/a -> y/a tcp/80", true),
        ]);
        assert!(
            cluster.problems()[0].starts_with("networkpolicy x/p: spec.podSelector: "),
            "{:?}",
            cluster.problems()
        );
    }
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
    cluster.pod("x/a").ports.insert(named("web", Protocol::Tcp, 8080));
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
fn a_pod_cannot_block_itself() {
    let mut cluster = Cluster::with("{podSelector: {}, policyTypes: [Ingress, Egress]}");
    cluster.expect(&[
        ("x/a -> x/a tcp/80", true),
        ("x/a.6 -> x/a.6 udp/1", true),
        ("x/a -> x/b tcp/80", false),
    ]);
    // Unless nobody knows what it is.
    cluster.world.pods.remove(&key("x/a"));
    cluster.expect(&[("10.0.1.1 -> 10.0.1.1 tcp/80", false)]);
}

#[test]
fn a_pod_that_is_wired_but_not_known_is_closed() {
    let mut cluster = Cluster::new();
    cluster.world.pods.remove(&key("x/a"));
    cluster.expect(&[
        ("10.0.1.1 -> y/a tcp/80", false),
        ("y/a -> 10.0.1.1 tcp/80", false),
        ("x/b -> y/a tcp/80", true),
    ]);
    assert_eq!(
        cluster.judge("y/a -> 10.0.1.1 tcp/80").ingress.reason.to_string(),
        "the pod is not known yet"
    );
}

#[test]
fn a_pod_whose_forerunner_the_api_still_shows_is_not_known() {
    let mut cluster = ingress("[{from: [{podSelector: {matchLabels: {pod: b}}}]}]");
    cluster.pod("x/b").uid = Some(PodUid("older".to_owned()));
    cluster.expect(&[
        ("10.0.1.2 -> y/a tcp/80", false),
        ("y/a -> 10.0.1.2 tcp/80", false),
        ("10.0.1.2 -> x/a tcp/80", false),
    ]);
    // Where no uids are known, the name decides.
    cluster.local[1].uid = None;
    cluster.expect(&[("10.0.1.2 -> y/a tcp/80", true), ("x/b -> x/a tcp/80", true)]);
    cluster.local[1].uid = Some(PodUid("newer".to_owned()));
    cluster.pod("x/b").uid = None;
    cluster.expect(&[("10.0.1.2 -> y/a tcp/80", true), ("x/b -> x/a tcp/80", true)]);
}

#[test]
fn a_wired_pod_has_its_addresses_before_the_api_shows_them() {
    let mut cluster = ingress("[{from: [{podSelector: {matchLabels: {pod: b}}}]}]");
    cluster.pod("x/a").ips.clear();
    cluster.pod("x/b").ips.clear();
    cluster.expect(&[
        ("10.0.1.2 -> 10.0.1.1 tcp/80", true),
        ("fd00::1:2 -> fd00::1:1 tcp/80", true),
        ("10.0.1.3 -> 10.0.1.1 tcp/80", false),
    ]);
}

#[test]
fn what_the_cni_assigned_counts_before_what_any_status_says() {
    let mut cluster = ingress("[{from: [{podSelector: {matchLabels: {pod: b}}}]}]");
    // x/b was moved to another address, and its old one went to x/c.
    cluster.local[1].ips = [ip("10.0.1.77")].into();
    cluster.local[2].ips = [ip("10.0.1.2")].into();
    cluster.expect(&[("10.0.1.77 -> x/a tcp/80", true), ("10.0.1.2 -> x/a tcp/80", false)]);
    // Nor does a pod elsewhere have an address that is wired here.
    let mut cluster = ingress("[{from: [{namespaceSelector: {matchLabels: {ns: y}}}]}]");
    cluster.pod("y/a").ips.insert(ip("10.0.1.2"));
    cluster.expect(&[("10.0.1.2 -> x/a tcp/80", false), ("10.0.2.1 -> x/a tcp/80", true)]);
}

#[test]
fn a_pod_that_has_ended_is_no_peer_although_its_status_has_an_address() {
    let mut cluster = ingress("[{from: [{namespaceSelector: {matchLabels: {ns: y}}}]}]");
    cluster.pod("y/b").active = false;
    cluster.expect(&[("10.0.2.2 -> x/a tcp/80", false), ("y/a -> x/a tcp/80", true)]);
    // Its address is the new pod's alone.
    let reused = cluster.pod("y/b").ips.clone();
    cluster.pod("z/b").ips = reused;
    cluster.expect(&[("10.0.2.2 -> x/a tcp/80", false), ("x/a -> 10.0.2.2 tcp/80", true)]);
    cluster.pod("y/c").ips = cluster.world.pods[&key("z/b")].ips.clone();
    cluster.expect(&[("10.0.2.2 -> x/a tcp/80", true)]);
}

#[test]
fn named_ports_of_a_pod_that_has_ended_are_gone() {
    let mut cluster = egress("[{ports: [{port: web}]}]");
    cluster.pod("y/b").active = false;
    cluster.expect(&[("x/a -> 10.0.2.2 tcp/80", false), ("x/a -> y/a tcp/80", true)]);
}

#[test]
fn a_wired_pod_that_has_ended_is_closed() {
    let mut cluster = Cluster::new();
    cluster.pod("x/a").active = false;
    cluster.expect(&[("x/a -> y/a tcp/80", false), ("y/a -> x/a tcp/80", false)]);
    // And yields its address to a pod that lives.
    cluster.local.push(LocalPod {
        key: key("y/b"),
        uid: None,
        link: "weftyb".to_owned(),
        ips: [ip("10.0.1.1")].into(),
        ports: std::collections::BTreeSet::new(),
    });
    let ruleset = cluster.compile();
    let mut packet = cluster.packet(&cluster.flow("10.0.1.1 -> 203.0.113.9 tcp/80"));
    assert!(!forwards(&ruleset, &packet), "from the old link");
    packet.iif = "weftyb".to_owned();
    assert!(forwards(&ruleset, &packet), "from the new link");
    assert!(cluster.judge("10.0.1.1 -> 203.0.113.9 tcp/80").allowed());
}

#[test]
fn an_address_of_two_living_pods_is_closed_and_reported() {
    let mut cluster = Cluster::new();
    cluster.local[1].ips.insert(ip("10.0.1.1"));
    cluster.expect(&[
        ("10.0.1.1 -> y/a tcp/80", false),
        ("y/a -> 10.0.1.1 tcp/80", false),
        ("10.0.1.2 -> y/a tcp/80", true),
    ]);
    // Not even to the node itself, by either link.
    let ruleset = cluster.compile();
    for iif in ["weftxa", "weftxb"] {
        let packet = cluster.packet(&cluster.flow("10.0.1.1 -> 203.0.113.9 tcp/80"));
        let packet = Packet { iif: iif.to_owned(), ..packet };
        assert!(!passes(&ruleset, Hook::Prerouting, &packet), "{iif}");
    }
    assert_eq!(
        cluster.problems(),
        ["pod x/a: link weftxa: has the address 10.0.1.1 that weftxb has too; it is closed"]
    );
}

#[test]
fn pods_on_the_host_network_are_never_selected() {
    let mut cluster = ingress("[{from: [{namespaceSelector: {}}]}]");
    let host = cluster.pod("y/b");
    host.host_network = true;
    host.ips = [ip("192.168.0.2")].into();
    cluster.expect(&[("192.168.0.2 -> x/a tcp/80", false), ("y/a -> x/a tcp/80", true)]);
    cluster.add("{name: node, podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.168.0.2/32}}]}]}");
    cluster.expect(&[("192.168.0.2 -> x/a tcp/80", true)]);
    cluster.add("{name: q, namespace: y, podSelector: {}, policyTypes: [Ingress]}");
    cluster.expect(&[("x/b -> 192.168.0.2 tcp/80", true), ("x/b -> y/a tcp/80", false)]);
    let mut cluster = egress("[{ports: [{port: web}]}]");
    cluster.pod("y/b").host_network = true;
    cluster.expect(&[("x/a -> y/b tcp/80", false), ("x/a -> y/c tcp/80", true)]);
}

#[test]
fn a_pod_without_addresses_contributes_nothing() {
    let mut cluster = ingress("[{from: [{namespaceSelector: {}}]}]");
    cluster.pod("y/b").ips.clear();
    cluster.expect(&[("10.0.2.2 -> x/a tcp/80", false), ("y/c -> x/a tcp/80", true)]);
}

#[test]
fn label_changes_move_a_pod_between_policies() {
    let mut cluster = ingress("[{from: [{podSelector: {matchLabels: {pod: b}}}]}]");
    cluster.pod("x/c").labels.insert("pod".to_owned(), "b".to_owned());
    cluster.expect(&[("x/c -> x/a tcp/80", true)]);
    cluster.pod("x/a").labels.clear();
    cluster.expect(&[("z/a -> x/a tcp/80", true)]);
}

#[test]
fn the_reasons_are_in_words() {
    let cluster = Cluster::with(
        "
{name: deny, podSelector: {}, policyTypes: [Ingress]}
---
{name: web, podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {}}]}, {ports: [{port: 80}]}]}",
    );
    let judge = |flow: &str| {
        let judgement = cluster.judge(flow);
        [judgement.egress, judgement.ingress].map(|half| (half.reason.to_string(), half.enforced_here))
    };
    let words = |text: &str, here| (text.to_owned(), here);
    assert_eq!(
        judge("y/a -> x/a tcp/80"),
        [words("not isolated", false), words("allowed by x/web rule 2", true)]
    );
    assert_eq!(
        judge("y/a -> x/a tcp/81"),
        [words("not isolated", false), words("isolated by x/deny, x/web; no rule matches", true)]
    );
    assert_eq!(
        judge("x/b -> 203.0.113.9 tcp/1"),
        [words("not isolated", true), words("no pod has this address", false)]
    );
    assert_eq!(
        judge("x/b -> x/b tcp/1"),
        [words("a pod cannot block itself", true), words("a pod cannot block itself", true)]
    );
}
