//! The kernel's verdict on real packets is the evaluator's, in random clusters.
//!
//! One namespace is the node: it forwards, and has the table. A second one holds the far ends of all links: the pods'
//! and the uplink. A cell is one packet, from one end of a link towards an address, with a number in it; what comes out at
//! the right link has passed. All packets take one CPU's queue, so when a last one, which nothing can stop, has come
//! out, the others have met their fate.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;
use weft_policy::eval::{Flow, evaluate};
use weft_policy::model::World;
use weft_policy::ruleset::Ruleset;
use weft_policy::{Options, compile};

use crate::kernel_table::KernelTable;
use crate::netns::{Keeper, enter_new, run};
use crate::worlds::{self, PODS, Random, addresses, link};

const WORLDS: u32 = 80;
const UPLINK: &str = "up0";
/// The gateway's hardware address on every link; what comes out at a far end comes from it.
const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// TCP, UDP, SCTP and their destination ports; the echo requests of ICMP have none.
const SERVICES: [(u8, Option<u16>); 9] = [
    (6, Some(80)),
    (6, Some(81)),
    (6, Some(8080)),
    (6, Some(9000)),
    (17, Some(53)),
    (17, Some(80)),
    (132, Some(80)),
    (ICMP, None),
    (ICMPV6, None),
];
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

#[test]
fn the_kernel_decides_as_the_evaluator_does() {
    let mut bench = Bench::new();
    let mut random = Random::new(20_261_121);
    let mut have = Ruleset::default();
    let mut table = KernelTable::create();
    let local = worlds::local_pods();
    let (mut judged, mut passed) = (0, 0);
    for step in 0..WORLDS {
        let world = worlds::world(&mut random);
        let want = compile(&world, &local, &Options::default()).ruleset;
        table.commit(&want, &have).unwrap();
        have = want;

        let cells = cells();
        let seen = bench.inject(&cells, step);

        for (number, cell) in (0..).zip(&cells) {
            let expected = cell.expected(&world);
            assert_eq!(
                seen.contains(&number),
                expected,
                "world {step}: {cell:?}; evaluator: {:?}\n{:#?}",
                evaluate(&world, &local, &cell.flow),
                world.policies.values().map(|policy| (&policy.key, &policy.object)).collect::<Vec<_>>(),
            );
            judged += 1;
            passed += u32::from(expected);
        }
        assert_eq!(table.dump().recognise(&have), have, "world {step}");
    }
    // A test in which everything, or nothing, passes would prove little.
    println!("{judged} verdicts, {passed} of them to pass");
    assert!((judged / 5..judged * 4 / 5).contains(&passed));
}

/// One packet: where it enters the node and what it is.
#[derive(Debug)]
struct Cell {
    enters_by: usize,
    /// The pod whose address it bears as its source is another.
    forged: bool,
    flow: Flow,
}

impl Cell {
    /// The evaluator's verdict, as far as this node is to enforce it.
    fn expected(&self, world: &World) -> bool {
        let judgement = evaluate(world, &worlds::local_pods(), &self.flow);
        let halves = [&judgement.egress, &judgement.ingress];
        !self.forged && halves.into_iter().all(|half| half.allowed() || !half.enforced_here)
    }
}

/// All of them: from each pod and from outside, to each pod and to the outside, each service, both families.
fn cells() -> Vec<Cell> {
    let outside = [[ip("192.0.2.1"), ip("2001:db8::1")], [ip("192.0.2.99"), ip("2001:db8:8000::1")]];
    let ends: Vec<[IpAddr; 2]> = (0..PODS.len()).map(addresses).chain(outside).collect();
    let mut cells = Vec::new();
    for (index, source) in ends.iter().enumerate() {
        for (target, destination) in ends.iter().enumerate() {
            // What lives beyond the uplink reaches the rest of that world without us.
            if !is_local(index) && !is_local(target) {
                continue;
            }
            for (protocol, port) in SERVICES {
                for family in [0, 1].into_iter().filter(|&family| fits(protocol, family)) {
                    let (source, destination) = (source[family], destination[family]);
                    let flow = Flow { source, destination, protocol, port };
                    cells.push(Cell { enters_by: link_of(index), forged: false, flow });
                    let other = (target + 1) % PODS.len();
                    if port == Some(80) && is_local(other) && other != index {
                        cells.push(Cell { enters_by: link_of(other), forged: true, flow });
                    }
                }
            }
        }
    }
    cells
}

fn fits(protocol: u8, family: usize) -> bool {
    !matches!((protocol, family), (ICMP, 1) | (ICMPV6, 0))
}

