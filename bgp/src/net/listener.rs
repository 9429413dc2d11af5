//! Listening sockets, and the keys that stand on them.
//!
//! A peer's MD5 key must be on the listener before the peer may connect (RFC 2385); a peer whose key the kernel refuses
//! is refused altogether.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::{debug, warn};

use super::Listen;
use super::connection::{Event, explain};
use super::sockopt;
use crate::speaker::Password;

/// Connections that the kernel completes before we accept them: a whole cluster may come back at once.
const BACKLOG: i32 = 1024;
/// After an error of accept, which mostly is a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The listening sockets of one speaker. Dropped: they close.
#[derive(Debug)]
pub(super) struct Listeners {
    sockets: Vec<(Arc<TcpListener>, AbortHandle)>,
}

impl Listeners {
    pub(super) fn bind(listen: &Listen, events: &mpsc::Sender<Event>) -> io::Result<Self> {
        let mut bound = Self { sockets: Vec::new() };
        if listen.addresses.is_empty() {
            bound.add(IpAddr::V4(Ipv4Addr::UNSPECIFIED), listen.port, events)?;
            // A kernel without IPv6 is fine.
            if let Err(error) = bound.add(IpAddr::V6(Ipv6Addr::UNSPECIFIED), listen.port, events) {
                warn!(%error, "does not listen on IPv6");
            }
        }
        for address in &listen.addresses {
            bound.add(*address, listen.port, events)?;
        }
        Ok(bound)
    }

    /// With the port that the kernel chose where 0 was asked for.
    pub(super) fn local_addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|(socket, _)| socket.local_addr().ok()).collect()
    }

    /// `None` takes the key away.
    pub(super) fn set_key(&self, peer: IpAddr, password: Option<&Password>) -> io::Result<()> {
        for (socket, _) in &self.sockets {
            if socket.local_addr()?.is_ipv4() == peer.is_ipv4() {
                sockopt::set_md5(socket.as_fd(), peer, password)
                    .map_err(|error| explain("TCP MD5", &error))?;
            }
        }
        Ok(())
    }

    fn add(&mut self, address: IpAddr, port: u16, events: &mpsc::Sender<Event>) -> io::Result<()> {
        let address = SocketAddr::new(address, port);
        let socket = bind(address).map_err(|error| explain(&format!("listen on {address}"), &error))?;
        let socket = Arc::new(TcpListener::from_std(socket.into())?);
        let task = tokio::spawn(accept(Arc::clone(&socket), events.clone()));
        self.sockets.push((socket, task.abort_handle()));
        Ok(())
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        for (_, task) in &self.sockets {
            task.abort();
        }
    }
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

async fn accept(socket: Arc<TcpListener>, events: mpsc::Sender<Event>) {
    loop {
        match socket.accept().await {
            Ok((stream, remote)) => {
                if events.send(Event::Accepted { stream, remote }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                debug!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
