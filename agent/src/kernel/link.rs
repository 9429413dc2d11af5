//! Pod links in the kernel: carries out the steps of [`weft_pods::steps`], and reads back what carries our mark.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage, Prop,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use weft_api::{LINK_GROUP, ROUTE_PROTOCOL};
use weft_pods::attachment::{Mac, NetnsId, gateway};
use weft_pods::mark::is_ours;
use weft_pods::recover::ObservedLink;
use weft_pods::steps::{CreateLink, DYING_GROUP, Step};

use super::rtnl::{Request, Rtnl, RtnlError};

const LOOPBACK: u32 = 1;

/// Both ends of a new link, each counted in its own namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    pub host: u32,
    pub pod: u32,
}

/// Makes the pair, the pod's end in `netns`. Both are down.
pub fn create(rtnl: &mut Rtnl, create: &CreateLink, netns: BorrowedFd<'_>) -> Result<Pair, RtnlError> {
    let mut peer = LinkMessage::default();
    peer.attributes = end(&create.pod_name, create.pod_mac, create.mtu);
    peer.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
    let mut message = LinkMessage::default();
    message.attributes = end(&create.host_name, Mac::HOST, create.mtu);
    message.attributes.push(LinkAttribute::Group(create.group));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    let answers =
        rtnl.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO)?;
    answers.iter().find_map(pair).ok_or_else(|| RtnlError::Malformed("a new link was not echoed".into()))
}

fn end(name: &str, mac: Mac, mtu: u32) -> Vec<LinkAttribute> {
    vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(mac.0.to_vec()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
    ]
}

fn pair(answer: &RouteNetlinkMessage) -> Option<Pair> {
    let RouteNetlinkMessage::NewLink(link) = answer else { return None };
    let pod = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    });
    Some(Pair { host: link.header.index, pod: pod? })
}

/// Carries out steps on one link, all in one send. On a refusal of one the others are done nevertheless; the first
/// refusal that matters is returned.
pub fn apply(rtnl: &mut Rtnl, ifindex: u32, steps: &[Step]) -> Result<(), (Step, RtnlError)> {
    let Some(first) = steps.first() else { return Ok(()) };
    let requests = steps.iter().map(|step| request(ifindex, step)).collect();
    let outcome = rtnl.batch(requests).map_err(|error| (first.clone(), error))?;
    for refusal in outcome.refused {
        if let RtnlError::Refused { index, errno, .. } = &refusal
            && let Some(step) = steps.get(*index)
            && !harmless(step, *errno)
        {
            return Err((step.clone(), refusal));
        }
    }
    Ok(())
}

/// What was to be removed is gone, or a kernel without IPv6 has no link-local addresses to prevent.
fn harmless(step: &Step, errno: Errno) -> bool {
    match step {
        Step::RemoveHostRoute { .. } => matches!(errno, Errno::ESRCH | Errno::ENODEV),
        Step::Group(_) => errno == Errno::ENODEV,
        Step::NoLinkLocal => errno == Errno::EAFNOSUPPORT,
        // Before Linux 5.5. Only who loses the journal needs them.
        Step::AlternativeNames(_) => errno == Errno::EOPNOTSUPP,
        Step::LoopbackUp
        | Step::Up
        | Step::Alias(_)
        | Step::Address(_)
        | Step::DefaultRoute { .. }
        | Step::Neighbour { .. }
        | Step::HostRoute { .. } => false,
    }
}

fn request(ifindex: u32, step: &Step) -> Request {
    let set = |message| Request { message: RouteNetlinkMessage::SetLink(message), flags: 0 };
    match step {
        Step::LoopbackUp => set(up(LOOPBACK)),
        Step::Up => set(up(ifindex)),
        Step::NoLinkLocal => {
            let inet6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
            set(link_with(ifindex, LinkAttribute::AfSpecUnspec(vec![inet6])))
        }
        Step::Alias(alias) => set(link_with(ifindex, LinkAttribute::IfAlias(alias.clone()))),
        Step::AlternativeNames(names) => {
            let names = names.iter().cloned().map(Prop::AltIfName).collect();
            let message = link_with(ifindex, LinkAttribute::PropList(names));
            Request { message: RouteNetlinkMessage::NewLinkProp(message), flags: NLM_F_CREATE | NLM_F_EXCL }
        }
        Step::Group(group) => set(link_with(ifindex, LinkAttribute::Group(*group))),
        Step::Address(address) => Request {
            message: RouteNetlinkMessage::NewAddress(host_address(ifindex, *address)),
            flags: NLM_F_CREATE | NLM_F_EXCL,
        },
        Step::DefaultRoute { family_of, metric } => Request {
            message: RouteNetlinkMessage::NewRoute(default_route(ifindex, *family_of, *metric)),
            flags: NLM_F_CREATE | NLM_F_EXCL,
        },
        Step::Neighbour { address, mac } => Request {
            message: RouteNetlinkMessage::NewNeighbour(neighbour(ifindex, *address, *mac)),
            flags: NLM_F_CREATE | NLM_F_REPLACE,
        },
        Step::HostRoute { address, protocol } => Request {
            message: RouteNetlinkMessage::NewRoute(host_route(ifindex, *address, *protocol)),
            flags: NLM_F_CREATE | NLM_F_EXCL,
        },
        Step::RemoveHostRoute { address, protocol } => Request {
            message: RouteNetlinkMessage::DelRoute(host_route(ifindex, *address, *protocol)),
            flags: 0,
        },
    }
}

