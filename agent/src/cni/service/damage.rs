//! What CHECK finds missing of an attachment, in words.

use weft_pods::attachment::{Attachment, gateway};

use crate::kernel::link::{self, PodSide};
use crate::kernel::rtnl::{Rtnl, RtnlError};

pub(super) fn of_host_side(rtnl: &mut Rtnl, attachment: &Attachment) -> Result<Option<String>, RtnlError> {
    let link = &attachment.link;
    match link::by_name(rtnl, link)? {
        Some(found) if found.link.ifindex != attachment.ifindex => {
            return Ok(Some(format!("{link} is another link")));
        }
        Some(found) if !found.up => return Ok(Some(format!("{link} is down"))),
        Some(_) => {}
        None => return Ok(Some(format!("{link} is gone"))),
    }
    for address in attachment.addresses.iter() {
        if !link::has_host_route(rtnl, attachment.ifindex, address)? {
            return Ok(Some(format!("the node has no route to {address} by {link}")));
        }
    }
    Ok(None)
}

pub(super) fn of_pod_side(pod: Option<&PodSide>, attachment: &Attachment) -> Option<String> {
    let ifname = &attachment.id.ifname;
    let Some(pod) = pod else { return Some(format!("{ifname} is gone")) };
    if !pod.up {
        return Some(format!("{ifname} is down"));
    }
    for address in attachment.addresses.iter() {
        if !pod.addresses.contains(&address) {
            return Some(format!("{ifname} lacks {address}"));
        }
        if !pod.gateways.contains(&gateway(address)) {
            return Some(format!("{ifname} has no default route by {}", gateway(address)));
        }
    }
    None
}
