//! The container runtime's and kubelet's part: sandboxes, the CNI calls around them, and the Pod objects.
//!
//! Calls are made as libcni makes them: the conflist that the agent wrote is read from `/etc/cni/net.d`, the highest
//! version that it offers is taken, and the plugin that the agent installed in `/opt/cni/bin` is executed with `CNI_*` in its environment and one plugin's
//! configuration on standard input (CNI spec 1.1.0 §4).

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Lab;
use super::machine::Machine;
use crate::net::Namespace;

const CNI_DIR: &str = "/etc/cni/net.d";
/// Where the agent installs the plugin.
const CNI_PATH: &str = "/opt/cni/bin";
const IFNAME: &str = "eth0";

/// What is remembered of a pod to find it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PodRecord {
    node: String,
    container_id: String,
    labels: BTreeMap<String, String>,
    addresses: Vec<IpAddr>,
}

/// A pod's network namespace, not wired yet. Its Pod object is there, as the scheduler left it.
#[derive(Debug)]
pub struct Sandbox<'a> {
    lab: &'a Lab,
    key: String,
    node: Machine,
    container_id: String,
    labels: BTreeMap<String, String>,
    namespace: Namespace,
}

/// A pod that runs: its namespace is wired, and its Pod object says so.
#[derive(Clone, Debug)]
pub struct Pod {
    key: String,
    node: String,
    container_id: String,
    namespace: Namespace,
    addresses: Vec<IpAddr>,
}

impl Pod {
    /// `NAMESPACE/NAME`.
    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn node(&self) -> &str {
        &self.node
    }

    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The address of one family.
    ///
    /// # Panics
    /// When the pod has none: every lab pod has both.
    pub fn ip(&self, ipv6: bool) -> IpAddr {
        *self.addresses.iter().find(|address| address.is_ipv6() == ipv6).expect("both families")
    }

    fn ifname() -> &'static str {
        IFNAME
    }
}

impl fmt::Display for Pod {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.key)
    }
}

impl Lab {
    /// Runs a pod, from the scheduler's decision to its addresses in the Pod object.
    pub fn run_pod(&self, key: &str, node: &str, labels: &[(&str, &str)]) -> Result<Pod> {
        self.sandbox(key, node, labels)?.add()
    }

    /// The part before CNI: the Pod object, and an empty network namespace.
    pub fn sandbox(&self, key: &str, node: &str, labels: &[(&str, &str)]) -> Result<Sandbox<'_>> {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let machine = self.machine(node)?;
        let container_id = fresh_container_id()?;
        self.store().put(&pod_object(key, node, &labels, &[])?)?;
        machine.run(["ip", "netns", "add", &netns_name(&container_id)])?;
        machine.run(["ip", "-n", &netns_name(&container_id), "link", "set", "lo", "up"])?;
        let namespace = Namespace::open(key, &machine.path(&netns_path(&container_id)))?;
        Ok(Sandbox { lab: self, key: key.to_owned(), node: machine, container_id, labels, namespace })
    }

    /// A pod that runs already.
    pub fn pod(&self, key: &str) -> Result<Pod> {
        let record = self.state().pods.get(key).cloned().with_context(|| format!("no pod {key}"))?;
        let path = self.machine(&record.node)?.path(&netns_path(&record.container_id));
        let namespace = Namespace::open(key, &path)?;
        let PodRecord { node, container_id, addresses, .. } = record;
        Ok(Pod { key: key.to_owned(), node, container_id, namespace, addresses })
    }

    pub fn pods(&self) -> Result<Vec<Pod>> {
        let keys: Vec<_> = self.state().pods.keys().cloned().collect();
        keys.iter().map(|key| self.pod(key)).collect()
    }

    /// Changes a pod's labels, as `kubectl label` would.
    pub fn label_pod(&self, key: &str, labels: &[(&str, &str)]) -> Result<()> {
        let record = {
            let mut state = self.state();
            let record = state.pods.get_mut(key).with_context(|| format!("no pod {key}"))?;
            record.labels =
                labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            record.clone()
        };
        self.store().put(&pod_object(key, &record.node, &record.labels, &record.addresses)?)?;
        self.save()
    }

    /// Ends a pod: DEL, then its namespace, then its object.
    pub fn delete_pod(&self, pod: &Pod) -> Result<()> {
        self.end_pod(&pod.key, &self.machine(pod.node())?, &pod.container_id)
    }

    fn end_pod(&self, key: &str, node: &Machine, container_id: &str) -> Result<()> {
        cni(node, &environment("DEL", key, container_id)?)?;
        node.run(["ip", "netns", "delete", &netns_name(container_id)])?;
        self.state().pods.remove(key);
        self.store().take(&pod_object(key, &node.name, &BTreeMap::new(), &[])?)?;
        self.save()
    }

    /// An echo server in a pod, as a process that stays with the lab.
    pub fn serve(&self, pod: &Pod, port: u16) -> Result<()> {
        let mut server = Command::new(&self.programs().weft_e2e);
        server.args(["net", "serve", &port.to_string()]);
        self.machine(pod.node())?.daemon_in(Some(pod.namespace()), "pods", &mut server).map(drop)
    }

    /// The CNI verb STATUS on a node: an error says why no pod can be added.
    pub fn cni_status(&self, node: &str) -> Result<()> {
        let environment = vec![("CNI_COMMAND".to_owned(), "STATUS".to_owned())];
        cni(&self.machine(node)?, &environment).map(drop)
    }

    /// The CNI verb CHECK for a pod that runs.
    pub fn cni_check(&self, pod: &Pod) -> Result<()> {
        let machine = self.machine(pod.node())?;
        cni(&machine, &environment("CHECK", &pod.key, &pod.container_id)?).map(drop)
    }
}

