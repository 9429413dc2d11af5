//! The verbs as a runtime uses them, and misuses them.

use serde_json::json;
use weft_pods::attachment::AttachmentId;

use crate::lab::{Node, Pod, addresses, conf, eventually, link};

#[test]
fn add_answers_in_the_version_of_the_configuration() {
    let node = Node::dual_stack();
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let pod = Pod::new();
        let result = node.cni(&pod.env("ADD"), &conf(version, json!({}))).result();
        assert_eq!(result["cniVersion"], version);
        assert_eq!(result["interfaces"][1]["sandbox"], pod.env("ADD")["CNI_NETNS"]);
        node.cni(&pod.env("DEL"), &conf(version, json!({}))).assert_ok();
    }
    node.assert_clean();
}

#[test]
fn a_repeated_add_for_the_same_namespace_gives_the_same_result() {
    let node = Node::dual_stack();
    let pod = Pod::new();
    assert_eq!(node.add(&pod).result(), node.add(&pod).result());
    assert_eq!(node.links().len(), 1);
}

#[test]
fn one_container_cannot_be_attached_in_two_namespaces() {
    let node = Node::dual_stack();
    let (pod, mut other) = (Pod::new(), Pod::new());
    node.add(&pod).result();
    other.container_id.clone_from(&pod.container_id);
    assert_eq!(node.add(&other).error().0, 4);
    assert_eq!(node.links().len(), 1);
}

#[test]
fn an_interface_that_exists_is_not_touched() {
    let node = Node::dual_stack();
    let pod = Pod::new();
    pod.ip("link add eth0 type veth peer name other");
    let (code, message) = node.add(&pod).error();
    assert_eq!((code, message.as_str()), (4, "CNI_IFNAME: eth0 exists already in the namespace"));
    node.assert_clean();
}

#[test]
fn del_succeeds_for_what_is_gone_or_never_was() {
    let node = Node::dual_stack();
    let pod = Pod::new();
    node.del(&pod).assert_ok();
    node.add(&pod).result();
    pod.destroy();
    let mut env = pod.env("DEL");
    env.insert("CNI_NETNS", String::new());
    for _ in 0..2 {
        node.cni(&env, &conf("1.1.0", json!({}))).assert_ok();
    }
    node.assert_clean();
}

#[test]
fn an_id_can_be_attached_again_after_del() {
    let node = Node::dual_stack();
    let pod = Pod::new();
    let first = node.add(&pod).result();
    node.del(&pod).assert_ok();
    let second = node.add(&pod).result();
    assert_ne!(addresses(&first), addresses(&second), "the address is still cooling");
}

#[test]
fn a_late_del_of_the_former_sandbox_does_not_touch_the_new_one() {
    let node = Node::dual_stack();
    let (old, new) = (Pod::new(), Pod::new());
    node.add(&old).result();
    let result = node.add(&new).result();
    node.del(&old).assert_ok();
    node.check(&new, &result).assert_ok();
}

#[test]
fn a_failed_add_leaves_nothing() {
    let node = Node::dual_stack();
    let pod = Pod::new();
    std::fs::write(node.run_dir.join("refuse-policy"), "").unwrap();
    let (code, message) = node.add(&pod).error();
    assert_eq!((code, message.contains("refused by the test")), (11, true), "{message}");
    node.assert_clean();
    assert_eq!(node.ipam().pools[0].cooling, 0, "an address that carried nothing needs no rest");
    std::fs::remove_file(node.run_dir.join("refuse-policy")).unwrap();
    node.add(&pod).result();
}

#[test]
fn a_link_of_somebody_else_with_our_name_is_left_and_another_name_taken() {
    let node = Node::dual_stack();
    let pod = Pod::new();
    let id = AttachmentId { container_id: pod.container_id.clone(), ifname: "eth0".to_owned() };
    let first = weft_pods::mark::name(&id, 0);
    node.ip(&format!("link add {first} type veth peer name theirs"));
    let result = node.add(&pod).result();
    assert_eq!(link(&result), weft_pods::mark::name(&id, 1));
    assert!(pod.can_ping("192.0.2.1"));
    node.del(&pod).assert_ok();
    eventually("its address rests, and that of the first try does not", || node.ipam().pools[0].cooling == 1);
    assert_eq!(node.links(), [first]);
}

#[test]
fn no_packet_passes_before_the_policy_is_in_force() {
    let node = Node::dual_stack();
    let pod = Pod::new();
    std::fs::write(node.run_dir.join("hold-policy"), "").unwrap();
    let add = node.spawn_cni(&pod.env("ADD"), &conf("1.1.0", json!({})));
    eventually("the policy is asked for", || node.run_dir.join("admitted").exists());
    let host = std::fs::read_to_string(node.run_dir.join("admitted")).unwrap();
    eventually("the link is made meanwhile", || node.links().contains(&host));
    assert!(node.ip(&format!("link show {host}")).contains("state DOWN"));
    assert_eq!(node.ip("route show proto 87"), "");
    std::fs::remove_file(node.run_dir.join("hold-policy")).unwrap();
    assert_eq!(link(&add.wait().result()), host);
    assert!(!node.ip("route show proto 87").is_empty());
}

