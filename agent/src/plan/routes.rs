//! Which routes the kernel's main table is to hold for us.
//!
//! In: the speaker's choice, our own pod CIDRs, and how the kernel reaches each nexthop. Out: targets by key.
//! A nexthop that is not on a link of ours is replaced by the gateways of the route that leads to it, because the
//! kernel takes only gateways that are on a link.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use weft_api::ROUTE_PROTOCOL;
use weft_api::prefix::holds;
use weft_bgp::types::FibNexthop;

use crate::fib::{Hop, KernelRoute, METRIC, RouteKey, RouteOp, Target};

/// Routes by key.
pub type Routes = BTreeMap<RouteKey, Target>;

/// Routes of others that are remembered: a full table of the Internet, at some 40 bytes each. Beyond it a conflict goes
/// unseen, which is said.
const MAX_TAKEN: usize = 1 << 20;

/// The main table, as far as it matters to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub ours: Routes,
    /// Of `ours`.
    pub ipv4: usize,
    /// Prefixes to which others have a route, with the protocol of one of them; `None` where one has gone, perhaps not the
    /// only one.
    pub taken: BTreeMap<IpNetwork, Option<u8>>,
    /// `taken` is not all.
    pub taken_is_full: bool,
    /// Routes to pods, the CNI's.
    pub pods: BTreeSet<IpNetwork>,
    /// The links that default routes lead out of, whoever's they are.
    pub defaults: BTreeMap<(RouteKey, u8), BTreeSet<u32>>,
}

impl Table {
    pub fn insert(&mut self, route: KernelRoute) {
        if route.key.prefix.prefix() == 0 {
            self.defaults.insert((route.key, route.protocol), route.target.links());
        }
        if is_pod_route(&route) {
            self.pods.insert(route.key.prefix);
        } else if is_ours(&route) {
            self.insert_ours(route.key, route.target);
        } else if self.taken.len() < MAX_TAKEN || self.taken.contains_key(&route.key.prefix) {
            self.taken.insert(route.key.prefix, Some(route.protocol));
        } else {
            self.taken_is_full = true;
        }
    }

    /// Of others', another one to the same prefix may be there still.
    pub fn remove(&mut self, route: &KernelRoute) {
        let key = &route.key;
        self.defaults.remove(&(*key, route.protocol));
        if is_pod_route(route) {
            self.pods.remove(&key.prefix);
        } else if is_ours(route) {
            self.remove_ours(key);
        } else if let Some(protocol) = self.taken.get_mut(&key.prefix) {
            *protocol = None;
        }
    }

    pub fn insert_ours(&mut self, key: RouteKey, target: Target) {
        let is_new = self.ours.insert(key, target).is_none();
        self.ipv4 += usize::from(is_new && key.prefix.is_ipv4());
    }

    /// Whether there was one.
    pub fn remove_ours(&mut self, key: &RouteKey) -> bool {
        let was_there = self.ours.remove(key).is_some();
        self.ipv4 -= usize::from(was_there && key.prefix.is_ipv4());
        was_there
    }

    /// Ours to this prefix, whatever the metric.
    pub fn of_prefix(&self, prefix: IpNetwork) -> impl Iterator<Item = (&RouteKey, &Target)> {
        self.ours.range(RouteKey { prefix, metric: 0 }..=RouteKey { prefix, metric: u32::MAX })
    }
}

pub fn own_key(prefix: IpNetwork) -> RouteKey {
    RouteKey { prefix, metric: METRIC }
}

/// What of the main table is ours to change. The CNI's routes to pods bear our protocol too; those, and no others of
/// ours, lead onto a link without a gateway.
pub fn is_ours(route: &KernelRoute) -> bool {
    route.protocol == ROUTE_PROTOCOL && !is_pod_route(route)
}

/// The CNI's.
pub fn is_pod_route(route: &KernelRoute) -> bool {
    route.protocol == ROUTE_PROTOCOL && matches!(route.target, Target::Direct { .. })
}

