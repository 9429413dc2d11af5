//! What compiling costs, and what happens to who asks for too much.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::compile::{Full, MAX_LOCAL, Options, compile, room_for};
use crate::model::LocalPod;
use crate::testing::{Cluster, key};

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

#[test]
fn a_set_of_peers_that_is_there_already_costs_nothing_once_more() {
    let policy = |pod: &str, port: u16| {
        let peers = "from: [{namespaceSelector: {matchLabels: {ns: y}}}]";
        format!(
            "{{name: {pod}, podSelector: {{matchLabels: {{pod: {pod}}}}}, ingress: [{{{peers}, ports: [{{port: {port}}}]}}]}}"
        )
    };
    let (a, b) = (policy("a", 80), policy("b", 81));
    let both = work(&Cluster::with(&format!("{a}\n---\n{b}")));
    let (a, b) = (work(&Cluster::with(&a)), work(&Cluster::with(&b)));
    assert!(both < a + b, "{both} of {a} and {b}");
}

/// An except halves its prefix up to once for each bit; a port's name is looked for on every pod that a block may hold.
#[test]
fn excepts_and_named_ports_are_reckoned_by_what_they_may_take() {
    let egress = |ports: &str, peers: &str| {
        work(&Cluster::with(&format!(
            "{{podSelector: {{}}, policyTypes: [Egress], egress: [{{ports: [{ports}], to: [{peers}]}}]}}"
        )))
    };
    let block = |i, except: &str| format!("{{ipBlock: {{cidr: 10.{i}.0.0/16, except: [{except}]}}}}");
    let (plain, cut) = (block(1, ""), block(1, "10.1.1.0/24, 10.1.2.0/24"));
    assert!(egress("{port: 80}", &cut) >= egress("{port: 80}", &plain) + 2 * 128);
    let pods = Cluster::new().world.pods.len();
    let two = format!("{plain}, {}", block(2, ""));
    assert!(egress("{port: web}", &two) >= egress("{port: web}", &plain) + pods);
    assert!(egress("{port: web}", "") >= 2 * pods, "in each family");
}

fn local(name: &str, link: usize, ips: BTreeSet<std::net::IpAddr>) -> LocalPod {
    LocalPod { key: key(name), uid: None, link: format!("weft{link}"), ips, ports: BTreeSet::new() }
}

#[test]
fn each_family_has_room_for_so_many_addresses() {
    let v4 = |from: usize, to: usize| (from..to).map(|i| Ipv4Addr::from(u32::try_from(i).unwrap()).into());
    let v6 = |from: usize, to: usize| (from..to).map(|i| Ipv6Addr::from(i as u128).into());
    let most = local("x/a", 0, v4(1, MAX_LOCAL).chain(v6(1, MAX_LOCAL)).collect());
    let room = |ips: Vec<_>| room_for([&most].into_iter(), &local("x/b", 1, ips.into_iter().collect()));
    let last = |from| v4(from, MAX_LOCAL + 1).chain(v6(from, MAX_LOCAL + 1)).collect();
    assert_eq!(room(last(MAX_LOCAL)), Ok(()));
    assert_eq!(room(v4(MAX_LOCAL, MAX_LOCAL + 2).collect()), Err(Full::Addresses));
    assert_eq!(room(v6(MAX_LOCAL, MAX_LOCAL + 2).collect()), Err(Full::Addresses));
}

/// Each of a pod's links may lead back to each.
#[test]
fn so_many_pairs_of_links_of_one_pod_have_room() {
    let links =
        |of: &str, count: usize| (0..count).map(|i| local(of, i, BTreeSet::new())).collect::<Vec<_>>();
    let room = |wired: Vec<LocalPod>, pod: &str| room_for(wired.iter(), &local(pod, 1000, BTreeSet::new()));
    assert_eq!(MAX_LOCAL, 128 * 128);
    assert_eq!(room(links("x/a", 127), "x/a"), Ok(()));
    assert_eq!(room(links("x/a", 128), "x/a"), Err(Full::Links));
    assert_eq!(room(links("x/a", 128), "x/b"), Err(Full::Links));
    let pods: Vec<_> = (0..300).flat_map(|i| links(&format!("x/{i}"), 1)).collect();
    assert_eq!(room(pods, "x/a"), Ok(()), "pods of one link have one pair each");
}