fn up(ifindex: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

fn link_with(ifindex: u32, attribute: LinkAttribute) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    message.attributes.push(attribute);
    message
}

fn family(address: IpAddr) -> (AddressFamily, u8) {
    match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    }
}

fn host_address(ifindex: u32, address: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    (message.header.family, message.header.prefix_len) = family(address);
    message.header.index = ifindex;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    if address.is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    message
}

fn default_route(ifindex: u32, family_of: IpAddr, metric: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(family_of).0;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    message.header.kind = RouteType::Unicast;
    message.header.flags = RouteFlags::Onlink;
    message.attributes =
        vec![RouteAttribute::Gateway(gateway(family_of).into()), RouteAttribute::Oif(ifindex)];
    if metric != 0 {
        message.attributes.push(RouteAttribute::Priority(metric));
    }
    message
}

fn host_route(ifindex: u32, address: IpAddr, protocol: u8) -> RouteMessage {
    let mut message = RouteMessage::default();
    (message.header.address_family, message.header.destination_prefix_length) = family(address);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Other(protocol);
    message.header.kind = RouteType::Unicast;
    // IPv6 knows no scopes.
    message.header.scope = if address.is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    message.attributes = vec![RouteAttribute::Destination(address.into()), RouteAttribute::Oif(ifindex)];
    message
}

fn neighbour(ifindex: u32, address: IpAddr, mac: Mac) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address).0;
    message.header.ifindex = ifindex;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(address.into()),
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
        NeighbourAttribute::Protocol(RouteProtocol::Other(ROUTE_PROTOCOL)),
    ];
    message
}

