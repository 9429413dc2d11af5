//! What passed on the wire of a namespace: every IP packet on every link, from before those links exist.
//!
//! The socket stands before netfilter on the way in and behind it on the way out, so a packet that is seen on a pod's
//! own link, or leaving its node, has really got there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::sys::socket::sockopt::{RcvBuf, ReceiveTimeout};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
};
use nix::sys::time::TimeVal;

use super::Namespace;

/// Packets kept; a scenario looks for few, and the oldest tell most.
const MAX_PACKETS: usize = 100_000;
const BUFFER: usize = 8 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub ifindex: usize,
    /// Leaves this namespace; otherwise it arrives.
    pub outgoing: bool,
    pub from: IpAddr,
    pub to: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source and destination port of TCP and UDP.
    pub ports: Option<(u16, u16)>,
}

/// Listens until dropped.
#[derive(Debug)]
pub struct Sniffer {
    packets: Arc<Mutex<Vec<Packet>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sniffer {
    pub fn start(namespace: &Namespace) -> Result<Self> {
        let socket = namespace.enter(open)?;
        let packets = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (kept, stopping) = (Arc::clone(&packets), Arc::clone(&stop));
        let thread = thread::spawn(move || listen(&socket, &kept, &stopping));
        Ok(Self { packets, stop, thread: Some(thread) })
    }

    /// What matched so far.
    pub fn seen(&self, matches: impl Fn(&Packet) -> bool) -> Vec<Packet> {
        let packets = self.packets.lock().unwrap_or_else(PoisonError::into_inner);
        packets.iter().filter(|packet| matches(packet)).cloned().collect()
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Cooked: each packet begins with its IP header, whatever the link.
fn open() -> Result<OwnedFd> {
    let socket =
        socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
            .context("packet socket")?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(0, 50_000))?;
    setsockopt(&socket, RcvBuf, &BUFFER)?;
    Ok(socket)
}

fn listen(socket: &OwnedFd, kept: &Mutex<Vec<Packet>>, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, Some(link))) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) else {
            continue;
        };
        let outgoing = u32::from(link.pkttype()) == u32::from(nix::libc::PACKET_OUTGOING);
        let Some(packet) = parse(&buffer[..length], link.ifindex(), outgoing) else { continue };
        let mut packets = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if packets.len() < MAX_PACKETS {
            packets.push(packet);
        }
    }
}

fn parse(bytes: &[u8], ifindex: usize, outgoing: bool) -> Option<Packet> {
    let (from, to, protocol, payload): (IpAddr, IpAddr, u8, &[u8]) = match bytes.first()? >> 4 {
        4 => {
            let header = usize::from(bytes[0] & 0xf) * 4;
            let from: [u8; 4] = bytes.get(12..16)?.try_into().ok()?;
            let to: [u8; 4] = bytes.get(16..20)?.try_into().ok()?;
            (Ipv4Addr::from(from).into(), Ipv4Addr::from(to).into(), *bytes.get(9)?, bytes.get(header..)?)
        }
        6 => {
            let from: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            let to: [u8; 16] = bytes.get(24..40)?.try_into().ok()?;
            (Ipv6Addr::from(from).into(), Ipv6Addr::from(to).into(), *bytes.get(6)?, bytes.get(40..)?)
        }
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes([*payload.get(at)?, *payload.get(at + 1)?]));
    let ports = if matches!(protocol, 6 | 17) { port(0).zip(port(2)) } else { None };
    Some(Packet { ifindex, outgoing, from, to, protocol, ports })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_ports_are_read_in_both_families() {
        let v4 = [
            0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 7, 0x1f, 0x90, 0, 8, 0, 0,
        ];
        let packet = parse(&v4, 3, true).unwrap();
        assert_eq!((packet.from, packet.to), ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()));
        assert_eq!((packet.protocol, packet.ports), (17, Some((7, 8080))));

        let mut v6 = [0; 44];
        v6[0] = 0x60;
        v6[6] = 6;
        v6[23] = 1;
        v6[39] = 2;
        v6[43] = 80;
        let packet = parse(&v6, 3, false).unwrap();
        assert_eq!((packet.from, packet.to), ("::1".parse().unwrap(), "::2".parse().unwrap()));
        assert_eq!(packet.ports, Some((0, 80)));
    }

    #[test]
    fn truncated_and_foreign_packets_are_passed_over() {
        assert_eq!(parse(&[], 1, false), None);
        assert_eq!(parse(&[0x45, 0, 0], 1, false), None);
        assert_eq!(parse(&[0x10; 64], 1, false), None);
    }
}
