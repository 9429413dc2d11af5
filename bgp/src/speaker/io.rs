//! What goes into a speaker and what comes out. Both can be written down: a recorded session replays byte for byte.

use std::net::IpAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::config::{OriginConfig, PeerConfig, Shutdown};
use crate::bfd::Failure;
use crate::session::StateKind;
use crate::types::{ConnId, PeerKey};
use crate::wire::AttributeError;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// These are the peers, and no others. Of two with the same key the first counts.
    SetPeers(Vec<PeerConfig>),
    /// These are our own prefixes, and no others.
    SetOrigin(OriginConfig),
    /// [`SpeakerConfig::max_paths`](super::SpeakerConfig::max_paths).
    SetMaxPaths(usize),
    /// [`SpeakerConfig::restart_time`](super::SpeakerConfig::restart_time). Counts for each session from its next OPEN on.
    SetRestartTime(Option<u16>),
    /// TCP is established: one of our dials, or a connection accepted from `remote`. `local` is our end of it.
    Connected {
        conn: ConnId,
        local: IpAddr,
        remote: PeerKey,
    },
    DialFailed {
        conn: ConnId,
        error: String,
    },
    Received {
        conn: ConnId,
        bytes: Bytes,
    },
    /// TCP has taken so many bytes of what was to be sent.
    Sent {
        conn: ConnId,
        len: usize,
    },
    /// TCP has ended. Not given for connections that the speaker closes itself.
    Closed {
        conn: ConnId,
    },
    /// A deadline has passed.
    Tick,
    /// The link to this peer is gone.
    Unreachable(PeerKey),
    /// BFD has lost this peer.
    PathLost {
        key: PeerKey,
        failure: Failure,
    },
    /// The last input.
    Shutdown(Shutdown),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Answer with [`Input::Connected`] or [`Input::DialFailed`], unless [`Effect::Abort`] comes first.
    Dial {
        conn: ConnId,
        key: PeerKey,
    },
    Send {
        conn: ConnId,
        bytes: Bytes,
    },
    /// Send what is queued, then close. Nothing more is wanted of this connection.
    Close {
        conn: ConnId,
    },
    /// Close at once, or stop dialing. Nothing more is wanted of this connection.
    Abort {
        conn: ConnId,
    },
    PeerStateChanged {
        key: PeerKey,
        name: String,
        from: StateKind,
        to: StateKind,
        reason: Option<String>,
        /// Whether this is for the operator's log: a few of a peer at once, then one a minute.
        log: bool,
    },
    /// UPDATEs were wrong in a way that the session survives (RFC 7606). As rare as what is logged of a peer's state:
    /// `others` malformed attributes came beside this one since the last time.
    AttributeErrors {
        key: PeerKey,
        worst: AttributeError,
        others: u64,
    },
    /// Once: what the peers that are up have said is used. Those that are not have had [`SpeakerConfig::settle`].
    ///
    /// [`SpeakerConfig::settle`]: super::SpeakerConfig::settle
    Settled,
    /// Once, after [`Self::Settled`]: every peer has sent its End-of-RIB, or what an earlier speaker left in the FIB has
    /// waited long enough for it.
    Converged,
}
