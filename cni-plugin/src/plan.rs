//! What the kernel must be told to wire a pod, to unwire it, and to repair it: lists of steps, as values.
//!
//! The pod has one address per family and a default route to a next hop that nobody owns, 169.254.1.1 or fe80::1. Both
//! sides know each other's Ethernet address from permanent neighbours: no ARP, no neighbour discovery, no wait for
//! duplicate address detection, no address on the host side.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_api::{LINK_GROUP, ROUTE_PROTOCOL};

use crate::attachment::{Attachment, Mac};
use crate::link;

/// The next hop of every pod, per family.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Links in this group are to be deleted, all at once: one deletion alone waits for several RCU grace periods. The
/// number is "weft" in ASCII, as nobody else's link may ever be in it.
pub const DYING_GROUP: u32 = u32::from_be_bytes(*b"weft");

/// Metric of the default routes of interfaces other than `eth0`, so that a second network does not take over.
const SECONDARY_METRIC: u32 = 4096;

/// The next hop for an address of this family.
pub fn gateway(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(GATEWAY_V4),
        IpAddr::V6(_) => IpAddr::V6(GATEWAY_V6),
    }
}

/// The pair of links, made in one message: one end here, the other born in the pod's namespace. Both ends have one queue
/// each way, as the kernel's default is one per possible CPU and costs milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateLink {
    pub host_name: String,
    pub pod_name: String,
    pub pod_mac: Mac,
    pub mtu: u32,
    pub group: u32,
}

/// One netlink message on a link whose index the executor knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The pod's `lo`, whatever the link.
    LoopbackUp,
    /// No link-local address: no router solicitation, no multicast chatter. Must come before [`Step::Up`].
    NoLinkLocal,
    Up,
    Alias(String),
    AlternativeNames(Vec<String>),
    Group(u32),
    /// As a host prefix, without duplicate address detection.
    Address(IpAddr),
    /// In the pod, through [`gateway`], on-link.
    DefaultRoute {
        family_of: IpAddr,
        metric: u32,
    },
    /// Permanent.
    Neighbour {
        address: IpAddr,
        mac: Mac,
    },
    /// On the host, to the pod.
    HostRoute {
        address: IpAddr,
        protocol: u8,
    },
    RemoveHostRoute {
        address: IpAddr,
        protocol: u8,
    },
}

/// The first message.
pub fn create(attachment: &Attachment) -> CreateLink {
    CreateLink {
        host_name: attachment.link.clone(),
        pod_name: attachment.id.ifname.clone(),
        pod_mac: attachment.mac,
        mtu: attachment.mtu,
        group: LINK_GROUP,
    }
}

/// Inside the pod. The host side is down, so nothing can pass yet.
pub fn pod_side(attachment: &Attachment) -> Vec<Step> {
    let metric = if attachment.id.ifname == "eth0" { 0 } else { SECONDARY_METRIC };
    let mut steps = vec![Step::LoopbackUp, Step::NoLinkLocal, Step::Up];
    for address in attachment.addresses.iter() {
        steps.push(Step::Address(address));
        steps.push(Step::DefaultRoute { family_of: address, metric });
        steps.push(Step::Neighbour { address: gateway(address), mac: Mac::HOST });
    }
    steps
}

/// On the host, after the policy is in force. The routes come last: they are what lets packets in. Alternative names and
/// alias come first, in this order: with the alias the link can be recovered without the journal.
pub fn host_side(attachment: &Attachment) -> Vec<Step> {
    let names = Some(link::alternative_names(attachment)).filter(|names| !names.is_empty());
    let mut steps: Vec<Step> = names.map(Step::AlternativeNames).into_iter().collect();
    steps.extend([Step::Alias(link::alias(attachment)), Step::NoLinkLocal]);
    steps.extend(repair(attachment));
    steps
}

/// Brings back what somebody else took from the host side of a live pod.
pub fn repair(attachment: &Attachment) -> Vec<Step> {
    let mut steps = vec![Step::Up];
    for address in attachment.addresses.iter() {
        steps.push(Step::Neighbour { address, mac: attachment.mac });
    }
    for address in attachment.addresses.iter() {
        steps.push(Step::HostRoute { address, protocol: ROUTE_PROTOCOL });
    }
    steps
}

/// On the host: unreachable at once, and marked for the next deletion.
pub fn detach(attachment: &Attachment) -> Vec<Step> {
    let mut steps: Vec<Step> = attachment
        .addresses
        .iter()
        .map(|address| Step::RemoveHostRoute { address, protocol: ROUTE_PROTOCOL })
        .collect();
    steps.push(Step::Group(DYING_GROUP));
    steps
}