/// A runtime kills a client that takes too long; what it has begun must not outlive it.
#[test]
fn an_add_whose_client_is_killed_is_undone() {
    let node = Node::dual_stack();
    let pod = Pod::new();
    std::fs::write(node.run_dir.join("hold-policy"), "").unwrap();
    let add = node.spawn_cni(&pod.env("ADD"), &conf("1.1.0", json!({})));
    eventually("the policy is asked for", || node.run_dir.join("admitted").exists());
    add.kill();
    std::fs::remove_file(node.run_dir.join("hold-policy")).unwrap();
    node.assert_clean();
}

#[test]
fn check_names_what_is_missing() {
    let node = Node::dual_stack();
    let pod = Pod::new();
    let result = node.add(&pod).result();
    node.check(&pod, &result).assert_ok();
    assert_eq!(node.check(&Pod::new(), &result).error().0, 3);
    assert_eq!(node.check(&pod, &json!({})).error().0, 101);
    pod.ip("addr flush dev eth0 scope global");
    let (code, message) = node.check(&pod, &result).error();
    assert_eq!((code, message.contains("eth0 lacks 10.77.0.1")), (101, true), "{message}");
}

#[test]
fn gc_removes_what_is_not_listed() {
    let node = Node::dual_stack();
    let (kept, lost) = (Pod::new(), Pod::new());
    let result = node.add(&kept).result();
    node.add(&lost).result();
    let valid = json!([{ "containerID": kept.container_id, "ifname": "eth0" }]);
    node.cni(&kept.env("GC"), &conf("1.1.0", json!({}))).assert_ok();
    assert_eq!(node.links().len(), 2, "no list is not an empty list");
    node.cni(&kept.env("GC"), &conf("1.1.0", json!({ "cni.dev/valid-attachments": valid }))).assert_ok();
    eventually("the other is gone", || node.links() == [link(&result)]);
    node.cni(&kept.env("GC"), &conf("1.1.0", json!({ "cni.dev/attachments": [] }))).assert_ok();
    node.assert_clean();
}

#[test]
fn without_a_pod_cidr_status_and_add_say_so() {
    let node = Node::new("");
    let pod = Pod::new();
    let status = node.cni(&pod.env("STATUS"), &conf("1.1.0", json!({}))).error();
    assert_eq!(status, (50, "not ready: node node has no podCIDR".to_owned()));
    assert_eq!(node.add(&pod).error(), (11, "try again later: node node has no podCIDR".to_owned()));
    Node::dual_stack().cni(&pod.env("STATUS"), &conf("1.1.0", json!({}))).assert_ok();
}

#[test]
fn a_full_pool_refuses_and_recovers_nothing_it_should_not() {
    let node = Node::new("10.77.0.0/30");
    let pods = [Pod::new(), Pod::new(), Pod::new()];
    node.add(&pods[0]).result();
    node.add(&pods[1]).result();
    let (code, message) = node.add(&pods[2]).error();
    assert_eq!((code, message.contains("no free IPv4 address: 2 in use")), (11, true), "{message}");
    node.cni(&pods[0].env("STATUS"), &conf("1.1.0", json!({}))).assert_ok();
}

/// The directory and the socket are root's alone; where somebody has opened them, the agent still looks who calls.
#[test]
fn only_root_is_served() {
    let node = Node::dual_stack();
    let pod = Pod::new();
    let result = node.add(&pod).result();
    let stdin = conf("1.1.0", json!({ "cni.dev/valid-attachments": [] }));
    let (code, message) = node.cni_as_nobody(&pod.env("GC"), &stdin).error();
    assert_eq!((code, message.contains("stopped before it answered")), (11, true), "{message}");
    node.check(&pod, &result).assert_ok();
    node.cni(&pod.env("GC"), &stdin).assert_ok();
    node.assert_clean();
}

#[test]
fn the_node_is_nobodys_sandbox() {
    let node = Node::dual_stack();
    let mut env = Pod::new().env("ADD");
    for netns in [format!("/run/netns/{}", node.netns), "/etc/hostname".to_owned(), "/nowhere".to_owned()] {
        env.insert("CNI_NETNS", netns);
        assert_eq!(node.cni(&env, &conf("1.1.0", json!({}))).error().0, 8);
    }
    node.assert_clean();
}

#[test]
fn a_large_configuration_fits() {
    let node = Node::dual_stack();
    let pod = Pod::new();
    let annotations =
        json!({ "runtimeConfig": { "io.kubernetes.cri.pod-annotations": { "a": "x".repeat(256 * 1024) } } });
    node.cni(&pod.env("ADD"), &conf("1.1.0", annotations)).result();
}

#[test]
fn pods_of_a_burst_get_distinct_addresses_and_all_go() {
    let node = Node::dual_stack();
    let pods: Vec<_> = (0..20).map(|_| Pod::new()).collect();
    let calls: Vec<_> =
        pods.iter().map(|pod| node.spawn_cni(&pod.env("ADD"), &conf("1.1.0", json!({})))).collect();
    let mut all: Vec<_> = calls.into_iter().flat_map(|call| addresses(&call.wait().result())).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 40);
    let calls: Vec<_> =
        pods.iter().map(|pod| node.spawn_cni(&pod.env("DEL"), &conf("1.1.0", json!({})))).collect();
    calls.into_iter().for_each(|call| call.wait().assert_ok());
    node.assert_clean();
}
