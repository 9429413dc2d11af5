//! What the route reconciler remembers: both sides of the diff, and which prefixes to compare. Pure.
//!
//! Invariant: outside the dirty prefixes, `have` equals what we want, or `failed` says why not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::{Bound, RangeBounds as _};

use ipnetwork::IpNetwork;
use weft_api::control::Problem;
use weft_api::prefix::holds;
use weft_api::{LINK_PREFIX, ROUTE_PROTOCOL};
use weft_bgp::types::FibNexthop;

use super::RouteStatus;
use super::dirty::Dirty;
use crate::fib::{Hop, KernelRoute, RouteKey, RouteOp, Target};
use crate::kernel::monitor::Event;
use crate::kernel::route::Refused;
use crate::plan::routes::{self, Routes, Table, is_ours, own_key};

/// More problems of a kind are not listed: a table full of them says no more than the first.
const MAX_PROBLEMS: usize = 16;

#[derive(Debug)]
pub(super) struct Work {
    /// `None`: not known yet, so nothing may be written.
    own: Option<Vec<IpNetwork>>,
    /// Peers: looked up like nexthops, for the links that lead to them.
    peers: BTreeSet<IpAddr>,
    learned: BTreeMap<IpNetwork, Vec<FibNexthop>>,
    /// The speaker has heard out the peers that are up.
    pub(super) settled: bool,
    /// Of how many learned routes.
    nexthops: BTreeMap<FibNexthop, usize>,
    /// Before, routes that nobody has spoken of stay: an earlier agent left them.
    converged: bool,
    /// Withdrawn before convergence: these need not wait.
    withdrawn: BTreeSet<IpNetwork>,
    have: Table,
    reach: BTreeMap<IpAddr, BTreeSet<Hop>>,
    dirty: Dirty,
    /// The table must be read.
    pub(super) observe: bool,
    /// Nexthops and peers that must be looked up.
    pub(super) lookups: BTreeSet<IpAddr>,
    /// Wanted, and held by others.
    conflicts: BTreeMap<IpNetwork, Option<u8>>,
    failed: BTreeMap<IpNetwork, String>,
    /// Up or not, and MTU.
    links: BTreeMap<u32, (bool, u32)>,
    drift: u64,
}

impl Work {
    pub(super) fn new(have: Table) -> Self {
        let mut dirty = Dirty::default();
        dirty.set_all();
        Self {
            own: None,
            peers: BTreeSet::new(),
            learned: BTreeMap::new(),
            settled: false,
            nexthops: BTreeMap::new(),
            converged: false,
            withdrawn: BTreeSet::new(),
            have,
            reach: BTreeMap::new(),
            dirty,
            observe: false,
            lookups: BTreeSet::new(),
            conflicts: BTreeMap::new(),
            failed: BTreeMap::new(),
            links: BTreeMap::new(),
            drift: 0,
        }
    }

    pub(super) fn set_own(&mut self, own: Vec<IpNetwork>) {
        if self.own.as_ref() != Some(&own) {
            self.dirty.set_all();
            let before = self.own.replace(own);
            before.into_iter().flatten().for_each(|prefix| self.dirty.insert(prefix));
        }
    }

    pub(super) fn set_peers(&mut self, peers: BTreeSet<IpAddr>) {
        self.lookups.extend(peers.difference(&self.peers));
        self.peers = peers;
        self.forget_unused();
    }

    pub(super) fn is_started(&self) -> bool {
        self.own.is_some()
    }

    pub(super) fn restart(&mut self) {
        self.learned.clear();
        self.nexthops.clear();
        self.withdrawn.clear();
        (self.settled, self.converged) = (false, false);
    }

