//! A netlink socket that reads and changes routes of the kernel's main table.
//!
//! In: [`RouteOp`]s. Out: [`KernelRoute`]s, and for each operation that the kernel refused, why. Operations go in
//! batches: one system call for [`BATCH`] messages runs at 98 % of what the kernel can do, one by one at 40 %.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt;
use ipnetwork::IpNetwork;
use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags,
    RouteProtocol, RouteScope, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_proto::ConnectionHandle;
use netlink_proto::sys::protocols::NETLINK_ROUTE;
use netlink_proto::sys::{AsyncSocket, SocketAddr};
use tokio::time::timeout;
use weft_api::ROUTE_PROTOCOL;

use super::rtnl::{Rtnl, RtnlError};
use crate::fib::{Hop, KernelRoute, RouteKey, RouteOp, Target};

/// Messages in one system call. The answers to twice as many would overflow a default receive buffer.
const BATCH: usize = 128;
/// No answer for so long: the kernel lost it.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Dumps that changed under the reader are repeated so often.
const DUMP_ATTEMPTS: usize = 5;
/// For errors of many messages at once, each of which carries its message back.
const RECEIVE_BUFFER: usize = 1 << 20;

/// The kernel refused one operation.
#[derive(Debug)]
pub struct Refused {
    pub key: RouteKey,
    pub error: io::Error,
}

/// A socket for requests. Notifications come on another, see [`super::monitor`].
pub struct RouteSocket {
    handle: ConnectionHandle<RouteNetlinkMessage>,
    port: u32,
}

impl std::fmt::Debug for RouteSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteSocket").field("port", &self.port).finish_non_exhaustive()
    }
}

impl RouteSocket {
    /// In the current network namespace and tokio runtime. It answers while the future is polled, which ends with the
    /// socket, or when that fails.
    pub fn open() -> io::Result<(Self, impl Future<Output = ()> + Send + 'static)> {
        let (mut connection, handle, _) = netlink_proto::new_connection(NETLINK_ROUTE)?;
        let socket = connection.socket_mut().socket_mut();
        socket.set_rx_buf_sz(RECEIVE_BUFFER)?;
        let mut address = SocketAddr::new(0, 0);
        socket.get_address(&mut address)?;
        let port = match address.port_number() {
            0 => socket.bind_auto()?.port_number(),
            port => port,
        };
        Ok((Self { handle, port }, connection))
    }

    /// Notifications of our own changes carry this number.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// The main table, both families: each route goes through `take` into what is returned, and none is kept beside
    /// that, however many there are.
    pub async fn dump<T: Default + Send + 'static>(&self, take: fn(&mut T, KernelRoute)) -> io::Result<T> {
        // Opened here, in the namespace of this thread.
        let mut rtnl = Rtnl::open().map_err(io::Error::other)?;
        let read = move || {
            for _ in 0..DUMP_ATTEMPTS {
                let (mut all, mut complete) = (T::default(), true);
                for family in [AddressFamily::Inet, AddressFamily::Inet6] {
                    complete &= rtnl.dump_each(get_route(family), |answer| {
                        if let RouteNetlinkMessage::NewRoute(route) = answer
                            && let Some(route) = decode(&route)
                        {
                            take(&mut all, route);
                        }
                    })?;
                }
                if complete {
                    return Ok(Some(all));
                }
            }
            Ok::<_, RtnlError>(None)
        };
        let all = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?;
        let all = all.map_err(io::Error::other)?;
        all.ok_or_else(|| io::Error::other("the routing table changes faster than it can be read"))
    }

    /// The route that a packet to `address` would match, whichever the table. `None`: there is none.
    pub async fn lookup(&self, address: IpAddr) -> io::Result<Option<KernelRoute>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family_of(address);
        message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
        message.header.flags = RouteFlags::FibMatch | RouteFlags::LookupTable;
        message.attributes.push(RouteAttribute::Destination(address.into()));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetRoute(message));
        request.header.flags = NLM_F_REQUEST;
        let mut found = None;
        let result = self
            .exchange(vec![request], |answer| match answer.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
                    found = decode_any_table(&route);
                    Ok(())
                }
                NetlinkPayload::Error(error) => Err(error.to_io()),
                _ => Ok(()),
            })
            .await;
        match result {
            // Whatever the lookup's errno is, it means that no packet would get there.
            Err(error) if error.raw_os_error().is_some() => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(found),
        }
    }

    /// Carries out all, in order, whatever becomes of each.
    pub async fn apply(&self, ops: &[RouteOp]) -> io::Result<Vec<Refused>> {
        let mut refused = Vec::new();
        for batch in ops.chunks(BATCH) {
            self.exchange(batch.iter().map(encode).collect(), |answer| {
                if let NetlinkPayload::Error(error) = answer.payload {
                    let key = key_of_failed(&error).ok_or_else(|| error.to_io())?;
                    refused.push(Refused { key, error: error.to_io() });
                }
                Ok(())
            })
            .await?;
        }
        Ok(refused)
    }

    async fn exchange(
        &self,
        requests: Vec<NetlinkMessage<RouteNetlinkMessage>>,
        mut take: impl FnMut(NetlinkMessage<RouteNetlinkMessage>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut answers =
            self.handle.request_batch(requests, SocketAddr::new(0, 0)).map_err(io::Error::other)?;
        loop {
            match timeout(ANSWER_WITHIN, answers.next()).await {
                Ok(Some(answer)) => take(answer)?,
                Ok(None) => return Ok(()),
                Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer from the kernel")),
            }
        }
    }
}

