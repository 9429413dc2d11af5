//! The agents and routers of a lab as services: start, stop, kill, and what the routers shall know.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::router::{Router, RouterPeer};
use super::spec::{NodeAsn, Plan, RouterKind, SPINE, SPINE_ASN, Tor};
use super::{Lab, Process};
use crate::wait;

/// All that an agent may ever do beyond an ordinary user.
const CAPABILITIES: &str = "-all,+net_admin,+net_bind_service";
const READY: Duration = Duration::from_secs(30);
/// A machine's own `/var` is everybody's; `/run` goes with it.
const STATE_DIR: &str = "/run/weft-state";

impl Lab {
    pub fn start_agents(&self) -> Result<()> {
        let nodes: Vec<_> = self.plan().nodes.iter().map(|node| node.name.clone()).collect();
        nodes.iter().try_for_each(|node| self.launch_agent(node))?;
        nodes.iter().try_for_each(|node| self.until_ready(node))
    }

    /// Starts the node's agent; returns when a runtime may add pods.
    pub fn start_agent(&self, node: &str) -> Result<()> {
        self.launch_agent(node)?;
        self.until_ready(node)
    }

    /// SIGKILL: the agent has no chance to do anything more.
    pub fn kill_agent(&self, node: &str) -> Result<()> {
        self.agent(node)?.kill()
    }

    /// SIGTERM, as for an upgrade: the agent ends, its work stays.
    pub fn terminate_agent(&self, node: &str) -> Result<()> {
        let agent = self.agent(node)?;
        agent.signal(Signal::SIGTERM)?;
        agent.wait_gone(READY)
    }

    /// Stops the agent for good, with a text for the routers' operators.
    pub fn stop_agent(&self, node: &str, text: &str) -> Result<()> {
        let agent = self.agent(node)?;
        self.weft_stop(node, text)?;
        agent.wait_gone(READY)
    }

    /// `weft-agent stop` on a node, whoever started its agent.
    pub fn weft_stop(&self, node: &str, text: &str) -> Result<()> {
        let program = self.programs().path("weft-agent")?;
        let words = [program.as_os_str(), "stop".as_ref(), "--text".as_ref(), text.as_ref()];
        self.machine(node)?.run(words).map(drop)
    }

    pub fn agent(&self, node: &str) -> Result<Process> {
        let agent = self.state().services(node).next();
        agent.with_context(|| format!("{node} has no agent"))
    }

    /// What the agent of `node` logged so far.
    pub fn agent_log(&self, node: &str) -> Result<String> {
        let path = self.machine(node)?.dir.join("agent.log");
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// Runs `weftctl` on a node, its words separated by spaces.
    pub fn weftctl(&self, node: &str, command: &str) -> Result<String> {
        let weftctl = self.programs().path("weftctl")?;
        let words = command.split_whitespace().map(OsStr::new);
        self.machine(node)?.run([weftctl.as_os_str()].into_iter().chain(words))
    }

    fn launch_agent(&self, node: &str) -> Result<()> {
        let store = format!("dir:{}", self.store().dir().display());
        self.launch(node, |agent| agent.args(["--datastore", &store]))
    }

    /// Starts the node's agent on the Kubernetes API that `kubeconfig` leads to; returns at once.
    pub fn launch_agent_on(&self, node: &str, kubeconfig: &Path) -> Result<()> {
        self.launch(node, |agent| {
            agent.env("KUBECONFIG", kubeconfig).args(["--datastore", "kubernetes", "--state-dir", STATE_DIR])
        })
    }

    fn launch(&self, node: &str, configure: impl FnOnce(&mut Command) -> &mut Command) -> Result<()> {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--bounding-set", CAPABILITIES, "--inh-caps", "-all", "--no-new-privs", "--"]);
        setpriv.arg(self.programs().path("weft-agent")?).args(["run", "--node", node]);
        let agent = self.machine(node)?.daemon("agent", configure(&mut setpriv))?;
        self.state().replace_services(node, vec![agent]);
        self.save()
    }

    /// Ready for a runtime: a network configuration is there, and the agent waits for nothing but its routers.
    fn until_ready(&self, node: &str) -> Result<()> {
        let agent = self.agent(node)?;
        wait::until(&format!("ready agent on {node}"), READY, || {
            anyhow::ensure!(agent.alive(), "it ended");
            self.cni_status(node)?;
            let answer = self.weftctl(node, "get --raw /v1/status")?;
            let body = answer.split_once('\n').context("status, then body")?.1;
            let waiting_for = serde_json::from_str::<weft_api::control::Status>(body)?.waiting_for;
            Ok(waiting_for.iter().all(|what| what == "bgp has not converged").then_some(()))
        })
        .with_context(|| self.agent_log(node).unwrap_or_default())
    }

    /// The router's operator disables its session with a node, of one family; or enables it.
    pub fn set_session(&self, tor: &str, node: &str, ipv6: bool, enabled: bool) -> Result<()> {
        let tor = self.tor(tor)?;
        let router = self.router(tor);
        let wanted = format!("{node}_{}", if ipv6 { "v6" } else { "v4" });
        let peer = router.peers.iter().find(|peer| peer.name == wanted);
        let peer = peer.with_context(|| format!("{} has no session {wanted}", tor.name))?;
        router.set_session(&self.machine(&tor.name)?, peer, enabled)
    }

    pub(super) fn router(&self, tor: &Tor) -> Router {
        let spec = &self.state().spec.clone();
        let mut peers = fabric_peers("spine", tor.spine.both(), SPINE_ASN);
        for node in &self.plan().nodes {
            for uplink in node.uplinks.iter().filter(|uplink| uplink.tor == tor.name) {
                let sessions = fabric_peers(&node.name, uplink.addresses.both(), node.asn);
                let wanted = if spec.session_per_family { 2 } else { 1 };
                peers.extend(sessions.into_iter().take(wanted).map(|session| RouterPeer {
                    both_families: !spec.session_per_family,
                    replace_as: spec.node_asn == NodeAsn::Same,
                    ..session
                }));
            }
        }
        let hold_seconds = spec.hold_seconds;
        Router {
            name: tor.name.clone(),
            kind: tor.kind,
            asn: tor.asn,
            id: tor.addresses.v4,
            hold_seconds,
            peers,
        }
    }

    pub(super) fn spine_router(&self) -> Router {
        let tors = self.plan().tors.iter();
        let peers = tors.flat_map(|tor| fabric_peers(&tor.name, tor.to_spine.both(), tor.asn)).collect();
        let hold_seconds = self.state().spec.hold_seconds;
        let (name, id) = (SPINE.to_owned(), Plan::spine().v4);
        Router { name, kind: RouterKind::Bird, asn: SPINE_ASN, id, hold_seconds, peers }
    }
}

/// One session per family.
fn fabric_peers(name: &str, addresses: [std::net::IpAddr; 2], asn: u32) -> Vec<RouterPeer> {
    let peer = |(family, address)| RouterPeer {
        name: format!("{name}_{family}"),
        address,
        asn,
        both_families: false,
        replace_as: false,
    };
    ["v4", "v6"].into_iter().zip(addresses).map(peer).collect()
}
