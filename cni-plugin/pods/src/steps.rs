//! What the kernel must be told to wire a pod, to unwire it, and to repair it: lists of steps, as values.
//!
//! The pod has one address per family and a default route to a next hop that nobody owns, 169.254.1.1 or fe80::1. Both
//! sides know each other's Ethernet address from permanent neighbours: no ARP, no neighbour discovery, no wait for
//! duplicate address detection, no address on the host side.

use std::net::IpAddr;

use weft_api::{LINK_GROUP, ROUTE_PROTOCOL};

use crate::attachment::{Attachment, Mac, gateway};
use crate::mark;

/// Links in this group are to be deleted, all at once: one deletion alone waits for several RCU grace periods. The
/// number is "weft" in ASCII, as nobody else's link may ever be in it.
pub const DYING_GROUP: u32 = u32::from_be_bytes(*b"weft");

/// Metric of the default routes of interfaces other than `eth0`, so that a second network does not take over.
const SECONDARY_METRIC: u32 = 4096;

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
    let names = Some(mark::alternative_names(attachment)).filter(|names| !names.is_empty());
    let mut steps: Vec<Step> = names.map(Step::AlternativeNames).into_iter().collect();
    steps.extend([Step::Alias(mark::alias(attachment)), Step::NoLinkLocal]);
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::attachment::{Addresses, AttachmentId, NetnsId, PodRef};

    fn attachment(ifname: &str) -> Attachment {
        let addresses =
            Addresses { v4: Some(Ipv4Addr::new(10, 0, 0, 5)), v6: Some("fd00::5".parse().unwrap()) };
        Attachment {
            id: AttachmentId { container_id: "c1".to_owned(), ifname: ifname.to_owned() },
            link: "weft0123456789a".to_owned(),
            ifindex: 7,
            pod: None,
            mac: Mac::of_pod(&addresses),
            addresses,
            netns: NetnsId(1),
            mtu: 1400,
            ports: Vec::new(),
        }
    }

    #[test]
    fn a_link_is_made_with_all_that_tells_whose_it_is() {
        let expected = CreateLink {
            host_name: "weft0123456789a".to_owned(),
            pod_name: "eth0".to_owned(),
            pod_mac: Mac([0x0e, 0x57, 10, 0, 0, 5]),
            mtu: 1400,
            group: LINK_GROUP,
        };
        assert_eq!(create(&attachment("eth0")), expected);
    }

    /// Two networks of one pod would else have equal default routes.
    #[test]
    fn the_default_routes_of_eth0_come_first() {
        let metrics = |ifname| {
            let steps = pod_side(&attachment(ifname)).into_iter();
            let metric = |step| match step {
                Step::DefaultRoute { metric, .. } => Some(metric),
                _ => None,
            };
            steps.filter_map(metric).collect::<Vec<_>>()
        };
        assert_eq!((metrics("eth0"), metrics("net1")), (vec![0, 0], vec![SECONDARY_METRIC; 2]));
    }

    #[test]
    fn each_address_is_made_reachable_on_both_sides_and_taken_back() {
        let attachment = attachment("eth0");
        let addresses: Vec<_> = attachment.addresses.iter().collect();
        assert_eq!(addresses.len(), 2);
        let (inside, outside) = (pod_side(&attachment), host_side(&attachment));
        for address in addresses {
            let host = Step::Neighbour { address: gateway(address), mac: Mac::HOST };
            assert!(inside.contains(&Step::Address(address)) && inside.contains(&host), "{address}");
            let pod = Step::Neighbour { address, mac: attachment.mac };
            let route = Step::HostRoute { address, protocol: ROUTE_PROTOCOL };
            assert!(outside.contains(&pod) && outside.contains(&route), "{address}");
            let gone = Step::RemoveHostRoute { address, protocol: ROUTE_PROTOCOL };
            assert!(detach(&attachment).contains(&gone), "{address}");
        }
        assert_eq!(gateway(Ipv6Addr::LOCALHOST.into()).to_string(), "fe80::1");
        assert_eq!(gateway(Ipv4Addr::LOCALHOST.into()).to_string(), "169.254.1.1");
        assert_eq!(detach(&attachment).last(), Some(&Step::Group(DYING_GROUP)));
    }

    /// With the alias the link can be recovered; with the routes packets come in.
    #[test]
    fn names_come_before_the_alias_and_routes_last() {
        let mut attachment = attachment("eth0");
        assert_eq!(host_side(&attachment).first(), Some(&Step::Alias(mark::alias(&attachment))));
        attachment.pod = Some(PodRef { namespace: "demo".to_owned(), name: "a".repeat(250), uid: None });
        let steps = host_side(&attachment);
        let names = mark::alternative_names(&attachment);
        assert_eq!(steps[..2], [Step::AlternativeNames(names), Step::Alias(mark::alias(&attachment))]);
        assert!(matches!(steps[steps.len() - 2..], [Step::HostRoute { .. }, Step::HostRoute { .. }]));
        assert!(steps.ends_with(&repair(&attachment)));
    }
}
