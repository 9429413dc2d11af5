//! A cluster on paper: Nodes, Pods and NetworkPolicies as people have them, as requests to an API server. Nobody runs them.

use serde_json::{Value, json};

use super::api::Request;

/// They would take silent nodes for dead, collect their pods, or put DaemonSets on them.
pub(super) const CONTROLLERS_OFF: [&str; 4] = [
    "node-lifecycle-controller",
    "taint-eviction-controller",
    "pod-garbage-collector-controller",
    "daemonset-controller",
];
const APPS: usize = 10;
const BEGIN: &str = "2026-01-01T00:00:00Z";

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

pub(super) fn namespace(index: usize) -> String {
    format!("tenant-{index}")
}

pub(super) fn namespace_object(index: usize) -> Request {
    let labels = json!({ "team": format!("team-{}", index % 20), "environment": "production" });
    let object = json!({ "metadata": { "name": namespace(index), "labels": labels } });
    ("POST", "/api/v1/namespaces".to_owned(), object)
}

/// The label `app` of a pod.
pub(super) fn app(pod: usize) -> String {
    format!("app-{}", pod % APPS)
}

/// Two bytes of its pod CIDRs and addresses.
fn bytes(node: usize) -> (usize, usize) {
    (node / 256, node % 256)
}

/// Both families.
pub(super) fn pod_cidrs(index: usize) -> [String; 2] {
    let (high, low) = bytes(index);
    [format!("10.{}.{low}.0/24", 128 + high), format!("fd00:128:{high:x}:{low:x}::/64")]
}

pub(super) fn node_name(index: usize) -> String {
    format!("written-{index}")
}

/// Addresses out of RFC 2544's range for benches: nobody answers there.
pub(super) fn node(index: usize, rack: &str) -> Request {
    let (high, low) = bytes(index);
    let addresses = [format!("198.18.{high}.{low}"), format!("fd00:198:18::{high:x}:{low:x}")];
    node_object(&node_name(index), rack, &pod_cidrs(index), &addresses)
}

/// A Node as its kubelet would register it.
pub(super) fn node_object(
    name: &str,
    rack: &str,
    pod_cidrs: &[String; 2],
    addresses: &[String; 2],
) -> Request {
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
                "topology.kubernetes.io/zone": "region-1-a", "rack": rack,
            },
            "annotations": { "node.alpha.kubernetes.io/ttl": "0" },
        },
        "spec": { "podCIDR": pod_cidrs[0], "podCIDRs": pod_cidrs },
        "status": {
            "addresses": [
                { "type": "InternalIP", "address": addresses[0] },
                { "type": "InternalIP", "address": addresses[1] },
                { "type": "Hostname", "address": name },
            ],
            "capacity": { "cpu": "8", "memory": "32Gi", "pods": "110" }, "allocatable": { "cpu": "8", "memory": "32Gi", "pods": "110" },
            "conditions": node_conditions(BEGIN), "images": images,
        },
    });
    ("POST", "/api/v1/nodes".to_owned(), object)
}

/// What a kubelet says of a Node that does not change, each time with another time.
pub(super) fn heartbeat(name: &str, round: usize) -> Request {
    let now = format!("2026-01-01T01:{:02}:00Z", round % 60);
    let status = json!({ "status": { "conditions": node_conditions(&now) } });
    ("PATCH", format!("/api/v1/nodes/{name}/status"), status)
}

fn node_conditions(now: &str) -> Value {
    let condition = |(kind, status): (&str, &str)| json!({ "type": kind, "status": status, "reason": "Written", "message": "as kubelet says it", "lastHeartbeatTime": now, "lastTransitionTime": BEGIN });
    let all =
        [("MemoryPressure", "False"), ("DiskPressure", "False"), ("PIDPressure", "False"), ("Ready", "True")];
    all.map(condition).into_iter().collect()
}

/// Where a written pod is: its namespace, its name, the number of its node and that of its address there.
pub(super) fn place(index: usize, scale: &Scale) -> (String, String, usize, usize) {
    let (node, address) = (index % scale.nodes, 2 + index / scale.nodes);
    (namespace(index % scale.namespaces), format!("app-{}-{index:x}", index % APPS), node, address)
}

pub(super) fn pod(index: usize, scale: &Scale) -> Request {
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
                "app": app(index), "version": format!("v{}", index % 3), "pod-template-hash": format!("{:09x}", index % 200),
                "app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/part-of": namespace,
            },
            "annotations": { "checksum/config": format!("{index:064x}"), "prometheus.io/scrape": "true" },
        },
        "spec": {
            "nodeName": node_name(node), "automountServiceAccountToken": false,
            "containers": [main, container("sidecar", 9090)],
            "volumes": [{ "name": "config", "configMap": { "name": "config" } }, { "name": "data", "emptyDir": {} }],
        },
    });
    ("POST", format!("/api/v1/namespaces/{namespace}/pods"), object)
}

pub(super) fn pod_status(index: usize, scale: &Scale) -> Request {
    let (namespace, name, node, address) = place(index, scale);
    let (high, low) = bytes(node);
    let v4 = format!("10.{}.{low}.{address}", 128 + high);
    let now = BEGIN;
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

/// All that the API says of a pod from its binding to the day when it is ready.
pub(super) fn pod_begins(index: usize, scale: &Scale) -> [Request; 4] {
    let (_, path, ready) = pod_status(index, scale);
    let patch = |status: Value| ("PATCH", path.clone(), json!({ "status": status }));
    let pending = json!({ "phase": "Pending", "startTime": BEGIN, "hostIP": ready["status"]["hostIP"] });
    let mut unready = ready["status"].clone();
    for condition in [2, 3] {
        unready["conditions"][condition]["status"] = "False".into();
    }
    [pod(index, scale), patch(pending), patch(unready), patch(ready["status"].clone())]
}

/// Its deletion, which a kubelet confirms when the pod has ended.
pub(super) fn pod_ends(index: usize, scale: &Scale) -> [Request; 2] {
    let (namespace, name, ..) = place(index, scale);
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    [30, 0].map(|grace| ("DELETE", path.clone(), json!({ "gracePeriodSeconds": grace })))
}

/// What people write: within the application, from another team, to name servers, closed by default, from outside.
pub(super) fn policy(index: usize, scale: &Scale) -> Request {
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
            let (_, _, node_object) = node(place(index, &SCALE).2, "rack1");
            let range: ipnetwork::IpNetwork =
                node_object["spec"]["podCIDR"].as_str().unwrap().parse().unwrap();
            assert!(range.contains(address.parse().unwrap()), "{address} in {range}");
            assert!(names.insert(path) && addresses.insert(address));
        }
    }
}
