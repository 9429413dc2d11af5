//! A lab as the stage: objects are files, pods are namespaces, routers are BIRD and FRR.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result};
use serde_json::json;

use super::inspect::{self, Lodger};
use super::model::Model;
use super::stage::{PORT, RESTART_SECONDS, Stage};
use super::steps::Step;
use super::topology::Cable;
use super::world::{End, Labels, Policy};
use crate::lab::{Lab, LabSpec, OUTSIDE, Plan, Pod, Programs};
use crate::net::{EchoServer, Namespace};

/// Octets of `/run/weft`: little enough to be filled at once, ample for a journal.
const RUN_DIR_SIZE: &str = "size=512k";
const FILLER: &str = "/run/weft/filler";

#[derive(Debug)]
pub struct LabStage {
    lab: Lab,
    pods: BTreeMap<String, (Pod, EchoServer)>,
    /// The text of the BGPPeers that are deleted, by file.
    peers: BTreeMap<String, String>,
    /// Nodes on which something ended while nothing could be written: the next agent finds out.
    behind: BTreeSet<String>,
    outside: (Namespace, EchoServer),
}

impl LabStage {
    /// Routers and agents run; the namespaces are there.
    pub fn raise(name: &str, spec: &LabSpec, programs: &Programs, namespaces: &[&str]) -> Result<Self> {
        let lab = Lab::raise(name, spec, programs)?;
        for node in &lab.plan().nodes {
            lab.run(&node.name, "mkdir -p /run/weft")?;
            lab.run(&node.name, &format!("mount -t tmpfs -o {RUN_DIR_SIZE} weft /run/weft"))?;
        }
        namespaces.iter().try_for_each(|namespace| lab.namespace_object(namespace))?;
        restart_within(&lab, RESTART_SECONDS)?;
        lab.start_agents()?;
        let outside = lab.namespace(OUTSIDE)?;
        let echo = EchoServer::start(&outside, PORT)?;
        let (pods, peers, behind) = Default::default();
        Ok(Self { lab, pods, peers, behind, outside: (outside, echo) })
    }

    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    fn start_pod(&mut self, key: &str, node: &str, labels: &Labels) -> Result<()> {
        let pod = self.lab.run_pod(key, node, &pairs(labels))?;
        let echo = EchoServer::start(pod.namespace(), PORT)?;
        self.pods.insert(key.to_owned(), (pod, echo));
        Ok(())
    }

    fn end_pod(&mut self, key: &str) -> Result<()> {
        let (pod, echo) = self.pods.remove(key).with_context(|| format!("no pod {key}"))?;
        drop(echo);
        self.lab.delete_pod(&pod)
    }

    fn apply_policy(&self, key: &str, policy: &Policy) -> Result<()> {
        self.lab.store().apply(&policy.manifest(key).to_string())
    }

    fn delete_policy(&self, key: &str) -> Result<()> {
        let (namespace, name) = super::world::split(key);
        let metadata = json!({ "namespace": namespace, "name": name });
        self.lab.store().delete(&json!({ "kind": "NetworkPolicy", "metadata": metadata }).to_string())
    }

    fn plug(&self, cable: &Cable, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        match cable {
            Cable::Spine { tor } => self.lab.plug_spine(tor, plugged),
            // At the switch, so that the node keeps its addresses.
            Cable::Uplink { node, tor } => {
                self.lab.run(tor, &format!("ip link set {node} {state}")).map(drop)
            }
        }
    }

    fn delete_peer(&mut self, file: String) -> Result<()> {
        let store = self.lab.store();
        let text = std::fs::read_to_string(store.dir().join(&file)).with_context(|| file.clone())?;
        store.remove(&file)?;
        self.peers.insert(file, text);
        Ok(())
    }

    fn apply_peer(&mut self, file: &str) -> Result<()> {
        let text = self.peers.remove(file).with_context(|| format!("{file} is there"))?;
        self.lab.store().write(file, &text)
    }

    fn fill_disk(&self, node: &str, full: bool) -> Result<()> {
        // Until nothing more fits, which is no success.
        let fill = format!("dd if=/dev/zero of={FILLER} bs=1k 2>/dev/null || true");
        let command = if full { fill } else { format!("rm {FILLER}") };
        self.lab.shell(node, &command).map(drop)
    }

    /// Any outcome is good, as long as nothing remains of it.
    fn attempt_pod(&self, key: &str, node: &str) -> Result<()> {
        let sandbox = self.lab.sandbox(key, node, &[])?;
        let added = sandbox.add().is_ok();
        sandbox.delete().with_context(|| format!("DEL of {key}, added: {added}"))
    }
}

