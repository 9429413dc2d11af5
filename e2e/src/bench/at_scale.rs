//! The agents of three real nodes in a cluster that is large on paper: Nodes, Pods and NetworkPolicies by the thousand,
//! written into a real API server, beside 30 pods that really run and that policies select.
//!
//! Nobody runs the written nodes, and nobody must notice: the controllers that take silent nodes for dead, collect their
//! pods or put DaemonSets on them are not started again. Everything else runs on. The written nodes stand in racks of
//! equal size as in a routed fabric, each rack an AS, so a real node also keeps dialling the silent ones of its own rack.
//! Rest and policy latency are measured before and after the writing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::api::{Api, Request};
use super::{policy_latency, rest};
use crate::cluster::{Cluster, ClusterSpec, down, pod_spec};
use crate::lab::Programs;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(300);
/// They would undo what is written.
const CONTROLLERS_OFF: [&str; 4] = [
    "node-lifecycle-controller",
    "taint-eviction-controller",
    "pod-garbage-collector-controller",
    "daemonset-controller",
];
/// Pods that run, all of them in the first namespace.
const REAL_PODS: usize = 30;
const APPS: usize = 10;
/// The AS of a rack without a real node, less the rack's number.
const WRITTEN_ASN: u32 = 4_200_000_000;

/// How large the cluster is on paper.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Scale {
    #[arg(long, default_value_t = 1000)]
    pub nodes: usize,
    #[arg(long, default_value_t = 5000)]
    pub pods: usize,
    #[arg(long, default_value_t = 200)]
    pub policies: usize,
    #[arg(long, default_value_t = 100)]
    pub namespaces: usize,
    /// Over which the nodes are spread. Those of one rack are a full mesh.
    #[arg(long, default_value_t = 25)]
    pub racks: usize,
}

/// Rests for `quiet` each time, and makes `rounds` policies to time them; none for zero.
pub fn run(scale: &Scale, quiet: Duration, rounds: usize, programs: &Programs) -> Result<()> {
    ensure!(
        scale.nodes <= 1 << 16 && scale.pods <= scale.nodes * 250,
        "such a cluster has not enough addresses"
    );
    let name = format!("scale-{}", std::process::id());
    let measured = raised(&name, programs).and_then(|cluster| {
        println!("{} nodes, {REAL_PODS} pods", cluster.lab().plan().nodes.len());
        measure(&cluster, quiet, rounds)?;
        write(&cluster, scale)?;
        let reborn = restart_an_agent(&cluster)?;
        println!("{scale:?} written; the agent of {reborn} started anew with all of it");
        measure(&cluster, quiet, rounds)
    });
    down(&name)?;
    measured
}

fn measure(cluster: &Cluster, quiet: Duration, rounds: usize) -> Result<()> {
    rest::measure(cluster, quiet)?;
    if rounds > 0 { policy_latency::run(cluster, rounds) } else { Ok(()) }
}

fn raised(name: &str, programs: &Programs) -> Result<Cluster> {
    let cluster = Cluster::raise(name, &ClusterSpec::default(), programs)?;
    cluster.load_weft_image()?;
    cluster.install_weft(&[])?;
    // What a lab sets to be quick is not what a large cluster runs with.
    let usual = json!({ "spec": { "session": { "timers": null } } });
    cluster.kubectl(&["patch", "bgpconfiguration", "default", "--type=merge", "-p", &usual.to_string()])?;
    cluster.create_namespace(&namespace(0))?;
    let labels = json!({ "app": "app-1" });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "real", "namespace": namespace(0) },
        "spec": {
            "replicas": REAL_PODS, "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": pod_spec(None) },
        },
    });
    cluster.apply(&deployment.to_string())?;
    cluster.kubectl(&["-n", &namespace(0), "rollout", "status", "deployment/real", "--timeout=300s"])?;
    Ok(cluster)
}

/// Returns when every real agent has all policies in force.
fn write(cluster: &Cluster, scale: &Scale) -> Result<()> {
    cluster.restart_controllers_without(&CONTROLLERS_OFF)?;
    let begun = Instant::now();
    let api = Api::open(cluster)?;
    // The first one is there, with the pods that run.
    let namespaces: Vec<_> = (1..scale.namespaces).map(namespace_object).collect();
    api.send_all(&namespaces)?;
    wait::until("service accounts", LIMIT, || {
        let accounts = cluster.get(&["serviceaccounts", "-A", "--field-selector=metadata.name=default"])?;
        let number = accounts["items"].as_array().map_or(0, Vec::len);
        Ok((number >= scale.namespaces).then_some(()))
    })?;
    for (rack, asn) in (1..=scale.racks).zip(WRITTEN_ASN..).filter(|(rack, _)| !is_real(cluster, *rack)) {
        let name = format!("rack{rack}");
        let spec = json!({ "nodeSelector": { "matchLabels": { "rack": name } }, "asn": asn });
        let rack = json!({ "apiVersion": "weft.dev/v1alpha1", "kind": "BGPNodeOverride", "metadata": { "name": name }, "spec": spec });
        cluster.apply(&rack.to_string())?;
    }
    api.send_all(&(0..scale.nodes).map(|index| node(index, scale.racks)).collect::<Vec<_>>())?;
    api.send_all(&(0..scale.pods).map(|index| pod(index, scale)).collect::<Vec<_>>())?;
    api.send_all(&(0..scale.pods).map(|index| pod_status(index, scale)).collect::<Vec<_>>())?;
    api.send_all(&(0..scale.policies).map(|index| policy(index, scale)).collect::<Vec<_>>())?;
    println!("written in {} s", begun.elapsed().as_secs());
    for node in &cluster.lab().plan().nodes {
        wait::until(&format!("all policies on {}", node.name), LIMIT, || {
            let status = cluster.get(&["weftnode", &node.name])?;
            let known = status.pointer("/status/policy/policies").and_then(Value::as_u64);
            Ok((known >= Some(scale.policies as u64)).then_some(()))
        })?;
    }
    Ok(())
}

