//! Truth tables, written by hand from the Kubernetes documentation: one test for each rule and each trap.
//!
//! [`Cluster::expect`] asks the evaluator first and then the compiled ruleset.

mod blocks;
mod isolation;
mod peers;
mod pods;
mod ports;

use super::Judge;
use crate::testing::Cluster;

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

#[test]
fn a_half_names_the_policies_that_decided_it() {
    let cluster = Cluster::with(
        "
{name: deny, podSelector: {}, policyTypes: [Ingress]}
---
{name: web, podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 80}]}]}",
    );
    let policies = |flow: &str| {
        let policies = cluster.judge(flow).ingress.policies();
        policies.iter().map(|policy| policy.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(policies("y/a -> x/a tcp/80"), ["web"]);
    assert_eq!(policies("y/a -> x/a tcp/81"), ["deny", "web"]);
    assert_eq!(policies("x/a -> y/a tcp/80"), [""; 0]);
}

#[test]
fn a_node_stops_what_it_enforces_itself_and_does_not_speak_of_strangers() {
    let cluster = Cluster::with(
        "
{podSelector: {}, policyTypes: [Ingress]}
---
{namespace: y, podSelector: {}, policyTypes: [Ingress]}",
    );
    let judge = Judge::new(&cluster.world, &cluster.local);
    for (flow, stops) in [
        ("y/a -> x/a tcp/80", Some(true)),
        ("x/a -> x/b tcp/80", Some(true)),
        ("x/a -> z/a tcp/80", Some(false)),
        ("x/a -> y/a tcp/80", Some(false)), // y/a's node does
        ("z/a -> y/a tcp/80", None),
    ] {
        assert_eq!(judge.stops(&cluster.flow(flow)), stops, "{flow}");
    }
}
