//! What a speaker shows of itself: values for people and metrics.

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::rib::{Counts, RefusedRoute};
use crate::session::StateKind;
use crate::types::{AfiSafi, Asn, PeerId, PeerKey, RouterId};

/// One configured peer and its session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    pub id: PeerId,
    pub name: String,
    pub key: PeerKey,
    pub port: u16,
    /// The peer's AS: as configured, else from its OPEN.
    pub asn: Option<Asn>,
    pub local_asn: Asn,
    /// Of the more advanced connection when there are two.
    pub state: StateKind,
    /// Time in this state.
    pub state_age: Duration,
    /// From the peer's OPEN, while there is a session.
    pub router_id: Option<RouterId>,
    /// Negotiated, seconds; 0 means never.
    pub hold_time: Option<u16>,
    pub families: Vec<(AfiSafi, Counts)>,
    /// Why the session went down last, in words.
    pub last_error: Option<String>,
    pub messages_in: u64,
    pub messages_out: u64,
    /// Times that the session reached Established.
    pub established_count: u64,
    /// In UPDATEs that the session survived (RFC 7606), since the peer was configured.
    pub malformed_attributes: u64,
    /// The first few routes of each family that are refused, and why.
    pub refused: Vec<RefusedRoute>,
    /// Capabilities that both sides have, by name.
    pub capabilities: Vec<String>,
}

/// Which routes to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteFilter {
    All,
    /// Exactly this prefix.
    Prefix(IpNetwork),
    /// The one that packets to this address take.
    LongestMatch(IpAddr),
}
