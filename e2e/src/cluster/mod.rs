//! A real Kubernetes in the lab: etcd, API server and controllers on a machine of their own, containerd, kubelet and
//! kube-proxy on every node. Nothing of it is mocked; what runs is pinned in `e2e/kubernetes/go.mod`.
//!
//! A cluster is a lab (see [`crate::lab`]) whose spec has a control plane, so `lab status`, `lab exec` and `lab down`
//! work on it too, and it goes the same way: with its machines.

mod agents;
mod binaries;
mod control_plane;
mod images;
mod life;
mod node;
mod pki;
mod pods;
mod weft;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

pub use binaries::{Binaries, Etcd, Scope};
pub use control_plane::Request;
pub use images::{AGNHOST, PAUSE, WEFT};
pub use node::ProxyMode;
pub use pods::{KubePod, pod_spec};
pub use weft::chart;

use crate::lab::{CONTROL, Lab, LabSpec, Machine, Node, POD_CIDRS, Plan, Programs};
use crate::wait;
use control_plane::ControlPlane;
use node::KubeNode;
use pki::Pki;

const NODE_MASK: u8 = 24;
/// How long the API server may take to be ready.
const API_READY: Duration = Duration::from_secs(180);

/// What a cluster consists of beyond its lab.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    pub lab: LabSpec,
    pub dual_stack: bool,
    pub proxy: ProxyMode,
    /// Length of a node's IPv4 podCIDR.
    pub node_mask: u8,
    pub etcd: Etcd,
}

impl Default for ClusterSpec {
    /// The demo's lab, with a control plane and both families.
    fn default() -> Self {
        let lab = LabSpec { control_plane: true, ..LabSpec::default() };
        Self {
            lab,
            dual_stack: true,
            proxy: ProxyMode::Nftables,
            node_mask: NODE_MASK,
            etcd: Etcd::Distribution,
        }
    }
}

#[derive(Debug)]
pub struct Cluster {
    lab: Lab,
    control: ControlPlane,
    proxy: ProxyMode,
}

impl Cluster {
    /// Builds all of it, without a network plugin: the nodes register and stay NotReady.
    pub fn raise(name: &str, spec: &ClusterSpec, programs: &Programs) -> Result<Self> {
        let archives = images::base(&Binaries::build(Scope::Cluster)?)?;
        let cluster = Self::raise_control_plane(name, spec, programs)?;
        cluster.each_node(|node| cluster.start_node(node, &archives))?;
        Ok(cluster)
    }

    /// Builds it without anything of Kubernetes on the nodes, which are not even registered.
    pub fn raise_control_plane(name: &str, spec: &ClusterSpec, programs: &Programs) -> Result<Self> {
        let binaries = Binaries::build(Scope::Cluster)?;
        let etcd = spec.etcd.program()?;
        let lab = Lab::raise(name, &LabSpec { control_plane: true, ..spec.lab.clone() }, programs)?;
        let families = if spec.dual_stack { 2 } else { 1 };
        let pki = Pki::create(lab.dir().join("pki"))?;
        let control = control_plane(&lab, pki, (binaries, etcd), families, spec.node_mask)?;
        let cluster = Self { control, lab, proxy: spec.proxy };
        cluster.control.start()?;
        Ok(cluster)
    }

    /// A cluster that somebody else raised and kept.
    pub fn attach(name: &str, programs: &Programs) -> Result<Self> {
        let binaries = Binaries::build(Scope::Cluster)?;
        let lab = Lab::attach(name, programs)?;
        let pki = Pki::open(lab.dir().join("pki"));
        Ok(Self {
            control: control_plane(&lab, pki, (binaries, Etcd::Distribution.program()?), 2, NODE_MASK)?,
            lab,
            proxy: ProxyMode::Nftables,
        })
    }