fn get_route(family: AddressFamily) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    RouteNetlinkMessage::GetRoute(message)
}

fn family_of(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// The kernel sends the message back with its error.
fn key_of_failed(error: &ErrorMessage) -> Option<RouteKey> {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&error.header).ok()?;
    match message.payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
        ) => key(&route),
        _ => None,
    }
}

fn encode(op: &RouteOp) -> NetlinkMessage<RouteNetlinkMessage> {
    let (message, flags) = match op {
        RouteOp::Add(key, target) => (new_route(*key, target), NLM_F_CREATE | NLM_F_EXCL),
        RouteOp::Replace(key, target) => (new_route(*key, target), NLM_F_CREATE | NLM_F_REPLACE),
        RouteOp::Delete(key) => (RouteNetlinkMessage::DelRoute(delete_route(*key)), 0),
    };
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    request
}

fn new_route(key: RouteKey, target: &Target) -> RouteNetlinkMessage {
    let mut message = skeleton(key);
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    match target {
        Target::Blackhole => message.header.kind = RouteType::BlackHole,
        Target::Via(hops) => message.attributes.extend(encode_hops(key.prefix, hops)),
        Target::Direct { link } => message.attributes.push(RouteAttribute::Oif(*link)),
        Target::Local | Target::Other => {}
    }
    RouteNetlinkMessage::NewRoute(message)
}

/// Type and scope are left open: whatever ours has become, it goes.
fn delete_route(key: RouteKey) -> RouteMessage {
    let mut message = skeleton(key);
    message.header.scope = RouteScope::NoWhere;
    message.header.kind = RouteType::Unspec;
    message
}

fn skeleton(key: RouteKey) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family_of(key.prefix.network());
    message.header.destination_prefix_length = key.prefix.prefix();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    message.attributes.push(RouteAttribute::Destination(key.prefix.network().into()));
    message.attributes.push(RouteAttribute::Priority(key.metric));
    message
}

fn encode_hops(prefix: IpNetwork, hops: &BTreeSet<Hop>) -> Vec<RouteAttribute> {
    let gateway = |hop: &Hop| match hop.gateway {
        IpAddr::V6(address) if prefix.is_ipv4() => RouteAttribute::Via(RouteVia::Inet6(address)),
        address => RouteAttribute::Gateway(address.into()),
    };
    if let (Some(hop), 1) = (hops.first(), hops.len()) {
        return vec![gateway(hop), RouteAttribute::Oif(hop.link)];
    }
    let hops = hops.iter().map(|hop| {
        let mut nexthop = RouteNextHop::default();
        nexthop.interface_index = hop.link;
        nexthop.attributes = vec![gateway(hop)];
        nexthop
    });
    vec![RouteAttribute::MultiPath(hops.collect())]
}

/// `None`: not in the main table, or not of IP.
pub fn decode(message: &RouteMessage) -> Option<KernelRoute> {
    let named = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    let table = named.unwrap_or_else(|| message.header.table.into());
    (table == u32::from(RouteHeader::RT_TABLE_MAIN)).then(|| decode_any_table(message))?
}

fn decode_any_table(message: &RouteMessage) -> Option<KernelRoute> {
    if message.header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let target = match message.header.kind {
        RouteType::BlackHole => Target::Blackhole,
        RouteType::Unicast => decode_hops(message),
        RouteType::Local => Target::Local,
        _ => Target::Other,
    };
    Some(KernelRoute { key: key(message)?, protocol: message.header.protocol.into(), target })
}

fn key(message: &RouteMessage) -> Option<RouteKey> {
    let (mut destination, mut metric) = (None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address),
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    // The default route has no destination.
    let address = match (destination, message.header.address_family) {
        (Some(address), _) => address,
        (None, AddressFamily::Inet) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        (None, AddressFamily::Inet6) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        (None, _) => return None,
    };
    let prefix = IpNetwork::new(address, message.header.destination_prefix_length).ok()?;
    Some(RouteKey { prefix, metric })
}

fn decode_hops(message: &RouteMessage) -> Target {
    let multipath = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    });
    if let Some(hops) = multipath {
        let alive = hops.iter().filter(|hop| !hop.flags.contains(RouteNextHopFlags::Dead));
        return Target::Via(alive.filter_map(|hop| gateway(&hop.attributes, hop.interface_index)).collect());
    }
    let link = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(link) => Some(*link),
        _ => None,
    });
    match (link, link.and_then(|link| gateway(&message.attributes, link))) {
        (Some(_), Some(_)) if message.header.flags.contains(RouteFlags::Dead) => Target::Via(BTreeSet::new()),
        (Some(_), Some(hop)) => Target::Via([hop].into()),
        (Some(link), None) => Target::Direct { link },
        (None, _) => Target::Other,
    }
}

fn gateway(attributes: &[RouteAttribute], link: u32) -> Option<Hop> {
    let gateway = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    })?;
    Some(Hop { gateway, link })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}
