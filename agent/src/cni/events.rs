//! Link events of the kernel: a link that dies frees its addresses, whoever deleted it; one that goes down is repaired.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use rtnetlink::MulticastGroup;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use weft_pods::ledger::Phase;

use super::service::Service;
use crate::gate::PolicyGate;
use crate::kernel::{link, monitor, rtnl};
use crate::supervise::brief;

/// Subscribes, in the namespace of the calling thread. An overrun costs an audit.
pub(super) fn subscribe() -> io::Result<AsyncFd<OwnedFd>> {
    monitor::subscribe(&[MulticastGroup::Link])
}

pub(super) async fn listen<G: PolicyGate>(service: Arc<Service<G>>, events: AsyncFd<OwnedFd>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let receive =
            |fd: &OwnedFd| recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()).map_err(io::Error::from);
        let length = match events.async_io(Interest::READABLE, receive).await {
            Ok(length) => length,
            Err(error) => {
                if error.raw_os_error() != Some(Errno::ENOBUFS as i32) {
                    tracing::warn!(%error, "link events not read");
                }
                service.audit.notify_one();
                continue;
            }
        };
        match rtnl::parse(&buffer[..length]) {
            Ok(messages) => {
                for message in messages {
                    if let NetlinkPayload::InnerMessage(message) = message.payload {
                        handle(&service, &message);
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "link event not understood"),
        }
    }
}

fn handle<G: PolicyGate>(service: &Arc<Service<G>>, message: &RouteNetlinkMessage) {
    let Some(observed) = link::observed(message).filter(link::Observed::is_ours) else { return };
    let name = observed.link.name;
    if matches!(message, RouteNetlinkMessage::DelLink(_)) {
        let service = Arc::clone(service);
        brief(async move { service.link_gone(&name).await });
    } else if !observed.up && service.phase_of_link(&name) == Some(Phase::Attached) {
        service.audit.notify_one();
    }
}