/// Deletes every link of the dying group, at once.
pub fn reap(rtnl: &mut Rtnl) -> Result<(), RtnlError> {
    let message = link_with(0, LinkAttribute::Group(DYING_GROUP));
    match rtnl.request(RouteNetlinkMessage::DelLink(message), 0) {
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// Deletes one link, with the end that the pod has.
pub fn delete(rtnl: &mut Rtnl, ifindex: u32) -> Result<(), RtnlError> {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    match rtnl.request(RouteNetlinkMessage::DelLink(message), 0) {
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// A link as observed, and whether it is administratively up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub link: ObservedLink,
    pub up: bool,
}

impl Observed {
    /// By name and group: ours, alive or dying.
    pub fn is_ours(&self) -> bool {
        is_ours(&self.link.name) && matches!(self.link.group, LINK_GROUP | DYING_GROUP)
    }
}

/// All links that carry our mark.
pub fn observe(rtnl: &mut Rtnl) -> Result<Vec<Observed>, RtnlError> {
    let links = rtnl.dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    Ok(links.iter().filter_map(observed).filter(Observed::is_ours).collect())
}

/// The link of that name, whoever's it is.
pub fn by_name(rtnl: &mut Rtnl, name: &str) -> Result<Option<Observed>, RtnlError> {
    let message = link_with(0, LinkAttribute::IfName(name.to_owned()));
    match rtnl.request(RouteNetlinkMessage::GetLink(message), 0) {
        Ok(answers) => Ok(answers.iter().find_map(observed)),
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Of a message about a link.
pub fn observed(message: &RouteNetlinkMessage) -> Option<Observed> {
    let (RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message)) = message else {
        return None;
    };
    let mut link = ObservedLink { ifindex: message.header.index, ..ObservedLink::default() };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Group(group) => link.group = *group,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
            LinkAttribute::PropList(props) => link.names.extend(props.iter().filter_map(alternative_name)),
            _ => {}
        }
    }
    Some(Observed { link, up: message.header.flags.contains(LinkFlags::Up) })
}

fn alternative_name(prop: &Prop) -> Option<String> {
    match prop {
        Prop::AltIfName(name) => Some(name.clone()),
        _ => None,
    }
}

/// Whether the host routes to this address by exactly this link. A lookup, not a dump: the table may be large.
pub fn has_host_route(rtnl: &mut Rtnl, ifindex: u32, address: IpAddr) -> Result<bool, RtnlError> {
    let mut message = RouteMessage::default();
    (message.header.address_family, message.header.destination_prefix_length) = family(address);
    message.header.flags = RouteFlags::FibMatch;
    message.attributes = vec![RouteAttribute::Destination(address.into())];
    let answers = match rtnl.request(RouteNetlinkMessage::GetRoute(message), 0) {
        // Nothing matches, or a blackhole or unreachable route does.
        Err(RtnlError::Refused { .. }) => return Ok(false),
        answers => answers?,
    };
    Ok(answers.iter().any(|answer| match answer {
        RouteNetlinkMessage::NewRoute(route) => {
            route.header.destination_prefix_length == family(address).1
                && route.attributes.contains(&RouteAttribute::Oif(ifindex))
        }
        _ => false,
    }))
}

/// The permanent neighbours on a link.
pub fn permanent_neighbours(rtnl: &mut Rtnl, ifindex: u32) -> Result<BTreeSet<IpAddr>, RtnlError> {
    // The kernel filters by this attribute.
    let mut message = NeighbourMessage::default();
    message.attributes.push(NeighbourAttribute::IfIndex(ifindex));
    let neighbours = rtnl.dump(&RouteNetlinkMessage::GetNeighbour(message))?;
    let permanent = neighbours.iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewNeighbour(neighbour)
            if neighbour.header.state == NeighbourState::Permanent =>
        {
            Some(neighbour)
        }
        _ => None,
    });
    Ok(permanent
        .flat_map(|neighbour| &neighbour.attributes)
        .filter_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
            _ => None,
        })
        .collect())
}

/// What a pod's namespace has on the named interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSide {
    pub up: bool,
    pub mac: Option<Mac>,
    pub addresses: BTreeSet<IpAddr>,
    /// Next hops of default routes by this interface.
    pub gateways: BTreeSet<IpAddr>,
}

/// Reads the pod's side. `None` when the namespace has no such interface.
pub fn observe_pod(rtnl: &mut Rtnl, ifname: &str) -> Result<Option<PodSide>, RtnlError> {
    let named = link_with(0, LinkAttribute::IfName(ifname.to_owned()));
    let answers = match rtnl.request(RouteNetlinkMessage::GetLink(named), 0) {
        Err(error) if error.errno() == Some(Errno::ENODEV) => return Ok(None),
        answers => answers?,
    };
    let Some(RouteNetlinkMessage::NewLink(link)) = answers.into_iter().next() else { return Ok(None) };
    let index = link.header.index;
    let mut pod = PodSide { up: link.header.flags.contains(LinkFlags::Up), ..PodSide::default() };
    pod.mac = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok().map(Mac),
        _ => None,
    });
    for message in rtnl.dump(&RouteNetlinkMessage::GetAddress(AddressMessage::default()))? {
        if let RouteNetlinkMessage::NewAddress(address) = message
            && address.header.index == index
        {
            pod.addresses.extend(address.attributes.iter().filter_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            }));
        }
    }
    for message in rtnl.dump(&RouteNetlinkMessage::GetRoute(RouteMessage::default()))? {
        if let RouteNetlinkMessage::NewRoute(route) = message
            && route.header.destination_prefix_length == 0
            && route.attributes.contains(&RouteAttribute::Oif(index))
        {
            pod.gateways.extend(route.attributes.iter().filter_map(|attribute| match attribute {
                RouteAttribute::Gateway(gateway) => ip(gateway),
                _ => None,
            }));
        }
    }
    Ok(Some(pod))
}

fn ip(address: &netlink_packet_route::route::RouteAddress) -> Option<IpAddr> {
    use netlink_packet_route::route::RouteAddress;
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

/// The identity of a namespace behind a descriptor; of this thread's own with `/proc/thread-self/ns/net` opened.
pub fn netns_id(descriptor: BorrowedFd<'_>) -> nix::Result<NetnsId> {
    nix::sys::stat::fstat(descriptor).map(|stat| NetnsId(stat.st_ino))
}
