//! Policies as `kubectl` writes them: in force on every node for flows that run, and following the labels that they select by.

use serde_json::{Value, json};
use weft_e2e::cluster::Cluster;
use weft_e2e::net::{Flow, Proto};

use crate::story::{SOON, Scene, at, cut_off, reaches};

const RATE: u32 = 200;
/// No echo for so long: the flow is cut, not slow.
const SILENT: std::time::Duration = std::time::Duration::from_secs(2);

pub(crate) fn in_force_on_every_node(cluster: &Cluster) {
    let scene = Scene::set(cluster, "in-force");
    let servers: Vec<_> = scene.nodes().map(|node| scene.server(&format!("on-{node}"), node, &[])).collect();
    let client = scene.server("client", "node1", &[]);
    let policy = ingress("deny", &json!({}), &json!([]));

    let mut flows = Vec::new();
    for server in &servers {
        reaches(client.namespace(), server);
        for proto in Proto::ALL {
            flows.extend(
                server
                    .addresses()
                    .iter()
                    .map(|ip| Flow::start(client.namespace(), proto, at(*ip), RATE).unwrap()),
            );
        }
    }
    scene.apply(policy);
    for flow in &flows {
        flow.until_silent(SILENT, SOON).unwrap();
    }
    // Each waits a while for echoes that were cut: together.
    let ends: Vec<_> = flows.into_iter().map(|flow| std::thread::spawn(move || flow.stop())).collect();
    ends.into_iter().for_each(|end| drop(end.join().unwrap().unwrap()));
    for server in &servers {
        cut_off(client.namespace(), server);
    }
    scene.kubectl(&["delete", "networkpolicy", "deny"]);
    for server in &servers {
        reaches(client.namespace(), server);
    }
}

pub(crate) fn follows_the_label_of_a_namespace(cluster: &Cluster) {
    let (scene, team) = (Scene::set(cluster, "guarded"), Scene::set(cluster, "team"));
    let servers: Vec<_> = scene.nodes().map(|node| scene.server(&format!("on-{node}"), node, &[])).collect();
    let member = team.server("member", "node3", &[]);
    scene.apply(ingress(
        "from-the-team",
        &json!({}),
        &json!([{ "from": [{ "namespaceSelector": { "matchLabels": { "admitted": "yes" } } }] }]),
    ));

    for labels in [["admitted=yes"], ["admitted=no"], ["admitted=yes"], ["admitted-"]] {
        cluster.kubectl(&["label", "--overwrite", "namespace", team.name, labels[0]]).unwrap();
        for server in &servers {
            if labels == ["admitted=yes"] {
                reaches(member.namespace(), server);
            } else {
                cut_off(member.namespace(), server);
            }
        }
    }
}

pub(crate) fn ingress(name: &str, selector: &Value, rules: &Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": name },
        "spec": { "podSelector": selector, "policyTypes": ["Ingress"], "ingress": rules },
    })
}
