//! The decision process (RFC 4271 §9.1.2).

use std::fmt;

use serde::{Deserialize, Serialize};

/// The steps, in order. A path that leaves the race does so at one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Our own prefix before any learned one.
    Local,
    /// RFC 4271 §9.1.1; 100 where absent.
    LocalPref,
    /// §9.1.2.2 a.
    AsPathLength,
    /// b.
    Origin,
    /// c: only among paths from the same neighbouring AS; 0 where absent.
    Med,
    /// d: external before internal.
    PeerKind,
    /// e.
    IgpCost,
    /// RFC 5004: among external paths, the one that is already best.
    Incumbent,
    /// f: ORIGINATOR_ID in its place where present (RFC 4456 §9).
    RouterId,
    /// RFC 4456 §9.
    ClusterListLength,
    /// g.
    PeerAddress,
}

impl Step {
    /// What the winner has over the loser.
    pub fn advantage(self) -> &'static str {
        match self {
            Self::Local => "originated here",
            Self::LocalPref => "higher LOCAL_PREF",
            Self::AsPathLength => "shorter AS_PATH",
            Self::Origin => "lower ORIGIN",
            Self::Med => "lower MED",
            Self::PeerKind => "external rather than internal",
            Self::IgpCost => "lower IGP cost to the nexthop",
            Self::Incumbent => "already the best",
            Self::RouterId => "lower router ID",
            Self::ClusterListLength => "shorter CLUSTER_LIST",
            Self::PeerAddress => "lower peer address",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.advantage())
    }
}
