//! What a session wants done, in order, and why it went down.

use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::{AfiSafi, ConnId, Kept};
use crate::wire::{CeaseReason, Notification, Update};

use super::negotiate::Negotiated;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Dial(ConnId),
    Send(ConnId, Bytes),
    /// Send what is queued, then close.
    Close(ConnId),
    /// Close at once; what is queued is lost.
    Abort(ConnId),
    /// The session is Established. `local` is our end of its connection.
    Up {
        terms: Box<Negotiated>,
        local: IpAddr,
    },
    Update(Box<Update>),
    /// The peer wants this family once more (RFC 2918).
    Refresh(AfiSafi),
    /// The Established session has ended.
    Down(Kept),
}

/// Why a connection or session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownReason {
    /// We closed it with this.
    Sent(Notification),
    /// The peer closed it with this.
    Received(Notification),
    /// TCP ended without a word.
    ConnectionLost,
    /// The peer did not read for the send hold time (RFC 9687); its window is closed, so it was not told.
    SendHoldExpired,
    /// The peer has come back on a new connection (RFC 4724 §5).
    Replaced,
    /// The link to the peer is gone.
    Unreachable,
    /// We restart.
    Restarting,
    /// We want it on other terms.
    Reset,
}

/// What a peer is told whose session we reset.
pub(super) const RESET: CeaseReason = CeaseReason::OtherConfigurationChange;

impl DownReason {
    /// One of two connections of the same session had to go.
    pub(super) fn is_collision(&self) -> bool {
        match self {
            Self::Sent(sent) => sent.is_cease(CeaseReason::ConnectionCollision),
            Self::Received(received) => received.is_cease(CeaseReason::ConnectionCollision),
            Self::ConnectionLost
            | Self::SendHoldExpired
            | Self::Replaced
            | Self::Unreachable
            | Self::Restarting
            | Self::Reset => false,
        }
    }

    /// Whether it counts against the peer: a refusal always, a silent end where the session was up.
    pub(super) fn is_flap(&self, was_up: bool) -> bool {
        match self {
            Self::Sent(_) | Self::Received(_) => !self.is_collision(),
            Self::Unreachable | Self::Reset => false, // Not the peer's doing.
            Self::ConnectionLost | Self::SendHoldExpired | Self::Replaced | Self::Restarting => was_up,
        }
    }

    /// Which of the peer's routes outlive the session on these terms.
    ///
    /// A hold timer that expires does not count as a restart: a node that is silent for that long is most likely dead,
    /// and keeping its routes would attract traffic to nowhere. We tell the peer by a Hard Reset (RFC 8538 §3).
    pub(super) fn kept(&self, terms: &Negotiated) -> Kept {
        match self {
            Self::Reset => return Kept::Reset,
            Self::Sent(sent) if terms.graceful_notification && sent.is_cease(RESET) => return Kept::Reset,
            _ if terms.restart_families().is_empty() => return Kept::Nothing,
            _ => {}
        }
        let restarts = match self {
            Self::Sent(_) | Self::Received(_) if self.is_collision() => return Kept::All,
            Self::ConnectionLost | Self::Replaced => true,
            Self::Sent(notification) | Self::Received(notification) => {
                terms.graceful_notification && !notification.is_cease(CeaseReason::HardReset)
            }
            Self::SendHoldExpired | Self::Unreachable | Self::Restarting | Self::Reset => false,
        };
        if restarts { Kept::Session } else { Kept::Nothing }
    }
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(notification) => write!(f, "we sent {notification}"),
            Self::Received(notification) => write!(f, "peer sent {notification}"),
            Self::ConnectionLost => f.write_str("connection lost"),
            Self::SendHoldExpired => f.write_str("peer does not read: send hold timer expired"),
            Self::Replaced => f.write_str("peer came back on a new connection"),
            Self::Unreachable => f.write_str("peer is unreachable"),
            Self::Restarting => f.write_str("we restart"),
            Self::Reset => f.write_str("we are configured otherwise"),
        }
    }
}
