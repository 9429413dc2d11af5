//! The MTU that pods may use: that of the links by which packets leave the node.

use std::collections::BTreeSet;
use std::io;

use futures::TryStreamExt;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use weft_api::LINK_PREFIX;

use super::route::{KernelRoute, Target};
use crate::supervise::brief;

/// The smallest of all links that a route of the main table leads out of, but for pods' links and `lo`. `None`: there
/// are none.
pub async fn mtu(routes: &[KernelRoute]) -> io::Result<Option<u32>> {
    let used: BTreeSet<u32> = routes
        .iter()
        .flat_map(|route| match &route.target {
            Target::Via(hops) => hops.iter().map(|hop| hop.link).collect(),
            Target::Direct { link } => vec![*link],
            Target::Blackhole | Target::Local | Target::Other => Vec::new(),
        })
        .collect();
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let driver = brief(connection);
    let links: Result<Vec<LinkMessage>, _> = handle.link().get().execute().try_collect().await;
    driver.abort();
    let links = links.map_err(io::Error::other)?;
    Ok(links.iter().filter(|link| used.contains(&link.header.index)).filter_map(mtu_of_uplink).min())
}

fn mtu_of_uplink(link: &LinkMessage) -> Option<u32> {
    let (mut name, mut mtu) = (None, None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.as_str()),
            LinkAttribute::Mtu(bytes) => mtu = Some(*bytes),
            _ => {}
        }
    }
    let is_ours = name.is_some_and(|name| name.starts_with(LINK_PREFIX));
    mtu.filter(|_| !is_ours && !link.header.flags.contains(LinkFlags::Loopback))
}
