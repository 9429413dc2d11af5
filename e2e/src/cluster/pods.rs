//! Pods of a cluster as places to send traffic from: kubectl makes them, their network namespaces are entered from here.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{AGNHOST, Cluster};
use crate::net::Namespace;
use crate::wait;

/// A kubelet whose API server was gone looks for it again after half a minute, with jitter up to twice that.
const RUNS: Duration = Duration::from_secs(180);

/// A pod that runs.
#[derive(Clone, Debug)]
pub struct KubePod {
    key: String,
    node: String,
    namespace: Namespace,
    addresses: Vec<IpAddr>,
}

impl KubePod {
    /// `NAMESPACE/NAME`.
    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn node(&self) -> &str {
        &self.node
    }

    /// Its network namespace, which this keeps alive.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// IPv4 before IPv6.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }
}

impl fmt::Display for KubePod {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.key)
    }
}

/// What a pod of ours runs: nothing, so that whatever answers in it is the test's own.
pub fn pod_spec(node: Option<&str>) -> Value {
    let mut spec = json!({
        "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
        "containers": [{ "name": "main", "image": AGNHOST, "imagePullPolicy": "Never", "args": ["pause"] }],
    });
    if let Some(node) = node {
        spec["nodeName"] = node.into();
    }
    spec
}

impl Cluster {
    /// A namespace that pods can be made in: its service account is there.
    pub fn create_namespace(&self, name: &str) -> Result<()> {
        self.kubectl(&["create", "namespace", name])?;
        self.kubectl(&["-n", name, "wait", "--for=create", "serviceaccount/default", "--timeout=30s"])
            .map(drop)
    }

    /// Removes a namespace with all that is in it; returns when it is gone.
    pub fn delete_namespace(&self, name: &str) -> Result<()> {
        self.kubectl(&["delete", "namespace", name, "--timeout=180s"]).map(drop)
    }

    /// Makes a pod on a node and returns when it runs.
    pub fn run_pod(&self, key: &str, node: &str, labels: &[(&str, &str)]) -> Result<KubePod> {
        let (namespace, name) = split(key)?;
        let labels: serde_json::Map<_, _> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "spec": pod_spec(Some(node)),
            "metadata": { "namespace": namespace, "name": name, "labels": labels },
        });
        self.apply(&pod.to_string())?;
        self.running_pod(key)
    }

    /// A pod that somebody made, as soon as it runs.
    pub fn running_pod(&self, key: &str) -> Result<KubePod> {
        let (namespace, name) = split(key)?;
        wait::until(&format!("running pod {key}"), RUNS, || {
            self.entered(&self.get(&["-n", namespace, "pod", name])?).map(Some)
        })
    }

    /// All pods of a label selector, which must run.
    pub fn running_pods(&self, namespace: &str, selector: &str) -> Result<Vec<KubePod>> {
        let list = self.get(&["-n", namespace, "pods", "-l", selector])?;
        list["items"].as_array().into_iter().flatten().map(|pod| self.entered(pod)).collect()
    }

    fn entered(&self, pod: &Value) -> Result<KubePod> {
        let text = |pointer: &str| {
            let value = pod.pointer(pointer).and_then(Value::as_str);
            value.map(str::to_owned).with_context(|| format!("the pod has no {pointer} yet"))
        };
        let key = format!("{}/{}", text("/metadata/namespace")?, text("/metadata/name")?);
        ensure!(text("/status/phase")? == "Running", "{key} is {}", text("/status/phase")?);
        ensure!(pod["metadata"]["deletionTimestamp"].is_null(), "{key} is being deleted");
        let node = text("/spec/nodeName")?;
        let container = text("/status/containerStatuses/0/containerID")?;
        let machine = self.lab().machine(&node)?;
        let tasks = machine.run(["ctr", "-n", "k8s.io", "task", "ls"])?;
        let pid = task(&tasks, container.trim_start_matches("containerd://"))
            .with_context(|| format!("the container of {key} does not run"))?;
        let namespace = Namespace::open(&key, &machine.path(&format!("/proc/{pid}/ns/net")))?;
        let addresses = pod["status"]["podIPs"].as_array().context("addresses")?;
        let addresses = addresses.iter().filter_map(|ip| ip["ip"].as_str());
        let mut addresses: Vec<IpAddr> = addresses.map(str::parse).collect::<Result<_, _>>()?;
        addresses.sort();
        Ok(KubePod { key, node, namespace, addresses })
    }
}

/// The process of a running container in `ctr task ls`.
fn task<'a>(tasks: &'a str, container: &str) -> Option<&'a str> {
    let mut lines = tasks.lines().map(str::split_whitespace);
    lines.find_map(|mut words| {
        (words.next()? == container).then_some(())?;
        let pid = words.next()?;
        (words.next()? == "RUNNING").then_some(pid)
    })
}

fn split(key: &str) -> Result<(&str, &str)> {
    key.split_once('/').with_context(|| format!("{key}: NAMESPACE/POD"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_of_a_container_that_runs_is_found() {
        let tasks = "TASK PID STATUS\naa 12 STOPPED\nbb 34 RUNNING\n";
        assert_eq!(task(tasks, "bb"), Some("34"));
        assert_eq!((task(tasks, "aa"), task(tasks, "cc")), (None, None));
    }
}