    pub(super) fn learn(&mut self, prefix: IpNetwork, nexthops: Vec<FibNexthop>) {
        self.dirty.insert(prefix);
        for nexthop in &nexthops {
            *self.nexthops.entry(*nexthop).or_default() += 1;
        }
        let before = if nexthops.is_empty() {
            self.withdrawn.insert(prefix);
            self.learned.remove(&prefix)
        } else {
            self.withdrawn.remove(&prefix);
            self.learned.insert(prefix, nexthops)
        };
        let mut unused = false;
        for nexthop in before.into_iter().flatten() {
            if let Some(uses) = self.nexthops.get_mut(&nexthop) {
                *uses -= 1;
                unused |= *uses == 0;
            }
        }
        if unused {
            self.nexthops.retain(|_, uses| *uses > 0);
            self.forget_unused();
        }
    }

    fn forget_unused(&mut self) {
        let used = self.to_look_up();
        self.reach.retain(|address, _| used.contains(address));
        self.lookups.retain(|address| used.contains(address));
    }

    /// All addresses whose way matters.
    fn to_look_up(&self) -> BTreeSet<IpAddr> {
        let nexthops = self.nexthops.keys().filter(|nexthop| nexthop.interface.is_none());
        nexthops.map(|nexthop| nexthop.address).chain(self.peers.iter().copied()).collect()
    }

    pub(super) fn learned(&self) -> usize {
        self.learned.len()
    }

    pub(super) fn converge(&mut self) {
        self.converged = true;
        self.withdrawn.clear();
        self.dirty.set_all();
    }

    pub(super) fn needs_reading(&self) -> bool {
        self.observe || !self.lookups.is_empty()
    }

    pub(super) fn read_again(&mut self) {
        self.observe = true;
        self.lookups = self.to_look_up();
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.needs_reading() && self.dirty.is_empty()
    }

    pub(super) fn has_failures(&self) -> bool {
        !self.failed.is_empty()
    }

    pub(super) fn observed(&mut self, have: Table) {
        self.have = have;
        self.dirty.set_all();
    }

    pub(super) fn reached(&mut self, reach: BTreeMap<IpAddr, BTreeSet<Hop>>) {
        for (address, hops) in reach {
            self.lookups.remove(&address);
            if self.reach.get(&address) != Some(&hops) {
                self.reach.insert(address, hops);
                self.dirty.set_all();
            }
        }
    }

    /// The next prefixes to compare, not empty; `None`: there are no more.
    pub(super) fn next_slice(&mut self) -> Option<BTreeSet<IpNetwork>> {
        let Self { dirty, have, learned, own, conflicts, failed, .. } = self;
        let slice = dirty.take(|from, count| {
            let beyond = (from, Bound::Unbounded);
            let key = from.map(|prefix| RouteKey { prefix, metric: u32::MAX });
            let ours = have.ours.range((key, Bound::Unbounded)).take(count).map(|(key, _)| key.prefix);
            let learned = learned.range(beyond).take(count).map(|(prefix, _)| *prefix);
            let own = own.iter().flatten().copied().filter(|prefix| beyond.contains(prefix));
            let noted = conflicts.range(beyond).map(|(prefix, _)| *prefix).take(count);
            let noted = noted.chain(failed.range(beyond).map(|(prefix, _)| *prefix).take(count));
            ours.chain(learned).chain(own).chain(noted).collect()
        });
        (!slice.is_empty()).then_some(slice)
    }

    /// Nexthops of these that were never looked up.
    pub(super) fn unresolved(&self, prefixes: &BTreeSet<IpNetwork>) -> BTreeSet<IpAddr> {
        let nexthops = prefixes.iter().filter_map(|prefix| self.learned.get(prefix)).flatten();
        let unknown = nexthops.filter(|nexthop| nexthop.interface.is_none());
        unknown.map(|nexthop| nexthop.address).filter(|address| !self.reach.contains_key(address)).collect()
    }

