//! The node's own addresses, as the kernel has them at this moment.

use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};

/// Our first address in the other family on the link that has `local`; no link-local one. `None` where there is none, and
/// where the kernel does not say.
pub(super) fn companion(local: IpAddr) -> Option<IpAddr> {
    let all: Vec<(String, IpAddr)> = getifaddrs().ok()?.filter_map(own).collect();
    let (link, _) = all.iter().find(|(_, address)| *address == local)?;
    let other = |address: IpAddr| address.is_ipv4() != local.is_ipv4() && !is_link_local(address);
    all.iter().find(|(name, address)| name == link && other(*address)).map(|(_, address)| *address)
}

fn own(interface: InterfaceAddress) -> Option<(String, IpAddr)> {
    let address = interface.address?;
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    let ip = v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))?;
    Some((interface.interface_name, ip))
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_of_ours_has_a_companion() {
        assert_eq!(companion("192.0.2.1".parse().unwrap()), None);
    }
}
