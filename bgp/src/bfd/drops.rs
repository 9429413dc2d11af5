//! Why datagrams were refused, and how many.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a datagram that came from a peer's address was not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DropReason {
    /// It has travelled further than the peer is away, or whoever sent it does not know of GTSM (RFC 5881 §5).
    Ttl,
    /// Single hop where multihop is configured, or the other way round.
    Port,
    Malformed,
    Authentication,
    /// It is meant for another session, mostly one that has ended.
    Discriminator,
}

impl DropReason {
    pub const ALL: [Self; 5] =
        [Self::Ttl, Self::Port, Self::Malformed, Self::Authentication, Self::Discriminator];
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ttl => "ttl",
            Self::Port => "port",
            Self::Malformed => "malformed",
            Self::Authentication => "authentication",
            Self::Discriminator => "discriminator",
        })
    }
}

/// How many, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Drops {
    pub(super) fn count(&mut self, reason: DropReason) {
        for (count, _) in self.0.iter_mut().zip(DropReason::ALL).filter(|(_, of)| *of == reason) {
            *count += 1;
        }
    }

    /// All reasons, in order.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.into_iter().zip(self.0)
    }

    pub fn of(&self, reason: DropReason) -> u64 {
        self.iter().find(|(of, _)| *of == reason).map_or(0, |(_, count)| count)
    }
}
