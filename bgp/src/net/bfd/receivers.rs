//! The ports on which BFD is heard: one socket for each family and port that some peer needs.
//!
//! In: which are needed. Out: datagrams with their source and the TTL that is left of them. A port that is taken, mostly by
//! another BFD daemon of the node, is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Socket, Type};

use super::super::explain;
use crate::speaker::PeerKey;

/// Datagrams that wait while the thread does not run: a stall must not look like silence.
const BUFFER: usize = 1 << 20;
/// Longer than any packet: its length is an octet.
const LONGEST: usize = 256;

/// Family (whether IPv6) and port.
pub(super) type Place = (bool, u16);

#[derive(Debug, Default)]
pub(super) struct Receivers {
    open: BTreeMap<Place, Socket>,
    failed: BTreeMap<Place, String>,
}

/// A datagram.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    pub(super) from: PeerKey,
    pub(super) ttl: u8,
    pub(super) payload: &'a [u8],
}

impl Receivers {
    /// Listens there, and nowhere else. What failed before is tried again.
    pub(super) fn listen(&mut self, needed: &BTreeSet<Place>) {
        self.open.retain(|place, _| needed.contains(place));
        self.failed.clear();
        for place in needed {
            if self.open.contains_key(place) {
                continue;
            }
            match bind(*place) {
                Ok(socket) => drop(self.open.insert(*place, socket)),
                Err(error) => drop(self.failed.insert(*place, error.to_string())),
            }
        }
    }

    /// Why not, where it should.
    pub(super) fn failures(&self) -> impl Iterator<Item = &String> {
        self.failed.values()
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.open.values().map(AsFd::as_fd)
    }

    /// Everything that waits, but at most `limit` of each socket.
    pub(super) fn hear(&self, limit: usize, mut heard: impl FnMut(u16, Heard<'_>)) {
        let mut buffer = [0; LONGEST];
        for ((_, port), socket) in &self.open {
            for _ in 0..limit {
                match receive(socket, &mut buffer) {
                    // Somebody who is not an IP peer, or a datagram without its TTL: nothing to be done with.
                    Ok(None) => {}
                    Ok(Some(datagram)) => heard(*port, datagram),
                    // Nothing more, mostly; an error of a datagram that we sent belongs to its sender's socket.
                    Err(_) => break,
                }
            }
        }
    }
}

fn bind((v6, port): Place) -> io::Result<Socket> {
    let any: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let address = SocketAddr::new(any, port);
    let tried = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking().cloexec(), None)?;
        if v6 {
            socket.set_only_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
        }
        socket.set_recv_buffer_size(BUFFER)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    tried().map_err(|error| explain(&format!("UDP port {port} of IPv{}", if v6 { 6 } else { 4 }), &error))
}

fn receive<'a>(socket: &Socket, buffer: &'a mut [u8; LONGEST]) -> nix::Result<Option<Heard<'a>>> {
    let mut control = cmsg_space!(libc::c_int);
    let (ttl, from, len) = {
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::empty(),
        )?;
        let ttl = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
                u8::try_from(ttl).ok()
            }
            _ => None,
        });
        (ttl, message.address.as_ref().and_then(key_of), message.bytes)
    };
    Ok(ttl.zip(from).map(|(ttl, from)| Heard { from, ttl, payload: &buffer[..len] }))
}

fn key_of(address: &SockaddrStorage) -> Option<PeerKey> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(PeerKey { address: v4.ip().into(), interface: None });
    }
    let v6 = SocketAddrV6::from(*address.as_sockaddr_in6()?);
    let interface = v6.ip().is_unicast_link_local().then_some(v6.scope_id());
    Some(PeerKey { address: (*v6.ip()).into(), interface })
}
