//! Rtnetlink notifications, read from the socket when somebody asks for more: what waits does so in the kernel, which
//! bounds it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::NetlinkMessage;
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use rtnetlink::MulticastGroup;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::debug;

use super::polled::polled;
use super::{descriptors, rtnl};

/// Room for some five thousand notifications, each of which takes the kernel most of a kilobyte.
const RECEIVE_BUFFER: libc::c_int = 4 << 20;
/// Larger than any notification.
const BUFFER: usize = 64 * 1024;

/// What a datagram holds; `None` where the kernel had more to say than the socket could hold, and some is missing.
pub(super) type Heard = Option<Vec<NetlinkMessage<RouteNetlinkMessage>>>;

#[derive(Debug)]
pub(super) struct Notifications {
    socket: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
}

impl Notifications {
    /// Of these groups, from this moment on, in the namespace of the calling thread and the current tokio runtime.
    pub(super) fn subscribe(groups: &[MulticastGroup]) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        descriptors::force_receive_buffer(&fd, RECEIVE_BUFFER)?;
        // Unbound, its port is 0, the kernel's own, which its notifications leave out.
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        for group in groups {
            let group = libc::c_int::try_from(*group as u32).map_err(io::Error::other)?;
            descriptors::set_netlink_option(&fd, libc::NETLINK_ADD_MEMBERSHIP, group)?;
        }
        Ok(Self { socket: polled(fd)?, buffer: vec![0; BUFFER] })
    }

    /// An error: the socket broke, which the kernel never does to us.
    pub(super) async fn next(&mut self) -> io::Result<Heard> {
        loop {
            let buffer = &mut self.buffer;
            let receive =
                |fd: &OwnedFd| recv(fd.as_raw_fd(), buffer, MsgFlags::empty()).map_err(io::Error::from);
            match self.socket.async_io(Interest::READABLE, receive).await {
                Ok(length) => match rtnl::parse(&self.buffer[..length]) {
                    Ok(messages) => return Ok(Some(messages)),
                    Err(error) => debug!(%error, "netlink notification not understood"),
                },
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}
