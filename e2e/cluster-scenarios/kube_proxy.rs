//! kube-proxy beside our nftables table, in each of its modes: services in all their kinds, from pods, nodes and outside.

use std::net::{IpAddr, SocketAddr};

use serde_json::json;
use weft_e2e::cluster::Cluster;
use weft_e2e::lab::{Node, OUTSIDE};
use weft_e2e::net::{Namespace, Proto, until_verdict};

use crate::policy::ingress;
use crate::story::{CONVERGED, SOON, Scene, Service, cut_off, reaches, reaches_service};

pub(crate) fn iptables(cluster: &Cluster) {
    services_of_all_kinds(cluster, "iptables-save -t nat", "KUBE-SERVICES");
}

pub(crate) fn nftables(cluster: &Cluster) {
    services_of_all_kinds(cluster, "nft list tables", "kube-proxy");
}

/// `shown` is what the mode leaves in the output of `command` on each node.
fn services_of_all_kinds(cluster: &Cluster, command: &str, shown: &str) {
    for node in &cluster.lab().plan().nodes {
        let rules = cluster.lab().shell(&node.name, command).unwrap();
        assert!(rules.contains(shown), "kube-proxy on {} is in another mode", node.name);
    }
    let scene = Scene::set(cluster, "kube-proxy");
    let web = scene.server("web", "node1", &[("app", "web")]);
    let client = scene.server("client", "node2", &[("app", "client")]);
    let neighbour = scene.server("neighbour", "node1", &[]);
    let outside = cluster.lab().namespace(OUTSIDE).unwrap();
    reaches(client.namespace(), &web);
    let selector = json!({ "app": "web" });
    let anywhere = scene.service("anywhere", &selector, &json!({ "type": "NodePort" }));
    let local =
        scene.service("local", &selector, &json!({ "type": "NodePort", "externalTrafficPolicy": "Local" }));

    // ClusterIP from another node, from the same, from the node itself, and hairpin.
    for service in [&anywhere, &local] {
        for from in [&client, &neighbour, &web] {
            reaches_service(from.namespace(), service);
        }
        reaches_service(&cluster.lab().namespace("node1").unwrap(), service);
    }
    // NodePort on every node; with Local only where the pod is.
    for node in &cluster.lab().plan().nodes {
        node_port(&outside, node, &anywhere, true);
        node_port(&outside, node, &local, node.name == web.node());
    }

    // A policy sees through the translation: by the pod's address, not the service's.
    let rules = json!([{ "from": [{ "podSelector": { "matchLabels": { "app": "client" } } }] }]);
    scene.apply(ingress("client-only", &json!({ "matchLabels": { "app": "web" } }), &rules));
    cut_off(neighbour.namespace(), &web);
    reaches_service(client.namespace(), &anywhere);
    // With Local the client's address stays, so the policy holds for the outside too.
    let home = cluster.lab().node(web.node()).unwrap();
    node_port(&outside, home, &local, false);
    let from_outside = json!([{ "from": [{ "ipBlock": { "cidr": "198.51.100.0/24" } }, { "ipBlock": { "cidr": "2001:db8:64::/64" } }] }]);
    scene.apply(ingress("outside-too", &json!({ "matchLabels": { "app": "web" } }), &from_outside));
    node_port(&outside, home, &local, true);
}

#[track_caller]
fn node_port(from: &Namespace, node: &Node, service: &Service, open: bool) {
    let limit = if open { CONVERGED } else { SOON };
    for ip in node.uplinks[0].addresses.both() {
        for (proto, port) in Proto::ALL.into_iter().zip(service.node_ports) {
            until_verdict(from, proto, address(ip, port), open, limit).unwrap();
        }
    }
}

fn address(ip: IpAddr, port: Option<u16>) -> SocketAddr {
    SocketAddr::new(ip, port.unwrap())
}
