//! What happens to links that carry our mark, as the kernel tells it.

use std::collections::VecDeque;
use std::io;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::MulticastGroup;

use super::link::{Observed, observed};
use super::notifications::Notifications;

/// Of the host side of a pod's link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodLinkEvent {
    Gone {
        link: String,
    },
    /// Somebody has set it down.
    Down {
        link: String,
    },
    /// Some events are missing.
    Lost,
}

#[derive(Debug)]
pub struct PodLinks {
    notifications: Notifications,
    /// Of the last datagram.
    waiting: VecDeque<PodLinkEvent>,
}

impl PodLinks {
    /// In the namespace of the calling thread and the current tokio runtime. Events from this moment on are seen.
    pub fn watch() -> io::Result<Self> {
        let notifications = Notifications::subscribe(&[MulticastGroup::Link])?;
        Ok(Self { notifications, waiting: VecDeque::new() })
    }

    /// An error: the socket broke, which the kernel never does to us.
    pub async fn next(&mut self) -> io::Result<PodLinkEvent> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            match self.notifications.next().await? {
                Some(messages) => self.waiting.extend(messages.into_iter().filter_map(translate)),
                None => return Ok(PodLinkEvent::Lost),
            }
        }
    }
}

fn translate(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<PodLinkEvent> {
    let NetlinkPayload::InnerMessage(message) = message.payload else { return None };
    let Observed { link, up } = observed(&message).filter(Observed::is_ours)?;
    match message {
        RouteNetlinkMessage::DelLink(_) => Some(PodLinkEvent::Gone { link: link.name }),
        _ => (!up).then_some(PodLinkEvent::Down { link: link.name }),
    }
}
