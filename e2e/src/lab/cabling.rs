//! Cables, addresses and static routes, with `ip -batch`: one process per machine.
//!
//! A cable is made from inside one of its two machines, with the other end put into the other machine at once, so that
//! it never shows up anywhere else.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Lab;
use super::machine::{Machine, finish};
use super::spec::{CONTROL, Dual, FABRIC_CIDRS, Node, OUTSIDE, Plan, SPINE, Tor};
use crate::wait;

/// How long the kernel may take to clean up a network namespace.
const UNPLUGGED: Duration = Duration::from_secs(20);

pub(super) fn connect(lab: &Lab) -> Result<()> {
    for tor in &lab.plan().tors {
        plug_tor(lab, tor)?;
    }
    plug(lab, SPINE, &[("outside", OUTSIDE, "eth0")])?;
    if lab.has_control_plane() {
        plug(lab, SPINE, &[("control", CONTROL, "eth0")])?;
        address_leaf(lab, CONTROL, Plan::control(), Plan::spine_to_control())?;
    }
    for tor in &lab.plan().tors {
        address_tor(lab, tor)?;
    }
    lab.plan().nodes.iter().try_for_each(|node| address_node(lab, node))?;
    address_spine(lab)?;
    address_leaf(lab, OUTSIDE, Plan::outside(), Plan::spine())
}

/// Plugs in a node that has booted again. The kernel takes the old cables' ends away when it has cleaned up behind it.
pub(super) fn reconnect(lab: &Lab, node: &Node) -> Result<()> {
    for uplink in &node.uplinks {
        let tor = lab.machine(&uplink.tor)?;
        wait::until_true(&format!("end of the cable to {}", node.name), UNPLUGGED, || {
            tor.run(["ip", "link", "show", "dev", &node.name]).is_err()
        })?;
        plug(lab, &uplink.tor, &[(&node.name, &node.name, &uplink.ifname)])?;
        ip(&tor, &[format!("link set {} master rack", node.name)])?;
    }
    address_node(lab, node)
}

/// Gives a router's links their addresses and turns forwarding on; safe to repeat.
pub(super) fn address_tor(lab: &Lab, tor: &Tor) -> Result<()> {
    let mut batch = addresses("rack", tor.addresses.with_lengths());
    batch.extend(addresses("spine", tor.to_spine.with_lengths()));
    route_packets(&lab.machine(&tor.name)?, batch)
}

/// At the spine's end, where the kernel takes the IPv6 address of a link that goes down.
pub(super) fn plug_spine(lab: &Lab, tor: &Tor, plugged: bool) -> Result<()> {
    let batch = match plugged {
        true => addresses(&tor.name, tor.spine.with_lengths()),
        false => vec![format!("link set {} down", tor.name)],
    };
    ip(&lab.machine(SPINE)?, &batch)
}

/// `up` or `down`, for every cable of a machine.
pub(super) fn set_links(machine: &Machine, state: &str) -> Result<()> {
    let links = machine.run(["ip", "-o", "link", "show", "type", "veth"])?;
    let names = links.lines().filter_map(|line| line.split_whitespace().nth(1)?.split('@').next());
    ip(machine, &names.map(|name| format!("link set {name} {state}")).collect::<Vec<_>>())
}

/// Plugs the rack's nodes into the router's bridge, and the router into the spine.
fn plug_tor(lab: &Lab, tor: &Tor) -> Result<()> {
    let machine = lab.machine(&tor.name)?;
    // An address of its own, as switches have: that of its lowest port would change when a node is unplugged, and neighbours
    // would look for the router under the old one.
    ip(
        &machine,
        &["link add rack address 02:00:5e:00:00:01 type bridge".to_owned(), "link set rack up".to_owned()],
    )?;
    let uplinks =
        lab.plan().nodes.iter().flat_map(|node| node.uplinks.iter().map(move |uplink| (node, uplink)));
    let ports: Vec<_> = uplinks
        .filter(|(_, uplink)| uplink.tor == tor.name)
        .map(|(node, uplink)| (node.name.as_str(), node.name.as_str(), uplink.ifname.as_str()))
        .collect();
    plug(lab, &tor.name, &ports)?;
    ip(&machine, &ports.iter().map(|(port, ..)| format!("link set {port} master rack")).collect::<Vec<_>>())?;
    plug(lab, &tor.name, &[("spine", SPINE, &tor.name)])
}

/// Cables from `machine`: name of the link here, the other machine, name of the link there.
fn plug(lab: &Lab, machine: &str, cables: &[(&str, &str, &str)]) -> Result<()> {
    let mut batch = String::new();
    for (here, other, there) in cables {
        let pid = lab.machine(other)?.init.pid;
        batch += &format!("link add {here} type veth peer name {there} netns {pid}\nlink set {here} up\n");
    }
    // From inside the machine's network but with our process ids: the other machine has none in this one.
    let namespace = lab.namespace(machine)?;
    namespace
        .enter(|| {
            let mut ip = Command::new("ip");
            let child = ip
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn();
            finish(child.context("ip")?, &batch)
        })
        .with_context(|| format!("cables of {machine}"))?;
    Ok(())
}

fn address_node(lab: &Lab, node: &Node) -> Result<()> {
    let mut batch = vec!["link set lo up".to_owned()];
    for uplink in &node.uplinks {
        batch.extend(addresses(&uplink.ifname, uplink.addresses.with_lengths()));
    }
    for (family, fabric) in FABRIC_CIDRS.iter().enumerate() {
        let hops =
            node.uplinks.iter().map(|uplink| format!("nexthop via {}", uplink.gateways.both()[family]));
        batch.push(format!("route replace {fabric} {}", hops.collect::<Vec<_>>().join(" ")));
    }
    ip(&lab.machine(&node.name)?, &batch)
}

fn address_spine(lab: &Lab) -> Result<()> {
    let mut batch = addresses("outside", Plan::spine().with_lengths());
    if lab.has_control_plane() {
        batch.extend(addresses("control", Plan::spine_to_control().with_lengths()));
    }
    for tor in &lab.plan().tors {
        batch.extend(addresses(&tor.name, tor.spine.with_lengths()));
    }
    route_packets(&lab.machine(SPINE)?, batch)
}

/// A host behind the spine, with its default route.
fn address_leaf(lab: &Lab, name: &str, own: Dual, gateways: Dual) -> Result<()> {
    let mut batch = vec!["link set lo up".to_owned()];
    batch.extend(addresses("eth0", own.with_lengths()));
    batch.extend(gateways.both().map(|gateway| format!("route replace default via {gateway}")));
    ip(&lab.machine(name)?, &batch)
}

fn addresses(link: &str, addresses: [String; 2]) -> Vec<String> {
    let set = addresses.map(|address| format!("address replace {address} dev {link}"));
    [format!("link set {link} up")].into_iter().chain(set).collect()
}

fn route_packets(machine: &Machine, mut batch: Vec<String>) -> Result<()> {
    batch.push("link set lo up".to_owned());
    // By ports as well as addresses, so that two flows between the same pods may take two paths.
    let settings = [
        "ipv4.ip_forward",
        "ipv6.conf.all.forwarding",
        "ipv4.fib_multipath_hash_policy",
        "ipv6.fib_multipath_hash_policy",
    ];
    let settings = settings.map(|name| format!("net.{name}=1"));
    machine.run(["sysctl", "-qw"].into_iter().chain(settings.iter().map(String::as_str)))?;
    ip(machine, &batch)
}

fn ip(machine: &Machine, batch: &[String]) -> Result<()> {
    machine.run_with_input(["ip", "-batch", "-"], &batch.join("\n")).map(drop)
}
