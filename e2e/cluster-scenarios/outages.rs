//! Daemons of a node and the API server go away and come back: what runs goes on without a loss, what died meanwhile is
//! wired again with what is known, and the backlog is worked off.

use std::time::Duration;

use serde_json::json;
use weft_e2e::cluster::Cluster;
use weft_e2e::lab::OUTSIDE;
use weft_e2e::net::Flow;
use weft_e2e::net::Proto;
use weft_e2e::wait;

use crate::policy::ingress;
use crate::story::{CONVERGED, Scene, Server, at, cut_off, nothing_was_lost, reaches, until_more_echoes};

const RATE: u32 = 500;
/// Without an API server.
const GONE_FOR: Duration = Duration::from_secs(120);
/// The last part of it also without an agent on one node: it must find the API server again, which it tries at growing
/// intervals, before graceful restart ends.
const WITHOUT_AGENT: Duration = Duration::from_secs(30);

pub(crate) fn api_server_is_gone_for_minutes(cluster: &Cluster) {
    let scene = Scene::set(cluster, "no-api");
    let (a, c) = (scene.server("a", "node1", &[]), scene.server("c", "node3", &[]));
    let closed = scene.server("closed", "node3", &[("app", "closed")]);
    let victim = scene.server("victim", "node2", &[]);
    scene.apply(ingress("deny", &json!({ "matchLabels": { "app": "closed" } }), &json!([])));
    let outside = cluster.lab().namespace(OUTSIDE).unwrap();
    reaches(a.namespace(), &c);
    reaches(a.namespace(), &victim);
    reaches(&outside, &c);
    cut_off(a.namespace(), &closed);
    let flows = flows_between(&a, &c);

    cluster.kill_api_server().unwrap();
    let started = std::time::Instant::now();
    // A pod dies; its kubelet makes a new sandbox with what it and the agent know.
    let sandboxes = || allocations(cluster, "node2", victim.key());
    let before = sandboxes();
    cluster.kill_sandbox("node2", victim.key()).unwrap();
    wait::until("new sandbox without an API", CONVERGED, || {
        let now = sandboxes();
        Ok((!now.is_empty() && now != before).then_some(()))
    })
    .unwrap();
    let passed = |time| wait::until_true("the outage", time * 2, || started.elapsed() >= time).unwrap();
    passed(GONE_FOR - WITHOUT_AGENT);
    // An agent that starts without an API: what is in the kernel works on, and what routers have for as long as their
    // graceful restart lasts.
    cluster.kill_agent("node3").unwrap();
    cut_off(a.namespace(), &closed);
    passed(GONE_FOR);
    until_more_echoes(&flows, RATE);
    cut_off(a.namespace(), &closed);
    cluster.start_api_server().unwrap();

    let revived = Server::of(cluster.running_pod(victim.key()).unwrap());
    reaches(a.namespace(), &revived);
    let new = scene.server("new", "node3", &[("app", "new")]);
    reaches(a.namespace(), &new);
    until_more_echoes(&flows, RATE);
    nothing_was_lost(flows, "API server gone");
    cut_off(a.namespace(), &closed);
    // What changes afterwards is heard of.
    scene.apply(ingress("deny-new", &json!({ "matchLabels": { "app": "new" } }), &json!([])));
    cut_off(a.namespace(), &new);
}

pub(crate) fn daemons_of_a_node_are_killed(cluster: &Cluster) {
    let scene = Scene::set(cluster, "daemons");
    let (a, c) = (scene.server("a", "node1", &[]), scene.server("c", "node3", &[]));
    reaches(a.namespace(), &c);
    let flows = flows_between(&a, &c);

    cluster.restart_containerd("node3").unwrap();
    let new = scene.server("after-containerd", "node3", &[]);
    reaches(a.namespace(), &new);
    cluster.restart_kubelet("node3").unwrap();
    let new = scene.server("after-kubelet", "node3", &[]);
    reaches(a.namespace(), &new);
    until_more_echoes(&flows, RATE);
    nothing_was_lost(flows, "containerd and kubelet killed");
}

fn flows_between(from: &Server, to: &Server) -> Vec<Flow> {
    let start = |proto| {
        to.addresses().iter().map(move |ip| Flow::start(from.namespace(), proto, at(*ip), RATE).unwrap())
    };
    Proto::ALL.into_iter().flat_map(start).collect()
}

/// The sandboxes that hold addresses for a pod, as the node's agent knows them.
fn allocations(cluster: &Cluster, node: &str, pod: &str) -> Vec<String> {
    let text = cluster.lab().weftctl(node, "ipam show -o json").unwrap();
    let ipam: serde_json::Value = serde_json::from_str(&text).unwrap();
    let all = ipam["allocations"].as_array().unwrap().iter();
    let of_pod = all.filter(|allocation| allocation["pod"] == pod);
    of_pod.map(|allocation| allocation["container_id"].as_str().unwrap().to_owned()).collect()
}
