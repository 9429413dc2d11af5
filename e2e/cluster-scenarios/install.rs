//! A cluster without a network plugin: helm installs Weft, the nodes turn Ready, and everything reaches everything that
//! Kubernetes promises, in both families, by TCP and UDP.

use std::net::SocketAddr;
use std::time::Instant;

use serde_json::json;
use weft_e2e::cluster::{Cluster, ClusterSpec};
use weft_e2e::lab::OUTSIDE;
use weft_e2e::net::{Proto, until_verdict};

use crate::story::{CONVERGED, Scene, programs, reaches, reaches_service};

pub(crate) fn on_a_cluster_that_has_none(name: &str, spec: &ClusterSpec) -> Cluster {
    let cluster = Cluster::raise(name, spec, &programs()).unwrap();
    cluster.load_weft_image().unwrap();
    assert!(ready_nodes(&cluster).iter().all(|status| status == "False"), "no plugin, and a node is Ready");

    let start = Instant::now();
    cluster.install_weft(&[]).unwrap();
    println!("  helm install to all nodes Ready: {:.1} s", start.elapsed().as_secs_f32());

    assert!(ready_nodes(&cluster).iter().all(|status| status == "True"));
    cluster
}

fn ready_nodes(cluster: &Cluster) -> Vec<String> {
    let path = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
    let words = cluster.kubectl(&["get", "nodes", "-o", path]).unwrap();
    words.split_whitespace().map(str::to_owned).collect()
}

pub(crate) fn pods_talk(cluster: &Cluster) {
    let scene = Scene::set(cluster, "pods-talk");
    // Two in one rack, one in the other.
    let pods =
        ["node1", "node2", "node3"].map(|node| scene.server(&format!("on-{node}"), node, &[("app", "web")]));
    let single = scene.server("single", "node1", &[("app", "single")]);
    let outside = cluster.lab().namespace(OUTSIDE).unwrap();

    for from in &pods {
        for to in &pods {
            reaches(from.namespace(), to);
        }
        reaches(&outside, from);
        // From the node itself, as its kubelet probes.
        reaches(&cluster.lab().namespace(from.node()).unwrap(), from);
    }
    reaches(pods[0].namespace(), &single);

    let web = scene.service("web", &json!({ "app": "web" }), &json!({ "type": "NodePort" }));
    let hairpin = scene.service("hairpin", &json!({ "app": "single" }), &json!({}));
    for from in &pods {
        reaches_service(from.namespace(), &web);
        reaches_service(&cluster.lab().namespace(from.node()).unwrap(), &web);
        reaches_service(from.namespace(), &hairpin);
    }
    // A pod behind a service reaches itself through it.
    reaches_service(single.namespace(), &hairpin);
    for node in &cluster.lab().plan().nodes {
        for ip in node.uplinks[0].addresses.both() {
            for (proto, port) in Proto::ALL.into_iter().zip(web.node_ports) {
                until_verdict(&outside, proto, SocketAddr::new(ip, port.unwrap()), true, CONVERGED).unwrap();
            }
        }
    }
}
