//! Socket options that socket2 does not have: TCP MD5 signatures (RFC 2385) and the least TTL accepted (GTSM, RFC 5082).
//!
//! Linux only. Every error is returned: a peer that asked for protection is not spoken to without it.

use std::io;
use std::mem::size_of_val;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use socket2::{SockAddr, SockRef, TcpKeepalive};

use crate::speaker::{Hops, Password};

// linux/in.h, linux/in6.h, linux/tcp.h.
const IP_MINTTL: libc::c_int = 21;
const IPV6_MINHOPCOUNT: libc::c_int = 73;
const TCP_MD5SIG: libc::c_int = 14;

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    ifindex: libc::c_int,
    key: [u8; Password::MAX_LEN],
}

/// What the kernel uses unless told otherwise (net.ipv4.ip_default_ttl).
const DEFAULT_TTL: u32 = 64;
const MAX_TTL: u32 = 255;

/// Sign what goes to `peer` and drop what comes from there unsigned; `None` takes the key away.
///
/// On a listener this counts for connections to come, so it is to be set before the peer may connect.
pub(super) fn set_md5(socket: BorrowedFd<'_>, peer: IpAddr, password: Option<&Password>) -> io::Result<()> {
    let secret = password.map_or(&[][..], Password::as_bytes);
    let mut key = [0; Password::MAX_LEN];
    for (octet, of_secret) in key.iter_mut().zip(secret) {
        *octet = *of_secret;
    }
    let option = TcpMd5Sig {
        address: storage(peer),
        flags: 0,
        prefix_len: 0,
        key_len: u16::try_from(secret.len()).map_err(io::Error::other)?,
        ifindex: 0,
        key,
    };
    match set_option(socket, libc::IPPROTO_TCP, TCP_MD5SIG, &option) {
        Err(error) if password.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(()), // There was none.
        result => result,
    }
}

/// Applies [`Hops`] to a socket of `peer`'s family, before it connects or before it is read.
pub(super) fn set_hops(
    socket: BorrowedFd<'_>,
    peer: IpAddr,
    hops: Hops,
    is_external: bool,
) -> io::Result<()> {
    let ttl = match (hops, is_external) {
        (Hops::Default, true) => 1,
        (Hops::Default, false) => DEFAULT_TTL,
        (Hops::Multihop(hops), _) => u32::from(hops),
        (Hops::Security(_), _) => MAX_TTL,
    };
    set_ttl(socket, peer.is_ipv6(), ttl)?;
    match (least_ttl(hops).map(libc::c_int::from), peer) {
        (None, _) => Ok(()),
        (Some(least), IpAddr::V4(_)) => set_option(socket, libc::IPPROTO_IP, IP_MINTTL, &least),
        (Some(least), IpAddr::V6(_)) => set_option(socket, libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT, &least),
    }
}

/// What a segment of the peer must have left of 255.
pub(super) fn least_ttl(hops: Hops) -> Option<u8> {
    match hops {
        Hops::Security(hops) => Some(255 - hops.clamp(1, 254) + 1),
        Hops::Default | Hops::Multihop(_) => None,
    }
}

/// For sessions without a hold time, in which nothing else notices that the peer is dead: probes after a minute of
/// silence, and the end two minutes later.
pub(super) fn set_keepalive(socket: BorrowedFd<'_>) -> io::Result<()> {
    let (time, interval) = (Duration::from_secs(60), Duration::from_secs(20));
    SockRef::from(&socket)
        .set_tcp_keepalive(&TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(6))
}

/// Answers to a SYN go out before the peer's own options can be set, so a listener sends them with the TTL that passes
/// every GTSM.
pub(super) fn set_listener_ttl(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    set_ttl(socket, v6, MAX_TTL)
}

fn set_ttl(socket: BorrowedFd<'_>, v6: bool, ttl: u32) -> io::Result<()> {
    let socket = SockRef::from(&socket);
    if v6 { socket.set_unicast_hops_v6(ttl) } else { socket.set_ttl_v4(ttl) }
}

/// Port 0: the key counts for all ports.
fn storage(address: IpAddr) -> libc::sockaddr_storage {
    #[expect(unsafe_code, reason = "a C structure that every byte pattern is valid for")]
    // SAFETY: sockaddr_storage is plain old data.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let address = SockAddr::from(SocketAddr::new(address, 0));
    let len = usize::try_from(address.len()).unwrap_or(0).min(size_of_val(&storage));
    #[expect(unsafe_code, reason = "socket2 gives the C address as a pointer")]
    // SAFETY: `address` holds `len` initialised bytes, `storage` has room for them, and they do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(address.as_ptr().cast::<u8>(), (&raw mut storage).cast::<u8>(), len);
    }
    storage
}

