//! Listening sockets, and what stands on them to guard peers: MD5 keys (RFC 2385) and the least TTL (RFC 5082).
//!
//! The kernel completes connections without asking, and they wait in its backlog. A guard counts for those that it
//! completes afterwards; those before are in [`Listeners::backlog`]. Nothing else holds connections: whoever sets guards
//! also accepts.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::task::Poll;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use super::{Listen, explain, gtsm, sockopt};
use crate::speaker::Password;

/// Connections that the kernel completes before we accept them: a whole cluster may come back at once.
const BACKLOG: i32 = 1024;
/// After an error of accept, which mostly is a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The listening sockets of one speaker. Dropped: they close.
#[derive(Debug)]
pub(super) struct Listeners {
    sockets: Vec<TcpListener>,
}

impl Listeners {
    pub(super) fn bind(listen: &Listen) -> io::Result<Self> {
        let mut bound = Self { sockets: Vec::new() };
        if listen.addresses.is_empty() {
            bound.add(IpAddr::V4(Ipv4Addr::UNSPECIFIED), listen.port)?;
            match bound.add(IpAddr::V6(Ipv6Addr::UNSPECIFIED), listen.port) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
                // A kernel without IPv6 is fine.
                Err(error) => warn!(%error, "does not listen on IPv6"),
                Ok(()) => {}
            }
        }
        for address in &listen.addresses {
            bound.add(*address, listen.port)?;
        }
        Ok(bound)
    }

    /// With the port that the kernel chose where 0 was asked for.
    pub(super) fn local_addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// `None` takes the key away.
    pub(super) fn set_key(&self, peer: IpAddr, password: Option<&Password>) -> io::Result<()> {
        for socket in &self.sockets {
            if socket.local_addr()?.is_ipv4() == peer.is_ipv4() {
                sockopt::set_md5(socket.as_fd(), peer, password)
                    .map_err(|error| explain("TCP MD5", &error))?;
            }
        }
        Ok(())
    }

    /// Of all peers that have one.
    pub(super) fn set_least_ttls(&self, least: &BTreeMap<IpAddr, u8>) -> io::Result<()> {
        for socket in &self.sockets {
            gtsm::guard(socket.as_fd(), socket.local_addr()?.is_ipv6(), least)
                .map_err(|error| explain("TTL", &error))?;
        }
        Ok(())
    }

    /// The next connection, of anybody.
    pub(super) async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let accepted = poll_fn(|cx| {
                let ready = self.sockets.iter().map(|socket| socket.poll_accept(cx)).find(Poll::is_ready);
                ready.unwrap_or(Poll::Pending)
            });
            match accepted.await {
                Ok(accepted) => {
                    self.sockets.rotate_left(1); // A flood of one family does not shut out the other.
                    return accepted;
                }
                Err(error) => {
                    debug!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Every connection that the kernel has completed so far, and the error after which there may be more.
    pub(super) fn backlog(&self) -> (Vec<(TcpStream, SocketAddr)>, Option<io::Error>) {
        let mut all = Vec::new();
        for socket in &self.sockets {
            // From the kernel itself: tokio knows of a connection a little later. More than the backlog holds are newer.
            for _ in 0..=BACKLOG {
                match accept_one(socket) {
                    Ok(accepted) => all.push(accepted),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return (all, Some(explain("backlog", &error))),
                }
            }
        }
        (all, None)
    }

    fn add(&mut self, address: IpAddr, port: u16) -> io::Result<()> {
        let address = SocketAddr::new(address, port);
        let socket = bind(address).map_err(|error| explain(&format!("listen on {address}"), &error))?;
        self.sockets.push(TcpListener::from_std(socket.into())?);
        Ok(())
    }
}

fn accept_one(socket: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, remote) = SockRef::from(socket).accept()?;
    stream.set_nonblocking(true)?;
    let remote = remote.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((TcpStream::from_std(stream.into())?, remote))
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    sockopt::set_listener_ttl(socket.as_fd(), address.is_ipv6())?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::super::tests::in_namespace;
    use super::*;

    #[test]
    fn a_port_that_somebody_else_has_in_one_family_alone_is_an_error() {
        in_namespace(async || {
            for address in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
                let taken = bind((address, 0).into()).unwrap();
                let port = taken.local_addr().unwrap().as_socket().unwrap().port();
                let error = Listeners::bind(&Listen { port, addresses: Vec::new() }).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
            }
        });
    }
}