impl Sandbox<'_> {
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Ends it as a pod is ended, whether it was added or not.
    pub fn delete(self) -> Result<()> {
        self.lab.end_pod(&self.key, &self.node, &self.container_id)
    }

    /// ADD, and the addresses that it answered into the Pod object, as kubelet does it. May be tried again after a failure.
    pub fn add(&self) -> Result<Pod> {
        let environment = environment("ADD", &self.key, &self.container_id)?;
        let answer = cni(&self.node, &environment).with_context(|| format!("ADD for {}", self.key))?;
        let addresses = result_addresses(&answer)?;
        let record = PodRecord {
            node: self.node.name.clone(),
            container_id: self.container_id.clone(),
            labels: self.labels.clone(),
            addresses: addresses.clone(),
        };
        self.lab.state().pods.insert(self.key.clone(), record);
        self.lab.store().put(&pod_object(&self.key, &self.node.name, &self.labels, &addresses)?)?;
        self.lab.save()?;
        Ok(Pod {
            key: self.key.clone(),
            node: self.node.name.clone(),
            container_id: self.container_id.clone(),
            namespace: self.namespace.clone(),
            addresses,
        })
    }
}

/// Executes the plugin; its answer, or its error in words.
fn cni(node: &Machine, environment: &[(String, String)]) -> Result<Value> {
    let mut conflist = read_conflist(node)?;
    let config = plugin_config(&mut conflist)?;
    let plugin = config["type"].as_str().context("the plugin has no type")?;
    let mut command = Command::new(format!("{CNI_PATH}/{plugin}"));
    command.env_clear().envs(environment.iter().cloned()).env("CNI_PATH", CNI_PATH);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = node.spawn(&mut command)?;
    std::io::Write::write_all(
        &mut child.stdin.take().context("standard input")?,
        config.to_string().as_bytes(),
    )?;
    let output = child.wait_with_output()?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let answer = if stdout.trim().is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&stdout).with_context(|| format!("not one JSON document: {stdout}"))?
    };
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {} {}", output.status, answer, stderr.trim());
    }
    Ok(answer)
}

/// The first file in the directory's order, as every runtime chooses.
fn read_conflist(node: &Machine) -> Result<Value> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(node.path(CNI_DIR))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "conflist"));
    files.sort();
    let path =
        files.first().with_context(|| format!("no network configuration in {CNI_DIR} of {}", node.name))?;
    serde_json::from_slice(&fs::read(path)?).with_context(|| path.display().to_string())
}

/// What libcni hands to the first plugin: its own part of the list, with the list's name and the version chosen.
fn plugin_config(conflist: &mut Value) -> Result<Value> {
    let offered = conflist["cniVersions"].as_array().into_iter().flatten().chain([&conflist["cniVersion"]]);
    let version =
        offered.filter_map(Value::as_str).max().context("the conflist has no cniVersion")?.to_owned();
    let name = conflist["name"].take();
    let mut plugin = conflist["plugins"][0].take();
    let object = plugin.as_object_mut().context("the conflist has no plugin")?;
    object.remove("capabilities");
    object.insert("cniVersion".to_owned(), version.into());
    object.insert("name".to_owned(), name);
    Ok(plugin)
}

fn environment(verb: &str, key: &str, container_id: &str) -> Result<Vec<(String, String)>> {
    let (namespace, name) = split(key)?;
    let arguments = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={container_id}"
    );
    let variables = [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", container_id),
        ("CNI_NETNS", &netns_path(container_id)),
        ("CNI_IFNAME", Pod::ifname()),
        ("CNI_ARGS", &arguments),
    ];
    Ok(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
}

fn result_addresses(answer: &Value) -> Result<Vec<IpAddr>> {
    let ips = answer["ips"].as_array().with_context(|| format!("no addresses in {answer}"))?;
    let address = |ip: &Value| {
        let text = ip["address"].as_str().context("an address")?;
        Ok(text.split('/').next().unwrap_or(text).parse()?)
    };
    ips.iter().map(address).collect()
}

fn pod_object(
    key: &str,
    node: &str,
    labels: &BTreeMap<String, String>,
    addresses: &[IpAddr],
) -> Result<Value> {
    let (namespace, name) = split(key)?;
    let ips: Vec<_> = addresses.iter().map(|address| json!({ "ip": address.to_string() })).collect();
    let status = match addresses.first() {
        Some(first) => json!({ "phase": "Running", "podIP": first.to_string(), "podIPs": ips }),
        None => json!({ "phase": "Pending" }),
    };
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "namespace": namespace, "name": name, "labels": labels },
        "spec": { "nodeName": node, "containers": [{ "name": "main", "image": "none" }] },
        "status": status,
    }))
}

fn split(key: &str) -> Result<(&str, &str)> {
    key.split_once('/').with_context(|| format!("{key}: NAMESPACE/POD"))
}

fn netns_name(container_id: &str) -> String {
    format!("cni-{}", &container_id[..12])
}

fn netns_path(container_id: &str) -> String {
    format!("/run/netns/{}", netns_name(container_id))
}

/// 64 hex digits, as containerd makes them.
fn fresh_container_id() -> Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().replace('-', "");
    Ok(format!("{id}{id}"))
}