fn set_option<T>(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of_val(value)).map_err(io::Error::other)?;
    let fd = socket.as_raw_fd();
    #[expect(unsafe_code, reason = "setsockopt has no safe wrapper for these options")]
    // SAFETY: the descriptor is open while borrowed; pointer and length describe `value`, which outlives the call.
    let result = unsafe { libc::setsockopt(fd, level, name, (&raw const *value).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use socket2::{Domain, Socket, Type};

    use super::*;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn dial(to: SocketAddr, password: Option<&Password>) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        if let Some(password) = password {
            set_md5(socket.as_fd(), to.ip(), Some(password))?;
        }
        socket.connect_timeout(&to.into(), Duration::from_millis(300))?;
        Ok(socket)
    }

    #[test]
    fn what_is_left_of_the_ttl_says_how_far_a_segment_has_come() {
        let least = [0, 1, 2, 254, 255].map(|hops| least_ttl(Hops::Security(hops)));
        assert_eq!(least, [255, 255, 254, 2, 2].map(Some));
        assert_eq!([Hops::Default, Hops::Multihop(9)].map(least_ttl), [None, None]);
    }

    #[test]
    fn a_signed_listener_hears_only_the_right_key() {
        let right = Password::new("s3cret").unwrap();
        let wrong = Password::new("guess").unwrap();
        let listener = TcpListener::bind((V4, 0)).unwrap();
        set_md5(listener.as_fd(), V4, Some(&right)).unwrap();
        let to = listener.local_addr().unwrap();

        assert!(dial(to, None).is_err());
        assert!(dial(to, Some(&wrong)).is_err());
        assert!(dial(to, Some(&right)).is_ok());

        set_md5(listener.as_fd(), V4, None).unwrap();
        assert!(dial(to, None).is_ok());
        assert!(set_md5(listener.as_fd(), V4, None).is_ok(), "there is nothing to take away");
    }

    #[test]
    fn a_key_that_the_kernel_does_not_take_is_an_error() {
        let udp = std::net::UdpSocket::bind((V4, 0)).unwrap();
        assert!(set_md5(udp.as_fd(), V4, Password::new("s3cret").as_ref()).is_err());
        assert!(set_md5(udp.as_fd(), V4, None).is_err());
    }

    #[test]
    fn each_peer_is_sent_what_passes_as_many_hops_as_it_is_away() {
        for address in [V4, IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let to = SocketAddr::new(address, 0);
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
            let ttl = || if to.is_ipv6() { socket.unicast_hops_v6() } else { socket.ttl_v4() }.unwrap();
            for (hops, is_external, expected) in [
                (Hops::Default, true, 1),
                (Hops::Default, false, 64),
                (Hops::Multihop(7), true, 7),
                (Hops::Security(3), false, 255),
            ] {
                set_hops(socket.as_fd(), address, hops, is_external).unwrap();
                assert_eq!(ttl(), expected, "{hops:?} to {address}");
            }
            set_hops(socket.as_fd(), address, Hops::Multihop(7), true).unwrap();
            set_listener_ttl(socket.as_fd(), to.is_ipv6()).unwrap();
            assert_eq!(ttl(), 255);
        }
    }

    #[test]
    fn keys_of_both_families_are_taken() {
        let password = Password::new([b'x'; Password::MAX_LEN]).unwrap();
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        set_md5(listener.as_fd(), IpAddr::V6(Ipv6Addr::LOCALHOST), Some(&password)).unwrap();
        assert!(dial(listener.local_addr().unwrap(), Some(&password)).is_ok());
    }

    #[test]
    fn gtsm_drops_what_came_with_a_lower_ttl() {
        let listener = TcpListener::bind((V4, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        let sender = TcpStream::connect(to).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(200))).unwrap();

        set_hops(receiver.as_fd(), V4, Hops::Security(1), true).unwrap();
        set_hops(sender.as_fd(), V4, Hops::Multihop(64), true).unwrap();
        io::Write::write_all(&mut &sender, b"x").unwrap();
        assert!(receiver.read(&mut [0]).is_err(), "TTL 64 came through");

        // The same octet, retransmitted by TCP with the TTL of a neighbour.
        set_hops(sender.as_fd(), V4, Hops::Security(1), true).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(receiver.read(&mut [0]).unwrap(), 1);
    }
}
