//! What happens to a cluster: its API server goes away, daemons are killed and started again, agents are rolled.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::node::KubeNode;
use super::weft::NAMESPACE;
use super::{Cluster, wait_for_api};
use crate::lab::Machine;
use crate::wait;

/// How long a killed daemon may take to be gone.
const GONE: Duration = Duration::from_secs(60);
/// How long the kubelet may take to start a container again that ended, with its first back-off.
const RESTARTED: Duration = Duration::from_secs(180);

impl Cluster {
    /// SIGKILL: nobody can ask or tell the cluster anything.
    pub fn kill_api_server(&self) -> Result<()> {
        kill_all(&self.control.machine, "kube-apiserver")
    }

    pub fn start_api_server(&self) -> Result<()> {
        self.control.start_api_server()?;
        wait_for_api(&self.control)
    }

    /// Starts the controller manager again without the controllers named.
    pub fn restart_controllers_without(&self, disabled: &[&str]) -> Result<()> {
        // The kernel keeps 15 characters of a name.
        kill_all(&self.control.machine, "kube-controller")?;
        self.control.start_controller_manager(disabled)
    }

    /// SIGKILL to the kubelet of a node, and a new one.
    pub fn restart_kubelet(&self, node: &str) -> Result<()> {
        self.kill_kubelet(node)?;
        self.start_kubelet(node)
    }

    pub fn kill_kubelet(&self, node: &str) -> Result<()> {
        kill_all(&self.lab.machine(node)?, "kubelet")
    }

    pub fn start_kubelet(&self, node: &str) -> Result<()> {
        self.on_node(node, |kube| kube.start_kubelet().map(drop))
    }

    /// SIGKILL to the container runtime of a node, and a new one. Its containers run on.
    pub fn restart_containerd(&self, node: &str) -> Result<()> {
        kill_all(&self.lab.machine(node)?, "containerd")?;
        self.on_node(node, |kube| kube.start_containerd().map(drop))
    }

    /// SIGKILL to a pod's sandbox, as if the kernel had killed it: the kubelet makes a new one, with or without an API.
    pub fn kill_sandbox(&self, node: &str, pod: &str) -> Result<()> {
        let machine = self.lab.machine(node)?;
        let (namespace, name) = pod.split_once('/').with_context(|| format!("{pod}: NAMESPACE/POD"))?;
        let filter = format!(
            "labels.\"io.kubernetes.pod.namespace\"=={namespace},labels.\"io.kubernetes.pod.name\"=={name},labels.\"io.cri-containerd.kind\"==sandbox"
        );
        let sandboxes = machine.run(["ctr", "-n", "k8s.io", "containers", "ls", "-q", &filter])?;
        let sandboxes: Vec<_> = sandboxes.lines().collect();
        ensure!(!sandboxes.is_empty(), "{pod} has no sandbox on {node}");
        let mut killed = 0;
        for sandbox in sandboxes {
            // One of them at most runs; what containerd still remembers of former ones does not.
            let kill = machine.run(["ctr", "-n", "k8s.io", "task", "kill", "-s", "SIGKILL", sandbox]);
            killed += usize::from(kill.is_ok());
        }
        ensure!(killed > 0, "no sandbox of {pod} runs on {node}");
        Ok(())
    }

    /// SIGKILL to the agent of a node; the kubelet starts it again.
    pub fn kill_agent(&self, node: &str) -> Result<()> {
        self.lab.machine(node)?.run(["pkill", "-KILL", "-x", "weft-agent"]).map(drop)
    }

    /// Ends everything on a node, and boots it with the disk that it had.
    pub fn reboot(&self, node: &str) -> Result<()> {
        self.lab.reboot(node)?;
        let proxy = self.proxy;
        self.on_node(node, |kube| {
            kube.prepare()?;
            kube.start_containerd()?;
            kube.start_kubelet()?;
            kube.start_kube_proxy(proxy).map(drop)
        })
    }

    /// Deletes the agent's pod of a node; the DaemonSet makes another.
    pub fn delete_agent(&self, node: &str) -> Result<()> {
        let field = format!("--field-selector=spec.nodeName={node}");
        self.kubectl(&["-n", NAMESPACE, "delete", "pods", &field]).map(drop)
    }

    /// Replaces the agents of all nodes, as `kubectl rollout restart` does; returns when the last is ready.
    pub fn roll_agents(&self) -> Result<()> {
        self.kubectl(&["-n", NAMESPACE, "rollout", "restart", "daemonset/weft-agent"])?;
        self.until_agents_are_ready()
    }

    pub fn until_agents_are_ready(&self) -> Result<()> {
        self.kubectl(&["-n", NAMESPACE, "rollout", "status", "daemonset/weft-agent", "--timeout=120s"])
            .map(drop)
    }

    /// How often the agent's container of a node was started again, while its pod stayed the same.
    pub fn agent_restarts(&self, node: &str) -> Result<u64> {
        let pods = self.agent_pods(node)?;
        pods.pointer("/items/0/status/containerStatuses/0/restartCount")
            .and_then(serde_json::Value::as_u64)
            .with_context(|| format!("{node} has no agent"))
    }

    /// Waits until the agent of a node has been started `restarts` times again and is ready.
    pub fn until_agent_is_back(&self, node: &str, restarts: u64) -> Result<()> {
        wait::until(&format!("agent of {node} after restart {restarts}"), RESTARTED, || {
            let pods = self.agent_pods(node)?;
            let status = pods.pointer("/items/0/status/containerStatuses/0").context("a status")?;
            let back = status["ready"] == true && status["restartCount"].as_u64() >= Some(restarts);
            Ok(back.then_some(()))
        })
    }

    fn agent_pods(&self, node: &str) -> Result<serde_json::Value> {
        let field = format!("--field-selector=spec.nodeName={node}");
        self.get(&["-n", NAMESPACE, "pods", &field])
    }

    fn on_node(&self, node: &str, act: impl FnOnce(&KubeNode<'_>) -> Result<()>) -> Result<()> {
        let machine = self.lab.machine(node)?;
        act(&self.kube_node(self.lab.node(node)?, &machine)?)
    }
}

fn kill_all(machine: &Machine, name: &str) -> Result<()> {
    machine.run(["pkill", "-KILL", "-x", name])?;
    wait::until_true(&format!("end of {name} on {}", machine.name), GONE, || {
        machine.run(["pgrep", "-x", name]).is_err()
    })
}