/// Memory may depend on how an agent learned of a cluster: by event or by list. Returns the node.
fn restart_an_agent(cluster: &Cluster) -> Result<&str> {
    let node = cluster.lab().plan().nodes.last().context("a node")?.name.as_str();
    let restarts = cluster.agent_restarts(node)?;
    cluster.kill_agent(node)?;
    cluster.until_agent_is_back(node, restarts + 1)?;
    Ok(node)
}

/// The AS of a rack with real nodes is the lab's.
fn is_real(cluster: &Cluster, rack: usize) -> bool {
    cluster.lab().plan().nodes.iter().any(|node| usize::from(node.rack) == rack)
}

fn namespace(index: usize) -> String {
    format!("tenant-{index}")
}

fn namespace_object(index: usize) -> Request {
    let labels = json!({ "team": format!("team-{}", index % 20), "environment": "production" });
    let object = json!({ "metadata": { "name": namespace(index), "labels": labels } });
    ("POST", "/api/v1/namespaces".to_owned(), object)
}

/// Two bytes of its pod CIDRs and addresses.
fn bytes(node: usize) -> (usize, usize) {
    (node / 256, node % 256)
}

/// Addresses out of RFC 2544's range for benches: nobody answers there.
fn node(index: usize, racks: usize) -> Request {
    let ((high, low), name) = (bytes(index), format!("written-{index}"));
    let rack = index % racks;
    let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status, "reason": "Written", "message": "as kubelet says it", "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let images: Vec<_> = (0..20)
        .map(|image| json!({ "names": [format!("registry.example/team/image-{image}@sha256:{image:064x}")], "sizeBytes": 1 << 26 }))
        .collect();
    let object = json!({
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
                "node.kubernetes.io/instance-type": "standard-8", "topology.kubernetes.io/region": "region-1",
                "topology.kubernetes.io/zone": format!("zone-{}", rack % 3), "rack": format!("rack{}", rack + 1),
            },
            "annotations": { "node.alpha.kubernetes.io/ttl": "0" },
        },
        "spec": {
            "podCIDR": format!("10.{}.{low}.0/24", 128 + high),
            "podCIDRs": [format!("10.{}.{low}.0/24", 128 + high), format!("fd00:128:{high:x}:{low:x}::/64")],
        },
        "status": {
            "addresses": [
                { "type": "InternalIP", "address": format!("198.18.{high}.{low}") },
                { "type": "InternalIP", "address": format!("fd00:198:18::{high:x}:{low:x}") },
                { "type": "Hostname", "address": name },
            ],
            "capacity": { "cpu": "8", "memory": "32Gi", "pods": "110" }, "allocatable": { "cpu": "8", "memory": "32Gi", "pods": "110" },
            "conditions": [condition("MemoryPressure", "False"), condition("DiskPressure", "False"), condition("PIDPressure", "False"), condition("Ready", "True")],
            "images": images,
        },
    });
    ("POST", "/api/v1/nodes".to_owned(), object)
}

/// Where a written pod is: its namespace, its name, the number of its node and that of its address there.
fn place(index: usize, scale: &Scale) -> (String, String, usize, usize) {
    let (node, address) = (index % scale.nodes, 2 + index / scale.nodes);
    (namespace(index % scale.namespaces), format!("app-{}-{index:x}", index % APPS), node, address)
}

