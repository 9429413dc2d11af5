//! Agents on nodes that no kubelet runs: hundreds of them fit where three kubelets do.
//!
//! Their cluster has the chart's roles, CRDs and admission policy, and each of them has what a DaemonSet's pod has: a Pod on
//! its Node, and a token that was issued for it. So the API server treats them as it would anywhere.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Cluster;
use super::weft::{NAMESPACE, RELEASE, chart};

const ACCOUNT: &str = "weft-agent";

impl Cluster {
    /// Everything of the chart but pods, which nobody would run, and the objects that describe the racks.
    pub fn install_weft_objects(&self) -> Result<()> {
        let mut words: Vec<OsString> = ["upgrade", "--install", RELEASE].iter().map(OsString::from).collect();
        words.push(chart()?.into());
        words.extend(["--namespace", NAMESPACE, "--create-namespace"].map(OsString::from));
        self.helm(&words)?;
        self.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"])?;
        self.describe_racks()
    }

    /// Puts the pod of an agent on each node of the lab; their Nodes are there.
    pub fn place_agents(&self) -> Result<()> {
        let pods = self.lab.plan().nodes.iter().map(|node| agent_pod(&node.name)).collect::<Vec<_>>();
        self.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": pods }).to_string()).map(drop)
    }

    /// How the agent of `node`, whose pod is placed, gets to the API.
    pub fn agent_kubeconfig(&self, node: &str) -> Result<PathBuf> {
        let pod = pod_name(node);
        let token = self.kubectl(&[
            "-n",
            NAMESPACE,
            "create",
            "token",
            ACCOUNT,
            "--duration=24h",
            "--bound-object-kind=Pod",
            &format!("--bound-object-name={pod}"),
        ])?;
        let authority = self.control.pki.authority().certificate;
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{ "name": "lab", "cluster": { "server": self.control.server(), "certificate-authority": authority } }],
            "users": [{ "name": "lab", "user": { "token": token.trim() } }],
            "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "lab" } }],
        });
        let path = self.lab.machine(node)?.dir.join("kubeconfig");
        fs::write(&path, config.to_string()).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

fn pod_name(node: &str) -> String {
    format!("{ACCOUNT}-{node}")
}

fn agent_pod(node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": pod_name(node), "namespace": NAMESPACE, "labels": { "app.kubernetes.io/name": "weft" } },
        "spec": {
            "nodeName": node, "serviceAccountName": ACCOUNT, "hostNetwork": true, "tolerations": [{ "operator": "Exists" }],
            "containers": [{ "name": "agent", "image": "weft" }],
        },
    })
}
