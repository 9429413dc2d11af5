//! The demo: the story of Weft in a lab, with proof at each step. What it claims it checks, so it fails rather than lie.

use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::lab::{Lab, LabSpec, OUTSIDE, Plan, Pod, Programs};
use crate::net::{Flow, FlowReport, Namespace, Proto, until_closed, until_open};

const PORT: u16 = 8080;
const CONVERGED: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(5);
/// Records a second of the flow that the kill must not hurt.
const RATE: u32 = 500;
/// A flow of [`RATE`] that is silent for so long has been stopped.
const QUIET: Duration = Duration::from_millis(500);
/// How long the node has no agent, for people to see that this is no blink.
const WITHOUT_AGENT: Duration = Duration::from_secs(2);

const POLICY: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { namespace: default, name: only-the-shop }
spec:
  podSelector: { matchLabels: { app: db } }
  ingress:
  - from:
    - podSelector: { matchLabels: { app: shop } }
";

const PICTURE: &str = "
  outside ──── spine ──┬── tor1 (BIRD, AS 65001) ──┬── node1 ── default/db
  198.51.100.10        │                           └── node2 ── default/shop
                       └── tor2 (FRR,  AS 65002) ───── node3 ── default/guest
";

/// Raises the lab, tells the story, and leaves the lab up unless told otherwise.
pub fn run(name: &str, remove: bool, programs: &Programs) -> Result<()> {
    let out = &mut std::io::stdout();
    let start = Instant::now();
    // A demo that was told before makes room.
    Lab::down(name)?;
    writeln!(out, "Raising lab {name}: three nodes in two racks, two kinds of router, one host outside.")?;
    let lab = Lab::raise(name, &LabSpec::default(), programs)?;
    tell(&lab, out)?;
    writeln!(out, "\nThe whole story took {:.1} s.", start.elapsed().as_secs_f64())?;
    if remove {
        return Lab::down(name).map(drop);
    }
    lab.keep()?;
    epilogue(name, programs, out)
}

/// Every step, on a lab without agents and pods yet.
pub fn tell(lab: &Lab, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "{PICTURE}")?;
    let cast = enter(lab, out)?;
    show_routes(lab, out)?;
    everybody_talks(lab, &cast, out)?;
    policy_stops_a_flow(lab, &cast, out)?;
    agent_is_killed(lab, &cast, out)?;
    read_it_back(lab, out)
}

struct Cast {
    db: Pod,
    shop: Pod,
    guest: Pod,
    outside: Namespace,
}

fn enter(lab: &Lab, out: &mut dyn Write) -> Result<Cast> {
    heading(out, "An agent on each node, with CAP_NET_ADMIN and CAP_NET_BIND_SERVICE, no more")?;
    lab.start_agents()?;
    show(lab, out, "node1", &format!("grep CapBnd /proc/{}/status", inner_pid(lab, "node1")?))?;

    heading(out, "Pods, wired by executing weft-cni as a container runtime does")?;
    let run = |key, node, app, out: &mut dyn Write| {
        let sandbox = lab.sandbox(key, node, &[("app", app)])?;
        let start = Instant::now();
        let pod = sandbox.add()?;
        let took = start.elapsed().as_secs_f64() * 1000.0;
        let addresses: Vec<_> = pod.addresses().iter().map(ToString::to_string).collect();
        writeln!(out, "    {key:14} on {node}  {:34} ADD took {took:.1} ms", addresses.join("  "))?;
        lab.serve(&pod, PORT)?;
        anyhow::Ok(pod)
    };
    Ok(Cast {
        db: run("default/db", "node1", "db", out)?,
        shop: run("default/shop", "node2", "shop", out)?,
        guest: run("default/guest", "node3", "guest", out)?,
        outside: lab.namespace(OUTSIDE)?,
    })
}

fn show_routes(lab: &Lab, out: &mut dyn Write) -> Result<()> {
    heading(
        out,
        "The routers learned the pods' networks by BGP, and the nodes each other's from the routers",
    )?;
    for node in &lab.plan().nodes {
        // What is shown below must be there first: every node's route on every other.
        for other in lab.plan().nodes.iter().filter(|other| other.name != node.name) {
            let question = format!("ip route show {} proto 87", other.pod_cidrs[0]);
            crate::wait::until_true(
                &format!("a route from {} to {}", node.name, other.name),
                CONVERGED,
                || lab.run(&node.name, &question).is_ok_and(|answer| !answer.is_empty()),
            )?;
        }
    }
    show(lab, out, "tor1", "birdc 'show route table master4 where net ~ [10.244.0.0/16+]'")?;
    show(lab, out, "tor2", "vtysh -c 'show ip route bgp' | grep 10.244")?;
    show(lab, out, "node1", "ip route show proto 87")?;
    show(lab, out, "node1", "ip -6 route show proto 87")
}

fn everybody_talks(lab: &Lab, cast: &Cast, out: &mut dyn Write) -> Result<()> {
    heading(out, "Pods talk to each other and to the world outside: TCP and UDP, IPv4 and IPv6")?;
    let Cast { db, shop, guest, outside } = cast;
    let _echo = crate::net::EchoServer::start(outside, PORT)?;
    let pairs = [
        ("shop -> db, same rack", shop.namespace(), db.addresses().to_vec()),
        ("guest -> db, across racks", guest.namespace(), db.addresses().to_vec()),
        ("db -> guest, and back", db.namespace(), guest.addresses().to_vec()),
        ("outside -> guest", outside, guest.addresses().to_vec()),
        ("guest -> outside", guest.namespace(), Plan::outside().both().to_vec()),
        ("node3 -> db", &lab.namespace("node3")?, db.addresses().to_vec()),
    ];
    for (who, from, to) in pairs {
        for ip in to {
            until_open(from, SocketAddr::new(ip, PORT), CONVERGED)?;
            writeln!(out, "    {who:28} {ip:24} tcp and udp answered")?;
        }
    }
    Ok(())
}