/// The wanted target of one prefix; `None`: no route.
///
/// Nothing is learned within our own pod CIDRs, whatever peers say: those pods are here.
pub fn target(
    prefix: IpNetwork,
    own: &[IpNetwork],
    nexthops: &[FibNexthop],
    reach: &BTreeMap<IpAddr, BTreeSet<Hop>>,
) -> Option<Target> {
    if own.contains(&prefix) {
        return Some(Target::Blackhole);
    }
    if own.iter().any(|cidr| holds(*cidr, prefix)) {
        return None;
    }
    let hops: BTreeSet<Hop> = nexthops
        .iter()
        .flat_map(|nexthop| match nexthop.interface {
            Some(link) => vec![Hop { gateway: nexthop.address, link }],
            None => reach.get(&nexthop.address).into_iter().flatten().copied().collect(),
        })
        .collect();
    (!hops.is_empty()).then_some(Target::Via(hops))
}

/// The hops that lead to `nexthop`, given the route that the kernel would use. Our own routes do not count, or a route
/// could lead through itself; a default route does, for there may be no other.
pub fn resolve(nexthop: IpAddr, found: Option<&KernelRoute>) -> BTreeSet<Hop> {
    let Some(route) = found else { return BTreeSet::new() };
    if route.protocol == ROUTE_PROTOCOL && route.key.prefix.prefix() != 0 {
        return BTreeSet::new();
    }
    match &route.target {
        Target::Direct { link } => [Hop { gateway: nexthop, link: *link }].into(),
        Target::Via(hops) => hops.clone(),
        Target::Blackhole | Target::Local | Target::Other => BTreeSet::new(),
    }
}

