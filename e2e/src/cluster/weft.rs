//! Weft on a cluster, as its users install it: the image on the nodes, the chart by helm, and the objects that describe
//! the racks.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::{Cluster, images};
use crate::lab::{OUTSIDE, POD_CIDRS, Plan, shared_objects};

pub(super) const NAMESPACE: &str = "weft-system";
pub(super) const RELEASE: &str = "weft";
/// How long a kubelet may take to register its node, on a machine that does much else.
const REGISTERED: &str = "--timeout=180s";

/// How long routers keep the routes of a node without an agent: shorter than outages in stories are, and longer than the start
/// of an agent, which the kubelet puts off when it was killed before.
const RESTART_SECONDS: u16 = 60;

impl Cluster {
    /// Builds the image and loads it into every node's containerd.
    pub fn load_weft_image(&self) -> Result<()> {
        let archive = self.lab.dir().join("weft.tar");
        images::weft(&self.lab.programs().dir, &archive)?;
        self.import(&[&archive])
    }

    /// `helm upgrade --install --wait`, with more values as `NAME=VALUE`; returns when every node is Ready.
    pub fn install_weft(&self, values: &[&str]) -> Result<()> {
        self.upgrade_weft(values)?;
        self.describe_racks()?;
        self.kubectl(&["wait", "--for=condition=Ready", "nodes", "--all", "--timeout=180s"]).map(drop)
    }

    /// As [`Cluster::install_weft`], without regard to the nodes.
    pub fn upgrade_weft(&self, values: &[&str]) -> Result<()> {
        self.upgrade_weft_within(180, values)
    }

    /// An error when the pods are not ready within so many seconds. Helm alone would wait for all agents but one.
    pub fn upgrade_weft_within(&self, seconds: u16, values: &[&str]) -> Result<()> {
        self.upgrade_weft_from(&chart()?, None, seconds, values)
    }

    /// From a folder or an archive, with the values of a file; `values` and what is the cluster's own count more.
    pub fn upgrade_weft_from(
        &self,
        chart: &Path,
        file: Option<&Path>,
        seconds: u16,
        values: &[&str],
    ) -> Result<()> {
        let (repository, tag) = images::WEFT.split_once(':').context("an image with a tag")?;
        let settings = [
            format!("image.repository={repository}"),
            format!("image.tag={tag}"),
            "image.pullPolicy=Never".to_owned(),
            format!("apiServer.host={}", Plan::control().v4),
        ];
        let mut words: Vec<OsString> = ["upgrade", "--install", RELEASE].iter().map(OsString::from).collect();
        words.push(chart.into());
        words.extend(["--namespace", NAMESPACE, "--create-namespace", "--wait"].map(OsString::from));
        words.push(format!("--timeout={seconds}s").into());
        words.extend(file.into_iter().flat_map(|file| [OsString::from("--values"), file.into()]));
        for setting in settings.iter().map(String::as_str).chain(values.iter().copied()) {
            words.extend([OsString::from("--set"), setting.into()]);
        }
        self.helm(&words)?;
        let agents = self.kubectl(&[
            "-n",
            NAMESPACE,
            "get",
            "daemonset/weft-agent",
            "--ignore-not-found",
            "-o",
            "name",
        ])?;
        if agents.is_empty() { Ok(()) } else { self.until_agents_are_ready() }
    }

    /// `helm VERB weft …`, in Weft's namespace.
    pub fn helm_release(&self, verb: &str, flags: &[&str]) -> Result<String> {
        let words = [&[verb, RELEASE, "--namespace", NAMESPACE], flags].concat();
        self.helm(&words.into_iter().map(OsString::from).collect::<Vec<_>>())
    }

    /// Helm runs where the API server is, with the repository's files as everywhere in a lab.
    pub fn helm(&self, words: &[OsString]) -> Result<String> {
        let mut helm: Vec<OsString> = vec![self.control.binaries.path("helm")?.into_os_string()];
        helm.extend([OsString::from("--kubeconfig"), self.kubeconfig().into_os_string()]);
        helm.extend_from_slice(words);
        self.control.machine.run(helm)
    }

    /// Says of a node, as soon as it has registered, what an operator knows of his racks.
    pub fn introduce_node(&self, name: &str) -> Result<()> {
        let node = self.lab.node(name)?;
        self.kubectl(&["wait", "--for=create", "node", name, REGISTERED])?;
        self.kubectl(&["label", "--overwrite", "node", name, &format!("rack=rack{}", node.rack)]).map(drop)
    }

    /// The cluster's BGPConfiguration, and a BGPPeer for each session with a top-of-rack router.
    pub(super) fn describe_racks(&self) -> Result<()> {
        let mut items = vec![json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "BGPConfiguration", "metadata": { "name": "default" },
            "spec": {
                "clusterCidrs": POD_CIDRS,
                "gracefulRestart": { "restartSeconds": RESTART_SECONDS },
                "session": { "timers": { "connectRetrySeconds": 1, "holdTimeSeconds": 9 } },
            },
        })];
        items.extend(shared_objects(self.lab.plan()));
        for tor in &self.lab.plan().tors {
            for (family, address) in ["ipv4", "ipv6"].iter().zip(tor.addresses.both()) {
                items.push(json!({
                    "apiVersion": "weft.dev/v1alpha1", "kind": "BGPPeer",
                    "metadata": { "name": format!("{}-{family}", tor.name) },
                    "spec": {
                        "nodeSelector": { "matchLabels": { "rack": format!("rack{}", tor.rack) } },
                        "address": address, "asn": tor.asn,
                        "session": { "families": [family], "importFilters": [OUTSIDE] },
                    },
                }));
            }
        }
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        self.apply(&list.to_string()).map(drop)
    }

    /// Replaces the calling program's child by kubectl with the terminal.
    pub fn kubectl_here(&self, words: &[String]) -> Result<i32> {
        let mut kubectl = Command::new(self.control.binaries.path("kubectl")?);
        kubectl.arg("--kubeconfig").arg(self.kubeconfig()).args(words);
        self.control.machine.exec(None, &mut kubectl)
    }
}

/// The chart of this repository.
pub fn chart() -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository")?.join("chart"))
}
