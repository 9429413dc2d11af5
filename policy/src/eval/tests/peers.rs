//! Who the pods of a `from` or `to` are: selectors of pods and of namespaces, alone and together.

use std::sync::Arc;

use super::ingress;
use crate::testing::Cluster;

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
        Arc::make_mut(&mut cluster.pod("x/c").labels).insert("tier".to_owned(), "db".to_owned());
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
fn label_changes_move_a_pod_between_policies() {
    let mut cluster = ingress("[{from: [{podSelector: {matchLabels: {pod: b}}}]}]");
    Arc::make_mut(&mut cluster.pod("x/c").labels).insert("pod".to_owned(), "b".to_owned());
    cluster.expect(&[("x/c -> x/a tcp/80", true)]);
    cluster.pod("x/a").labels = Arc::default();
    cluster.expect(&[("z/a -> x/a tcp/80", true)]);
}
