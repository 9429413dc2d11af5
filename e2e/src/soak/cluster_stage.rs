//! A real Kubernetes as the stage: objects go through the API server, pods through kubelets and containerd, and a kubelet
//! starts an agent again that was killed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use super::inspect::{self, Lodger};
use super::model::Model;
use super::stage::{PORT, Stage};
use super::steps::Step;
use super::world::{End, Labels, split};
use crate::cluster::{Cluster, ClusterSpec, KubePod};
use crate::lab::{OUTSIDE, Plan, Programs};
use crate::net::{EchoServer, Namespace};

/// How long a kubelet may take to end a pod.
const ENDED: &str = "--timeout=120s";

#[derive(Debug)]
pub struct ClusterStage {
    cluster: Cluster,
    pods: BTreeMap<String, (KubePod, EchoServer)>,
    outside: (Namespace, EchoServer),
    /// How often the agent of a node had been started again when it was killed.
    restarts: BTreeMap<String, u64>,
}

impl ClusterStage {
    /// A cluster with Weft installed; the namespaces are there.
    pub fn raise(name: &str, spec: &ClusterSpec, programs: &Programs, namespaces: &[&str]) -> Result<Self> {
        let cluster = Cluster::raise(name, spec, programs)?;
        cluster.load_weft_image()?;
        cluster.install_weft(&[])?;
        namespaces.iter().try_for_each(|namespace| cluster.create_namespace(namespace))?;
        let outside = cluster.lab().namespace(OUTSIDE)?;
        let echo = EchoServer::start(&outside, PORT)?;
        let (pods, restarts) = Default::default();
        Ok(Self { cluster, pods, restarts, outside: (outside, echo) })
    }

    /// As the controller manager has handed them out, IPv4 first.
    pub fn pod_cidrs(&self) -> Result<BTreeMap<String, [IpNetwork; 2]>> {
        let nodes = self.cluster.get(&["nodes"])?;
        let range = |node: &Value, index: usize| {
            let text = node["spec"]["podCIDRs"][index].as_str().context("a node without podCIDRs")?;
            text.parse::<IpNetwork>().with_context(|| text.to_owned())
        };
        let ranges = |node: &Value| {
            let name = node["metadata"]["name"].as_str().context("a node without a name")?;
            Ok((name.to_owned(), [range(node, 0)?, range(node, 1)?]))
        };
        nodes["items"].as_array().into_iter().flatten().map(ranges).collect()
    }

    fn start_pod(&mut self, key: &str, node: &str, labels: &Labels) -> Result<()> {
        let labels: Vec<_> = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let pod = self.cluster.run_pod(key, node, &labels)?;
        let echo = EchoServer::start(pod.namespace(), PORT)?;
        self.pods.insert(key.to_owned(), (pod, echo));
        Ok(())
    }

    fn end_pod(&mut self, key: &str) -> Result<()> {
        self.pods.remove(key);
        let (namespace, name) = split(key);
        self.cluster.kubectl(&["-n", namespace, "delete", "pod", name, ENDED]).map(drop)
    }

    /// All labels, in place of those that were there.
    fn label(&self, object: &[&str], labels: &Labels) -> Result<()> {
        let patch = json!([{ "op": "add", "path": "/metadata/labels", "value": labels }]).to_string();
        self.cluster.kubectl(&[object, &["--type=json", "-p", &patch]].concat()).map(drop)
    }

    fn kill_agent(&mut self, node: &str) -> Result<()> {
        self.restarts.insert(node.to_owned(), self.cluster.agent_restarts(node)?);
        self.cluster.kill_agent(node)
    }

    fn until_agent_is_back(&mut self, node: &str) -> Result<()> {
        let restarts = self.restarts.remove(node).with_context(|| format!("{node}: killed before"))?;
        self.cluster.until_agent_is_back(node, restarts + 1)
    }

    fn flush_routes(&self, node: &str) -> Result<()> {
        ["-4", "-6"].iter().try_for_each(|family| {
            self.cluster.lab().run(node, &format!("ip {family} route flush proto 87")).map(drop)
        })
    }
}

impl Stage for ClusterStage {
    fn act(&mut self, step: &Step, _: &Model) -> Result<()> {
        match step {
            Step::StartPod { pod, node, labels } => self.start_pod(pod, node, labels),
            Step::EndPod { pod } => self.end_pod(pod),
            Step::LabelPod { pod, labels } => {
                let (namespace, name) = split(pod);
                self.label(&["-n", namespace, "patch", "pod", name], labels)
            }
            Step::LabelNamespace { namespace, labels } => {
                self.label(&["patch", "namespace", namespace], labels)
            }
            Step::ApplyPolicy { policy, spec } => {
                self.cluster.apply(&spec.manifest(policy).to_string()).map(drop)
            }
            Step::DeletePolicy { policy } => {
                let (namespace, name) = split(policy);
                self.cluster.kubectl(&["-n", namespace, "delete", "networkpolicy", name]).map(drop)
            }
            Step::KillAgent { node } => self.kill_agent(node),
            Step::StartAgent { node } => self.until_agent_is_back(node),
            Step::UpgradeAgent { node } => {
                self.cluster.delete_agent(node)?;
                self.cluster.until_agents_are_ready()
            }
            Step::FlushRoutes { node } => self.flush_routes(node),
            // Kernels that know the owner of a table refuse while that lives; of others' tables nothing is touched.
            Step::FlushRules { node } => {
                self.cluster.lab().shell(node, "nft delete table inet weft || true").map(drop)
            }
            Step::StopApi => self.cluster.kill_api_server(),
            Step::StartApi => self.cluster.start_api_server(),
            Step::Quiet => Ok(()),
            _ => bail!("not on a cluster"),
        }
    }

    fn namespace(&self, end: &End) -> Result<Namespace> {
        Ok(match end {
            End::Pod(key) => self.pods.get(key).context("no such pod")?.0.namespace().clone(),
            End::Node(node) => self.cluster.lab().namespace(node)?,
            End::Outside => self.outside.0.clone(),
        })
    }

    fn address(&self, end: &End, v6: bool) -> Result<IpAddr> {
        match end {
            End::Pod(key) => {
                let addresses = self.pods.get(key).context("no such pod")?.0.addresses();
                addresses.iter().find(|ip| ip.is_ipv6() == v6).copied().context("an address")
            }
            End::Outside => Ok(Plan::outside().both()[usize::from(v6)]),
            End::Node(node) => bail!("{node} is no destination"),
        }
    }

    fn flaws(&self, model: &Model) -> Result<Vec<String>> {
        let lodger = |(pod, _): &(KubePod, EchoServer)| Lodger {
            node: pod.node().to_owned(),
            addresses: pod.addresses().to_vec(),
        };
        let lodgers: Vec<_> = self.pods.values().map(lodger).collect();
        inspect::flaws(self.cluster.lab(), model, &lodgers, &BTreeSet::new())
    }
}
