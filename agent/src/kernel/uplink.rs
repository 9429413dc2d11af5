//! What the kernel says of the links by which packets leave the node.

use std::collections::BTreeSet;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use weft_api::LINK_PREFIX;

use super::rtnl::{Rtnl, RtnlError};

/// Name and MTU of those that exist, but for pods' links and `lo`.
pub fn read(rtnl: &mut Rtnl, links: &BTreeSet<u32>) -> Result<Vec<(String, u32)>, RtnlError> {
    let dump = rtnl.dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let found = dump.iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) if links.contains(&link.header.index) => uplink(link),
        _ => None,
    });
    Ok(found.collect())
}

fn uplink(link: &LinkMessage) -> Option<(String, u32)> {
    let (mut name, mut mtu) = (None, None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Mtu(bytes) => mtu = Some(*bytes),
            _ => {}
        }
    }
    let is_loopback = link.header.flags.contains(LinkFlags::Loopback);
    name.filter(|name| !is_loopback && !name.starts_with(LINK_PREFIX)).zip(mtu)
}
