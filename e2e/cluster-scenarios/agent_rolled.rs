//! Agents are replaced by a rollout, and each is killed once, under flows of 1,000 packets a second: none is lost, what a
//! policy forbids stays forbidden, and pods come and go afterwards.

use serde_json::json;
use weft_e2e::cluster::Cluster;
use weft_e2e::lab::OUTSIDE;
use weft_e2e::net::{Flow, Proto};

use crate::story::{Scene, at, cut_off, nothing_was_lost, reaches, until_more_echoes};

const RATE: u32 = 1000;

pub(crate) fn nothing_is_lost(cluster: &Cluster) {
    let scene = Scene::set(cluster, "rolled");
    let (a, b) = (scene.server("a", "node1", &[]), scene.server("b", "node2", &[]));
    let c = scene.server("c", "node3", &[]);
    let closed = scene.server("closed", "node3", &[("app", "closed")]);
    scene.apply(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "deny" },
        "spec": { "podSelector": { "matchLabels": { "app": "closed" } }, "policyTypes": ["Ingress"] },
    }));
    let outside = cluster.lab().namespace(OUTSIDE).unwrap();
    for to in [&a, &b, &c] {
        reaches(a.namespace(), to);
        reaches(&outside, to);
    }
    cut_off(a.namespace(), &closed);
    // Across racks in both families, within a rack, and from outside.
    let start_flows = || {
        let mut flows = Vec::new();
        for proto in Proto::ALL {
            flows.extend(
                c.addresses().iter().map(|ip| Flow::start(a.namespace(), proto, at(*ip), RATE).unwrap()),
            );
            flows.push(Flow::start(a.namespace(), proto, at(b.addresses()[0]), RATE).unwrap());
            flows.push(Flow::start(&outside, proto, at(b.addresses()[1]), RATE).unwrap());
        }
        flows
    };

    let flows = start_flows();
    cluster.roll_agents().unwrap();
    cut_off(a.namespace(), &closed);
    until_more_echoes(&flows, RATE);
    nothing_was_lost(flows, "rollout");

    for node in scene.nodes() {
        let restarts = cluster.agent_restarts(node).unwrap();
        let flows = start_flows();
        until_more_echoes(&flows, RATE);
        cluster.kill_agent(node).unwrap();
        cut_off(a.namespace(), &closed);
        cluster.until_agent_is_back(node, restarts + 1).unwrap();
        until_more_echoes(&flows, RATE);
        nothing_was_lost(flows, &format!("agent of {node} killed"));
    }
    cut_off(&outside, &closed);

    // The agents that adopted work on.
    for node in scene.nodes() {
        let new = scene.server(&format!("new-on-{node}"), node, &[]);
        reaches(a.namespace(), &new);
        reaches(&outside, &new);
    }
}
