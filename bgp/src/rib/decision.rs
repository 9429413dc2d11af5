//! The decision process: which of a prefix's usable paths is best, and which step says so.
//!
//! RFC 4271 §9.1.2.2 with the steps of RFC 4456 §9 (reflection) and RFC 5004 (keep what is best already).

use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::types::{Asn, PeerId, PeerKind, RouterId};
use crate::wire::Origin;

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
            Self::Local => "local origin",
            Self::LocalPref => "higher LOCAL_PREF",
            Self::AsPathLength => "shorter AS_PATH",
            Self::Origin => "lower ORIGIN",
            Self::Med => "lower MED",
            Self::PeerKind => "an external peer",
            Self::IgpCost => "lower IGP cost to the nexthop",
            Self::Incumbent => "seniority (RFC 5004)",
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

/// A usable path, as the decision sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Whose; the caller's own name for the path.
    pub(super) path: u32,
    pub(super) local: bool,
    pub(super) local_pref: u32,
    pub(super) as_path_length: u32,
    pub(super) origin: Origin,
    /// The AS next to ours on the path; `None` for paths that begin in our own (RFC 4271 §9.1.2.2 c).
    pub(super) neighbor: Option<Asn>,
    pub(super) med: u32,
    pub(super) kind: PeerKind,
    pub(super) igp_cost: u32,
    /// Best before this decision.
    pub(super) incumbent: bool,
    /// The originator's where a reflector names it.
    pub(super) router_id: RouterId,
    pub(super) cluster_list_length: usize,
    /// Link-local addresses of two peers may be equal; the rest tells them apart.
    pub(super) peer: (IpAddr, Option<u32>, PeerId),
}

/// Of each candidate, the step at which it left the race; `None` for the one best path.
pub(super) type Outcome = SmallVec<[Option<Step>; 8]>;

/// Runs the steps over a set of candidates, all at once, so that the result does not depend on their order: a
/// comparison in pairs would, because MED ranks only paths of one neighbour ("deterministic MED").
///
/// Exactly one entry of the outcome is `None`, unless there are no candidates.
pub(super) fn decide(candidates: &[Candidate]) -> Outcome {
    let mut race = Race { candidates, outcome: SmallVec::from_elem(None, candidates.len()) };
    race.keep_least(Step::Local, |c| !c.local);
    race.keep_least(Step::LocalPref, |c| Reverse(c.local_pref));
    race.keep_least(Step::AsPathLength, |c| c.as_path_length);
    race.keep_least(Step::Origin, |c| c.origin);
    race.drop_beaten(Step::Med, |c, other| other.neighbor == c.neighbor && other.med < c.med);
    race.keep_least(Step::PeerKind, |c| c.kind == PeerKind::Internal);
    race.keep_least(Step::IgpCost, |c| c.igp_cost);
    // RFC 5004 §3: not between internal paths, and not between two sessions to one router.
    race.drop_beaten(Step::Incumbent, |c, other| {
        other.incumbent && c.kind == PeerKind::External && c.router_id != other.router_id
    });
    race.keep_least(Step::RouterId, |c| c.router_id);
    race.keep_least(Step::ClusterListLength, |c| c.cluster_list_length);
    race.keep_least(Step::PeerAddress, |c| c.peer);
    race.outcome
}

/// The best path and those as good as it up to the IGP cost, at most `max_paths`; the best first, the others in the
/// order of the tie-breaking steps. Our own prefix has no companions.
pub(super) fn multipath(candidates: &[Candidate], max_paths: usize) -> SmallVec<[u32; 8]> {
    let outcome = decide(candidates);
    let mut chosen: SmallVec<[(&Candidate, bool); 8]> = SmallVec::new();
    for (candidate, lost) in candidates.iter().zip(outcome) {
        match lost {
            None => chosen.push((candidate, false)),
            Some(step) if step > Step::IgpCost => chosen.push((candidate, true)),
            Some(_) => {}
        }
    }
    chosen.sort_by_key(|(c, companion)| (*companion, c.router_id, c.cluster_list_length, c.peer));
    chosen.truncate(max_paths.max(1));
    chosen.into_iter().map(|(candidate, _)| candidate.path).collect()
}

struct Race<'a> {
    candidates: &'a [Candidate],
    outcome: Outcome,
}

impl Race<'_> {
    fn keep_least<K: Ord>(&mut self, step: Step, key: impl Fn(&Candidate) -> K) {
        let running = self.candidates.iter().zip(&self.outcome).filter(|(_, lost)| lost.is_none());
        let Some(least) = running.map(|(candidate, _)| key(candidate)).min() else { return };
        for (candidate, lost) in self.candidates.iter().zip(&mut self.outcome) {
            if lost.is_none() && key(candidate) > least {
                *lost = Some(step);
            }
        }
    }

    /// Drops every candidate that some other running one beats.
    fn drop_beaten(&mut self, step: Step, beats: impl Fn(&Candidate, &Candidate) -> bool) {
        let before = self.outcome.clone();
        let running = || self.candidates.iter().zip(&before).filter(|(_, lost)| lost.is_none());
        for (candidate, lost) in self.candidates.iter().zip(&mut self.outcome) {
            if lost.is_none() && running().any(|(other, _)| beats(candidate, other)) {
                *lost = Some(step);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn candidate(path: u32, igp_cost: u32) -> Candidate {
        let router_id = RouterId(Ipv4Addr::from_bits(path));
        Candidate {
            path,
            local: false,
            local_pref: 100,
            as_path_length: 1,
            origin: Origin::Igp,
            neighbor: None,
            med: 0,
            kind: PeerKind::External,
            igp_cost,
            incumbent: false,
            router_id,
            cluster_list_length: 0,
            peer: (router_id.0.into(), None, PeerId(path)),
        }
    }

    #[test]
    fn what_is_reached_at_a_higher_cost_is_no_companion() {
        let candidates = [candidate(4, 5), candidate(3, 5), candidate(2, 6), candidate(1, 5)];
        assert_eq!(multipath(&candidates, 8).as_slice(), [1, 3, 4]);
        assert_eq!(multipath(&candidates, 2).as_slice(), [1, 3]);
        assert_eq!(multipath(&candidates, 0).as_slice(), [1], "the best in any case");
        assert_eq!(decide(&candidates)[2], Some(Step::IgpCost));
    }
}