impl Stage for LabStage {
    fn act(&mut self, step: &Step, model: &Model) -> Result<()> {
        match step {
            Step::StartPod { pod, node, labels } => self.start_pod(pod, node, labels)?,
            Step::EndPod { pod } => {
                let node = self.pods.get(pod).map(|(pod, _)| pod.node().to_owned());
                self.behind.extend(node.filter(|node| model.full.contains(node)));
                self.end_pod(pod)?;
            }
            Step::AttemptPod { pod, node } => {
                self.behind.extend(model.full.get(node).cloned());
                self.attempt_pod(pod, node)?;
            }
            Step::LabelPod { pod, labels } => self.lab.label_pod(pod, &pairs(labels))?,
            Step::LabelNamespace { namespace, labels } => {
                let metadata = json!({ "name": namespace, "labels": labels });
                let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata });
                self.lab.store().apply(&object.to_string())?;
            }
            Step::ApplyPolicy { policy, spec } => self.apply_policy(policy, spec)?,
            Step::DeletePolicy { policy } => self.delete_policy(policy)?,
            Step::KillAgent { node } => self.lab.kill_agent(node)?,
            Step::StartAgent { node } => {
                self.lab.start_agent(node)?;
                self.behind.remove(node);
            }
            Step::UpgradeAgent { node } => {
                self.lab.terminate_agent(node)?;
                self.lab.start_agent(node)?;
                self.behind.remove(node);
            }
            Step::StopAgent { node } => self.lab.stop_agent(node, "part of the story")?,
            Step::Cut { cable } => self.plug(cable, false)?,
            Step::Mend { cable } => self.plug(cable, true)?,
            Step::PowerOff { tor } => self.lab.power_off(tor)?,
            Step::PowerOn { tor } => self.lab.power_on(tor)?,
            Step::RestartRouter { tor } => self.lab.restart_router(tor)?,
            Step::DisableSession(of) => self.lab.set_session(&of.tor, &of.node, of.v6, false)?,
            Step::EnableSession(of) => self.lab.set_session(&of.tor, &of.node, of.v6, true)?,
            Step::DeletePeer { tor, v6 } => self.delete_peer(peer_file(tor, *v6))?,
            Step::ApplyPeer { tor, v6 } => self.apply_peer(&peer_file(tor, *v6))?,
            Step::FlushRoutes { node } => {
                for family in ["-4", "-6"] {
                    self.lab.run(node, &format!("ip {family} route flush proto 87"))?;
                }
            }
            // Kernels that know the owner of a table leave it alone while that lives.
            Step::FlushRules { node } => drop(self.lab.run(node, "nft flush ruleset")?),
            Step::FillDisk { node } => self.fill_disk(node, true)?,
            Step::FreeDisk { node } => self.fill_disk(node, false)?,
            Step::StopApi | Step::StartApi | Step::Quiet => {}
        }
        Ok(())
    }

    fn namespace(&self, end: &End) -> Result<Namespace> {
        Ok(match end {
            End::Pod(key) => self.pods.get(key).context("no such pod")?.0.namespace().clone(),
            End::Node(node) => self.lab.namespace(node)?,
            End::Outside => self.outside.0.clone(),
        })
    }

    fn address(&self, end: &End, v6: bool) -> Result<IpAddr> {
        match end {
            End::Pod(key) => Ok(self.pods.get(key).context("no such pod")?.0.ip(v6)),
            End::Outside => Ok(Plan::outside().both()[usize::from(v6)]),
            End::Node(node) => anyhow::bail!("{node} is no destination"),
        }
    }

    fn flaws(&self, model: &Model) -> Result<Vec<String>> {
        let lodger = |(pod, _): &(Pod, EchoServer)| Lodger {
            node: pod.node().to_owned(),
            addresses: pod.addresses().to_vec(),
        };
        let lodgers: Vec<_> = self.pods.values().map(lodger).collect();
        let mut flaws = inspect::flaws(&self.lab, model, &lodgers, &self.behind)?;
        for node in model.topology.nodes.keys() {
            let alive = !model.runs(node) || self.lab.agent(node)?.alive();
            if !alive || self.lab.agent_log(node)?.contains("panicked") {
                flaws.push(format!("{node}: its agent is dead, or part of it"));
            }
        }
        Ok(flaws)
    }
}

/// The lab's BGPConfiguration, with this restart time.
fn restart_within(lab: &Lab, seconds: u16) -> Result<()> {
    const FILE: &str = "bgpconfiguration-default.yaml";
    let text = std::fs::read_to_string(lab.store().dir().join(FILE)).context(FILE)?;
    let mut object: serde_json::Value = serde_saphyr::from_str(&text)?;
    object["spec"]["gracefulRestart"]["restartSeconds"] = seconds.into();
    lab.store().apply(&object.to_string())
}

fn peer_file(tor: &str, v6: bool) -> String {
    format!("bgppeer-{tor}-{}.yaml", if v6 { "v6" } else { "v4" })
}

fn pairs(labels: &Labels) -> Vec<(&str, &str)> {
    labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}
