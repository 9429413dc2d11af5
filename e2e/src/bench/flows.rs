//! A change of policy on a node with many established flows: when it is in force, when every flow is judged by it, and what
//! that costs the pods that are added meanwhile.
//!
//! One namespace is the node, with the whole agent in it. The flows are conntrack entries made by `conntrack -R`, between
//! clients outside and the pods of the node; every second change cuts them all and the next lets them all go on. The clock
//! runs from the rename of the policy's file until the agent counts the commit, or the scan.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, iter, thread};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_api::{AGENT_SOCKET, LINK_PREFIX};

use super::cni::{Kind, Testbed, median, objects};
use super::percentile;
use crate::lab::Programs;
use crate::net::Namespace;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks.
const RESOLUTION: Duration = Duration::from_millis(1);
/// Without a commit.
const RESTING: Duration = Duration::from_millis(500);
/// ADDs for the usual time.
const USUAL: usize = 50;
/// Pods that are added while flows are judged, at most so many in a round.
const MEANWHILE: usize = 20;

/// Prints medians and the slowest of `rounds` changes.
pub fn run(pods: usize, local: usize, flows: usize, rounds: usize, programs: &Programs) -> Result<()> {
    let named = local + USUAL.max(MEANWHILE);
    ensure!(pods >= named, "at least {named} pods");
    let plugins = programs.path("weft-cni")?.parent().context("a folder")?.to_owned();
    let bed = Testbed::raise(&cluster(named, pods), plugins, programs)?;
    let netns: Vec<_> = iter::repeat_with(|| Namespace::create("pod")).take(named).collect::<Result<_>>()?;
    let call = |verb, index: usize| bed.call(Kind::Weft, verb, &netns[index].path(), index);
    (0..local).try_for_each(|index| call("ADD", index).map(drop))?;
    fill(&bed, flows)?;

    let extra = local..local + USUAL;
    let mut usual = extra.clone().map(|index| call("ADD", index)).collect::<Result<Vec<_>>>()?;
    extra.clone().try_for_each(|index| call("DEL", index).map(drop))?;
    until_deleted(&bed, local)?;
    let (mut in_force, mut judged, mut meanwhile) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let before = [until_resting(&bed)?, counter(&bed, "flowScans")?];
        let start = Instant::now();
        write_policy(&bed, round)?;
        in_force.push(until_counted(&bed, "revision", before[0], start)?);
        let mut added = 0;
        while added < MEANWHILE && !counted(&bed, "flowScans", before[1]) {
            meanwhile.push(call("ADD", local + added)?);
            added += 1;
        }
        judged.push(until_counted(&bed, "flowScans", before[1], start)?);
        (local..local + added).try_for_each(|index| call("DEL", index).map(drop))?;
        until_deleted(&bed, local)?;
    }

    println!("{pods} pods, {local} here, {flows} flows, {rounds} changes of policy; milliseconds");
    println!("{:>28} {:>8} {:>8}", "", "median", "slowest");
    for (what, times) in [
        ("in force", &mut in_force),
        ("all flows judged", &mut judged),
        ("ADD, usual", &mut usual),
        ("ADD, while flows are judged", &mut meanwhile),
    ] {
        ensure!(!times.is_empty(), "{what}: nothing measured");
        let [middle, slowest] =
            [median(times), percentile(times, 100)].map(|time| time.as_secs_f64() * 1000.0);
        println!("{what:>28} {middle:>8.1} {slowest:>8.1}");
    }
    let ratio = median(&mut meanwhile).as_secs_f64() / median(&mut usual).as_secs_f64();
    println!("ADD while flows are judged / usual: {ratio:.2} ({} ADDs)", meanwhile.len());
    Ok(())
}

/// The pods of the node by name, the others on other nodes with addresses, in a hundred namespaces.
fn cluster(named: usize, pods: usize) -> Vec<Value> {
    let elsewhere = (named..pods).map(|index| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": format!("pod-{index}"), "namespace": format!("ns-{}", index % 100),
                          "labels": { "app": format!("app-{}", index % 10) } },
            "spec": { "nodeName": "other", "containers": [] },
            "status": { "phase": "Running", "podIP": format!("10.78.{}.{}", index / 250, index % 250 + 1) },
        })
    });
    objects(named).into_iter().chain(elsewhere).collect()
}

