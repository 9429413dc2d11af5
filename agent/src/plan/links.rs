//! Which of our addresses a peer is told as nexthop: one on the link that it is on, as it can use no other.
//!
//! In: peers, and the node's addresses. Out: the peers, each with the nexthop of its link in the family that its session does
//! not run over. A node with several uplinks has several addresses; who is on none of its links is told the node's.

use std::net::IpAddr;

use weft_bgp::speaker::PeerConfig;
use weft_intent::plan::Desired;

use crate::fib::LinkAddress;

/// What the node wants, where its addresses stand so.
pub fn with_links(mut desired: Desired, addresses: &[LinkAddress]) -> Desired {
    let peers = std::mem::take(&mut desired.peers).into_iter();
    desired.peers = peers.map(|peer| with_nexthop(peer, addresses)).collect();
    desired
}

fn with_nexthop(mut peer: PeerConfig, addresses: &[LinkAddress]) -> PeerConfig {
    let v4 = peer.key.address.is_ipv4();
    let preferred = if v4 { peer.nexthop.v6.map(IpAddr::V6) } else { peer.nexthop.v4.map(IpAddr::V4) };
    match beside(peer.key.address, preferred, addresses) {
        Some(IpAddr::V4(v4)) => peer.nexthop.v4 = Some(v4),
        Some(IpAddr::V6(v6)) => peer.nexthop.v6 = Some(v6),
        None => {}
    }
    peer
}

/// Our address of the other family on the link that has `peer` in its subnet: `preferred` where that is there, else the
/// first.
fn beside(peer: IpAddr, preferred: Option<IpAddr>, addresses: &[LinkAddress]) -> Option<IpAddr> {
    let link = &addresses.iter().find(|found| found.network.contains(peer))?.link;
    let others = || {
        let on_link = addresses.iter().filter(|found| found.link == *link);
        on_link.map(|found| found.network.ip()).filter(|ip| ip.is_ipv4() != peer.is_ipv4())
    };
    preferred.filter(|preferred| others().any(|ip| ip == *preferred)).or_else(|| others().next())
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
