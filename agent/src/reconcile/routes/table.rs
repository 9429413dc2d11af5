//! What the route reconciler remembers: both sides of the diff, and which prefixes to compare. Pure.
//!
//! Invariant: outside the dirty prefixes, `have` equals what we want, or `failed` says why not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use weft_api::{LINK_PREFIX, ROUTE_PROTOCOL};
use weft_bgp::types::FibNexthop;

use super::RouteStatus;
use crate::kernel::monitor::Event;
use crate::kernel::route::{Hop, KernelRoute, Refused, RouteKey, RouteOp, Target};
use crate::plan::routes::{self, Routes, Table, is_ours, own_key};
use crate::watch::Problem;

/// Prefixes to compare.
#[derive(Debug)]
pub(super) enum Dirty {
    Some(BTreeSet<IpNetwork>),
    All,
}

impl Default for Dirty {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

#[derive(Debug)]
pub(super) struct Work {
    /// `None`: not known yet, so nothing may be written.
    own: Option<Vec<IpNetwork>>,
    learned: BTreeMap<IpNetwork, Vec<FibNexthop>>,
    /// The speaker has heard out the peers that are up.
    pub(super) settled: bool,
    /// Before, routes that nobody has spoken of stay: an earlier agent left them.
    converged: bool,
    /// Withdrawn before convergence: these need not wait.
    withdrawn: BTreeSet<IpNetwork>,
    have: Table,
    pub(super) reach: BTreeMap<IpAddr, BTreeSet<Hop>>,
    pub(super) dirty: Dirty,
    /// The table must be read.
    pub(super) observe: bool,
    /// Nexthops must be looked up.
    pub(super) resolve: bool,
    failed: BTreeMap<IpNetwork, String>,
    links_up: BTreeMap<u32, bool>,
    drift: u64,
}

impl Work {
    pub(super) fn new(have: Table) -> Self {
        Self {
            own: None,
            learned: BTreeMap::new(),
            settled: false,
            converged: false,
            withdrawn: BTreeSet::new(),
            have,
            reach: BTreeMap::new(),
            dirty: Dirty::All,
            observe: false,
            resolve: false,
            failed: BTreeMap::new(),
            links_up: BTreeMap::new(),
            drift: 0,
        }
    }

    pub(super) fn set_own(&mut self, own: Vec<IpNetwork>) {
        if self.own.as_ref() != Some(&own) {
            self.own = Some(own);
            self.dirty = Dirty::All;
        }
    }

    pub(super) fn is_started(&self) -> bool {
        self.own.is_some()
    }

    pub(super) fn restart(&mut self) {
        self.learned.clear();
        self.withdrawn.clear();
        (self.settled, self.converged) = (false, false);
    }

    pub(super) fn learn(&mut self, prefix: IpNetwork, nexthops: Vec<FibNexthop>) {
        self.touch(prefix);
        if nexthops.is_empty() {
            self.learned.remove(&prefix);
            self.withdrawn.insert(prefix);
        } else {
            self.learned.insert(prefix, nexthops);
            self.withdrawn.remove(&prefix);
        }
    }

    pub(super) fn learned(&self) -> usize {
        self.learned.len()
    }

    pub(super) fn converge(&mut self) {
        self.converged = true;
        self.withdrawn.clear();
        self.dirty = Dirty::All;
    }

    pub(super) fn needs_reading(&self) -> bool {
        self.observe || self.resolve
    }

    pub(super) fn read_again(&mut self) {
        (self.observe, self.resolve) = (true, true);
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.needs_reading() && matches!(&self.dirty, Dirty::Some(prefixes) if prefixes.is_empty())
    }

    pub(super) fn has_failures(&self) -> bool {
        !self.failed.is_empty()
    }

    pub(super) fn observed(&mut self, have: Table) {
        self.have = have;
        self.dirty = Dirty::All;
    }

    pub(super) fn reached(&mut self, reach: BTreeMap<IpAddr, BTreeSet<Hop>>) {
        if self.reach != reach {
            self.reach = reach;
            self.dirty = Dirty::All;
        }
    }

