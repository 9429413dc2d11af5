//! Link events of the kernel: a link that dies frees its addresses, whoever deleted it; one that goes down is repaired.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use weft_cni::ledger::Phase;

use super::PolicyGate;
use super::service::Service;
use crate::kernel::{descriptors, link, readiness, rtnl};
use crate::supervise::brief;

const RTNLGRP_LINK: libc::c_int = 1;
/// For a burst of a thousand links, at a few hundred bytes of kernel memory each; an overrun costs an audit.
const BUFFER: libc::c_int = 4 * 1024 * 1024;

/// Subscribes, in the namespace of the calling thread.
pub(super) fn subscribe() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    descriptors::force_receive_buffer(&fd, BUFFER)?;
    // Unbound, its port is 0, the kernel's own, which its notifications leave out.
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    descriptors::set_netlink_option(&fd, libc::NETLINK_ADD_MEMBERSHIP, RTNLGRP_LINK)?;
    readiness::watch(fd)
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
