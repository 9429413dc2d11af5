//! The token of an agent in wrong hands: it writes what that agent writes about its own node, and nothing else.
//!
//! The thief sends requests of his own: kubectl would be refused what it reads before it writes. Every write that the
//! agent's roles allow is tried where only the admission policy can refuse it.

use std::time::Duration;

use serde_json::{Value, json};
use weft_e2e::cluster::{Cluster, Request};
use weft_e2e::wait;

use crate::story::CONVERGED;

const TAINT: &str = "weft.dev/starting";
/// A peer that is down is news in a WeftNode, told within seconds on a machine that is not busy.
const TOLD: Duration = Duration::from_secs(60);
/// Of which nobody is a peer.
const NOBODY: &str = "
apiVersion: weft.dev/v1alpha1
kind: BGPPeer
metadata: { name: nobody }
spec: { address: 192.0.2.99, asn: external }
";
const NODE1: &str = "/api/v1/nodes/node1";
const NODE2: &str = "/api/v1/nodes/node2";
const OURS: &str = "/apis/weft.dev/v1alpha1";
const SYSTEM: &str = "/api/v1/namespaces/weft-system";

/// Who says no.
#[derive(Clone, Copy, Debug)]
enum By {
    Policy,
    Rbac,
}

/// One request, as `METHOD PATH`, and its body.
type Attempt = (By, &'static str, String, Value);

pub(crate) fn is_of_little_use(cluster: &Cluster) {
    // It brings the right to patch nodes, so that the policy alone stands before the rest of a Node.
    cluster.upgrade_weft(&[&format!("agent.startupTaint={TAINT}")]).unwrap();
    let peer = cluster.get(&["bgppeers"]).unwrap()["items"][0]["metadata"]["name"].clone();
    let peer = format!("{OURS}/bgppeers/{}", peer.as_str().unwrap());
    cluster.kubectl(&["taint", "node", "node1", "theirs=:PreferNoSchedule"]).unwrap();
    let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    let stolen =
        cluster.lab().shell("node1", &format!("cat /proc/$(pgrep -x weft-agent)/root{token}")).unwrap();

    for (method, path, body) in what_its_agent_does(&peer) {
        let (code, answer) = send(cluster, &stolen, method, &path, &body);
        assert!([200, 201].contains(&code), "{method} {path} {body}: {code} {answer}");
    }
    for (by, method, path, body) in writes_beyond(&peer).into_iter().chain(no_right_to(&peer)) {
        refused(cluster, &stolen, by, method, &path, &body);
    }
    let (code, answer) = impersonating(cluster, &stolen);
    assert!(code == 403 && answer.contains("cannot impersonate"), "{code} {answer}");

    // Of no pod, so of no node.
    let unbound = cluster.kubectl(&["-n", "weft-system", "create", "token", "weft-agent"]).unwrap();
    for (method, path, body) in what_its_agent_does(&peer) {
        refused(cluster, unbound.trim(), By::Policy, method, &path, &body);
    }
    agents_still_work(cluster);
    cluster.kubectl(&["taint", "node", "node1", "theirs-"]).unwrap();
    cluster.upgrade_weft(&[]).unwrap();
}

fn refused(cluster: &Cluster, token: &str, by: By, method: &str, path: &str, body: &Value) {
    let (code, answer) = send(cluster, token, method, path, body);
    let words = match by {
        By::Policy => "ValidatingAdmissionPolicy 'weft-agent' with binding 'weft-agent' denied request",
        By::Rbac => "is forbidden: User \\\"system:serviceaccount:weft-system:weft-agent\\\" cannot",
    };
    assert!(code == 403 && answer.contains(words), "by {by:?}: {method} {path} {body}: {code} {answer}");
}

/// `PATCH` is a merge patch; `STRATEGIC` one that merges conditions by type, as only the server's own kinds can.
fn send(cluster: &Cluster, token: &str, method: &str, path: &str, body: &Value) -> (u16, String) {
    let (method, content_type) = match method {
        "PATCH" => (method, "application/merge-patch+json"),
        "STRATEGIC" => ("PATCH", "application/strategic-merge-patch+json"),
        "APPLY" => ("PATCH", "application/apply-patch+yaml"),
        _ => (method, "application/json"),
    };
    let headers = [&*format!("Content-Type: {content_type}")];
    cluster.request(token, &Request { method, path, body: body.clone(), headers: &headers }).unwrap()
}

fn impersonating(cluster: &Cluster, token: &str) -> (u16, String) {
    let headers = ["Impersonate-User: system:admin", "Impersonate-Group: system:masters"];
    let path = "/api/v1/secrets";
    cluster.request(token, &Request { method: "GET", path, body: Value::Null, headers: &headers }).unwrap()
}

fn condition(of_type: &str) -> Value {
    json!({ "status": { "conditions": [{
        "type": of_type, "status": "False", "reason": "Thief", "message": "",
        "lastTransitionTime": "2030-01-01T00:00:00Z",
    }]}})
}

fn weft_node(name: &str) -> Value {
    json!({ "apiVersion": "weft.dev/v1alpha1", "kind": "WeftNode", "metadata": { "name": name }, "spec": {} })
}

fn applied(path: &str) -> String {
    format!("{path}?fieldManager=thief&force=true")
}

/// That it is taken shows that what is refused is not refused for its form.
fn what_its_agent_does(peer: &str) -> Vec<(&'static str, String, Value)> {
    vec![
        ("STRATEGIC", format!("{NODE1}/status"), condition("NetworkUnavailable")),
        ("PATCH", NODE1.to_owned(), taints(&["theirs"])),
        ("APPLY", applied(&format!("{OURS}/weftnodes/node1")), weft_node("node1")),
        ("PATCH", format!("{OURS}/weftnodes/node1/status"), json!({ "status": { "pods": 99 } })),
        ("PATCH", format!("{peer}/status"), condition("Accepted")),
        ("PATCH", format!("{peer}/status"), json!({ "status": { "sessionsEstablished": "1/1" } })),
    ]
}

fn taints(keys: &[&str]) -> Value {
    let taints = keys.iter().map(|key| json!({ "key": key, "effect": "PreferNoSchedule" }));
    json!({ "spec": { "taints": taints.collect::<Vec<_>>() } })
}

/// RBAC allows the verb; the object, or the part of it, is not the agent's.
fn writes_beyond(peer: &str) -> Vec<Attempt> {
    let status = format!("{NODE1}/status");
    let metadata = [
        json!({ "labels": { "node-role.kubernetes.io/control-plane": "" } }),
        json!({ "labels": null }),
        json!({ "annotations": { "thief.example/a": "b" } }),
        json!({ "finalizers": ["thief.example/stay"] }),
    ];
    let mut all: Vec<_> = metadata
        .into_iter()
        .flat_map(|metadata| [&status, NODE1].map(|path| (path.to_owned(), json!({ "metadata": metadata }))))
        .collect();
    let parts = [
        json!({ "addresses": [{ "type": "InternalIP", "address": "192.0.2.66" }] }),
        json!({ "addresses": null }),
        json!({ "capacity": { "cpu": "1000" } }),
        json!({ "nodeInfo": { "machineID": "x" } }),
        json!({ "conditions": null }),
    ];
    all.extend(parts.map(|part| (status.clone(), json!({ "status": part }))));
    all.extend([
        (NODE1.to_owned(), taints(&[])),
        (NODE1.to_owned(), taints(&["theirs", "thief"])),
        (NODE1.to_owned(), json!({ "spec": { "unschedulable": true } })),
        (NODE1.to_owned(), json!({ "spec": { "providerID": "thief://1" } })),
        (NODE2.to_owned(), json!({ "spec": { "taints": [] } })),
        (format!("{OURS}/weftnodes/node2"), json!({ "metadata": { "labels": { "a": "b" } } })),
        (format!("{OURS}/weftnodes/node2/status"), json!({ "status": { "pods": 99 } })),
        (format!("{peer}/status"), condition("Thief")),
        (format!("{OURS}/bgpconfigurations/default/status"), condition("Thief")),
    ]);
    let mut all: Vec<_> = all.into_iter().map(|(path, body)| (By::Policy, "PATCH", path, body)).collect();
    all.extend([
        (By::Policy, "STRATEGIC", status.clone(), condition("Ready")),
        (By::Policy, "STRATEGIC", status, condition("Thief")),
        (By::Policy, "STRATEGIC", format!("{NODE2}/status"), condition("NetworkUnavailable")),
        (By::Policy, "POST", format!("{OURS}/weftnodes"), weft_node("nowhere")),
        (By::Policy, "APPLY", applied(&format!("{OURS}/weftnodes/nowhere")), weft_node("nowhere")),
    ]);
    all
}

fn no_right_to(peer: &str) -> Vec<Attempt> {
    let rbac = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let admission = "/apis/admissionregistration.k8s.io/v1";
    let policy = format!("{admission}/validatingadmissionpolicies/weft-agent");
    let binding = format!("{admission}/validatingadmissionpolicybindings/weft-agent");
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "thief" }, "spec": {} });
    let agents = "/apis/apps/v1/namespaces/weft-system/daemonsets/weft-agent";
    [
        ("PATCH", peer.to_owned(), json!({ "spec": { "asn": 65999 } })),
        ("DELETE", peer.to_owned(), Value::Null),
        ("POST", format!("{OURS}/bgppeers"), json!({})),
        ("PATCH", format!("{OURS}/bgpconfigurations/default"), json!({ "spec": { "clusterCidrs": [] } })),
        ("DELETE", format!("{OURS}/weftnodes/node1"), Value::Null),
        ("DELETE", NODE1.to_owned(), Value::Null),
        ("GET", format!("{NODE1}/proxy/pods"), Value::Null),
        ("POST", "/api/v1/nodes".to_owned(), json!({})),
        ("GET", "/api/v1/secrets".to_owned(), Value::Null),
        ("GET", "/api/v1/namespaces/kube-system/secrets".to_owned(), Value::Null),
        ("POST", format!("{SYSTEM}/secrets"), json!({})),
        ("POST", format!("{SYSTEM}/pods"), pod),
        ("POST", format!("{SYSTEM}/pods/any/exec?command=sh"), Value::Null),
        ("GET", format!("{SYSTEM}/pods/any/proxy/"), Value::Null),
        ("POST", format!("{SYSTEM}/pods/any/portforward"), Value::Null),
        ("DELETE", format!("{SYSTEM}/pods/any"), Value::Null),
        ("POST", format!("{SYSTEM}/serviceaccounts/weft-agent/token"), json!({})),
        ("PATCH", agents.to_owned(), json!({ "spec": { "paused": true } })),
        ("POST", "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies".to_owned(), json!({})),
        ("POST", rbac.to_owned(), json!({})),
        ("PATCH", policy, json!({ "spec": { "failurePolicy": "Ignore" } })),
        ("DELETE", binding, Value::Null),
    ]
    .into_iter()
    .map(|(method, path, body)| (By::Rbac, method, path, body))
    .collect()
}