fn pod(index: usize, scale: &Scale) -> Request {
    let (namespace, name, node, _) = place(index, scale);
    let variables: Vec<_> = (0..12)
        .map(|number| json!({ "name": format!("SETTING_{number}"), "value": format!("value-of-setting-{number}") }))
        .collect();
    let probe = json!({ "httpGet": { "path": "/ready", "port": "http" }, "periodSeconds": 5 });
    let container = |name: &str, port: u16| {
        json!({
            "name": name, "image": format!("registry.example/team/{name}:1.2.3"), "env": variables,
            "ports": [{ "name": if name == "main" { "http" } else { "metrics" }, "containerPort": port }],
            "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "256Mi" } },
            "volumeMounts": [{ "name": "config", "mountPath": "/etc/config" }, { "name": "data", "mountPath": "/data" }],
        })
    };
    let mut main = container("main", 8080);
    main["readinessProbe"] = probe.clone();
    main["livenessProbe"] = probe;
    let object = json!({
        "metadata": {
            "name": name,
            "labels": {
                "app": format!("app-{}", index % APPS), "version": format!("v{}", index % 3), "pod-template-hash": format!("{:09x}", index % 200),
                "app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/part-of": namespace,
            },
            "annotations": { "checksum/config": format!("{index:064x}"), "prometheus.io/scrape": "true" },
        },
        "spec": {
            "nodeName": format!("written-{node}"), "automountServiceAccountToken": false,
            "containers": [main, container("sidecar", 9090)],
            "volumes": [{ "name": "config", "configMap": { "name": "config" } }, { "name": "data", "emptyDir": {} }],
        },
    });
    ("POST", format!("/api/v1/namespaces/{namespace}/pods"), object)
}

fn pod_status(index: usize, scale: &Scale) -> Request {
    let (namespace, name, node, address) = place(index, scale);
    let (high, low) = bytes(node);
    let v4 = format!("10.{}.{low}.{address}", 128 + high);
    let now = "2026-01-01T00:00:00Z";
    let conditions: Vec<_> =
        ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
            .map(|kind| json!({ "type": kind, "status": "True", "lastTransitionTime": now }))
            .into();
    let containers: Vec<_> = ["main", "sidecar"]
        .map(|name| {
            json!({
                "name": name, "ready": true, "restartCount": 0, "image": format!("registry.example/team/{name}:1.2.3"),
                "imageID": format!("registry.example/team/{name}@sha256:{index:064x}"), "containerID": format!("containerd://{index:064x}"),
                "state": { "running": { "startedAt": now } },
            })
        })
        .into();
    let status = json!({
        "phase": "Running", "podIP": v4, "podIPs": [{ "ip": v4 }, { "ip": format!("fd00:128:{high:x}:{low:x}::{address:x}") }],
        "hostIP": format!("198.18.{high}.{low}"), "startTime": now, "conditions": conditions, "containerStatuses": containers,
    });
    ("PATCH", format!("/api/v1/namespaces/{namespace}/pods/{name}/status"), json!({ "status": status }))
}

/// What people write: within the application, from another team, to name servers, closed by default, from outside.
fn policy(index: usize, scale: &Scale) -> Request {
    let app = |number: usize| json!({ "podSelector": { "matchLabels": { "app": format!("app-{}", number % APPS) } } });
    let team = format!("team-{}", index % 20);
    let from_team = json!({ "namespaceSelector": { "matchLabels": { "team": team } }, "podSelector": app(index)["podSelector"] });
    let dns = json!([{ "protocol": "UDP", "port": 53 }, { "protocol": "TCP", "port": 53 }]);
    let spec = match index / scale.namespaces % 5 {
        0 => json!({ "podSelector": { "matchLabels": { "app": "app-1" } }, "policyTypes": ["Ingress"],
            "ingress": [{ "from": [app(2), app(3), from_team], "ports": [{ "port": "http" }, { "port": 9090 }] }] }),
        1 => json!({ "podSelector": {}, "policyTypes": ["Egress"],
            "egress": [{ "to": [{ "namespaceSelector": {} }] }, { "ports": dns }, { "to": [{ "ipBlock": { "cidr": "192.0.2.0/24" } }] }] }),
        2 => json!({ "podSelector": {}, "policyTypes": ["Ingress"] }),
        3 => {
            json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{ "from": [{ "podSelector": {} }] }] })
        }
        _ => json!({ "podSelector": {}, "policyTypes": ["Ingress"],
            "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["10.96.0.0/12"] } }] }] }),
    };
    let path = format!(
        "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
        namespace(index % scale.namespaces)
    );
    ("POST", path, json!({ "metadata": { "name": format!("policy-{index}") }, "spec": spec }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SCALE: Scale = Scale { nodes: 300, pods: 900, policies: 10, namespaces: 7, racks: 3 };

    #[test]
    fn every_written_pod_has_a_name_and_an_address_of_its_own_in_its_node_s_range() {
        let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for index in 0..SCALE.pods {
            let (_, path, status) = pod_status(index, &SCALE);
            let address = status["status"]["podIP"].as_str().unwrap().to_owned();
            let (_, _, node_object) = node(place(index, &SCALE).2, 3);
            let range: ipnetwork::IpNetwork =
                node_object["spec"]["podCIDR"].as_str().unwrap().parse().unwrap();
            assert!(range.contains(address.parse().unwrap()), "{address} in {range}");
            assert!(names.insert(path) && addresses.insert(address));
        }
    }
}
