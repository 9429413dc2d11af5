//! Weft on a real cluster beside the reference plugins, and at rest.
//!
//! A Deployment of 20 pods with readiness probes is made and deleted in turns with Weft and with `ptp`, `host-local` and
//! `portmap`, on the same two nodes: their conflist sorts before ours, so the runtime takes it while it is there. The
//! routes between the nodes are there for both. `ptp` wires IPv4 only, as with IPv6 it waits for duplicate address
//! detection; Weft wires both families and answers when the pod's policy is in the kernel. Then nothing happens for a
//! while.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{percentile, rest, time_of_day};
use crate::cluster::{Cluster, ClusterSpec, down, pod_spec};
use crate::lab::{LabSpec, Programs};
use crate::wait;

const NAMESPACE: &str = "bench";
const LIMIT: Duration = Duration::from_secs(180);
/// Sorts before ours.
const REFERENCE_CONFLIST: &str = "/etc/cni/net.d/00-reference.conflist";
const PLUGINS: [&str; 3] = ["ptp", "host-local", "portmap"];
const PLUGIN_DIR: &str = "/usr/lib/cni";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Weft,
    Reference,
}

/// Raises a cluster of two nodes, measures `runs` Deployments of `pods` pods each way, and `quiet` of doing nothing.
pub fn run(pods: usize, runs: usize, quiet: Duration, programs: &Programs) -> Result<()> {
    let name = format!("bench-{}", std::process::id());
    let spec = ClusterSpec { lab: LabSpec::racks(["bird:2"]), ..ClusterSpec::default() };
    let measured = raised(&name, &spec, programs).and_then(|cluster| {
        deployments(&cluster, pods, runs)?;
        rest::measure(&cluster, quiet)
    });
    down(&name)?;
    measured
}

fn raised(name: &str, spec: &ClusterSpec, programs: &Programs) -> Result<Cluster> {
    let cluster = Cluster::raise(name, spec, programs)?;
    cluster.load_weft_image()?;
    cluster.install_weft(&[])?;
    cluster.create_namespace(NAMESPACE)?;
    Ok(cluster)
}

fn deployments(cluster: &Cluster, pods: usize, runs: usize) -> Result<()> {
    let (mut ready, mut sandboxes) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..runs {
        for (index, kind) in [Kind::Weft, Kind::Reference].into_iter().enumerate() {
            select(cluster, kind)?;
            let marks = log_lengths(cluster)?;
            ready[index].push(deploy(cluster, pods)?);
            for (node, mark) in cluster.lab().plan().nodes.iter().zip(marks) {
                let log = fs::read_to_string(log_of(cluster, &node.name)?)?;
                sandboxes[index].extend(sandbox_times(log.get(mark..).unwrap_or_default()));
            }
        }
    }
    println!(
        "{runs} Deployments of {pods} pods on two nodes, medians\n{:>20} {:>10} {:>10}",
        "", "weft", "reference"
    );
    for (what, times) in [("create to all Ready", &mut ready), ("RunPodSandbox", &mut sandboxes)] {
        let [weft, reference] = times.each_mut().map(|times| percentile(times, 50).as_secs_f64());
        println!("{what:>20} {weft:>8.3} s {reference:>8.3} s   weft/reference {:.2}", weft / reference);
    }
    Ok(())
}

/// Which plugins the runtimes call from now on.
fn select(cluster: &Cluster, kind: Kind) -> Result<()> {
    for node in &cluster.lab().plan().nodes {
        let machine = cluster.lab().machine(&node.name)?;
        let conflist = machine.path(REFERENCE_CONFLIST);
        match kind {
            Kind::Weft if conflist.exists() => fs::remove_file(conflist)?,
            Kind::Weft => {}
            Kind::Reference => {
                for plugin in PLUGINS {
                    let to = machine.path(&format!("/opt/cni/bin/{plugin}"));
                    fs::copy(Path::new(PLUGIN_DIR).join(plugin), to).context(plugin)?;
                }
                let text = cluster.kubectl(&["get", "node", &node.name, "-o", "jsonpath={.spec.podCIDR}"])?;
                machine.write(REFERENCE_CONFLIST, &reference_conflist(&text).to_string())?;
            }
        }
        // The runtime watches the folder, and says which list it took.
        let wanted = if kind == Kind::Weft { "05-weft.conflist" } else { REFERENCE_CONFLIST };
        wait::until(&format!("{kind:?} on {}", node.name), LIMIT, || {
            let files = machine.run(["ls", "/etc/cni/net.d"])?;
            let first = files.lines().next().unwrap_or_default().to_owned();
            Ok(wanted.ends_with(&first).then_some(()))
        })?;
    }
    Ok(())
}

