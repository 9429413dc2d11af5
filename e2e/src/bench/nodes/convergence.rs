//! When an agent has done its work: read out of the kernel of its node, and confirmed by the agent.
//!
//! A node is done when each other Node's pod CIDRs, of both families, have a route by a nexthop, all its sessions are
//! established and it says that it is ready. The kernel is looked at first, without a process and without the agent: what
//! is timed must not be busy with being asked.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnetwork::IpNetwork;

use super::super::api::get;
use super::super::time_of_day;
use super::stage::Stage;
use crate::lab::Node;
use crate::net::Namespace;

const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9179);
/// A look at hundreds of kernels takes time from whom is looked at.
const INTERVAL: Duration = Duration::from_millis(250);

/// Starts all agents at once. How long each took, from the first start on.
pub(super) fn cold_start(stage: &Stage) -> Result<Vec<Duration>> {
    let begun = Instant::now();
    let nodes = stage.nodes();
    nodes.iter().try_for_each(|node| stage.start_agent(&node.name))?;
    until_converged(stage, &nodes, begun)
}

/// Of `nodes`: how long after `begun` each was done.
pub(super) fn until_converged(stage: &Stage, nodes: &[Node], begun: Instant) -> Result<Vec<Duration>> {
    let cidrs = stage.pod_cidrs();
    let mut waiting =
        nodes.iter().map(|node| Watched::new(stage, node, &cidrs)).collect::<Result<Vec<_>>>()?;
    let mut took = Vec::new();
    while !waiting.is_empty() {
        let mut left = Vec::new();
        for node in waiting {
            if node.has_converged()? { took.push(begun.elapsed()) } else { left.push(node) }
        }
        waiting = left;
        if let Some(slow) = waiting.first().filter(|_| begun.elapsed() > super::LIMIT) {
            anyhow::bail!("{} agents have not converged, such as {}", waiting.len(), slow.state()?);
        }
        thread::sleep(INTERVAL);
    }
    Ok(took)
}

/// How long the agents of `nodes` took from their last start until they were ready: own sessions established, policy in
/// force. The others' routes may come later.
pub(super) fn ready(stage: &Stage, nodes: &[Node]) -> Result<Vec<Duration>> {
    let times = nodes.iter().map(|node| {
        let log = stage.cluster.lab().agent_log(&node.name)?;
        ready_after(&log).with_context(|| format!("when the agent of {} was ready", node.name))
    });
    times.collect()
}

fn ready_after(log: &str) -> Option<Duration> {
    let begun = log.rfind(": agent starting")?;
    let began = log[..begun].lines().last()?;
    let ready = log[begun..].lines().find(|line| line.contains("readiness changed ready=true"))?;
    Some(time_of_day(ready)?.saturating_sub(time_of_day(began)?))
}

struct Watched {
    name: String,
    /// The machine's first process.
    pid: i32,
    namespace: Namespace,
    wanted: HashSet<IpAddr>,
    sessions: usize,
}

impl Watched {
    fn new(stage: &Stage, node: &Node, cidrs: &BTreeMap<String, [String; 2]>) -> Result<Self> {
        let machine = stage.cluster.lab().machine(&node.name)?;
        let others = cidrs.iter().filter(|(name, _)| **name != node.name).flat_map(|(_, cidrs)| cidrs);
        let wanted = others.map(|cidr| Ok(cidr.parse::<IpNetwork>()?.network())).collect::<Result<_>>()?;
        let mates =
            stage.nodes().iter().filter(|other| other.asn == node.asn && other.name != node.name).count();
        let sessions = 2 * node.uplinks.len() + if stage.sizes.mesh { mates } else { 0 };
        Ok(Self {
            name: node.name.clone(),
            pid: machine.init.pid,
            namespace: machine.namespace()?,
            wanted,
            sessions,
        })
    }

    fn has_converged(&self) -> Result<bool> {
        Ok(self.routes6() >= self.wanted.len() / 2
            && self.missing()? == 0
            && self.metrics().is_ok_and(|metrics| self.is_done(&metrics)))
    }

    /// Of the family's table, without a look at each.
    fn routes6(&self) -> usize {
        let stats = fs::read_to_string(format!("/proc/{}/net/rt6_stats", self.pid)).unwrap_or_default();
        let entries = stats.split_whitespace().nth(3).unwrap_or_default();
        usize::from_str_radix(entries, 16).unwrap_or_default()
    }

