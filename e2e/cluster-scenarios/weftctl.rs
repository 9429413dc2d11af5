//! `weftctl` away from the nodes, with nothing but a kubeconfig.

use serde_json::Value;
use weft_e2e::cluster::Cluster;

use crate::story::Scene;

pub(crate) fn answers_from_anywhere(cluster: &Cluster) {
    let scene = Scene::set(cluster, "from-anywhere");
    let server = scene.server("web", "node2", &[]);
    let address = server.addresses()[0].to_string();
    let nodes: Vec<_> = scene.nodes().collect();

    // Of all nodes, from what they report.
    let (status, code) = cluster.weftctl(&["status", "-o", "json"]).unwrap();
    assert_eq!(code, 0, "{status}");
    let summaries: Value = serde_json::from_str(&status).unwrap();
    let named: Vec<_> =
        summaries.as_array().unwrap().iter().map(|node| node["node"].as_str().unwrap()).collect();
    assert_eq!(named, nodes);
    let (peers, code) = cluster.weftctl(&["bgp", "peers"]).unwrap();
    assert!(code == 0 && nodes.iter().all(|node| peers.contains(node)), "{peers}");

    // Of one, from its agent.
    let (status, code) = cluster.weftctl(&["status", "--node", "node1"]).unwrap();
    assert!(code == 0 && status.contains("router ID"), "{status}");
    let (routes, code) =
        cluster.weftctl(&["bgp", "routes", &address, "--node", "node1", "-o", "json"]).unwrap();
    assert_eq!(code, 0, "{routes}");
    let routes: Value = serde_json::from_str(&routes).unwrap();
    let pod_cidr = cluster.get(&["node", "node2"]).unwrap()["spec"]["podCIDRs"][0].clone();
    assert_eq!(routes[0]["prefix"], pod_cidr, "the longest match of {address}");

    // Exit codes: no, wrong usage, could not find out.
    let (none, code) = cluster.weftctl(&["bgp", "routes", "203.0.113.1", "--node", "node1"]).unwrap();
    assert_eq!(code, 3, "{none}");
    let (usage, code) = cluster.weftctl(&["ipam", "show"]).unwrap();
    assert!(code == 2 && usage.contains("--node"), "{usage}");
    let (unknown, code) = cluster.weftctl(&["status", "--node", "nowhere"]).unwrap();
    assert!(code == 1 && unknown.contains("nowhere"), "{unknown}");

    let (explained, code) =
        cluster.weftctl(&["policy", "explain", "203.0.113.1", "from-anywhere/web:80"]).unwrap();
    assert!(code == 0 && explained.contains("ALLOWED"), "{explained}");
}