    /// Those that need a look-up.
    pub(super) fn nexthops(&self) -> BTreeSet<IpAddr> {
        let all = self.learned.values().flatten();
        all.filter(|nexthop| nexthop.interface.is_none()).map(|nexthop| nexthop.address).collect()
    }

    /// Those of dirty prefixes that were never looked up.
    pub(super) fn unresolved(&self) -> BTreeSet<IpAddr> {
        let unknown =
            |nexthop: &&FibNexthop| nexthop.interface.is_none() && !self.reach.contains_key(&nexthop.address);
        let of = |nexthops: &Vec<FibNexthop>| -> Vec<IpAddr> {
            nexthops.iter().filter(unknown).map(|nexthop| nexthop.address).collect()
        };
        match &self.dirty {
            Dirty::All => self.learned.values().flat_map(of).collect(),
            Dirty::Some(prefixes) => {
                prefixes.iter().filter_map(|prefix| self.learned.get(prefix)).flat_map(of).collect()
            }
        }
    }

    /// Nexthops on this very link.
    pub(super) fn directly_on(&self, link: u32) -> Vec<IpAddr> {
        let direct =
            |(address, hops): &(&IpAddr, &BTreeSet<Hop>)| hops.contains(&Hop { gateway: **address, link });
        self.reach.iter().filter(direct).map(|(address, _)| *address).collect()
    }

    /// It is reached without a gateway.
    pub(super) fn is_on_a_link(&self, nexthop: IpAddr) -> bool {
        self.reach.get(&nexthop).is_some_and(|hops| hops.iter().any(|hop| hop.gateway == nexthop))
    }

    /// Both sides, as far as they are to be compared.
    pub(super) fn sides(&self, dirty: &Dirty) -> (Routes, Table) {
        let own = self.own.as_deref().unwrap_or_default();
        let target = |prefix: IpNetwork| {
            let nexthops = self.learned.get(&prefix).map(Vec::as_slice).unwrap_or_default();
            Some((own_key(prefix), routes::target(prefix, own, nexthops, &self.reach)?))
        };
        match dirty {
            Dirty::All => {
                let want =
                    own.iter().chain(self.learned.keys()).filter_map(|prefix| target(*prefix)).collect();
                let ours = self.have.ours.iter().filter(|(key, _)| !self.is_stale(key));
                let ours = ours.map(|(key, target)| (*key, target.clone())).collect();
                (want, Table { ours, taken: self.have.taken.clone() })
            }
            Dirty::Some(prefixes) => {
                let want = prefixes.iter().filter_map(|prefix| target(*prefix)).collect();
                let ours = prefixes.iter().flat_map(|prefix| self.have.of_prefix(*prefix));
                let ours = ours.filter(|(key, _)| !self.is_stale(key));
                let taken = prefixes.iter().filter_map(|prefix| self.have.taken.get_key_value(prefix));
                let have = Table {
                    ours: ours.map(|(key, target)| (*key, target.clone())).collect(),
                    taken: taken.map(|(prefix, protocol)| (*prefix, *protocol)).collect(),
                };
                (want, have)
            }
        }
    }

    /// Left by an earlier agent, or learned by an earlier speaker, and to be kept for the time being.
    fn is_stale(&self, key: &RouteKey) -> bool {
        let own = self.own.as_deref().unwrap_or_default();
        let spoken_of = self.learned.contains_key(&key.prefix)
            || self.withdrawn.contains(&key.prefix)
            || own.iter().any(|cidr| routes::covers(*cidr, key.prefix));
        !self.converged && !spoken_of
    }

