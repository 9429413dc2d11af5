//! Host ports, with real connections: from outside, from pods, from the node, in both families.
//!
//! This thread's namespace is the node; the outside and two pods are namespaces of their own. Both pods answer on port
//! 8080 with their name, over TCP and UDP.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use weft_policy::model::{HostPort, LocalPod, Pod, PodKey, Protocol, World};
use weft_policy::ruleset::Ruleset;
use weft_policy::{Options, compile, translate};

use crate::kernel_table::KernelTable;
use crate::netns::{enter_new, run};

const GATEWAYS: [&str; 2] = ["169.254.1.1", "fe80::1"];
const NODE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

/// A namespace at the end of a link, or with a server in it; ends with its value.
struct End(Child);

impl End {
    fn start(link: &str) -> Self {
        // Ends by itself when we do: its input closes.
        let child = Command::new("unshare").args(["--net", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
        let end = Self(child);
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let theirs = format!("/proc/{}/ns/net", end.0.id());
        eventually("the namespace is there", || std::fs::read_link(&theirs).is_ok_and(|ns| ns != own));
        sh(&format!("ip link add {link} type veth peer name eth0 netns {}", end.0.id()));
        sh(&format!("ip link set {link} up"));
        end.sh("ip link set lo up; ip link set eth0 up");
        end
    }

    fn sh(&self, script: &str) -> String {
        run("nsenter", &["-t", &self.0.id().to_string(), "-n", "sh", "-ec", script], "")
    }

    fn serve(&self, name: &str) -> Vec<Server> {
        ["TCP6-LISTEN:8080,fork,reuseaddr,ipv6only=0", "UDP6-RECVFROM:8080,fork,reuseaddr,ipv6only=0"]
            .map(|address| {
                Server(
                    Command::new("nsenter")
                        .args([
                            "-t",
                            &self.0.id().to_string(),
                            "-n",
                            "socat",
                            address,
                            &format!("EXEC:echo {name}"),
                        ])
                        .spawn()
                        .unwrap(),
                )
            })
            .into()
    }
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for End {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn sh(script: &str) -> String {
    run("sh", &["-ec", script], "")
}

#[expect(clippy::disallowed_methods, reason = "waits for the kernel, with a deadline")]
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "not in time: {what}");
        std::thread::yield_now();
    }
}

/// A pod wired as the CNI does it.
fn wire(name: &str, last: u8) -> (End, Vec<Server>) {
    let end = End::start(&format!("weft{name}"));
    let mac = |text: String| text.split_whitespace().nth(1).unwrap().to_owned();
    let host_mac = mac(sh(&format!("ip -br link show weft{name} | tr -s ' ' | cut -d' ' -f2,3")));
    let pod_mac = mac(end.sh("ip -br link show eth0 | tr -s ' ' | cut -d' ' -f2,3"));
    for ((address, gateway), length) in addresses(last).iter().zip(GATEWAYS).zip([32, 128]) {
        end.sh(&format!(
            "ip addr add {address}/{length} dev eth0 $([ {length} = 128 ] && echo nodad); \
             ip neigh add {gateway} lladdr {host_mac} dev eth0 nud permanent; \
             ip route add default via {gateway} dev eth0 onlink"
        ));
        sh(&format!(
            "ip neigh add {address} lladdr {pod_mac} dev weft{name} nud permanent; \
             ip route add {address}/{length} dev weft{name}"
        ));
    }
    let servers = end.serve(name);
    (end, servers)
}

fn addresses(last: u8) -> [IpAddr; 2] {
    [[10, 0, 0, last].into(), format!("fd00::{last}").parse().unwrap()]
}

fn local_pod(name: &str, last: u8, ports: &[(Protocol, u16, Option<&str>)]) -> LocalPod {
    let ports = ports.iter().map(|(protocol, host_port, host_ip)| HostPort {
        protocol: *protocol,
        host_port: *host_port,
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        port: 8080,
    });
    let key = PodKey { namespace: "x".into(), name: name.into() };
    let (link, ips) = (format!("weft{name}"), addresses(last).into());
    LocalPod { key, uid: None, link, ips, ports: ports.collect() }
}

/// Who answers: the name, or nothing.
fn ask(client: Option<&End>, transport: &str, address: &str, port: u16) -> String {
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let timeout = if transport == "TCP" { ",connect-timeout=1" } else { "" };
    let script =
        format!("echo | timeout 3 socat -t1 -T1 - {transport}:{address}:{port}{timeout} 2>&1 || true");
    let answer = client.map_or_else(|| sh(&script), |client| client.sh(&script));
    answer.lines().next().filter(|line| line.len() == 1).unwrap_or_default().to_owned()
}

/// A node whose ports lead to two pods, and the outside.
struct Node {
    outside: End,
    a: End,
    b: End,
    _servers: [Vec<Server>; 2],
    world: World,
    local: [LocalPod; 2],
    table: KernelTable,
    have: Ruleset,
}

impl Node {
    fn start() -> Self {
        use Protocol::{Tcp, Udp};
        enter_new();
        sh(
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0",
        );
        let outside = End::start("up0");
        sh("ip addr add 192.0.2.1/24 dev up0; ip addr add 2001:db8::1/64 dev up0 nodad");
        outside.sh("ip addr add 192.0.2.9/24 dev eth0; ip addr add 2001:db8::9/64 dev eth0 nodad");
        let ((a, servers_of_a), (b, servers_of_b)) = (wire("a", 2), wire("b", 3));
        let mut world = World::default();
        for name in ["a", "b"] {
            let key = PodKey { namespace: "x".into(), name: name.into() };
            world.pods.insert(key, Pod { active: true, ..Pod::default() }.into());
        }
        let local = [
            local_pod("a", 2, &[(Tcp, 80, None), (Udp, 80, None), (Tcp, 81, Some("127.0.0.1"))]),
            local_pod(
                "b",
                3,
                &[(Tcp, 81, Some(NODE[0])), (Udp, 81, Some(NODE[0])), (Tcp, 81, Some(NODE[1]))],
            ),
        ];
        let (servers, table) = ([servers_of_a, servers_of_b], KernelTable::create());
        let mut node =
            Self { outside, a, b, _servers: servers, world, local, table, have: Ruleset::default() };
        node.enforce();
        for transport in ["TCP", "UDP"] {
            for (name, address) in [("a", "10.0.0.2"), ("b", "10.0.0.3")] {
                eventually("the servers listen", || ask(None, transport, address, 8080) == name);
            }
        }
        node
    }

