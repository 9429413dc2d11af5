//! Truth tables, written by hand from the Kubernetes documentation: one test for each rule and each trap.
//!
//! [`Cluster::expect`] asks the evaluator first and then the compiled ruleset.

mod blocks;
mod isolation;
mod peers;
mod pods;
mod ports;

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