fn policy_stops_a_flow(lab: &Lab, cast: &Cast, out: &mut dyn Write) -> Result<()> {
    heading(out, "A NetworkPolicy stops a flow")?;
    for line in POLICY.lines() {
        writeln!(out, "    | {line}")?;
    }
    let Cast { db, shop, guest, outside } = cast;
    let flow = |proto| Flow::start(guest.namespace(), proto, (db.ip(false), PORT).into(), RATE);
    let flows = [(Proto::Tcp, flow(Proto::Tcp)?), (Proto::Udp, flow(Proto::Udp)?)];
    for (_, flow) in &flows {
        crate::wait::until_true("traffic", SOON, || flow.echoed() > RATE.into())?;
    }
    let start = Instant::now();
    lab.store().apply(POLICY)?;
    for (proto, flow) in flows {
        let silent = flow.until_silent(QUIET, SOON)?.saturating_duration_since(start);
        writeln!(
            out,
            "    guest -> db {proto}, {RATE} records a second: silent {} ms after the write",
            silent.as_millis()
        )?;
        flow.stop()?;
    }
    for ip in db.addresses() {
        let db = SocketAddr::new(*ip, PORT);
        until_closed(guest.namespace(), db, SOON)?;
        until_closed(outside, db, SOON)?;
        until_open(shop.namespace(), db, SOON)?;
        writeln!(out, "    {db:32} guest: silence   outside: silence   shop: answered")?;
    }
    show_verdict(lab, out, "node1", "weftctl policy explain default/guest default/db:8080")?;
    show_verdict(lab, out, "node1", "weftctl policy explain default/shop default/db:8080")
}

fn agent_is_killed(lab: &Lab, cast: &Cast, out: &mut dyn Write) -> Result<()> {
    heading(out, "The agent of node1 is killed under traffic")?;
    let Cast { db, shop, guest, .. } = cast;
    let start = |proto, ip: &std::net::IpAddr| Flow::start(shop.namespace(), proto, (*ip, PORT).into(), RATE);
    let mut flows = Vec::new();
    for ip in db.addresses() {
        for proto in Proto::ALL {
            flows.push((proto, *ip, start(proto, ip)?));
        }
    }
    thread::sleep(WITHOUT_AGENT / 4);
    writeln!(out, "    node1# kill -9 {}", inner_pid(lab, "node1")?)?;
    lab.kill_agent("node1")?;
    thread::sleep(WITHOUT_AGENT);
    until_closed(guest.namespace(), (db.ip(false), PORT).into(), SOON)?;
    writeln!(out, "    {WITHOUT_AGENT:?} later: the policy still holds; starting the agent again")?;
    lab.start_agent("node1")?;
    thread::sleep(WITHOUT_AGENT / 4);
    for (proto, ip, flow) in flows {
        let report: FlowReport = flow.stop()?;
        writeln!(out, "    shop -> db {proto} {ip:20} {report}")?;
        ensure!(report.lost() == 0 && report.broken.is_none(), "{proto} to {ip} was hurt: {report}");
    }
    Ok(())
}

fn read_it_back(lab: &Lab, out: &mut dyn Write) -> Result<()> {
    heading(out, "All of it, as the agent tells it")?;
    // The new agent is ready when its peers have told it everything again.
    crate::wait::until_true("ready agent on node1", CONVERGED, || lab.weftctl("node1", "status").is_ok())?;
    for command in [
        "weftctl status",
        "weftctl bgp peers",
        "weftctl bgp routes",
        "weftctl ipam show",
        "weftctl policy list",
    ] {
        show(lab, out, "node1", command)?;
    }
    Ok(())
}

fn epilogue(name: &str, programs: &Programs, out: &mut dyn Write) -> Result<()> {
    let this = programs.weft_e2e.display();
    let name = if name == "demo" { String::new() } else { format!(" --name {name}") };
    writeln!(
        out,
        "\nThe lab stays up. Try:
    {this} lab exec{name} node3 -- weftctl bgp routes 10.244.1.0/24
    {this} lab exec{name} default/guest -- weft-e2e net probe tcp 10.244.1.1:{PORT}
    {this} lab exec{name} tor2 -- vtysh -c 'show bgp summary'
and `make demo-down` when you have seen enough."
    )?;
    Ok(())
}

fn heading(out: &mut dyn Write, text: &str) -> Result<()> {
    writeln!(out, "\n== {text}")?;
    Ok(())
}

/// A command on a machine and what it said, indented.
fn show(lab: &Lab, out: &mut dyn Write, place: &str, command: &str) -> Result<()> {
    let answer = lab.shell(place, command).with_context(|| format!("{place}# {command}"))?;
    quote(out, place, command, &answer)
}

/// [`show`] for a question that is answered with exit code 3 for no.
fn show_verdict(lab: &Lab, out: &mut dyn Write, place: &str, command: &str) -> Result<()> {
    let answer = lab.shell(place, &format!("{command} || test $? -eq 3"))?;
    quote(out, place, command, &answer)
}

fn quote(out: &mut dyn Write, place: &str, command: &str, answer: &str) -> Result<()> {
    writeln!(out, "    {place}# {command}")?;
    for line in answer.lines().filter(|line| !line.trim().is_empty()) {
        writeln!(out, "      {line}")?;
    }
    Ok(())
}

/// The agent's process id as its own machine counts.
fn inner_pid(lab: &Lab, node: &str) -> Result<String> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", lab.agent(node)?.pid))?;
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).context("NSpid")?;
    Ok(ids.split_whitespace().last().context("NSpid")?.to_owned())
}
