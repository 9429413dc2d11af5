//! GTSM (RFC 5082) on listeners: what a peer sends over too many hops is dropped before its connection exists.
//!
//! IP_MINTTL is one for all peers of a listener, and on an accepted socket it comes too late for what has been queued. So
//! a listener carries a socket filter that looks at who is speaking, and accepted sockets inherit it until they have an
//! IP_MINTTL of their own.
//!
//! In: the least TTL of each peer that asks for one. Out: a classic BPF program.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use socket2::{SockFilter, SockRef};

// linux/bpf_common.h, linux/filter.h.
const LOAD_WORD: u16 = 0x20;
const LOAD_OCTET: u16 = 0x30;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
/// Offsets from here count from the IP header.
const IP_HEADER: u32 = 0xfff0_0000;
const ACCEPT: u32 = u32::MAX;
const DROP: u32 = 0;
/// Steps that decide on a segment of a peer.
const VERDICT: usize = 4;
/// What the kernel takes (`BPF_MAXINSNS`): 682 peers of IPv4, 341 of IPv6. Fewer where `net.core.optmem_max` is small; it says
/// so.
const MAX_PROGRAM: usize = 4096;

/// Replaces what the listener filtered before. Concerns what arrives from here on.
pub(super) fn guard(listener: BorrowedFd<'_>, v6: bool, least: &BTreeMap<IpAddr, u8>) -> io::Result<()> {
    let program = program(v6, least);
    if program.len() == 1 {
        return release(listener);
    }
    if program.len() > MAX_PROGRAM {
        return Err(io::Error::other("more peers with a TTL limit than the kernel can filter"));
    }
    SockRef::from(&listener).attach_filter(&program)
}

/// For an accepted socket that has an IP_MINTTL of its own.
pub(super) fn release(socket: BorrowedFd<'_>) -> io::Result<()> {
    match SockRef::from(&socket).detach_filter() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()), // There was none.
        result => result,
    }
}

fn program(v6: bool, least: &BTreeMap<IpAddr, u8>) -> Vec<SockFilter> {
    let of_family = least.iter().filter(|(peer, _)| peer.is_ipv6() == v6);
    let mut program: Vec<_> = of_family.flat_map(|(peer, least)| block(*peer, *least)).collect();
    program.push(SockFilter::new(RETURN, 0, 0, ACCEPT));
    program
}

/// Decides on segments of this peer, and goes on to what follows with others.
fn block(peer: IpAddr, least: u8) -> Vec<SockFilter> {
    let (octets, source, ttl) = match peer {
        IpAddr::V4(peer) => (peer.octets().to_vec(), 12, 8),
        IpAddr::V6(peer) => (peer.octets().to_vec(), 8, 7),
    };
    let (words, _) = octets.as_chunks::<4>();
    let mut block = Vec::new();
    for (left, (word, offset)) in (0..words.len()).rev().zip(words.iter().zip((source..).step_by(4))) {
        // Past the words that are left, two steps each, and the verdict.
        let rest = u8::try_from(left * 2 + VERDICT).expect("an address has at most four words");
        block.push(SockFilter::new(LOAD_WORD, 0, 0, IP_HEADER + offset));
        block.push(SockFilter::new(JUMP_EQUAL, 0, rest, u32::from_be_bytes(*word)));
    }
    let verdict: [_; VERDICT] = [
        SockFilter::new(LOAD_OCTET, 0, 0, IP_HEADER + ttl),
        SockFilter::new(JUMP_AT_LEAST, 0, 1, least.into()),
        SockFilter::new(RETURN, 0, 0, ACCEPT),
        SockFilter::new(RETURN, 0, 0, DROP),
    ];
    block.extend(verdict);
    block
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};
    use std::os::fd::AsFd;
    use std::time::Duration;

    use socket2::{Domain, Socket, Type};

    use super::*;

    fn reaches(to: SocketAddr, ttl: u32) -> bool {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_ttl_v4(ttl).unwrap();
        socket.connect_timeout(&to.into(), Duration::from_millis(300)).is_ok()
    }

    #[test]
    fn a_listener_that_guards_nobody_any_more_hears_everybody() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        guard(listener.as_fd(), false, &[(to.ip(), 255)].into()).unwrap();
        assert!(!reaches(to, 254) && reaches(to, 255));
        guard(listener.as_fd(), false, &BTreeMap::new()).unwrap();
        assert!(reaches(to, 254));
        assert!(release(listener.as_fd()).is_ok(), "there is nothing to take away");
    }

    #[test]
    fn more_peers_than_the_kernel_can_filter_are_an_error() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let many = (0..700).map(|peer| (Ipv4Addr::from_bits(0x0a00_0000 + peer).into(), 255)).collect();
        let error = guard(listener.as_fd(), false, &many).unwrap_err();
        assert!(error.to_string().contains("more peers"), "{error}");
    }

    #[test]
    fn what_cannot_be_released_is_an_error() {
        assert!(release(File::open("/dev/null").unwrap().as_fd()).is_err());
    }
}
