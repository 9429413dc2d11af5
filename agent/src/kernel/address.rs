//! Which addresses of ours share a link: the nexthop that a router can use is on the link that it is on.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use weft_api::LINK_PREFIX;

/// An address of this node, with the subnet of its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkAddress {
    pub link: String,
    pub network: IpNetwork,
}

/// Global ones, but for those of pods' links.
pub fn list() -> io::Result<Vec<LinkAddress>> {
    let found = getifaddrs().map_err(io::Error::from)?.filter_map(|found| {
        let prefix = ipnetwork::ip_mask_to_prefix(ip(found.netmask?)?).ok()?;
        let network = IpNetwork::new(ip(found.address?)?, prefix).ok()?;
        Some(LinkAddress { link: found.interface_name, network })
    });
    Ok(found.filter(|found| is_global(found.network.ip()) && !found.link.starts_with(LINK_PREFIX)).collect())
}

/// Every address at which this node itself answers.
pub fn own() -> io::Result<BTreeSet<IpAddr>> {
    Ok(getifaddrs().map_err(io::Error::from)?.filter_map(|found| ip(found.address?)).collect())
}

/// Our address of the other family on the link that has `peer` in its subnet: `preferred` where that is there, else the
/// first.
pub fn beside(peer: IpAddr, preferred: Option<IpAddr>, addresses: &[LinkAddress]) -> Option<IpAddr> {
    let link = &addresses.iter().find(|found| found.network.contains(peer))?.link;
    let others = || {
        let on_link = addresses.iter().filter(|found| found.link == *link);
        on_link.map(|found| found.network.ip()).filter(|ip| ip.is_ipv4() != peer.is_ipv4())
    };
    preferred.filter(|preferred| others().any(|ip| ip == *preferred)).or_else(|| others().next())
}

fn ip(address: SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

fn is_global(ip: IpAddr) -> bool {
    !ip.is_loopback() && !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(link: &str, network: &str) -> LinkAddress {
        LinkAddress { link: link.to_owned(), network: network.parse().unwrap() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_nexthop_is_on_the_link_of_the_peer() {
        let addresses = [
            on("eth0", "10.1.0.11/24"),
            on("eth0", "fd00::11/64"),
            on("eth1", "10.1.1.11/24"),
            on("eth1", "fd00:1::11/64"),
            on("eth1", "fd00:2::11/64"),
        ];
        let own = Some(ip("fd00::11"));
        assert_eq!(beside(ip("10.1.0.1"), own, &addresses), own);
        assert_eq!(beside(ip("10.1.1.1"), own, &addresses), Some(ip("fd00:1::11")));
        assert_eq!(beside(ip("10.1.1.1"), Some(ip("fd00:2::11")), &addresses), Some(ip("fd00:2::11")));
        assert_eq!(beside(ip("fd00:2::1"), None, &addresses), Some(ip("10.1.1.11")));
    }

    #[test]
    fn a_far_peer_and_a_link_of_one_family_have_none() {
        let addresses = [on("eth0", "10.1.0.11/24")];
        assert_eq!(beside(ip("192.0.2.1"), None, &addresses), None);
        assert_eq!(beside(ip("10.1.0.1"), Some(ip("fd00::11")), &addresses), None);
    }
}