    pub(super) fn resolved(&mut self, nexthop: IpAddr, hops: BTreeSet<Hop>) {
        self.reach.insert(nexthop, hops);
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

    /// Both sides of these prefixes. What others hold of them is noted.
    pub(super) fn sides(&mut self, prefixes: &BTreeSet<IpNetwork>) -> (Routes, Table) {
        let (mut want, mut have) = (Routes::new(), Table::default());
        for prefix in prefixes {
            let target = self.target(*prefix);
            self.failed.remove(prefix);
            match self.have.taken.get(prefix).filter(|_| target.is_some()) {
                Some(protocol) => {
                    have.taken.insert(*prefix, *protocol);
                    // Whether it is there still, only the table knows.
                    self.observe |= protocol.is_none();
                    self.conflicts.insert(*prefix, *protocol);
                }
                None => drop(self.conflicts.remove(prefix)),
            }
            want.extend(target.map(|target| (own_key(*prefix), target)));
            let ours = self.have.of_prefix(*prefix).filter(|(key, _)| !self.is_stale(key));
            have.ours.extend(ours.map(|(key, target)| (*key, target.clone())));
        }
        (want, have)
    }

    fn target(&self, prefix: IpNetwork) -> Option<Target> {
        // The CNI's, even where its pod CIDR is not the node's any more.
        if self.have.pods.contains(&prefix) {
            return None;
        }
        let nexthops = self.learned.get(&prefix).map(Vec::as_slice).unwrap_or_default();
        routes::target(prefix, self.own.as_deref().unwrap_or_default(), nexthops, &self.reach)
    }

    /// Left by an earlier agent, or learned by an earlier speaker, and to be kept for the time being.
    fn is_stale(&self, key: &RouteKey) -> bool {
        let own = self.own.as_deref().unwrap_or_default();
        let spoken_of = self.learned.contains_key(&key.prefix)
            || self.withdrawn.contains(&key.prefix)
            || own.iter().any(|cidr| holds(*cidr, key.prefix));
        !self.converged && !spoken_of
    }

    pub(super) fn applied(&mut self, changes: &[RouteOp], refused: &[Refused]) {
        let errors: BTreeMap<RouteKey, &Refused> =
            refused.iter().map(|refused| (refused.key, refused)).collect();
        for change in changes {
            let key = change.key();
            let errno = errors.get(&key).and_then(|refused| refused.error.raw_os_error());
            let was_gone = matches!(change, RouteOp::Delete(_)) && errno == Some(libc::ESRCH);
            match (change, errors.get(&key).filter(|_| !was_gone)) {
                (RouteOp::Add(_, target) | RouteOp::Replace(_, target), None) => {
                    self.have.insert_ours(key, target.clone());
                    // Of ours, only such a route may lead to a nexthop.
                    if key.prefix.prefix() == 0 {
                        self.look_up_within(key.prefix);
                    }
                }
                // Others lead to what is in it.
                (RouteOp::Delete(_), None) => {
                    self.have.remove_ours(&key);
                    self.look_up_within(key.prefix);
                }
                // We do not know the table as well as we thought.
                (RouteOp::Add(..), Some(_)) if errno == Some(libc::EEXIST) => self.observe = true,
                (_, Some(Refused { error, .. })) => {
                    self.failed.insert(key.prefix, format!("kernel refused the route: {error}"));
                }
            }
        }
    }

    fn look_up_within(&mut self, prefix: IpNetwork) {
        let within = self.reach.range(prefix.network()..=prefix.broadcast());
        self.lookups.extend(within.map(|(address, _)| *address));
    }

    /// Compares once more what the kernel refused.
    pub(super) fn retry(&mut self) {
        self.failed.keys().for_each(|prefix| self.dirty.insert(*prefix));
    }

    pub(super) fn handle_event(&mut self, event: Event, our_port: u32) {
        match event {
            Event::Route { by, .. } if by == our_port => {}
            Event::Route { route, gone, .. } => self.handle_route(route, gone),
            // The IPv4 route to its pod goes without a word.
            Event::Link { name, up, .. } if name.starts_with(LINK_PREFIX) => {
                self.observe |= !up && self.has_strays();
            }
            Event::Link { index, up, mtu, .. } => {
                let before = self.links.insert(index, (up, mtu));
                if before.map(|(up, _)| up) != Some(up) {
                    self.read_again();
                }
            }
            Event::Address { .. } | Event::Lost => self.read_again(),
        }
    }

    fn handle_route(&mut self, route: KernelRoute, gone: bool) {
        let KernelRoute { key: key @ RouteKey { prefix, .. }, protocol, .. } = route;
        let is_ours = is_ours(&route);
        self.drift += u64::from(is_ours);
        if is_ours
            || self.learned.contains_key(&prefix)
            || self.own.iter().flatten().any(|own| *own == prefix)
        {
            self.dirty.insert(prefix);
        }
        if protocol != ROUTE_PROTOCOL {
            // One key, one route: ours was replaced.
            self.drift += u64::from(!gone && self.have.remove_ours(&key));
            self.look_up_within(prefix);
        }
        match gone {
            true => self.have.remove(&route),
            false => self.have.insert(route),
        }
    }

    pub(super) fn installed(&self, prefix: Option<IpNetwork>) -> Vec<(IpNetwork, Target)> {
        let ours = self.have.ours.iter().filter(|(key, _)| prefix.is_none_or(|prefix| prefix == key.prefix));
        ours.map(|(key, target)| (key.prefix, target.clone())).collect()
    }

    /// Pods outside our pod CIDRs, which are announced each by itself.
    fn has_strays(&self) -> bool {
        let own = self.own.as_deref().unwrap_or_default();
        self.have.pods.iter().any(|pod| !own.iter().any(|cidr| holds(*cidr, *pod)))
    }

    /// Of our pods, whatever pod CIDR they are from.
    pub(super) fn pods(&self) -> &BTreeSet<IpNetwork> {
        &self.have.pods
    }

    /// The links by which pods' packets leave: to peers, to nexthops, and where everything else goes. With their MTU, where
    /// it has changed since the start. `None`: not looked up yet.
    fn uplinks(&self) -> Option<BTreeMap<u32, Option<u32>>> {
        if !self.is_started() || !self.lookups.is_empty() {
            return None;
        }
        let hops = self.reach.values().flatten().map(|hop| hop.link);
        let named = self.nexthops.keys().filter_map(|nexthop| nexthop.interface);
        let links = hops.chain(named).chain(self.have.defaults.values().flatten().copied());
        Some(links.map(|link| (link, self.links.get(&link).map(|(_, mtu)| *mtu))).collect())
    }

    pub(super) fn status(&self) -> RouteStatus {
        let problem = |object: String, reason: String| Problem { object, reason };
        let conflicts = self.conflicts.iter().take(MAX_PROBLEMS).map(|(prefix, protocol)| {
            let owner = protocol.map_or("another".to_owned(), |protocol| protocol.to_string());
            problem(format!("route {prefix}"), format!("belongs to route protocol {owner}, left alone"))
        });
        let is_nexthop =
            |address: &IpAddr| self.nexthops.contains_key(&FibNexthop { address: *address, interface: None });
        let unreachable = self.reach.iter().filter(|(address, hops)| hops.is_empty() && is_nexthop(address));
        let unreachable = unreachable.take(MAX_PROBLEMS).map(|(nexthop, _)| {
            let reason = "no route leads to it; routes by it are not installed";
            problem(format!("nexthop {nexthop}"), reason.to_owned())
        });
        let failures = self.failed.iter().take(MAX_PROBLEMS);
        let failures = failures.map(|(prefix, reason)| problem(format!("route {prefix}"), reason.clone()));
        let full = self.have.taken_is_full.then(|| {
            let reason = "holds more routes of others than are remembered: where one is for a prefix of ours, both are there";
            problem("the main routing table".to_owned(), reason.to_owned())
        });
        let count = |routes| u32::try_from(routes).unwrap_or(u32::MAX);
        RouteStatus {
            settled: self.is_started() && self.settled,
            ipv4: count(self.have.ipv4),
            ipv6: count(self.have.ours.len() - self.have.ipv4),
            drift: self.drift,
            problems: conflicts.chain(failures).chain(unreachable).chain(full).collect(),
            uplinks: self.uplinks(),
        }
    }
}

#[cfg(test)]
mod tests;