    fn enforce(&mut self) {
        let want = compile(&self.world, &self.local, &Options::default()).ruleset;
        self.table.commit(&want, &self.have).unwrap();
        assert_eq!(self.table.dump().recognise(&want), want);
        self.have = want;
    }

    fn deny_ingress(&mut self) {
        let deny = serde_json::json!({
            "metadata": { "namespace": "x", "name": "deny" },
            "spec": { "podSelector": {}, "policyTypes": ["Ingress"] },
        });
        let deny = translate::policy(&serde_json::from_value(deny).unwrap()).unwrap();
        self.world.policies.insert(deny.key.clone(), deny.into());
        self.enforce();
    }

    fn remove_the_ports(&mut self) {
        self.world.policies.clear();
        self.local.iter_mut().for_each(|pod| pod.ports = BTreeSet::new());
        self.enforce();
    }

    /// From outside, from another pod, from the pod itself, and from the node.
    fn everybody_reaches_port_80(&self) {
        let clients = [
            ("outside", Some(&self.outside)),
            ("b", Some(&self.b)),
            ("a", Some(&self.a)),
            ("the node", None),
        ];
        for address in NODE {
            for transport in ["TCP", "UDP"] {
                for (from, client) in clients {
                    eventually(&format!("{transport} {address} from {from}"), || {
                        ask(client, transport, address, 80) == "a"
                    });
                }
            }
        }
    }

    fn port_81_is_told_apart_by_address_and_protocol(&self) {
        let outside = Some(&self.outside);
        for (transport, address) in [("TCP", NODE[0]), ("UDP", NODE[0]), ("TCP", NODE[1])] {
            eventually(&format!("{transport} {address} from outside"), || {
                ask(outside, transport, address, 81) == "b"
            });
        }
        assert_eq!(ask(outside, "UDP", NODE[1], 81), "");
        assert_eq!(ask(None, "TCP", "127.0.0.1", 81), "", "loopback to loopback is left alone");
        let from_node =
            "echo | timeout 3 socat -t1 - TCP:127.0.0.1:81,bind=192.0.2.1,connect-timeout=1 2>&1 || true";
        eventually("an address of the node to its loopback", || sh(from_node).trim() == "a");
    }
}

#[test]
fn a_port_of_the_node_leads_to_its_pod_from_everywhere_until_policy_or_removal() {
    let mut node = Node::start();
    node.everybody_reaches_port_80();
    node.port_81_is_told_apart_by_address_and_protocol();
    // What only passes through the node is not for it.
    assert_eq!(ask(Some(&node.b), "TCP", "192.0.2.9", 80), "");

    node.deny_ingress();
    for address in NODE {
        assert_eq!(ask(Some(&node.outside), "TCP", address, 80), "", "denied");
        assert_eq!(ask(Some(&node.b), "TCP", address, 80), "", "denied");
        eventually("a pod cannot block itself", || ask(Some(&node.a), "TCP", address, 80) == "a");
        eventually("nor its node", || ask(None, "TCP", address, 80) == "a");
    }

    node.remove_the_ports();
    for address in NODE {
        assert_eq!(ask(Some(&node.outside), "TCP", address, 80), "", "removed");
    }
}
