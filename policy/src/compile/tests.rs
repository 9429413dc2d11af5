//! What compiling costs, and what happens to who asks for too much.

use crate::compile::{Options, compile};
use crate::testing::Cluster;

/// One port in two, so that no piece is merged with the next.
fn ports(count: usize) -> Cluster {
    let ports: Vec<_> = (1..=count).map(|i| format!("{{port: {}}}", 2 * i)).collect();
    let peers = "from: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8}}]";
    Cluster::with(&format!("{{podSelector: {{}}, ingress: [{{{peers}, ports: [{}]}}]}}", ports.join(", ")))
}

fn work(cluster: &Cluster) -> usize {
    compile(&cluster.world, &cluster.local, &Options::default()).work
}

#[test]
fn work_grows_with_the_ports_and_not_with_the_pods_that_have_them() {
    let (one, two) = (ports(500), ports(1000));
    assert!(work(&two) <= 2 * work(&one), "{} and {}", work(&one), work(&two));
    let (mut alone, mut three) = (ports(500), one);
    alone.local.truncate(1);
    three.pod("x/c").ports = three.pod("x/a").ports.clone();
    assert_eq!(work(&three), work(&alone));
}

#[test]
fn a_peer_is_looked_for_among_the_pods_with_its_label() {
    let selecting = |selector: &str| {
        let peer = format!("{{namespaceSelector: {{}}, podSelector: {selector}}}");
        work(&Cluster::with(&format!(
            "{{podSelector: {{}}, ingress: [{{from: [{peer}, {{podSelector: {selector}}}]}}]}}"
        )))
    };
    assert!(
        selecting("{matchLabels: {pod: a}}")
            < selecting("{matchExpressions: [{key: pod, operator: Exists}]}")
    );
}

#[test]
fn a_namespace_that_asks_for_too_much_is_closed_by_name_and_no_other() {
    let mut cluster = ports(500);
    cluster.add("{name: small, namespace: y, podSelector: {}, ingress: [{ports: [{port: 80}]}]}");
    cluster.wire("y/a");
    let options = Options { namespace_budget: 400, ..Options::default() };
    let compiled = compile(&cluster.world, &cluster.local, &options);
    let named: Vec<_> = compiled.problems.iter().map(|problem| problem.object.as_str()).collect();
    assert_eq!(named, ["networkpolicy x/p"]);
    let forwards =
        |flow: &str| crate::interpret::forwards(&compiled.ruleset, &cluster.packet(&cluster.flow(flow)));
    assert!(!forwards("z/a -> x/a tcp/2"), "isolated, and nothing allowed");
    assert!(!forwards("x/b -> x/a tcp/2"));
    assert!(forwards("z/a -> y/a tcp/80") && !forwards("z/a -> y/a tcp/81"));
    assert!(forwards("x/a -> y/a tcp/80"), "the other way is not spoken of");
    assert!(!compiled.ruleset.sets.keys().any(|name| name.starts_with("u4")), "nothing is left over");
}