/// Under the same policy the agents say what they have to say, each of its own node.
fn agents_still_work(cluster: &Cluster) {
    cluster.apply(NOBODY).unwrap();
    let unavailable = json!({ "status": { "conditions": [
        { "type": "NetworkUnavailable", "status": "True", "reason": "Story", "message": "" },
    ]}});
    let patch = ["patch", "node", "node2", "--subresource=status", "-p", &unavailable.to_string()];
    cluster.kubectl(&patch).unwrap();
    for taint in [&format!("{TAINT}=:PreferNoSchedule"), "theirs=:PreferNoSchedule"] {
        cluster.kubectl(&["taint", "node", "node2", taint]).unwrap();
    }
    wait::until("node2 made usable again", CONVERGED, || {
        let node = cluster.get(&["node", "node2"])?;
        let has = |list: &Value, words: &[(&str, &str)]| {
            let mut entries = list.as_array().into_iter().flatten();
            entries.any(|entry| words.iter().all(|(field, word)| entry[*field] == *word))
        };
        let available =
            has(&node["status"]["conditions"], &[("type", "NetworkUnavailable"), ("status", "False")]);
        let taints = &node["spec"]["taints"];
        let untainted = !has(taints, &[("key", TAINT)]) && has(taints, &[("key", "theirs")]);
        Ok((available && untainted).then_some(()))
    })
    .unwrap();
    let names_nobody = || {
        let node = cluster.get(&["weftnode", "node2"]).unwrap();
        let down = node["status"]["peersDown"].as_array().cloned().unwrap_or_default();
        down.iter().any(|peer| peer["name"] == "nobody")
    };
    wait::until_true("a WeftNode that says who is down", TOLD, names_nobody).unwrap();
    cluster.kubectl(&["delete", "bgppeer", "nobody"]).unwrap();
    cluster.kubectl(&["taint", "node", "node2", "theirs-"]).unwrap();
}
