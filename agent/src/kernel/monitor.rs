//! What happens to links, addresses and routes, as the kernel tells it.
//!
//! Out: [`Event`]s, in order. When the kernel had more to say than the socket could hold, [`Event::Lost`]: whoever
//! keeps a copy of kernel state must read it again.

use std::io;

use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_proto::sys::{AsyncSocket, SocketAddr};
use rtnetlink::MulticastGroup;

use super::route::{KernelRoute, decode};
use crate::supervise::brief;

/// Room for some ten thousand route notifications.
const RECEIVE_BUFFER: usize = 4 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A route of the main table; `by` is the netlink port of who did it, 0 for the kernel itself.
    Route { route: KernelRoute, gone: bool, by: u32 },
    /// `up`: administratively up, and with a carrier.
    Link { index: u32, name: String, up: bool },
    /// An address came or went.
    Address { link: u32 },
    /// Some events are missing.
    Lost,
}

pub struct Monitor {
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}

impl Monitor {
    /// In the current network namespace and tokio runtime. Events from this moment on are seen.
    pub fn open() -> io::Result<Self> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let (mut connection, _, messages) = rtnetlink::new_multicast_connection(&groups)?;
        connection.socket_mut().socket_mut().set_rx_buf_sz(RECEIVE_BUFFER)?;
        brief(connection);
        Ok(Self { messages })
    }

    /// `None`: the socket broke, which the kernel never does to us.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let (message, _) = self.messages.next().await?;
            if let Some(event) = translate(message) {
                return Some(event);
            }
        }
    }
}

fn translate(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Event> {
    let by = message.header.port_number;
    match message.payload {
        NetlinkPayload::Overrun(_) => Some(Event::Lost),
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
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    let up = exists && link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
    Event::Link { index: link.header.index, name: name.unwrap_or_default(), up }
}
