//! The nouns of BGP that every module shares. Nothing here acts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Add;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// An autonomous system number (RFC 6793); 0 is reserved and never valid on the wire (RFC 7607).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Asn(pub u32);

impl Asn {
    /// Stands in two-octet fields for a number that does not fit (RFC 6793 §9).
    pub const TRANS: Self = Self(23456);

    /// As a two-octet field has it (RFC 6793 §4.2.2).
    pub fn two_octets(self) -> u16 {
        const TRANS: u16 = 23456;
        u16::try_from(self.0).unwrap_or(TRANS)
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AS{}", self.0)
    }
}

/// A BGP identifier: unique within its AS, never zero, not necessarily an address (RFC 6286).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RouterId(pub Ipv4Addr);

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The address families we carry, as (AFI, SAFI) pairs (RFC 4760).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfiSafi {
    Ipv4Unicast,
    Ipv6Unicast,
}

impl AfiSafi {
    pub const ALL: [Self; 2] = [Self::Ipv4Unicast, Self::Ipv6Unicast];

    /// Its place in arrays with an element per family.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Ipv4Unicast => 0,
            Self::Ipv6Unicast => 1,
        }
    }

    pub fn of(prefix: IpNetwork) -> Self {
        if prefix.is_ipv4() { Self::Ipv4Unicast } else { Self::Ipv6Unicast }
    }

    pub fn codes(self) -> (u16, u8) {
        match self {
            Self::Ipv4Unicast => (1, 1),
            Self::Ipv6Unicast => (2, 1),
        }
    }

    pub fn from_codes(afi: u16, safi: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.codes() == (afi, safi))
    }
}

impl fmt::Display for AfiSafi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Unicast => "ipv4-unicast",
            Self::Ipv6Unicast => "ipv6-unicast",
        })
    }
}

/// Where a path leads. An IPv6 nexthop may carry the peer's link-local address too (RFC 2545 §3);
/// it may also serve IPv4 prefixes (RFC 8950).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Nexthop {
    V4(Ipv4Addr),
    V6 { global: Ipv6Addr, link_local: Option<Ipv6Addr> },
}

/// Inside the AS or across its border: decides attribute rules, loop checks and the decision process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerKind {
    Internal,
    External,
}

/// Which AS a peer must be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RemoteAsn {
    Number(Asn),
    /// The same as ours.
    Internal,
    /// Any other than ours.
    External,
    /// Ours or any other: of a peer that is known by its address alone, and may lie several hops away.
    Any,
}

impl RemoteAsn {
    /// What can be said before the peer's OPEN.
    pub fn is_external(self, local: Asn) -> bool {
        match self {
            Self::Number(asn) => asn != local,
            Self::External => true,
            Self::Internal | Self::Any => false,
        }
    }

    /// Whether `asn`, of an OPEN, is the peer that we mean.
    pub fn admits(self, asn: Asn, local: Asn) -> bool {
        match self {
            Self::Number(expected) => asn == expected,
            Self::Internal => asn == local,
            Self::External => asn != local,
            Self::Any => true,
        }
    }
}

/// Tells peers apart: one session per remote address, and per interface where the address is link-local.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerKey {
    pub address: IpAddr,
    /// Interface index; `None` unless the address is link-local.
    pub interface: Option<u32>,
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.interface {
            Some(index) => write!(f, "{}%{index}", self.address),
            None => self.address.fmt(f),
        }
    }
}

/// Names a configured peer for as long as it is configured. Never reused within one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PeerId(pub u32);

/// Names one TCP connection; never reused, so that a late event of a closed connection is recognised and ignored.
///
/// Who starts a connection names it: the speaker those that it asks for, the shell those that it accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConnId {
    Dialed { peer: PeerId, attempt: u32 },
    Accepted(u64),
}

/// What of a peer's routes outlives a session with it, as stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The peer is not expected back.
    Nothing,
    /// What it has said in the session: it restarts. What an earlier session has left goes (RFC 4724 §4.2).
    Session,
    /// What it has said in the session: it goes on as before, and we open another on other terms.
    Reset,
    /// Also what an earlier session has left: the peer has another connection, which takes the place of this one (RFC 4271
    /// §6.8).
    All,
}

/// What the FIB should hold for one prefix; without nexthops: nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub prefix: IpNetwork,
    /// In order, without duplicates, at most the configured number of paths.
    pub nexthops: Vec<FibNexthop>,
}

/// A gateway. An IPv4 prefix may have an IPv6 gateway (RFC 8950).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FibNexthop {
    pub address: IpAddr,
    /// Interface index. Given exactly when `address` is link-local.
    pub interface: Option<u32>,
}

/// A point on the caller's monotonic clock: the time since some start that only the caller knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instant(pub Duration);

impl Instant {
    /// Zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}
