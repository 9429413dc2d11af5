//! What a session is told to be.

use serde::{Deserialize, Serialize};

use super::timing::Terms;

/// Of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub terms: Terms,
    pub path: Path,
}

/// Between us and the peer. Both ends must mean the same: they speak on different ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Path {
    /// One link, UDP port 3784 (RFC 5881): what has been routed is refused.
    SingleHop,
    /// Any number of hops, UDP port 4784 (RFC 5883): what has less than this TTL left is refused.
    Multihop { least_ttl: u8 },
}

impl Path {
    pub fn port(self) -> u16 {
        match self {
            Self::SingleHop => 3784,
            Self::Multihop { .. } => 4784,
        }
    }

    pub(super) fn least_ttl(self) -> u8 {
        match self {
            Self::SingleHop => u8::MAX,
            Self::Multihop { least_ttl } => least_ttl,
        }
    }
}
