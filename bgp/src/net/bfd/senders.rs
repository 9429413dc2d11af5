//! The sockets from which BFD speaks: one for each peer, with a source port of its own (RFC 5881 §4).
//!
//! In: packets and whom they are for. Out: datagrams, and why they could not be sent. A socket that fails is made anew for the
//! next packet: routes and addresses may have changed.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::bfd::Path;
use crate::random::SplitMix64;
use crate::speaker::PeerKey;

/// RFC 5881 §4.
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49152..=u16::MAX;
/// Tries to find a port that is free.
const TRIES: usize = 64;
/// As sent, and as expected by peers on the link (RFC 5881 §5).
const TTL: u32 = 255;
/// Network control: DSCP CS6.
const TRAFFIC_CLASS: u32 = 0xc0;

#[derive(Debug)]
pub(super) struct Senders {
    open: BTreeMap<PeerKey, Sender>,
    errors: BTreeMap<PeerKey, String>,
    /// To be used again, of sessions that are gone on with.
    ports: BTreeMap<PeerKey, u16>,
    random: SplitMix64,
}

#[derive(Debug)]
struct Sender {
    socket: Socket,
    source: Option<IpAddr>,
    port: u16,
}

impl Senders {
    pub(super) fn new(seed: u64, ports: BTreeMap<PeerKey, u16>) -> Self {
        Self { open: BTreeMap::new(), errors: BTreeMap::new(), ports, random: SplitMix64::new(seed) }
    }

    pub(super) fn send(&mut self, key: PeerKey, source: Option<IpAddr>, path: Path, packet: &[u8]) {
        match self.try_send(key, source, path, packet) {
            Ok(()) => drop(self.errors.remove(&key)),
            Err(error) => {
                if error.kind() != io::ErrorKind::ConnectionRefused {
                    self.open.remove(&key);
                }
                self.errors.insert(key, error.to_string());
            }
        }
    }

    /// Nothing more goes to this peer.
    pub(super) fn close(&mut self, key: PeerKey) {
        self.open.remove(&key);
        self.errors.remove(&key);
        self.ports.remove(&key);
    }

    pub(super) fn error(&self, key: PeerKey) -> Option<&String> {
        self.errors.get(&key)
    }

    pub(super) fn port(&self, key: PeerKey) -> Option<u16> {
        self.ports.get(&key).copied()
    }

    fn try_send(
        &mut self,
        key: PeerKey,
        source: Option<IpAddr>,
        path: Path,
        packet: &[u8],
    ) -> io::Result<()> {
        if self.open.get(&key).is_none_or(|sender| sender.source != source) {
            let sender = self.open(key, source, path)?;
            self.ports.insert(key, sender.port);
            self.open.insert(key, sender);
        }
        let Some(sender) = self.open.get(&key) else { return Ok(()) };
        if !is_up(packet) {
            // The way to a peer that does not answer is looked up each time: what the kernel has chosen before may lead nowhere.
            sender.socket.connect(&remote(key, path.port()))?;
        }
        match sender.socket.send(packet) {
            // Of an earlier packet, which nobody took; this one has not been sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                sender.socket.send(packet).and(Err(error))
            }
            result => result.map(drop),
        }
    }

    /// From the port that the session had, if it is free.
    fn open(&mut self, key: PeerKey, source: Option<IpAddr>, path: Path) -> io::Result<Sender> {
        self.open.remove(&key);
        let mut port = self.ports.get(&key).copied();
        for _ in 0..TRIES {
            let tried = port.take().unwrap_or_else(|| draw(&mut self.random));
            if self.open.values().any(|sender| sender.port == tried) {
                continue;
            }
            match connect(key, source, tried, path) {
                Ok(socket) => return Ok(Sender { socket, source, port: tried }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

/// What it says of our state (RFC 5880 §4.1).
fn is_up(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|octet| octet >> 6 == 3)
}

fn draw(random: &mut SplitMix64) -> u16 {
    let (first, last) = (*SOURCE_PORTS.start(), *SOURCE_PORTS.end());
    let drawn = u16::try_from(random.below(u64::from(last - first) + 1)).unwrap_or(0);
    first + drawn
}

fn connect(key: PeerKey, source: Option<IpAddr>, port: u16, path: Path) -> io::Result<Socket> {
    let v6 = key.address.is_ipv6();
    let any: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let local = SocketAddr::new(source.unwrap_or(any), port);
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM.nonblocking().cloexec(), None)?;
    if v6 {
        socket.set_only_v6(true)?;
        socket.set_unicast_hops_v6(TTL)?;
        socket.set_tclass_v6(TRAFFIC_CLASS)?;
    } else {
        socket.set_ttl_v4(TTL)?;
        socket.set_tos_v4(TRAFFIC_CLASS)?;
    }
    socket.bind(&local.into())?;
    socket.connect(&remote(key, path.port()))?;
    Ok(socket)
}

fn remote(key: PeerKey, port: u16) -> SockAddr {
    let address: SocketAddr = match key.address {
        IpAddr::V4(v4) => (v4, port).into(),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, key.interface.unwrap_or(0)).into(),
    };
    address.into()
}