/// Clients outside speak to the pods of the node, by UDP.
fn fill(bed: &Testbed, flows: usize) -> Result<()> {
    let pods = local_addresses(bed)?;
    ensure!(!pods.is_empty(), "no route to a pod");
    let mut commands = String::new();
    for (index, pod) in (0..flows).zip(pods.iter().cycle()) {
        let (client, port) = (index / 50_000 + 1, index % 50_000 + 1024);
        writeln!(commands, "-I -p udp -s 198.51.100.{client} -d {pod} --sport {port} --dport 80 -t 3600")?;
    }
    let file = bed.dir.join("flows");
    fs::write(&file, commands)?;
    let made = bed.node.enter(|| Ok(Command::new("conntrack").arg("-R").arg(&file).output()?))?;
    let there = bed.node.enter(|| Ok(Command::new("conntrack").arg("-C").output()?))?;
    let there: usize = String::from_utf8(there.stdout)?.trim().parse()?;
    ensure!(there >= flows, "{there} flows: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

/// Routes to pods have no prefix length.
fn local_addresses(bed: &Testbed) -> Result<Vec<String>> {
    let output = bed.node.enter(|| Ok(Command::new("ip").args(["-4", "-j", "route"]).output()?))?;
    let routes: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    let to = routes.iter().filter_map(|route| route["dst"].as_str());
    Ok(to.filter(|dst| dst.starts_with("10.77.") && !dst.contains('/')).map(str::to_owned).collect())
}

/// The deletion of a link holds the kernel's lock for some milliseconds, whoever waits, and DEL does not wait for it.
fn until_deleted(bed: &Testbed, left: usize) -> Result<()> {
    wait::until_true("links are deleted", LIMIT, || {
        let links = bed.node.enter(|| Ok(fs::read_to_string("/proc/thread-self/net/dev")?));
        links.is_ok_and(|links| links.matches(LINK_PREFIX).count() == left)
    })
}

/// Denies everything, or allows everything in words that need other chains.
fn write_policy(bed: &Testbed, round: usize) -> Result<()> {
    let ingress = if round.is_multiple_of(2) {
        json!([])
    } else {
        json!([{ "from": [{ "ipBlock": { "cidr": "0.0.0.0/1" } }, { "ipBlock": { "cidr": "128.0.0.0/1" } }] }])
    };
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": "bench", "namespace": "default" },
        "spec": { "podSelector": {}, "policyTypes": ["Ingress"], "ingress": ingress },
    });
    let written = bed.dir.join("policy.yaml");
    fs::write(&written, policy.to_string())?;
    Ok(fs::rename(written, bed.store().join("policy.yaml"))?)
}

/// How long after `start`.
fn until_counted(bed: &Testbed, name: &str, before: u64, start: Instant) -> Result<Duration> {
    while !counted(bed, name, before) {
        ensure!(start.elapsed() < LIMIT, "{name} did not grow in {LIMIT:?}");
        thread::sleep(RESOLUTION);
    }
    Ok(start.elapsed())
}

/// The revision, when no commit has come for a while: those of the pods that have gone are not the policy's.
fn until_resting(bed: &Testbed) -> Result<u64> {
    let (mut last, mut since) = (counter(bed, "revision")?, Instant::now());
    while since.elapsed() < RESTING {
        thread::sleep(RESOLUTION);
        let now = counter(bed, "revision")?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(last)
}

fn counted(bed: &Testbed, name: &str, before: u64) -> bool {
    counter(bed, name).is_ok_and(|now| now > before)
}

/// Of the agent's own answer: metrics are gathered once a second.
fn counter(bed: &Testbed, name: &str) -> Result<u64> {
    let mut stream = UnixStream::connect(bed.dir.join("run").join(AGENT_SOCKET))?;
    write!(stream, "GET /v1/status HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    let status: Value = serde_json::from_str(body)?;
    status["policy"][name].as_u64().with_context(|| format!("no {name}"))
}
