//! How long a NetworkPolicy takes from the API call to the first packet that it drops, on every node of a real cluster.
//!
//! A client sends a steady UDP flow to a pod on each node. The call is one plain HTTP request through `kubectl proxy`, so
//! that no program's start counts; the clock runs from its first byte until the last packet that got through was sent. So
//! what is printed includes the API server, the watch, the compiler, the commit and the cut of a running flow.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use super::api::Api;
use super::percentile;
use crate::cluster::{Cluster, KubePod};
use crate::net::{EchoServer, Flow, Proto};
use crate::wait;

const NAMESPACE: &str = "policy-latency";
const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/policy-latency/networkpolicies";
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
    let Times { mut call, mut each, mut all } = measured?;
    println!("from the API call, {rounds} policies, milliseconds\n{:>18} {:>8} {:>8}", "", "median", "p99");
    for (what, times) in
        [("answered", &mut call), ("in force on a node", &mut each), ("on every node", &mut all)]
    {
        let [median, high] = [50, 99].map(|rank| percentile(times, rank).as_secs_f64() * 1000.0);
        println!("{what:>18} {median:>8.1} {high:>8.1}");
    }
    Ok(())
}

#[derive(Default)]
struct Times {
    /// Until the API server has answered: its part.
    call: Vec<Duration>,
    /// Until the first dropped packet, for each node.
    each: Vec<Duration>,
    /// The same, for the slowest node of each round.
    all: Vec<Duration>,
}

fn measure(cluster: &Cluster, rounds: usize) -> Result<Times> {
    let nodes: Vec<_> = cluster.lab().plan().nodes.iter().map(|node| node.name.clone()).collect();
    let client = cluster.run_pod(&format!("{NAMESPACE}/client"), &nodes[0], &[])?;
    let server =
        |node: &String| cluster.run_pod(&format!("{NAMESPACE}/on-{node}"), node, &[("app", "server")]);
    let servers: Vec<KubePod> = nodes.iter().map(server).collect::<Result<_>>()?;
    let _echoes: Vec<_> =
        servers.iter().map(|pod| EchoServer::start(pod.namespace(), PORT)).collect::<Result<_>>()?;
    let api = Api::open(cluster)?;
    let (mut times, mut ending) = (Times::default(), Vec::new());
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
        create_deny(&api)?;
        times.call.push(called.elapsed());
        let mut slowest = Duration::ZERO;
        for flow in flows {
            let took = flow.until_silent(SILENT, LIMIT)?.saturating_duration_since(called);
            // In vain, it waits a while for its last echoes.
            ending.push(thread::spawn(move || flow.stop()));
            slowest = slowest.max(took);
            times.each.push(took);
        }
        times.all.push(slowest);
        delete_deny(&api)?;
    }
    for flow in ending {
        flow.join().map_err(|_| anyhow!("a flow panicked"))??;
    }
    Ok(times)
}

fn create_deny(api: &Api) -> Result<()> {
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "deny" },
        "spec": { "podSelector": { "matchLabels": { "app": "server" } }, "policyTypes": ["Ingress"] },
    });
    api.send("POST", POLICIES, &policy)
}

fn delete_deny(api: &Api) -> Result<()> {
    api.send("DELETE", &format!("{POLICIES}/deny"), &Value::Null)
}
