//! What happens to links, addresses and routes, as the kernel tells it.
//!
//! Out: [`Event`]s, in order, read from the socket when somebody asks for one: what waits does so in the kernel, which
//! bounds it. When the kernel had more to say than the socket could hold, [`Event::Lost`]: whoever keeps a copy of kernel
//! state must read it again.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use rtnetlink::MulticastGroup;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::debug;

use super::polled::polled;
use super::route::decode;
use super::{descriptors, rtnl};
use crate::fib::KernelRoute;

/// Room for some five thousand notifications, each of which takes the kernel most of a kilobyte.
const RECEIVE_BUFFER: libc::c_int = 4 << 20;
/// Larger than any notification.
const BUFFER: usize = 64 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A route of the main table; `by` is the netlink port of who did it, 0 for the kernel itself.
    Route { route: KernelRoute, gone: bool, by: u32 },
    /// `up`: administratively up, and with a carrier. `mtu` is 0 where the kernel does not say.
    Link { index: u32, name: String, up: bool, mtu: u32 },
    /// An address came or went.
    Address { link: u32 },
    /// Some events are missing.
    Lost,
}

#[derive(Debug)]
pub struct Monitor {
    socket: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
    /// Of the last datagram.
    waiting: VecDeque<Event>,
}

impl Monitor {
    /// In the current network namespace and tokio runtime. Events from this moment on are seen.
    pub fn open() -> io::Result<Self> {
        let socket = subscribe(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ])?;
        Ok(Self { socket, buffer: vec![0; BUFFER], waiting: VecDeque::new() })
    }

    /// An error: the socket broke, which the kernel never does to us.
    pub async fn next(&mut self) -> io::Result<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            let buffer = &mut self.buffer;
            let receive =
                |fd: &OwnedFd| recv(fd.as_raw_fd(), buffer, MsgFlags::empty()).map_err(io::Error::from);
            match self.socket.async_io(Interest::READABLE, receive).await {
                Ok(length) => match rtnl::parse(&self.buffer[..length]) {
                    Ok(messages) => self.waiting.extend(messages.into_iter().filter_map(translate)),
                    Err(error) => debug!(%error, "netlink notification not understood"),
                },
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => return Ok(Event::Lost),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A socket that hears of these, in the namespace of the calling thread and the current tokio runtime.
pub fn subscribe(groups: &[MulticastGroup]) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    descriptors::force_receive_buffer(&fd, RECEIVE_BUFFER)?;
    // Unbound, its port is 0, the kernel's own, which its notifications leave out.
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    for group in groups {
        let group = libc::c_int::try_from(*group as u32).map_err(io::Error::other)?;
        descriptors::set_netlink_option(&fd, libc::NETLINK_ADD_MEMBERSHIP, group)?;
    }
    polled(fd)
}

fn translate(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Event> {
    let by = message.header.port_number;
    match message.payload {
        NetlinkPayload::InnerMessage(inner) => match inner {
            RouteNetlinkMessage::NewRoute(route) => {
                Some(Event::Route { route: decode(&route)?, gone: false, by })
            }
            RouteNetlinkMessage::DelRoute(route) => {
                Some(Event::Route { route: decode(&route)?, gone: true, by })
            }
            RouteNetlinkMessage::NewLink(link) => Some(link_event(&link, true)),
            RouteNetlinkMessage::DelLink(link) => Some(link_event(&link, false)),
            RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
                Some(Event::Address { link: address.header.index })
            }
            _ => None,
        },
        _ => None,
    }
}

fn link_event(link: &LinkMessage, exists: bool) -> Event {
    let (mut name, mut mtu) = (String::new(), 0);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name.clone_from(text),
            LinkAttribute::Mtu(bytes) => mtu = *bytes,
            _ => {}
        }
    }
    let up = exists && link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
    Event::Link { index: link.header.index, name, up, mtu }
}
