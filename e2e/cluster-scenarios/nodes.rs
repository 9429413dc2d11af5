//! A node is drained, stopped and deleted, and added again; it is rebooted; its podCIDR comes late.

use std::time::Duration;

use weft_e2e::cluster::Cluster;
use weft_e2e::lab::{OUTSIDE, SPINE};
use weft_e2e::wait;

use weft_e2e::net::{Flow, Proto};

use crate::story::{CONVERGED, Scene, Server, at, nothing_was_lost, reaches};

const NODE: &str = "node3";
const RATE: u32 = 500;
const READY: &str = "--timeout=120s";
/// The DaemonSet's pod has to be made and started before it can say anything.
const JOINED: Duration = Duration::from_secs(90);

pub(crate) fn drained_deleted_and_added(cluster: &Cluster) {
    let scene = Scene::set(cluster, "nodes");
    let a = scene.server("a", "node1", &[]);
    let outside = cluster.lab().namespace(OUTSIDE).unwrap();
    {
        let leaving = scene.server("leaving", NODE, &[]);
        reaches(a.namespace(), &leaving);
    }
    let cidrs = pod_cidrs(cluster);
    assert_eq!(cidrs.len(), 2);

    cluster.kubectl(&["drain", NODE, "--ignore-daemonsets", "--force", "--timeout=180s"]).unwrap();
    cluster.kill_kubelet(NODE).unwrap();
    cluster.lab().weft_stop(NODE, "decommissioned").unwrap();
    cluster.kubectl(&["delete", "node", NODE]).unwrap();
    // Its fellow nodes and the fabric forget its pods.
    for machine in ["node1", "node2", "tor1", SPINE] {
        wait::until_true(&format!("{machine} without {cidrs:?}"), CONVERGED, || {
            let routes = cluster.lab().shell(machine, "ip route; ip -6 route");
            routes.is_ok_and(|routes| !cidrs.iter().any(|cidr| routes.contains(cidr.as_str())))
        })
        .unwrap();
    }

    cluster.start_kubelet(NODE).unwrap();
    cluster.introduce_node(NODE).unwrap();
    cluster.kubectl(&["wait", "--for=condition=Ready", "node", NODE, READY]).unwrap();
    let back = scene.server("back", NODE, &[]);
    reaches(a.namespace(), &back);
    reaches(&outside, &back);
}

pub(crate) fn rebooted(cluster: &Cluster) {
    let scene = Scene::set(cluster, "rebooted");
    let (a, b) = (scene.server("a", "node1", &[]), scene.server("b", "node2", &[]));
    reaches(a.namespace(), &b);
    let key = {
        let before = scene.server("survivor", NODE, &[]);
        reaches(a.namespace(), &before);
        before.key().to_owned()
    };
    let flows: Vec<_> = b
        .addresses()
        .iter()
        .map(|ip| Flow::start(a.namespace(), Proto::Udp, at(*ip), RATE).unwrap())
        .collect();

    cluster.reboot(NODE).unwrap();

    // The pod's object has outlived its containers: the kubelet runs it again.
    let after = Server::of(cluster.running_pod(&key).unwrap());
    reaches(a.namespace(), &after);
    reaches(&cluster.lab().namespace(OUTSIDE).unwrap(), &after);
    nothing_was_lost(flows, "another node rebooted");
}

pub(crate) fn a_pod_cidr_comes_late(cluster: &Cluster) {
    let scene = Scene::set(cluster, "late-cidr");
    let a = scene.server("a", "node1", &[]);
    cluster.restart_controllers_without(&["node-ipam-controller"]).unwrap();
    cluster.kubectl(&["delete", "node", NODE]).unwrap();
    cluster.kill_kubelet(NODE).unwrap();
    cluster.start_kubelet(NODE).unwrap();
    cluster.introduce_node(NODE).unwrap();
    cluster.delete_agent(NODE).unwrap();
    // As on a machine that never had Weft; an agent that has pods to wire would put it back.
    cluster.lab().run(NODE, "rm /etc/cni/net.d/05-weft.conflist").unwrap();
    assert!(pod_cidrs(cluster).is_empty(), "the node has a podCIDR");

    // The agent runs and says what it lacks; nobody starts it again and again.
    wait::until("word of the missing podCIDR", JOINED, || {
        let status = cluster.get(&["weftnode", NODE])?;
        let message = status.pointer("/status/conditions/0/message").and_then(|message| message.as_str());
        Ok(message.is_some_and(|message| message.contains("has no podCIDRs")).then_some(()))
    })
    .unwrap();
    wait::until_true("a node without a network", JOINED, || ready(cluster) == "False").unwrap();

    cluster.restart_controllers_without(&[]).unwrap();
    cluster.kubectl(&["wait", "--for=condition=Ready", "node", NODE, READY]).unwrap();
    let late = scene.server("late", NODE, &[]);
    reaches(a.namespace(), &late);
    assert_eq!(cluster.agent_restarts(NODE).unwrap(), 0);
}

fn pod_cidrs(cluster: &Cluster) -> Vec<String> {
    let node = cluster.get(&["node", NODE]).unwrap();
    let cidrs = node["spec"]["podCIDRs"].as_array().cloned().unwrap_or_default();
    cidrs.iter().map(|cidr| cidr.as_str().unwrap().to_owned()).collect()
}

fn ready(cluster: &Cluster) -> String {
    let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    cluster.kubectl(&["get", "node", NODE, "-o", path]).unwrap()
}