fn is_local(index: usize) -> bool {
    PODS.get(index).is_some_and(|(.., local)| *local)
}

/// The uplink is the last of the links.
fn link_of(index: usize) -> usize {
    if is_local(index) { index } else { PODS.len() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

struct Bench {
    /// By link: sockets that send raw packets into its far end, one for each family.
    senders: Vec<Option<[OwnedFd; 2]>>,
    /// Sees everything that arrives at the far ends.
    receiver: OwnedFd,
    _far: Keeper,
}

impl Bench {
    /// Afterwards this thread is in the node's namespace.
    fn new() -> Self {
        let mut one_cpu = CpuSet::new();
        one_cpu.set(0).unwrap();
        sched_setaffinity(Pid::from_raw(0), &one_cpu).unwrap();

        let links: Vec<usize> = (0..=PODS.len()).filter(|index| link_of(*index) == *index).collect();
        enter_new();
        let far = Keeper::start();
        for sysctl in ["ipv6.conf.all.accept_dad", "ipv6.conf.default.accept_dad"] {
            run("sysctl", &["-q", &format!("net.{sysctl}=0")], "");
        }
        let far_namespace = std::fs::File::open(format!("/proc/{}/ns/net", far.pid())).unwrap();
        enter_new();
        let node = Keeper::start();
        let node_namespace = std::fs::File::open(format!("/proc/{}/ns/net", node.pid())).unwrap();
        for sysctl in [
            "ipv4.ip_forward=1",
            "ipv6.conf.all.forwarding=1",
            "ipv4.conf.all.send_redirects=0",
            "ipv4.conf.default.send_redirects=0",
            "ipv4.conf.all.rp_filter=0",
            "ipv4.conf.default.rp_filter=0",
            "netfilter.nf_conntrack_checksum=0",
        ] {
            run("sysctl", &["-q", &format!("net.{sysctl}")], "");
        }
        let near: String = links.iter().map(|index| near_end(*index, far.pid())).collect();
        run("ip", &["-batch", "-"], &near);

        setns(&far_namespace, CloneFlags::CLONE_NEWNET).unwrap();
        let ends: String = links.iter().map(|index| far_end(*index)).collect();
        run("ip", &["-batch", "-"], &ends);
        let senders = (0..=PODS.len()).map(|index| links.contains(&index).then(|| senders(index))).collect();
        let receiver = receiver();
        setns(&node_namespace, CloneFlags::CLONE_NEWNET).unwrap();
        Self { senders, receiver, _far: far }
    }

    /// Which cells came out on the other side, by their index.
    fn inject(&mut self, cells: &[Cell], step: u32) -> BTreeSet<u32> {
        let mut seen = BTreeSet::new();
        for (number, cell) in (0..).zip(cells) {
            self.send(cell, number, step);
            if number % 64 == 0 {
                self.drain(step, &mut seen);
            }
        }
        let last = u32::try_from(cells.len()).unwrap();
        let (source, destination) = (ip("192.0.2.1"), ip("192.0.2.2"));
        let flow = Flow { source, destination, protocol: 17, port: Some(9) };
        self.send(&Cell { enters_by: PODS.len(), forged: false, flow }, last, step);
        // Each look waits for up to a millisecond.
        let came_out = (0..5000).any(|_| {
            self.drain(step, &mut seen);
            seen.contains(&last)
        });
        assert!(came_out, "world {step}: the last packet did not come out");
        seen
    }

    fn send(&self, cell: &Cell, number: u32, step: u32) {
        let packet = packet(&cell.flow, number, step);
        let sockets = self.senders[cell.enters_by].as_ref().unwrap();
        let sent = match cell.flow.destination {
            IpAddr::V4(to) => {
                let to = SockaddrIn::from(std::net::SocketAddrV4::new(to, 0));
                sendto(sockets[0].as_raw_fd(), &packet, &to, MsgFlags::empty())
            }
            IpAddr::V6(to) => {
                let to = SockaddrIn6::from(std::net::SocketAddrV6::new(to, 0, 0, 0));
                sendto(sockets[1].as_raw_fd(), &packet, &to, MsgFlags::empty())
            }
        };
        assert_eq!(sent, Ok(packet.len()), "{cell:?}");
    }

    /// Reads until nothing is left, for at most the socket's receive timeout.
    fn drain(&mut self, step: u32, seen: &mut BTreeSet<u32>) {
        let mut frame = [0; 256];
        while let Ok(length) = recv(self.receiver.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            seen.extend(number_of(&frame[..length.min(frame.len())], step));
        }
    }
}

fn near_end(index: usize, far: u32) -> String {
    let name = if index == PODS.len() { UPLINK.to_owned() } else { link(index) };
    let routes = if index == PODS.len() {
        vec!["default".to_owned(), "::/0".to_owned()]
    } else {
        addresses(index).iter().map(ToString::to_string).collect()
    };
    let mut text = format!(
        "link add {name} address 02:00:00:00:00:01 type veth peer name far{index} \
         address 02:00:00:00:01:{index:02x} netns {far}\nlink set {name} up\n"
    );
    for (gateway, route) in ["169.254.1.2", "fe80::2"].iter().zip(&routes) {
        text += &format!("neigh add {gateway} lladdr 02:00:00:00:01:{index:02x} dev {name} nud permanent\n");
        text += &format!("route add {route} via {gateway} dev {name} onlink\n");
    }
    text
}

/// Each far end has its own default route; a socket bound to the link uses that.
fn far_end(index: usize) -> String {
    let metric = index + 1;
    format!(
        "link set far{index} up\n\
         addr add 169.254.9.{metric}/32 dev far{index}\n\
         addr add fd99::{metric}/128 dev far{index} nodad\n\
         neigh add 169.254.1.1 lladdr 02:00:00:00:00:01 dev far{index} nud permanent\n\
         neigh add fe80::1 lladdr 02:00:00:00:00:01 dev far{index} nud permanent\n\
         route add default via 169.254.1.1 dev far{index} onlink metric {metric}\n\
         route add ::/0 via fe80::1 dev far{index} onlink metric {metric}\n"
    )
}

fn senders(index: usize) -> [OwnedFd; 2] {
    [AddressFamily::Inet, AddressFamily::Inet6].map(|family| {
        let sender = socket(family, SockType::Raw, SockFlag::empty(), SockProtocol::Raw).unwrap();
        setsockopt(&sender, sockopt::BindToDevice, &format!("far{index}").into()).unwrap();
        setsockopt(&sender, sockopt::SndBufForce, &(16 << 20)).unwrap();
        sender
    })
}

fn receiver() -> OwnedFd {
    let receiver =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll).unwrap();
    setsockopt(&receiver, sockopt::RcvBufForce, &(64 << 20)).unwrap();
    setsockopt(&receiver, sockopt::ReceiveTimeout, &TimeVal::new(0, 1000)).unwrap();
    receiver
}

/// An IP packet with the first packet of a flow. The source port is new in each world, so no flow is known before;
/// behind the first eight bytes, where no protocol cares, stand the step and the cell's number.
fn packet(flow: &Flow, number: u32, step: u32) -> Vec<u8> {
    let mut segment = vec![0; 32];
    let source_port = u16::try_from(20_000 + step).unwrap().to_be_bytes();
    segment[..2].copy_from_slice(&source_port);
    segment[2..4].copy_from_slice(&flow.port.unwrap_or(0).to_be_bytes());
    match flow.protocol {
        6 => segment[12..14].copy_from_slice(&[0x50, 0x02]),
        17 => segment[4..6].copy_from_slice(&[0, 32]),
        132 => segment[12..16].copy_from_slice(&[1, 0, 0, 20]),
        // An echo request; identifier and sequence number stand where nothing else does.
        protocol => {
            segment[..4].copy_from_slice(&[if protocol == ICMP { 8 } else { 128 }, 0, 0, 0]);
            segment[4..6].copy_from_slice(&source_port);
        }
    }
    segment[8..12].copy_from_slice(&tag(number, step).to_be_bytes());
    let mut packet = match (flow.source, flow.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            // The kernel fills in length, id and checksum.
            let mut header = vec![0x45, 0, 0, 52, 0, 0, 0, 0, 64, flow.protocol, 0, 0];
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut header = vec![0x60, 0, 0, 0, 0, 32, flow.protocol, 64];
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        _ => unreachable!("one family"),
    };
    packet.extend(segment);
    packet
}

fn tag(number: u32, step: u32) -> u32 {
    (0x80 | step) << 16 | number
}

/// The cell of a frame that the gateway sent in this step.
fn number_of(frame: &[u8], step: u32) -> Option<u32> {
    if frame.get(6..12)? != GATEWAY {
        return None;
    }
    let segment = if frame.get(12..14)? == [0x08, 0x00] { 34 } else { 54 };
    let found = u32::from_be_bytes(frame.get(segment + 8..segment + 12)?.try_into().ok()?);
    (found >> 16 == tag(0, step) >> 16).then_some(found & 0xffff)
}
