//! What people see of the RIB: owned values, made on request.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::decision::{self, Step};
use super::loc_rib::Core;
use super::peers::Age;
use super::policy::Rejection;
use super::table::{DestId, Path, PathId, Table, TablePrefix};
use crate::types::{Nexthop, PeerId};
use crate::wire::PathAttributes;

/// Prefixes that are looked at for examples of what is refused: a status must not take longer because a table is large.
const MAX_LOOKED_AT: usize = 65_536;

/// A prefix and all its paths, best first, unusable ones last. `P` names peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteStatus<P> {
    pub prefix: IpNetwork,
    pub paths: Vec<PathStatus<P>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStatus<P> {
    /// `None`: we originate it.
    pub from: Option<P>,
    /// `None` for our own.
    pub nexthop: Option<Nexthop>,
    pub attributes: PathAttributes,
    /// Kept over a restart of the peer and not confirmed since.
    pub stale: bool,
    pub standing: Standing,
}

impl<P> RouteStatus<P> {
    /// With other names for the same peers.
    pub fn renamed<Q>(self, name: impl Fn(P) -> Q) -> RouteStatus<Q> {
        let Self { prefix, paths } = self;
        let renamed = |PathStatus { from, nexthop, attributes, stale, standing }: PathStatus<P>| PathStatus {
            from: from.map(&name),
            nexthop,
            attributes,
            stale,
            standing,
        };
        RouteStatus { prefix, paths: paths.into_iter().map(renamed).collect() }
    }
}

/// What the decision made of one path, and why. `Display` says it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Chosen; the step that beat the last of the others, `None` when it is the only usable path.
    Best(Option<Step>),
    /// As good as the best up to the IGP cost: used beside it. The step that made it second.
    Multipath(Step),
    /// Usable, but lost to the best path at this step.
    Lost(Step),
    /// Not usable.
    Rejected(Rejection),
}

/// A route of a peer that is not used, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRoute {
    pub prefix: IpNetwork,
    pub rejection: Rejection,
}

impl Standing {
    pub fn is_best(self) -> bool {
        matches!(self, Self::Best(_))
    }

    /// The best path or one of its companions.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Best(_) | Self::Multipath(_))
    }

    /// Best first, then who stayed in the race longest, then the refused.
    fn rank(self) -> (u8, Reverse<Option<Step>>) {
        match self {
            Self::Best(_) => (0, Reverse(None)),
            Self::Multipath(step) => (1, Reverse(Some(step))),
            Self::Lost(step) => (2, Reverse(Some(step))),
            Self::Rejected(_) => (3, Reverse(None)),
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Best(None) => f.write_str("best: the only usable path"),
            Self::Best(Some(step)) => write!(f, "best: {step}"),
            Self::Multipath(step) => write!(f, "used beside the best, which has: {step}"),
            Self::Lost(step) => write!(f, "not used, the best has: {step}"),
            Self::Rejected(rejection) => write!(f, "refused: {rejection}"),
        }
    }
}

impl<P: TablePrefix> Table<P> {
    pub(super) fn view(&self, core: &Core) -> Vec<RouteStatus<PeerId>> {
        self.iter().filter_map(|dest| self.view_of(core, dest)).collect()
    }

    pub(super) fn longest_match(&self, core: &Core, host: P) -> Option<RouteStatus<PeerId>> {
        let mut views: Vec<_> = self.covering(host).filter_map(|dest| self.view_of(core, dest)).collect();
        let in_use = |view: &RouteStatus<PeerId>| view.paths.iter().any(|path| path.standing.is_active());
        let index = views.iter().rposition(in_use).or(views.len().checked_sub(1))?;
        Some(views.swap_remove(index))
    }

    /// The first refused routes of each peer that has any, at most `limit` of each.
    pub(super) fn refused(&self, core: &Core, limit: u32) -> BTreeMap<PeerId, Vec<RefusedRoute>> {
        let mut missing = core.peers.rejected(Self::FAMILY).map(|rejected| rejected.min(limit)).sum::<u32>();
        let mut found: BTreeMap<PeerId, Vec<RefusedRoute>> = BTreeMap::new();
        for dest in self.iter().take(MAX_LOOKED_AT) {
            if missing == 0 {
                break;
            }
            for (_, path) in self.chain(dest) {
                let alive = core.peers.age(path.peer, Self::FAMILY, path.epoch) != Age::Dead;
                let rejection = path.rejection.filter(|_| alive);
                let Some((rejection, peer)) = rejection.zip(core.peers.get(path.peer)) else { continue };
                let refused = found.entry(peer.id).or_default();
                if refused.len() < limit as usize {
                    refused.push(RefusedRoute { prefix: self.dest(dest).prefix.into(), rejection });
                    missing = missing.saturating_sub(1);
                }
            }
        }
        found
    }

    /// `None` when there is no path left.
    pub(super) fn view_of(&self, core: &Core, dest: DestId) -> Option<RouteStatus<PeerId>> {
        let standings = self.standings(core, dest);
        let mut paths: Vec<PathStatus<PeerId>> = self
            .chain(dest)
            .filter_map(|(id, path)| {
                let age = core.peers.age(path.peer, Self::FAMILY, path.epoch);
                let standing = match path.rejection {
                    Some(rejection) => Standing::Rejected(rejection),
                    None => standings.iter().find(|(usable, _)| *usable == id)?.1,
                };
                (age != Age::Dead).then(|| path_status(core, path, age, standing))
            })
            .collect();
        paths.sort_by_key(|path| (path.standing.rank(), path.from));
        (!paths.is_empty()).then(|| RouteStatus { prefix: self.dest(dest).prefix.into(), paths })
    }

    /// What the decision says of each usable path.
    fn standings(&self, core: &Core, dest: DestId) -> Vec<(PathId, Standing)> {
        let mut candidates = self.candidates(core, dest);
        let best = self.best(core, dest);
        let companions = decision::multipath(&candidates, core.config.max_paths);
        let mut contest = candidates.clone();
        contest.iter_mut().for_each(|candidate| candidate.incumbent = false);
        let wins = |outcome: &decision::Outcome| {
            candidates.iter().zip(outcome).any(|(c, lost)| lost.is_none() && Some(c.path) == best)
        };
        // That it was there first is the reason only where no other one is.
        let mut outcome = decision::decide(&contest);
        if !wins(&outcome) {
            outcome = decision::decide(&candidates);
        }
        let closest = outcome.iter().copied().flatten().max();
        let standing = |(candidate, lost): (decision::Candidate, Option<Step>)| match lost {
            None => (candidate.path, Standing::Best(closest)),
            Some(step) if companions.contains(&candidate.path) => (candidate.path, Standing::Multipath(step)),
            Some(step) => (candidate.path, Standing::Lost(step)),
        };
        candidates.drain(..).zip(outcome).map(standing).collect()
    }
}

fn path_status(core: &Core, path: &Path, age: Age, standing: Standing) -> PathStatus<PeerId> {
    PathStatus {
        from: core.peers.get(path.peer).map(|peer| peer.id),
        nexthop: core.shared.via(path.nexthop).map(|via| via.nexthop),
        attributes: core.shared.attributes.get(path.attributes).values.clone(),
        stale: age == Age::Stale,
        standing,
    }
}
