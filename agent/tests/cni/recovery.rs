//! An agent that is killed at any point, and the one after it.

use serde_json::json;

use crate::lab::{Node, Pod, addresses, conf, eventually, link};

const JOURNAL: &str = "attachments.journal";

fn restart(node: &mut Node) {
    node.kill_agent();
    node.start_agent();
}

#[test]
fn pods_live_on_and_are_known_to_the_next_agent() {
    let mut node = Node::dual_stack();
    let pod = Pod::new();
    let result = node.add(&pod).result();
    restart(&mut node);
    node.check(&pod, &result).assert_ok();
    assert_eq!(std::fs::read_to_string(node.run_dir.join("recovered")).unwrap(), pod.container_id);
    assert_eq!(node.ipam().allocations.len(), 1);
    node.del(&pod).assert_ok();
    node.assert_clean();
}

#[test]
fn without_the_journal_links_tell_all() {
    let mut node = Node::dual_stack();
    let pod = Pod::new();
    let result = node.add(&pod).result();
    node.kill_agent();
    std::fs::remove_file(node.run_dir.join(JOURNAL)).unwrap();
    node.start_agent();
    node.check(&pod, &result).assert_ok();
    let allocation = &node.ipam().allocations[0];
    assert_eq!(allocation.pod, format!("default/{}", pod.netns));
    let next = node.add(&Pod::new()).result();
    assert_ne!(addresses(&next), addresses(&result));
}

#[test]
fn a_pod_of_the_longest_name_is_known_without_the_journal() {
    let mut node = Node::dual_stack();
    let pod = Pod::new();
    let (namespace, name) = ("n".repeat(63), "p".repeat(253));
    let mut env = pod.env("ADD");
    env.insert("CNI_ARGS", format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}"));
    node.cni(&env, &conf("1.1.0", json!({}))).result();
    node.kill_agent();
    std::fs::remove_file(node.run_dir.join(JOURNAL)).unwrap();
    node.start_agent();
    assert_eq!(node.ipam().allocations[0].pod, format!("{namespace}/{name}"));
    node.del(&pod).assert_ok();
    node.assert_clean();
}

#[test]
fn an_add_that_was_interrupted_is_undone() {
    let mut node = Node::dual_stack();
    let pod = Pod::new();
    std::fs::write(node.run_dir.join("hold-policy"), "").unwrap();
    let add = node.spawn_cni(&pod.env("ADD"), &conf("1.1.0", json!({})));
    eventually("the policy is asked for", || node.run_dir.join("admitted").exists());
    eventually("the link is made", || node.links().len() == 1);
    node.kill_agent();
    assert_eq!(add.wait().error().0, 11);
    std::fs::remove_file(node.run_dir.join("hold-policy")).unwrap();
    node.start_agent();
    node.assert_clean();
    node.add(&pod).result();
}

/// The kill between the last message to the kernel and the journal's line.
#[test]
fn a_wired_pod_without_its_commit_is_undone() {
    let mut node = Node::dual_stack();
    node.add(&Pod::new()).result();
    node.kill_agent();
    let journal = std::fs::read_to_string(node.run_dir.join(JOURNAL)).unwrap();
    let torn = journal.trim_end().rsplit_once('\n').unwrap().0.to_owned() + "\n1234";
    std::fs::write(node.run_dir.join(JOURNAL), torn).unwrap();
    node.start_agent();
    node.assert_clean();
}

/// The kill between the answer to DEL and the deletion of the link.
#[test]
fn a_deletion_that_was_answered_is_finished() {
    let mut node = Node::dual_stack();
    let pod = Pod::new();
    let host = link(&node.add(&pod).result());
    node.del(&pod).assert_ok();
    restart(&mut node);
    node.assert_clean();
    assert!(!node.links().contains(&host));
    assert_eq!(node.ipam().pools[0].cooling, 1);
}

#[test]
fn a_pod_that_goes_while_no_agent_runs_is_freed_by_the_next() {
    let mut node = Node::dual_stack();
    let (deleted, destroyed) = (Pod::new(), Pod::new());
    node.add(&deleted).result();
    node.add(&destroyed).result();
    node.kill_agent();
    node.del(&deleted).assert_ok();
    destroyed.destroy();
    node.start_agent();
    node.assert_clean();
    assert_eq!(std::fs::read_dir(node.run_dir.join("deleted")).unwrap().count(), 0);
}

#[test]
fn without_an_agent_each_verb_fails_as_it_should() {
    let mut node = Node::dual_stack();
    node.kill_agent();
    let pod = Pod::new();
    let (code, message) = node.add(&pod).error();
    assert_eq!((code, message.contains("the Weft agent does not listen")), (11, true), "{message}");
    let status = || node.cni(&pod.env("STATUS"), &conf("1.1.0", json!({})));
    // What runs must not be evicted because an agent is away; a node that has never served must not be given pods.
    status().assert_ok();
    std::fs::remove_file(node.run_dir.join(weft_api::SERVED_MARK)).unwrap();
    assert_eq!(status().error().0, 50);
    node.cni(&pod.env("VERSION"), &conf("1.0.0", json!({}))).result();
    node.del(&pod).assert_ok();
}

#[test]
fn an_add_waits_for_an_agent_that_restarts() {
    let mut node = Node::dual_stack();
    node.kill_agent();
    let pod = Pod::new();
    let add = node.spawn_cni(&pod.env("ADD"), &conf("1.1.0", json!({})));
    node.start_agent();
    add.wait().result();
}

#[test]
fn cooling_survives_a_restart() {
    let mut node = Node::new("10.77.0.0/30");
    let pod = Pod::new();
    let first = node.add(&pod).result();
    node.del(&pod).assert_ok();
    node.assert_clean();
    restart(&mut node);
    assert_ne!(addresses(&node.add(&Pod::new()).result()), addresses(&first));
    assert_eq!(node.ipam().pools[0].cooling, 1);
}

#[test]
fn links_of_others_are_left_alone() {
    let mut node = Node::dual_stack();
    // A name like ours without our group; and our group with another name.
    node.ip("link add weft0123456789a type veth peer name other");
    node.ip("link add foreign group 87 type veth peer name other2");
    restart(&mut node);
    node.add(&Pod::new()).result();
    node.ip("link show weft0123456789a");
    node.ip("link show foreign");
}
