//! A Deployment grows from nothing to 60 pods and shrinks to nothing: every pod is reached, and no address, link, rule or
//! route is left behind on any node.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use weft_e2e::cluster::{Cluster, KubePod, pod_spec};
use weft_e2e::net::{EchoServer, until_open};
use weft_e2e::wait;

use crate::story::{CONVERGED, PORT, Scene, at};

const PODS: usize = 60;
/// 60 sandboxes on a machine of two cores that is three nodes.
const STARTED: &str = "--timeout=180s";
/// After the last pod's object has gone: its link is reaped a moment later.
const REAPED: Duration = Duration::from_secs(20);

pub(crate) fn no_trace(cluster: &Cluster) {
    let scene = Scene::set(cluster, "scaled");
    let client = scene.server("client", "node1", &[]);
    scene.apply(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "many" },
        "spec": {
            "replicas": 0, "selector": { "matchLabels": { "app": "many" } },
            "template": { "metadata": { "labels": { "app": "many" } }, "spec": pod_spec(None) },
        },
    }));
    scene.apply(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "many" },
        "spec": {
            "podSelector": { "matchLabels": { "app": "many" } },
            "ingress": [{ "from": [{ "podSelector": {} }] }],
        },
    }));
    let before = traces(&scene);

    scene.kubectl(&["scale", "deployment/many", &format!("--replicas={PODS}")]);
    scene.kubectl(&["rollout", "status", "deployment/many", STARTED]);
    let pods = cluster.running_pods(scene.name, "app=many").unwrap();
    assert_eq!(pods.len(), PODS);
    let mut held: Vec<_> = pods.iter().flat_map(KubePod::addresses).collect();
    held.sort();
    held.dedup();
    assert_eq!(held.len(), 2 * PODS, "two pods share an address");
    for pod in &pods {
        let _echo = EchoServer::start(pod.namespace(), PORT).unwrap();
        for ip in pod.addresses() {
            until_open(client.namespace(), at(*ip), CONVERGED).unwrap();
        }
    }
    // Whoever holds a network namespace keeps its links.
    drop(pods);

    scene.kubectl(&["scale", "deployment/many", "--replicas=0"]);
    scene.kubectl(&["wait", "--for=delete", "pods", "-l", "app=many", STARTED]);
    let after = wait::until("nodes as they were", REAPED, || {
        let after = traces(&scene);
        Ok((after == before).then_some(after))
    });
    assert_eq!(after.unwrap_or_else(|_| traces(&scene)), before);
}

/// All that Weft keeps on a node for its pods.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    allocations: Value,
    used: Vec<Value>,
    links: String,
    routes: String,
    neighbours: String,
    ruleset: String,
}

fn traces(scene: &Scene<'_>) -> BTreeMap<String, Traces> {
    let lab = scene.cluster.lab();
    let traces = |node: &str| {
        let ipam: Value = serde_json::from_str(&lab.weftctl(node, "ipam show -o json").unwrap()).unwrap();
        let shell = |line| lab.shell(node, line).unwrap();
        Traces {
            used: ipam["pools"].as_array().unwrap().iter().map(|pool| pool["used"].clone()).collect(),
            allocations: ipam["allocations"].clone(),
            links: shell("ip -o link show group 87"),
            routes: shell("ip route show table all proto 87; ip -6 route show table all proto 87"),
            neighbours: shell("ip neigh show proto 87; ip -6 neigh show proto 87"),
            ruleset: shell("nft --stateless list table inet weft"),
        }
    };
    scene.nodes().map(|node| (node.to_owned(), traces(node))).collect()
}
