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

use super::api::Api;
use super::paper::{CONTROLLERS_OFF, Scale, namespace, namespace_object, node, pod, pod_status, policy};
use super::{policy_latency, rest};
use crate::cluster::{Cluster, ClusterSpec, down, pod_spec};
use crate::lab::Programs;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(300);
/// Pods that run, all of them in the first namespace.
const REAL_PODS: usize = 30;
/// The AS of a rack without a real node, less the rack's number.
const WRITTEN_ASN: u32 = 4_200_000_000;

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
    let rack = |index| format!("rack{}", index % scale.racks + 1);
    api.send_all(&(0..scale.nodes).map(|index| node(index, &rack(index))).collect::<Vec<_>>())?;
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
