//! What agents and their servers have used so far, read without asking the agents: out of `/proc`, the API server's audit
//! log, etcd's metrics, and counters of packets at the API server's machine.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use super::super::api::get;
use super::super::rest::{self, Usage, usage_of};
use super::stage::Stage;
use crate::lab::{CONTROL, Machine};

const ETCD: &str = "127.0.0.1:2379";
/// Bytes between the API server and each node, by the node's address; whole IP packets. In the table, `sent` by the server.
const COUNTERS: &str = "
table ip bench {
  set sent { type ipv4_addr; size 4096; flags dynamic; counter; }
  set received { type ipv4_addr; size 4096; flags dynamic; counter; }
  chain out {
    type filter hook output priority 0
    tcp sport 6443 update @sent { ip daddr }
  }
  chain in {
    type filter hook input priority 0
    tcp dport 6443 update @received { ip saddr }
  }
}
";

pub(super) struct Meter<'a> {
    stage: &'a Stage,
    control: Machine,
    /// The node of each address.
    nodes: BTreeMap<IpAddr, String>,
}

/// All counters at one moment.
pub(super) struct Reading {
    pub(super) at: Instant,
    /// By the id of the request: the node, and what its agent asked.
    pub(super) asked: BTreeMap<String, (String, String)>,
    /// By node, while its agent runs: its process, and what that used.
    pub(super) agents: BTreeMap<String, (i32, Usage)>,
    /// By node: bytes from the API server, and to it.
    pub(super) bytes: BTreeMap<String, [u64; 2]>,
    /// Keys that were written to etcd.
    pub(super) puts: f64,
    /// The API server and etcd.
    pub(super) servers: [Usage; 2],
    /// Ticks of all cores, and of them those with nothing to do.
    pub(super) ticks: [u64; 2],
}

impl<'a> Meter<'a> {
    pub(super) fn new(stage: &'a Stage) -> Result<Self> {
        let control = stage.cluster.lab().machine(CONTROL)?;
        control.run_with_input(["nft", "-f", "-"], COUNTERS)?;
        let address = |node: crate::lab::Node| (node.uplinks[0].addresses.v4.into(), node.name);
        Ok(Self { stage, control, nodes: stage.nodes().into_iter().map(address).collect() })
    }

    pub(super) fn read(&self) -> Result<Reading> {
        let agents = self.nodes.values().filter_map(|node| {
            let pid = self.stage.cluster.lab().agent(node).ok()?.pid;
            Some((node.clone(), (pid, usage_of(pid).ok()?)))
        });
        Ok(Reading {
            at: Instant::now(),
            agents: agents.collect(),
            servers: [self.server("kube-apiserver")?, self.server("etcd")?],
            ticks: ticks(&fs::read_to_string("/proc/stat")?)?,
            bytes: self.bytes()?,
            puts: self.puts()?,
            asked: self.stage.cluster.audited()?.iter().filter_map(asked).collect(),
        })
    }

    /// What agents write again and again, as etcd holds it.
    pub(super) fn print_sizes(&self) -> Result<()> {
        let list = self.stage.cluster.kubectl(&["get", "--raw", "/apis/weft.dev/v1alpha1/weftnodes"])?;
        let list: Value = serde_json::from_str(&list)?;
        let mut sizes: Vec<_> =
            list["items"].as_array().into_iter().flatten().map(|node| node.to_string().len()).collect();
        sizes.sort_unstable();
        let [median, most] =
            [sizes.len() / 2, sizes.len().saturating_sub(1)].map(|at| sizes.get(at).copied().unwrap_or(0));
        println!("{} WeftNodes, bytes with all metadata: median {median}, largest {most}", sizes.len());
        Ok(())
    }

    fn server(&self, name: &str) -> Result<Usage> {
        let text = self.control.run([
            "sh",
            "-c",
            &format!("pid=$(pgrep -x {name}); cat /proc/$pid/status /proc/$pid/stat"),
        ])?;
        rest::parse_usage(&text).context(name.to_owned())
    }

    fn bytes(&self) -> Result<BTreeMap<String, [u64; 2]>> {
        let mut bytes: BTreeMap<String, [u64; 2]> = BTreeMap::new();
        for (way, set) in ["sent", "received"].into_iter().enumerate() {
            let text = self.control.run(["nft", "-j", "list", "set", "ip", "bench", set])?;
            for (address, count) in counters(&serde_json::from_str(&text)?) {
                if let Some(node) = self.nodes.get(&address) {
                    bytes.entry(node.clone()).or_default()[way] = count;
                }
            }
        }
        Ok(bytes)
    }

    fn puts(&self) -> Result<f64> {
        let metrics = self.control.namespace()?.enter(|| get(ETCD.parse()?, "/metrics"))?;
        let puts = metrics.lines().find_map(|line| line.strip_prefix("etcd_mvcc_put_total "));
        puts.context("etcd's count of puts")?.trim().parse().context("etcd's count of puts")
    }
}

/// Of the machine: over one, five and fifteen minutes.
pub(super) fn load() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}

fn asked(event: &Value) -> Option<(String, (String, String))> {
    let (id, what) = rest::request(event)?;
    let node = event.pointer("/user/extra/authentication.kubernetes.io~1node-name/0")?.as_str()?;
    Some((id, (node.to_owned(), what)))
}

fn counters(list: &Value) -> Vec<(IpAddr, u64)> {
    let sets = list["nftables"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|object| object["set"]["elem"].as_array());
    let counter = |element: &Value| {
        let element = &element["elem"];
        Some((element["val"].as_str()?.parse().ok()?, element["counter"]["bytes"].as_u64()?))
    };
    sets.flatten().filter_map(counter).collect()
}

/// Of the first line of `/proc/stat`: user, nice, system, idle, iowait, and so on.
fn ticks(stat: &str) -> Result<[u64; 2]> {
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let numbers: Vec<u64> =
        line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
    let idle = numbers.get(3..5).context("/proc/stat")?;
    Ok([numbers.iter().sum(), idle.iter().sum()])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bytes_are_those_of_each_address() {
        let element = json!({ "elem": { "val": "10.1.10.11", "counter": { "packets": 2, "bytes": 120 } } });
        let list =
            json!({ "nftables": [{ "metainfo": {} }, { "set": { "name": "sent", "elem": [element] } }] });
        assert_eq!(counters(&list), [("10.1.10.11".parse().unwrap(), 120)]);
    }

    #[test]
    fn a_machine_that_waits_for_disks_is_idle() {
        assert_eq!(ticks("cpu  10 0 20 60 10 0 0 0 0 0\ncpu0 1 2 3").unwrap(), [100, 70]);
    }

    #[test]
    fn a_request_is_that_of_the_node_that_the_token_was_issued_for() {
        let extra = json!({ "authentication.kubernetes.io/node-name": ["node7"] });
        let event = json!({
            "auditID": "1", "verb": "list", "objectRef": { "resource": "pods" },
            "user": { "username": "system:serviceaccount:weft-system:weft-agent", "extra": extra },
        });
        assert_eq!(asked(&event), Some(("1".to_owned(), ("node7".to_owned(), "list pods".to_owned()))));
    }
}
