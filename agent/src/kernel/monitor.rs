//! What happens to links, addresses and routes, as the kernel tells it.
//!
//! Out: [`Event`]s, in order. When the kernel had more to say than the socket could hold, [`Event::Lost`]: whoever keeps a
//! copy of kernel state must read it again.

use std::collections::VecDeque;
use std::io;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::MulticastGroup;

use super::notifications::Notifications;
use super::route::decode;
use crate::fib::KernelRoute;

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
    notifications: Notifications,
    /// Of the last datagram.
    waiting: VecDeque<Event>,
}

impl Monitor {
    /// In the current network namespace and tokio runtime. Events from this moment on are seen.
    pub fn open() -> io::Result<Self> {
        let notifications = Notifications::subscribe(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ])?;
        Ok(Self { notifications, waiting: VecDeque::new() })
    }

    /// An error: the socket broke, which the kernel never does to us.
    pub async fn next(&mut self) -> io::Result<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            match self.notifications.next().await? {
                Some(messages) => self.waiting.extend(messages.into_iter().filter_map(translate)),
                None => return Ok(Event::Lost),
            }
        }
    }
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
