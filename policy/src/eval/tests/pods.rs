//! Whose address it is: pods that are wired but not known, that have ended, that share an address, or live on the host's
//! network.

use std::collections::BTreeSet;

use super::{egress, ingress};
use crate::interpret::{Packet, forwards, passes};
use crate::model::{LocalPod, PodKey, PodUid};
use crate::ruleset::Hook;
use crate::testing::{Cluster, ip, key};

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
fn a_pod_without_a_name_is_in_no_namespace_and_open() {
    let mut cluster = Cluster::with("{podSelector: {}, policyTypes: [Ingress, Egress]}");
    cluster.local.push(LocalPod {
        key: PodKey { namespace: String::new(), name: "c1/eth0".to_owned() },
        uid: None,
        link: "weftc1".to_owned(),
        ips: [ip("10.0.1.50")].into(),
        ports: BTreeSet::new(),
    });
    cluster.expect(&[
        ("10.0.1.50 -> y/a tcp/80", true),
        ("y/a -> 10.0.1.50 tcp/80", true),
        ("10.0.1.50 -> x/a tcp/80", false),
    ]);
    cluster.add("{name: open, podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}");
    cluster.expect(&[("10.0.1.50 -> x/a tcp/80", false), ("y/a -> x/a tcp/80", true)]);
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
        ports: BTreeSet::new(),
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
fn the_link_of_a_forerunner_does_not_say_where_its_successor_is() {
    let mut cluster = Cluster::with(
        "{podSelector: {matchLabels: {pod: b}}, ingress: [{from: [{podSelector: {matchLabels: {pod: a}}}]}]}",
    );
    cluster.local[0].uid = Some(PodUid("the one before".to_owned()));
    cluster.pod("x/a").ips = [ip("10.0.7.7")].into();
    cluster.expect(&[("10.0.7.7 -> x/b tcp/80", true), ("10.0.1.1 -> x/b tcp/80", false)]);
}
