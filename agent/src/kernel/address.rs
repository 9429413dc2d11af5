//! The addresses of this node.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use weft_api::LINK_PREFIX;

use crate::fib::LinkAddress;

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

fn ip(address: SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

fn is_global(ip: IpAddr) -> bool {
    !ip.is_loopback() && !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