    fn missing(&self) -> Result<usize> {
        let read = |file: &str| {
            let path = format!("/proc/{}/net/{file}", self.pid);
            fs::read_to_string(&path).context(path)
        };
        let (v4, v6) = (read("route")?, read("ipv6_route")?);
        let have: HashSet<_> = v4.lines().filter_map(route4).chain(v6.lines().filter_map(route6)).collect();
        Ok(self.wanted.difference(&have).count())
    }

    fn metrics(&self) -> Result<String> {
        self.namespace.enter(|| get(METRICS, "/metrics"))
    }

    fn is_done(&self, metrics: &str) -> bool {
        let up = metrics.lines().filter(|line| line.starts_with("weft_bgp_peer_up{") && line.ends_with(" 1"));
        up.count() == self.sessions && metrics.lines().any(|line| line == "weft_ready 1")
    }

    fn state(&self) -> Result<String> {
        let metrics = self.metrics().unwrap_or_else(|error| format!("{error:#}"));
        let told = metrics.lines().filter(|line| line.starts_with("weft_ready") || line.contains("peer_up{"));
        let told: Vec<_> = told.collect();
        Ok(format!("{}: {} routes missing; {}", self.name, self.missing()?, told.join(", ")))
    }
}

/// The destination of a line of `/proc/net/route`, where it has a gateway.
fn route4(line: &str) -> Option<IpAddr> {
    let mut fields = line.split_whitespace().skip(1);
    let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::from_be);
    let (to, gateway) = (number(fields.next()?)?, number(fields.next()?)?);
    (gateway != 0).then(|| Ipv4Addr::from(to).into())
}

/// The destination of a line of `/proc/net/ipv6_route`, where it has a nexthop.
fn route6(line: &str) -> Option<IpAddr> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let address = |index: usize| u128::from_str_radix(fields.get(index)?, 16).ok().map(Ipv6Addr::from);
    let (to, nexthop) = (address(0)?, address(4)?);
    (!nexthop.is_unspecified()).then(|| to.into())
}

/// Whether every agent of `nodes` still runs: one that ended would be missed by whoever sums up.
pub(super) fn all_alive(stage: &Stage) -> Result<()> {
    for node in stage.nodes() {
        ensure!(stage.cluster.lab().agent(&node.name)?.alive(), "the agent of {} has ended", node.name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_was_started_again_is_ready_when_it_says_so_the_first_time_since() {
        let log = "\
2026-11-22T00:28:20.000000Z  INFO weft_agent::run: agent starting node=\"n1\"
2026-11-22T00:28:21.000000Z  INFO weft_agent::readiness: readiness changed ready=true waiting_for=\"\"
2026-11-22T00:30:10.500000Z  INFO weft_agent::run: agent starting node=\"n1\"
2026-11-22T00:30:12.750000Z  INFO weft_agent::readiness: readiness changed ready=true waiting_for=\"\"
2026-11-22T00:31:00.000000Z  INFO weft_agent::readiness: readiness changed ready=true waiting_for=\"\"
";
        assert_eq!(ready_after(log).unwrap().as_millis(), 2250);
        assert_eq!(ready_after(log.lines().next().unwrap()), None);
    }

    #[test]
    fn routes_by_a_nexthop_are_read_and_others_passed_over() {
        let v4 = |text: &str| route4(text).map(|ip| ip.to_string());
        assert_eq!(
            v4("eth0\t0000800A\t010A010A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0").as_deref(),
            Some("10.128.0.0")
        );
        assert_eq!(v4("eth0\t000A010A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0"), None);
        assert_eq!(v4("Iface\tDestination\tGateway \tFlags"), None);
        let v6 = |nexthop: &str| {
            let line = format!(
                "fd000128000000070000000000000000 40 {:032} 00 {nexthop} 00000014 00000001 00000000 00000003     eth0",
                0
            );
            route6(&line).map(|ip| ip.to_string())
        };
        assert_eq!(v6("fd000001000100100000000000000001").as_deref(), Some("fd00:128:0:7::"));
        assert_eq!(v6("00000000000000000000000000000000"), None);
    }
}