    pub fn keep(self) -> Result<()> {
        self.lab.keep()
    }

    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// A program of Kubernetes, as it was built for this cluster.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        self.control.binaries.path(name)
    }

    /// Runs kubectl as the cluster's administrator; its output.
    pub fn kubectl(&self, words: &[&str]) -> Result<String> {
        self.control.kubectl(words)
    }

    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.control.kubectl_with_input(&["apply", "-f", "-"], manifest)
    }

    /// Whether the API server would take it; nothing changes.
    pub fn would_apply(&self, manifest: &str) -> Result<String> {
        self.control.kubectl_with_input(&["apply", "--dry-run=server", "-f", "-"], manifest)
    }

    pub fn get(&self, words: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get", "-o", "json"], words].concat())?;
        serde_json::from_str(&text).with_context(|| format!("kubectl get {}", words.join(" ")))
    }

    /// As whoever has `token` of a service account: the status and the body of the answer.
    pub fn request(&self, token: &str, request: &Request<'_>) -> Result<(u16, String)> {
        self.control.request(token, request)
    }

    /// Loads archives of images into every node's containerd.
    pub fn import(&self, archives: &[&Path]) -> Result<()> {
        self.each_node(|node| {
            let machine = self.lab.machine(&node.name)?;
            let kube = self.kube_node(node, &machine)?;
            archives.iter().try_for_each(|archive| kube.import(archive))
        })
    }

    /// Gives an image that the nodes have another name.
    pub fn tag(&self, image: &str, name: &str) -> Result<()> {
        self.each_node(|node| {
            let words = ["ctr", "-n", "k8s.io", "images", "tag", "--force", image, name];
            self.lab.machine(&node.name)?.run(words).map(drop)
        })
    }

    /// What Weft's service accounts have asked the API server for: audit events, oldest first.
    pub fn audited(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.control.audit_log())?;
        text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// `weftctl` where a kubeconfig is and no agent: what it prints, and its exit code.
    pub fn weftctl(&self, words: &[&str]) -> Result<(String, i32)> {
        self.weftctl_as(&self.kubeconfig(), words)
    }

    /// The kubeconfig of a user who has no rights until a role is bound to him.
    pub fn user(&self, name: &str) -> Result<PathBuf> {
        self.control.pki.kubeconfig(name, &format!("/CN={name}"), &self.control.server())
    }

    pub fn weftctl_as(&self, kubeconfig: &Path, words: &[&str]) -> Result<(String, i32)> {
        let mut command = Command::new(self.lab.programs().dir.join("weftctl"));
        command.arg("--kubeconfig").arg(kubeconfig).args(words);
        // As in the shell of somebody who works on nodes: a default, which what is named overrides.
        command.env("WEFT_SOCKET", "/nonexistent/agent.sock");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self.control.machine.spawn(&mut command)?.wait_with_output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok((String::from_utf8_lossy(&text).into_owned(), output.status.code().unwrap_or(-1)))
    }

    /// For programs that run outside the lab's machines but inside its control machine's network.
    pub fn kubeconfig(&self) -> PathBuf {
        self.control.admin_config()
    }

    fn start_node(&self, node: &Node, archives: &[PathBuf]) -> Result<()> {
        let machine = self.lab.machine(&node.name)?;
        let kube = self.kube_node(node, &machine)?;
        kube.prepare()?;
        kube.start_containerd()?;
        archives.iter().try_for_each(|archive| kube.import(archive))?;
        kube.start_kubelet()?;
        kube.start_kube_proxy(self.proxy)?;
        self.introduce_node(&node.name)
    }

    fn kube_node<'a>(&'a self, node: &Node, machine: &'a Machine) -> Result<KubeNode<'a>> {
        let uplink = node.uplinks.first().context("a node without an uplink")?;
        let families = self.control.pod_cidrs.len();
        let addresses = uplink.addresses.both()[..families].to_vec();
        let gateways = &uplink.gateways.both()[..families];
        Ok(KubeNode { machine, addresses, gateways: gateways.to_vec(), control: &self.control })
    }

    /// On all nodes at once.
    fn each_node(&self, act: impl Fn(&Node) -> Result<()> + Sync) -> Result<()> {
        thread::scope(|scope| {
            let nodes = self.lab.plan().nodes.iter();
            let threads: Vec<_> =
                nodes.map(|node| scope.spawn(|| act(node).context(node.name.clone()))).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
        })
    }
}

fn control_plane(
    lab: &Lab,
    pki: Pki,
    (binaries, etcd): (Binaries, PathBuf),
    families: usize,
    node_mask: u8,
) -> Result<ControlPlane> {
    Ok(ControlPlane {
        machine: lab.machine(CONTROL)?,
        address: Plan::control().v4.into(),
        pki,
        binaries,
        etcd,
        node_mask,
        pod_cidrs: POD_CIDRS[..families].iter().map(ToString::to_string).collect(),
    })
}

fn wait_for_api(control: &ControlPlane) -> Result<()> {
    wait::until_true("ready API server", API_READY, || control.kubectl(&["get", "--raw", "/readyz"]).is_ok())
}

/// Removes the cluster of this name and what kubelets left in the machine's control groups.
pub fn down(name: &str) -> Result<bool> {
    let was = Lab::down(name)?;
    for controller in fs::read_dir("/sys/fs/cgroup")? {
        let controller = controller?.path();
        let Ok(groups) = fs::read_dir(&controller) else { continue };
        for group in groups.flatten() {
            if group.file_name().to_string_lossy().starts_with(&format!("weft-e2e-{name}-")) {
                remove_groups(&group.path())?;
            }
        }
    }
    Ok(was)
}

/// Depth first: only an empty control group can be removed.
fn remove_groups(group: &Path) -> Result<()> {
    for entry in fs::read_dir(group)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_groups(&entry.path())?;
        }
    }
    wait::until_true(&format!("end of {}", group.display()), Duration::from_secs(10), || {
        fs::remove_dir(group).is_ok()
    })
}