    pub(super) fn applied(&mut self, changes: &[RouteOp], refused: &[Refused]) {
        let errors: BTreeMap<RouteKey, &Refused> =
            refused.iter().map(|refused| (refused.key, refused)).collect();
        for change in changes {
            let key = change.key();
            self.failed.remove(&key.prefix);
            let errno = errors.get(&key).and_then(|refused| refused.error.raw_os_error());
            match (change, errors.get(&key)) {
                (RouteOp::Add(_, target) | RouteOp::Replace(_, target), None) => {
                    self.have.ours.insert(key, target.clone());
                }
                // It is gone, one way or the other.
                (RouteOp::Delete(_), None) => drop(self.have.ours.remove(&key)),
                (RouteOp::Delete(_), Some(_)) if errno == Some(libc::ESRCH) => {
                    drop(self.have.ours.remove(&key));
                }
                // We do not know the table as well as we thought.
                (RouteOp::Add(..), Some(_)) if errno == Some(libc::EEXIST) => self.observe = true,
                (_, Some(Refused { error, .. })) => {
                    self.failed.insert(key.prefix, format!("kernel refused the route: {error}"));
                }
            }
        }
    }

    /// Compares once more what the kernel refused.
    pub(super) fn retry(&mut self) {
        for prefix in self.failed.keys().copied().collect::<Vec<_>>() {
            self.touch(prefix);
        }
    }

    pub(super) fn handle_event(&mut self, event: Event, our_port: u32) {
        match event {
            Event::Route { by, .. } if by == our_port => {}
            Event::Route { route, gone, .. } => self.handle_route(&route, gone),
            Event::Link { name, .. } if name.starts_with(LINK_PREFIX) => {}
            Event::Link { index, up, .. } => {
                if self.links_up.insert(index, up) != Some(up) {
                    self.read_again();
                }
            }
            Event::Address { .. } | Event::Lost => self.read_again(),
        }
    }

    fn handle_route(&mut self, route: &KernelRoute, gone: bool) {
        let KernelRoute { key, protocol, target } = route;
        if is_ours(route) {
            self.drift += 1;
            self.touch(key.prefix);
            match gone {
                true => drop(self.have.ours.remove(key)),
                false => drop(self.have.ours.insert(*key, target.clone())),
            }
        } else if *protocol != ROUTE_PROTOCOL {
            self.resolve = true;
            if gone {
                // Perhaps not the only one: only the table knows.
                self.observe |= self.have.taken.remove(&key.prefix).is_some();
            } else {
                self.have.taken.insert(key.prefix, *protocol);
                // One key, one route: ours was replaced.
                self.drift += u64::from(self.have.ours.remove(key).is_some());
            }
            self.touch(key.prefix);
        }
    }

    fn touch(&mut self, prefix: IpNetwork) {
        match &mut self.dirty {
            Dirty::All => {}
            Dirty::Some(prefixes) => drop(prefixes.insert(prefix)),
        }
    }

    pub(super) fn installed(&self, prefix: Option<IpNetwork>) -> Vec<(IpNetwork, Target)> {
        let ours = self.have.ours.iter().filter(|(key, _)| prefix.is_none_or(|prefix| prefix == key.prefix));
        ours.map(|(key, target)| (key.prefix, target.clone())).collect()
    }

    pub(super) fn status(&self) -> RouteStatus {
        let count =
            |v4| u32::try_from(self.have.ours.keys().filter(|key| key.prefix.is_ipv4() == v4).count());
        let own = self.own.as_deref().unwrap_or_default();
        let wanted = own.iter().chain(self.learned.keys());
        let conflicts = wanted.filter_map(|prefix| {
            let protocol = self.have.taken.get(prefix)?;
            let reason = format!("belongs to route protocol {protocol}, left alone");
            Some(Problem { object: format!("route {prefix}"), reason })
        });
        let unreachable = self.reach.iter().filter(|(_, hops)| hops.is_empty()).map(|(nexthop, _)| Problem {
            object: format!("nexthop {nexthop}"),
            reason: "no route leads to it; routes by it are not installed".to_owned(),
        });
        let failures = self
            .failed
            .iter()
            .map(|(prefix, reason)| Problem { object: format!("route {prefix}"), reason: reason.clone() });
        RouteStatus {
            settled: self.is_started() && self.settled,
            ipv4: count(true).unwrap_or(u32::MAX),
            ipv6: count(false).unwrap_or(u32::MAX),
            drift: self.drift,
            problems: conflicts.chain(failures).chain(unreachable).collect(),
        }
    }
}
