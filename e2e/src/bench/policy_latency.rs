//! How long a NetworkPolicy takes from the API call to the first packet that it drops, on every node of a real cluster.
//!
//! A client sends a steady UDP flow to a pod on each node. The call is one plain HTTP request through `kubectl proxy`, so
//! that no program's start counts; the clock runs from its first byte. A flow's last echo is its last packet that got
//! through, so what is printed includes the API server, the watch, the compiler, the commit and the cut of a running flow.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;

use super::percentile;
use crate::cluster::{Cluster, KubePod};
use crate::lab::{CONTROL, Process};
use crate::net::{EchoServer, Flow, Namespace, Proto};
use crate::wait;

const NAMESPACE: &str = "policy-latency";
const PORT: u16 = 8080;
/// Packets a second: the resolution is a millisecond.
const RATE: u32 = 1000;
/// No echo for so long: the flow is cut, not slow.
const SILENT: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(20);

/// Prints median and p99 of `rounds` policies on a cluster that has Weft.
pub fn run(cluster: &Cluster, rounds: usize) -> Result<()> {
    cluster.create_namespace(NAMESPACE)?;
    let measured = measure(cluster, rounds);
    cluster.delete_namespace(NAMESPACE)?;
    let (mut each, mut all) = measured?;
    println!(
        "API call to first dropped packet, {rounds} policies, milliseconds\n{:>12} {:>8} {:>8}",
        "", "median", "p99"
    );
    for (what, times) in [("a node", &mut each), ("every node", &mut all)] {
        let [median, high] = [50, 99].map(|rank| percentile(times, rank).as_secs_f64() * 1000.0);
        println!("{what:>12} {median:>8.1} {high:>8.1}");
    }
    Ok(())
}

/// The times of each node, and of the slowest node of each round.
fn measure(cluster: &Cluster, rounds: usize) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let nodes: Vec<_> = cluster.lab().plan().nodes.iter().map(|node| node.name.clone()).collect();
    let client = cluster.run_pod(&format!("{NAMESPACE}/client"), &nodes[0], &[])?;
    let server =
        |node: &String| cluster.run_pod(&format!("{NAMESPACE}/on-{node}"), node, &[("app", "server")]);
    let servers: Vec<KubePod> = nodes.iter().map(server).collect::<Result<_>>()?;
    let _echoes: Vec<_> =
        servers.iter().map(|pod| EchoServer::start(pod.namespace(), PORT)).collect::<Result<_>>()?;
    let api = Api::open(cluster)?;
    let (mut each, mut all, mut ending) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = |pod: &KubePod| {
            let to = SocketAddr::new(pod.addresses()[0], PORT);
            Flow::start(client.namespace(), Proto::Udp, to, RATE)
        };
        let flows: Vec<Flow> = servers.iter().map(start).collect::<Result<_>>()?;
        for flow in &flows {
            wait::until_true("a flow that runs", LIMIT, || flow.echoed() > u64::from(RATE / 10))?;
        }
        let called = Instant::now();
        api.create_deny()?;
        let mut slowest = Duration::ZERO;
        for flow in flows {
            let took = flow.until_silent(SILENT, LIMIT)?.saturating_duration_since(called);
            // In vain, it waits a while for its last echoes.
            ending.push(thread::spawn(move || flow.stop()));
            slowest = slowest.max(took);
            each.push(took);
        }
        all.push(slowest);
        api.delete_deny()?;
    }
    for flow in ending {
        flow.join().map_err(|_| anyhow!("a flow panicked"))??;
    }
    Ok((each, all))
}

/// The API server by plain HTTP.
struct Api {
    control: Namespace,
    proxy: Process,
}

impl Api {
    const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8001);
    const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/policy-latency/networkpolicies";

    fn open(cluster: &Cluster) -> Result<Self> {
        let machine = cluster.lab().machine(CONTROL)?;
        let mut kubectl = Command::new(cluster.program("kubectl")?);
        kubectl.arg("--kubeconfig").arg(cluster.kubeconfig()).args(["proxy", "--port=8001"]);
        let api =
            Self { control: machine.namespace()?, proxy: machine.daemon("kubectl-proxy", &mut kubectl)? };
        wait::until("kubectl proxy", LIMIT, || api.ask("GET", Self::POLICIES, "").map(Some))?;
        Ok(api)
    }

    fn create_deny(&self) -> Result<()> {
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "deny" },
            "spec": { "podSelector": { "matchLabels": { "app": "server" } }, "policyTypes": ["Ingress"] },
        });
        self.ask("POST", Self::POLICIES, &policy.to_string())
    }

    fn delete_deny(&self) -> Result<()> {
        self.ask("DELETE", &format!("{}/deny", Self::POLICIES), "")
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Result<()> {
        self.control.enter(|| {
            let mut stream = TcpStream::connect_timeout(&Self::ADDRESS, LIMIT)?;
            stream.set_nodelay(true)?;
            let length = body.len();
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            let status = answer.split(' ').nth(1).context("an HTTP status")?;
            ensure!(status.starts_with('2'), "{method} {path}: {status}");
            Ok(())
        })
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Err(error) = self.proxy.kill() {
            eprintln!("kubectl proxy: {error:#}");
        }
    }
}