fn reference_conflist(pod_cidr: &str) -> Value {
    json!({
        "cniVersion": "0.4.0", "name": "reference",
        "plugins": [
            { "type": "ptp", "ipMasq": false,
              "ipam": { "type": "host-local", "ranges": [[{ "subnet": pod_cidr }]], "routes": [{ "dst": "0.0.0.0/0" }] } },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}

/// From the creation of a Deployment to its last pod that is Ready; it is gone at the end.
fn deploy(cluster: &Cluster, pods: usize) -> Result<Duration> {
    let mut spec = pod_spec(None);
    spec["containers"][0]["args"] = json!(["netexec", "--http-port=8080"]);
    spec["containers"][0]["readinessProbe"] =
        json!({ "httpGet": { "path": "/", "port": 8080 }, "periodSeconds": 1 });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "many", "namespace": NAMESPACE },
        "spec": {
            "replicas": pods, "selector": { "matchLabels": { "app": "many" } },
            "template": { "metadata": { "labels": { "app": "many" } }, "spec": spec },
        },
    });
    let start = Instant::now();
    cluster.apply(&deployment.to_string())?;
    cluster.kubectl(&["-n", NAMESPACE, "rollout", "status", "deployment/many", "--timeout=180s"])?;
    let took = start.elapsed();
    cluster.kubectl(&["-n", NAMESPACE, "delete", "deployment", "many"])?;
    // The API forgets pods before their sandboxes are gone; what takes those down must be who made them.
    for node in &cluster.lab().plan().nodes {
        wait::until(&format!("{} without pods", node.name), LIMIT, || {
            let links = cluster.lab().shell(&node.name, "ip -o link show type veth")?;
            Ok((!links.contains("weft") && !links.contains("veth")).then_some(()))
        })?;
    }
    Ok(took)
}

fn log_of(cluster: &Cluster, node: &str) -> Result<PathBuf> {
    Ok(cluster.lab().machine(node)?.dir.join("containerd.log"))
}

fn log_lengths(cluster: &Cluster) -> Result<Vec<usize>> {
    let length = |node: &crate::lab::Node| {
        let length = fs::metadata(log_of(cluster, &node.name)?)?.len();
        Ok(usize::try_from(length)?)
    };
    cluster.lab().plan().nodes.iter().map(length).collect()
}

/// How long each RunPodSandbox took, by the runtime's own log.
fn sandbox_times(log: &str) -> Vec<Duration> {
    let calls: Vec<_> = log.lines().filter_map(sandbox_line).collect();
    let (answers, calls): (Vec<_>, Vec<_>) = calls.into_iter().partition(|(.., answer)| *answer);
    let took = |(pod, called, _): &(&str, Duration, bool)| {
        let (_, answered, _) = answers.iter().find(|(other, ..)| other == pod)?;
        Some(answered.saturating_sub(*called))
    };
    calls.iter().filter_map(took).collect()
}

/// The pod, the time of day, and whether it is the answer: of a line about RunPodSandbox.
fn sandbox_line(line: &str) -> Option<(&str, Duration, bool)> {
    let (head, call) = line.split_once("msg=\"RunPodSandbox for &PodSandboxMetadata{")?;
    let (pod, rest) = call.split_once('}')?;
    Some((pod, time_of_day(head)?, rest.starts_with(" returns sandbox id")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_takes_from_its_call_to_its_answer() {
        let log = r#"
time="2026-11-21T09:28:01.500000000Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:a,Uid:1,Attempt:0,}"
time="2026-11-21T09:28:01.600000000Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:b,Uid:2,Attempt:0,}"
time="2026-11-21T09:28:02.250000000Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:a,Uid:1,Attempt:0,} returns sandbox id \"58\""
"#;
        let times = sandbox_times(log);
        assert_eq!(times.len(), 1, "b has no answer");
        assert_eq!(times[0].as_millis(), 750);
    }
}
