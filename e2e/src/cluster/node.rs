//! containerd, kubelet and kube-proxy on a node of the lab, as an installer would leave them.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::control_plane::{CLUSTER_DNS, ControlPlane, SERVICE_CIDRS};
use super::images::PAUSE;
use crate::lab::{Machine, Process};
use crate::wait;

const READY: Duration = Duration::from_secs(30);
const RUNTIME: &str = "unix:///run/containerd/containerd.sock";

/// What kube-proxy is made of. IPVS needs a kernel that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyMode {
    Nftables,
    Iptables,
}

impl ProxyMode {
    fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        }
    }
}

/// One node's Kubernetes side.
#[derive(Debug)]
pub(super) struct KubeNode<'a> {
    pub(super) machine: &'a Machine,
    pub(super) addresses: Vec<IpAddr>,
    /// The router of each family.
    pub(super) gateways: Vec<IpAddr>,
    pub(super) control: &'a ControlPlane,
}

impl KubeNode<'_> {
    /// Mounts that a node has and a lab's machine has not: its own view of /sys, and private folders that pods' mounts
    /// propagate from.
    pub(super) fn prepare(&self) -> Result<()> {
        self.machine.run_with_input(["sh", "-eu"], &self.mounts())?;
        self.route_services()
    }

    /// kube-proxy translates a service's address after the kernel has looked for a route to it. Real nodes have a default
    /// route; here it would hide a pod's route that BGP did not bring.
    fn route_services(&self) -> Result<()> {
        SERVICE_CIDRS.iter().zip(&self.gateways).try_for_each(|(cidr, gateway)| {
            self.machine.run(["ip", "route", "replace", cidr, "via", &gateway.to_string()]).map(drop)
        })
    }

    pub(super) fn start_containerd(&self) -> Result<Process> {
        self.machine.write("/etc/containerd/weft-e2e.toml", &containerd_config())?;
        let mut containerd = Command::new("containerd");
        containerd.args(["--config", "/etc/containerd/weft-e2e.toml"]);
        let process = self.machine.daemon("containerd", &mut containerd)?;
        wait::until_true("containerd", READY, || self.machine.run(["ctr", "version"]).is_ok())?;
        Ok(process)
    }

    pub(super) fn import(&self, archive: &std::path::Path) -> Result<()> {
        let words = ["ctr", "-n", "k8s.io", "images", "import", "--all-platforms"].map(std::ffi::OsStr::new);
        self.machine.run(words.into_iter().chain([archive.as_os_str()])).map(drop)
    }

    pub(super) fn start_kubelet(&self) -> Result<Process> {
        let name = &self.machine.name;
        let pki = &self.control.pki;
        let identity = format!("kubelet-{name}");
        let subject = format!("/O=system:nodes/CN=system:node:{name}");
        let kubeconfig = pki.kubeconfig(&identity, &subject, &self.control.server())?;
        let serving = pki.issue(&format!("{identity}-serving"), &subject, &[name], &self.addresses)?;
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "authentication": { "x509": { "clientCAFile": pki.authority().certificate }, "webhook": { "enabled": true },
                                "anonymous": { "enabled": false } },
            "authorization": { "mode": "Webhook" },
            "tlsCertFile": serving.certificate, "tlsPrivateKeyFile": serving.key,
            "containerRuntimeEndpoint": RUNTIME,
            "cgroupDriver": "cgroupfs", "cgroupRoot": self.cgroup(), "enforceNodeAllocatable": [],
            "failSwapOn": false, "localStorageCapacityIsolation": false, "evictionHard": {},
            "clusterDNS": [CLUSTER_DNS], "clusterDomain": "cluster.local",
            "maxPods": 250, "serializeImagePulls": false, "registerWithTaints": [],
        });
        self.machine.write("/etc/kubernetes/kubelet.json", &serde_json::to_string_pretty(&config)?)?;
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        let mut kubelet = Command::new(self.control.binaries.path("kubelet")?);
        kubelet.args([
            "--config=/etc/kubernetes/kubelet.json".to_owned(),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--hostname-override={name}"),
            format!("--node-ip={}", addresses.join(",")),
        ]);
        self.machine.daemon("kubelet", &mut kubelet)
    }

    pub(super) fn start_kube_proxy(&self, mode: ProxyMode) -> Result<Process> {
        let name = &self.machine.name;
        let kubeconfig = self.control.pki.kubeconfig(
            &format!("proxy-{name}"),
            "/CN=system:kube-proxy",
            &self.control.server(),
        )?;
        let config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
            "mode": mode.name(), "clientConnection": { "kubeconfig": kubeconfig }, "hostnameOverride": name,
            "clusterCIDR": self.control.pod_cidrs.join(","),
            // The limit is the machine's, not the namespace's.
            "conntrack": { "maxPerCore": 0 },
        });
        self.machine.write("/etc/kubernetes/kube-proxy.json", &serde_json::to_string_pretty(&config)?)?;
        let mut proxy = Command::new(self.control.binaries.path("kube-proxy")?);
        proxy.arg("--config=/etc/kubernetes/kube-proxy.json");
        self.machine.daemon("kube-proxy", &mut proxy).context("kube-proxy")
    }

    /// One per node and lab, below every controller of this machine.
    fn cgroup(&self) -> String {
        let dir = self.machine.dir.parent().and_then(|dir| dir.file_name()).unwrap_or_default();
        format!("/weft-e2e-{}-{}", dir.to_string_lossy(), self.machine.name)
    }

    fn mounts(&self) -> String {
        let (disk, cgroup) = (self.machine.dir.join("disk"), self.cgroup());
        let disk = disk.display();
        format!(
            r#"
# A fresh sysfs shows this network namespace's links; the cgroups of the old one are put back.
mkdir -p /run/cgroups
mount --rbind /sys/fs/cgroup /run/cgroups
mount -t sysfs sysfs /sys
mount --rbind /run/cgroups /sys/fs/cgroup
for controller in /sys/fs/cgroup/*/; do
  group=$controller{cgroup}
  mkdir -p "$group"
  # An empty cpuset takes no process.
  for file in cpuset.cpus cpuset.mems; do
    [ -e "$group/$file" ] && cat "$controller/$file" > "$group/$file"
  done
done
for dir in /etc/cni/net.d /opt/cni/bin /var/lib/kubelet /var/lib/containerd /var/lib/cni /var/lib/weft /var/log/pods /var/log/containers; do
  mkdir -p "{disk}$dir" "$dir"
  mount --bind "{disk}$dir" "$dir"
done
# What every installer puts there, and containerd asks for: it sets up `lo` with it.
cp /usr/lib/cni/loopback /opt/cni/bin/
mount --make-rshared /
"#
        )
    }
}

fn containerd_config() -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#
    )
}
