//! CHECK: what is missing of an attachment, in words.

use weft_pods::attachment::{Attachment, gateway};
use weft_pods::cni::{CniError, Sandboxed};
use weft_pods::ledger::Phase;

use super::{Service, kernel};
use crate::cni::arrival::Sandbox;
use crate::gate::PolicyGate;
use crate::kernel::link::{self, PodSide};
use crate::kernel::rtnl::{Rtnl, RtnlError};

impl<G: PolicyGate> Service<G> {
    pub(in crate::cni) async fn check(&self, call: &Sandboxed, sandbox: Sandbox) -> Result<(), CniError> {
        let netns = self.netns(call, &sandbox)?;
        let _lock = self.shared.lock(&call.id).await;
        let entry = self.shared.entry(&call.id).filter(|entry| entry.phase == Phase::Attached);
        let attachment = entry.ok_or_else(|| CniError::UnknownContainer(call.id.to_string()))?.attachment;
        if attachment.netns != netns {
            return Err(CniError::Damaged("it was made in another namespace".into()));
        }
        if let Some(missing) = attachment.addresses.iter().find(|address| !call.previous.contains(address)) {
            return Err(CniError::Damaged(format!("prevResult lacks {missing}")));
        }
        let looked = self.rtnl.run(|rtnl| {
            let mut found = of_host_side(rtnl, &attachment)?;
            if found.is_none() {
                let mut pod = Rtnl::from_socket(sandbox.socket)?;
                let pod_side = link::observe_pod(&mut pod, &attachment.id.ifname)?;
                found = of_pod_side(pod_side.as_ref(), &attachment);
            }
            Ok(found)
        });
        match looked.map_err(kernel("show the pod's link"))? {
            Some(damage) => Err(CniError::Damaged(damage)),
            None => Ok(()),
        }
    }
}

fn of_host_side(rtnl: &mut Rtnl, attachment: &Attachment) -> Result<Option<String>, RtnlError> {
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

fn of_pod_side(pod: Option<&PodSide>, attachment: &Attachment) -> Option<String> {
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