/// Ordered steps from `have` to `want`; empty when equal. A prefix that others hold is theirs: we have none there.
pub fn diff(want: &Routes, have: &Table) -> Vec<RouteOp> {
    let is_wanted = |key: &RouteKey| want.contains_key(key) && !have.taken.contains_key(&key.prefix);
    let deletes = have.ours.keys().filter(|key| !is_wanted(key)).map(|key| RouteOp::Delete(*key));
    let changes =
        want.iter().filter(|(key, _)| is_wanted(key)).filter_map(|(key, target)| match have.ours.get(key) {
            None => Some(RouteOp::Add(*key, target.clone())),
            Some(current) if current != target => Some(RouteOp::Replace(*key, target.clone())),
            Some(_) => None,
        });
    changes.chain(deletes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn nexthop(text: &str) -> FibNexthop {
        FibNexthop { address: text.parse().unwrap(), interface: None }
    }

    fn hop(gateway: &str, link: u32) -> Hop {
        Hop { gateway: gateway.parse().unwrap(), link }
    }

    fn found(prefix: &str, protocol: u8, target: Target) -> KernelRoute {
        KernelRoute { key: RouteKey { prefix: net(prefix), metric: 0 }, protocol, target }
    }

    #[test]
    fn own_pod_cidrs_are_blackholes_and_nothing_is_learned_inside_them() {
        let own = [net("10.1.0.0/24")];
        let reach = [("192.0.2.1".parse().unwrap(), [hop("192.0.2.1", 2)].into())].into();
        let learned = |prefix| target(net(prefix), &own, &[nexthop("192.0.2.1")], &reach);
        assert_eq!(learned("10.1.0.0/24"), Some(Target::Blackhole));
        assert_eq!(learned("10.1.0.7/32"), None);
        assert_eq!(learned("10.0.0.0/8"), Some(Target::Via([hop("192.0.2.1", 2)].into())));
    }

    #[test]
    fn several_nexthops_make_one_route_and_unreachable_ones_are_left_out() {
        let reach = [
            ("192.0.2.1".parse().unwrap(), [hop("192.0.2.1", 2)].into()),
            ("192.0.2.5".parse().unwrap(), [hop("192.0.2.5", 3)].into()),
            ("192.0.2.9".parse().unwrap(), BTreeSet::new()),
        ]
        .into();
        let nexthops = [nexthop("192.0.2.1"), nexthop("192.0.2.5"), nexthop("192.0.2.9")];
        let wanted = Target::Via([hop("192.0.2.1", 2), hop("192.0.2.5", 3)].into());
        assert_eq!(target(net("10.2.0.0/24"), &[], &nexthops, &reach), Some(wanted));
        assert_eq!(target(net("10.2.0.0/24"), &[], &nexthops[2..], &reach), None);
    }

    #[test]
    fn a_link_local_nexthop_needs_no_look_up() {
        let nexthop = FibNexthop { address: "fe80::1".parse().unwrap(), interface: Some(4) };
        let wanted = Some(Target::Via([hop("fe80::1", 4)].into()));
        assert_eq!(target(net("10.2.0.0/24"), &[], &[nexthop], &BTreeMap::new()), wanted);
    }

    #[test]
    fn a_nexthop_on_a_link_is_its_own_gateway_and_a_far_one_takes_those_of_its_route() {
        let far = "203.0.113.1".parse().unwrap();
        let direct = found("203.0.113.0/24", 2, Target::Direct { link: 7 });
        assert_eq!(resolve(far, Some(&direct)), [hop("203.0.113.1", 7)].into());
        let hops: BTreeSet<_> = [hop("192.0.2.1", 2), hop("192.0.2.5", 3)].into();
        assert_eq!(resolve(far, Some(&found("0.0.0.0/0", 3, Target::Via(hops.clone())))), hops);
        assert!(resolve(far, None).is_empty());
        assert!(resolve(far, Some(&found("203.0.113.1/32", 2, Target::Local))).is_empty());
    }

    #[test]
    fn a_nexthop_is_not_reached_through_our_own_routes_but_for_the_default() {
        let far = "203.0.113.1".parse().unwrap();
        let hops: BTreeSet<_> = [hop("192.0.2.1", 2)].into();
        assert!(resolve(far, Some(&found("203.0.113.0/24", 87, Target::Via(hops.clone())))).is_empty());
        assert_eq!(resolve(far, Some(&found("0.0.0.0/0", 87, Target::Via(hops.clone())))), hops);
    }

    #[test]
    fn the_diff_adds_replaces_deletes_and_is_empty_when_equal() {
        let via = |link| Target::Via([hop("192.0.2.1", link)].into());
        let want: Routes =
            [(own_key(net("10.1.0.0/24")), via(1)), (own_key(net("10.2.0.0/24")), via(1))].into();
        let have: Routes =
            [(own_key(net("10.2.0.0/24")), via(2)), (own_key(net("10.3.0.0/24")), via(1))].into();
        let have = Table { ours: have, ..Table::default() };
        let wanted = [
            RouteOp::Add(own_key(net("10.1.0.0/24")), via(1)),
            RouteOp::Replace(own_key(net("10.2.0.0/24")), via(1)),
            RouteOp::Delete(own_key(net("10.3.0.0/24"))),
        ];
        assert_eq!(diff(&want, &have), wanted);
        assert!(diff(&want, &Table { ours: want.clone(), ..Table::default() }).is_empty());
    }

    #[test]
    fn a_prefix_that_another_holds_is_left_to_it() {
        let routes: Routes = [(own_key(net("10.1.0.0/24")), Target::Blackhole)].into();
        let taken: BTreeMap<_, _> = [(net("10.1.0.0/24"), Some(4))].into();
        assert!(diff(&routes, &Table { taken: taken.clone(), ..Table::default() }).is_empty());
        let both = Table { ours: routes.clone(), taken, ..Table::default() };
        assert_eq!(diff(&routes, &both), [RouteOp::Delete(own_key(net("10.1.0.0/24")))]);
    }

    #[test]
    fn a_route_of_ours_with_another_metric_is_taken_away() {
        let other = RouteKey { prefix: net("10.1.0.0/24"), metric: 5 };
        let want: Routes = [(own_key(net("10.1.0.0/24")), Target::Blackhole)].into();
        let have = Table { ours: [(other, Target::Blackhole)].into(), ..Table::default() };
        let wanted = [RouteOp::Add(own_key(net("10.1.0.0/24")), Target::Blackhole), RouteOp::Delete(other)];
        assert_eq!(diff(&want, &have), wanted);
    }

    #[test]
    fn only_routes_without_gateway_belong_to_the_cni() {
        assert!(!is_ours(&found("10.1.0.7/32", 87, Target::Direct { link: 9 })));
        assert!(is_ours(&found("10.1.0.0/24", 87, Target::Blackhole)));
        assert!(!is_ours(&found("10.1.0.0/24", 4, Target::Blackhole)));
    }
}
