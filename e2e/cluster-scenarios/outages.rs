//! Daemons of a node and the API server go away and come back: what runs goes on without a loss, what died meanwhile is
//! wired again with what is known, and the backlog is worked off. `WEFT_OUTAGE_SECONDS` is how long the API server is away.

use std::time::Duration;

use serde_json::{Value, json};
use weft_e2e::cluster::Cluster;
use weft_e2e::lab::OUTSIDE;
use weft_e2e::net::Flow;
use weft_e2e::net::Proto;
use weft_e2e::wait;

use crate::policy::ingress;
use crate::story::{CONVERGED, Scene, Server, at, cut_off, nothing_was_lost, reaches, until_more_echoes};

const RATE: u32 = 500;
/// Without an API server, where nothing else is said. Longer than routers keep the routes of a node without an agent.
const GONE_FOR: Duration = Duration::from_secs(80);

pub(crate) fn api_server_is_gone_for_minutes(cluster: &Cluster) {
    let gone_for = std::env::var("WEFT_OUTAGE_SECONDS");
    let gone_for = gone_for.map_or(GONE_FOR, |text| Duration::from_secs(text.parse().unwrap()));
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
    // Agents that start without an API speak BGP from what they knew: routers wait for nobody any more.
    passed(gone_for / 10);
    for node in scene.nodes() {
        cluster.kill_agent(node).unwrap();
    }
    cut_off(a.namespace(), &closed);
    passed(gone_for * 3 / 10);
    for node in scene.nodes() {
        until_bgp_runs_on_memory(cluster, node);
    }
    // Only what ran there is gone.
    cluster.reboot("node2").unwrap();
    passed(gone_for);
    until_more_echoes(&flows, RATE);
    reaches(&outside, &c);
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

/// Its agent says so, and that all its sessions are up.
fn until_bgp_runs_on_memory(cluster: &Cluster, node: &str) {
    wait::until(&format!("bgp of {node} without an API"), CONVERGED, || {
        // Not ready, as it has not heard the API server.
        let status = cluster.lab().shell(node, "weftctl status -o json || [ $? = 3 ]")?;
        let status: Value = serde_json::from_str(&status)?;
        let told = status["problems"].as_array().is_some_and(|problems| {
            problems.iter().any(|problem| problem["object"] == "datastore kubernetes")
        });
        let peers = &status["peers"];
        let up = peers["established"] == peers["total"] && peers["total"] != 0;
        Ok((told && up).then_some(()))
    })
    .unwrap();
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
    let ipam: Value = serde_json::from_str(&text).unwrap();
    let all = ipam["allocations"].as_array().unwrap().iter();
    let of_pod = all.filter(|allocation| allocation["pod"] == pod);
    of_pod.map(|allocation| allocation["containerId"].as_str().unwrap().to_owned()).collect()
}
