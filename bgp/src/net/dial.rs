//! How a connection to a peer is made.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;

use tokio::net::{TcpSocket, TcpStream};

use super::admission::PeerTransport;
use super::{explain, sockopt};
use crate::speaker::PeerKey;

/// Connects with everything that the peer's configuration asks for, or not at all.
pub(super) async fn dial(key: PeerKey, peer: PeerTransport) -> io::Result<TcpStream> {
    let PeerTransport { is_external, transport, keepalive, blocked } = peer;
    if let Some(reason) = blocked {
        return Err(io::Error::other(reason));
    }
    let remote = match key.address {
        IpAddr::V4(address) => SocketAddr::from((address, transport.port)),
        IpAddr::V6(address) => {
            SocketAddrV6::new(address, transport.port, 0, key.interface.unwrap_or(0)).into()
        }
    };
    let socket = if remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(local) = transport.local_address {
        socket
            .bind(SocketAddr::new(local, 0))
            .map_err(|error| explain(&format!("source {local}"), &error))?;
    }
    if let Some(password) = &transport.password {
        sockopt::set_md5(socket.as_fd(), key.address, Some(password))
            .map_err(|error| explain("TCP MD5", &error))?;
    }
    sockopt::set_hops(socket.as_fd(), key.address, transport.hops, is_external)
        .map_err(|error| explain("TTL", &error))?;
    if keepalive {
        sockopt::set_keepalive(socket.as_fd())?;
    }
    socket.set_nodelay(true)?;
    socket.connect(remote).await
}
