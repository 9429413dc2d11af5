//! What a wired pod can do, and what its link looks like.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::lab::{Node, Pod, addresses, eventually, link, run, snmp6};

#[test]
fn pods_reach_each_other_and_the_node_in_both_families_and_leave_nothing() {
    let node = Node::dual_stack();
    let (a, b) = (Pod::new(), Pod::new());
    let (of_a, of_b) = (node.add(&a).result(), node.add(&b).result());

    for address in addresses(&of_b).iter().map(String::as_str).chain(["192.0.2.1", "2001:db8::1"]) {
        assert!(a.can_ping(address), "{address}");
    }
    for address in addresses(&of_a) {
        assert!(b.can_ping(&address), "{address}");
        node.exec(&format!("ping -n -c 1 -W 2 {address}"));
    }
    node.check(&a, &of_a).assert_ok();

    node.del(&a).assert_ok();
    assert!(!b.can_ping(&addresses(&of_a)[0]));
    node.del(&b).assert_ok();
    node.assert_clean();
    assert_eq!(node.ipam().pools[0].cooling, 2);
}

/// The kernel's default is one queue per possible CPU, which costs milliseconds on large machines.
#[test]
fn both_ends_have_one_queue_and_the_mtu_of_the_node() {
    let node = Node::dual_stack();
    let pod = Pod::new();
    let host = link(&node.add(&pod).result());
    for text in [node.ip(&format!("-j -d link show {host}")), pod.ip("-j -d link show eth0")] {
        let link: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&link[0]["num_tx_queues"], &link[0]["num_rx_queues"]), (&1.into(), &1.into()), "{text}");
        assert_eq!(link[0]["mtu"], 1400);
    }
    node.ip(&format!("link show {host} group 87"));
}

/// The agent can write only what is mounted for it, as in a container.
#[test]
fn the_host_side_takes_no_router_advertisements_and_no_foreign_sources() {
    let mut node = Node::dual_stack();
    // What some distributions ship, and new links inherit.
    node.exec("sysctl -qw net.ipv6.conf.default.accept_ra=2 net.ipv4.conf.default.rp_filter=0");
    let pod = Pod::new();
    let host = link(&node.add(&pod).result());
    let read = |node: &Node| {
        let files = format!("net.ipv6.conf.{host}.accept_ra net.ipv4.conf.{host}.rp_filter");
        node.exec(&format!("sysctl -n {files}"))
    };
    assert_eq!(read(&node), "0\n1\n");

    node.kill_agent();
    node.exec(&format!("sysctl -qw net.ipv6.conf.{host}.accept_ra=2 net.ipv4.conf.{host}.rp_filter=0"));
    node.start_agent();
    assert_eq!(read(&node), "0\n1\n", "also those that a former agent made");
}

#[test]
fn a_namespace_with_ipv6_off_is_wired_in_both_families() {
    let node = Node::dual_stack();
    let pod = Pod::new();
    for scope in ["all", "default"] {
        run(&format!("ip netns exec {} sysctl -qw net.ipv6.conf.{scope}.disable_ipv6=1", pod.netns));
    }
    for address in addresses(&node.add(&pod).result()) {
        node.exec(&format!("ping -n -c 1 -W 2 {address}"));
    }
}

/// No ARP, no neighbour discovery, no duplicate address detection, no link-local address.
#[test]
fn nothing_but_the_payload_is_on_the_wire() {
    let node = Node::dual_stack();
    let (a, b) = (Pod::new(), Pod::new());
    node.add(&a).result();
    let of_b = node.add(&b).result();
    let link_local = |text: String| text.contains("fe80::");
    assert!(!link_local(a.ip("addr show dev eth0")), "the pod has a link-local address");
    assert!(!link_local(node.ip("addr show")), "the node has a link-local address");
    assert!(!a.ip("addr show dev eth0").contains("tentative"));

    for address in addresses(&of_b) {
        assert!(a.can_ping(&address));
    }
    // Joining the multicast group of one's own address is reported, and reported again a random while later: nothing waits
    // for it, and it may come between two of these looks.
    let reports = || [&a.netns, &node.netns].map(|netns| snmp6(netns, "Icmp6OutMLDv2Reports"));
    let [of_pod, _] = reports();
    let stats: Value = serde_json::from_str(&a.ip("-j -s link show eth0")).unwrap();
    let [of_pod_since, of_node] = reports();
    let packets = |way: &str| stats[0]["stats64"][way]["packets"].as_u64().unwrap();
    assert!((2 + of_pod..=2 + of_pod_since).contains(&packets("tx")), "{stats}: one echo request per family");
    assert!((2..=2 + of_node).contains(&packets("rx")), "{stats}: one echo reply per family");
    for netns in [&a.netns, &node.netns] {
        assert_eq!(snmp6(netns, "Icmp6OutNeighborSolicits") + snmp6(netns, "Icmp6OutRouterSolicits"), 0);
    }
}

#[test]
fn the_pod_end_keeps_the_address_that_its_neighbours_know() {
    let node = Node::dual_stack();
    let pod = Pod::new();
    let result = node.add(&pod).result();
    let mac = result["interfaces"][1]["mac"].as_str().unwrap();
    assert!(pod.ip("link show eth0").contains(mac));
    for address in addresses(&result) {
        assert!(node.ip(&format!("neigh show {address}")).contains(&format!("lladdr {mac} PERMANENT")));
    }
}

#[test]
fn what_others_take_from_a_live_pod_is_put_back() {
    let node = Node::dual_stack();
    let pod = Pod::new();
    let result = node.add(&pod).result();
    let host = link(&result);
    // Routes and permanent neighbours go with it.
    node.ip(&format!("link set {host} down"));
    eventually("the link is repaired", || {
        addresses(&result).iter().all(|address| pod_answers(&node, address))
    });
    node.check(&pod, &result).assert_ok();
}

fn pod_answers(node: &Node, address: &str) -> bool {
    crate::lab::try_run(&format!("ip netns exec {} ping -n -c 1 -W 1 {address}", node.netns)).0
}

#[test]
fn a_pod_whose_namespace_is_destroyed_without_del_frees_its_addresses() {
    let node = Node::dual_stack();
    let pod = Pod::new();
    node.add(&pod).result();
    pod.destroy();
    node.assert_clean();
    node.del(&pod).assert_ok();
}

/// An open descriptor would keep every destroyed pod's namespace alive.
#[test]
fn the_agent_keeps_no_descriptor_of_a_pod() {
    let node = Node::dual_stack();
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count();
    let before = descriptors();
    let pods: Vec<_> = (0..5).map(|_| Pod::new()).collect();
    let links: BTreeSet<_> = pods.iter().map(|pod| link(&node.add(pod).result())).collect();
    assert_eq!(links.len(), 5);
    eventually("the calls' descriptors are closed", || descriptors() <= before);
}

#[test]
fn the_agent_has_two_capabilities_and_no_way_to_more() {
    let node = Node::dual_stack();
    let status = run(&format!("cat /proc/{}/status", node.pid()));
    // NET_BIND_SERVICE (10), NET_ADMIN (12).
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert!(status.contains(&format!("{set}:\t0000000000001400")), "{status}");
    }
}
