//! Any history against a naive model: the tables, the FIB and every peer's view are functions of what holds in the end.

use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;

use super::super::attributes::Via;
use super::*;
use crate::wire::Community;

const PEERS: u8 = 6;

/// What can happen. Indices are taken modulo what there is.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// `true`: another router in the place of the one before.
    Up(u8, bool),
    Down(u8, bool),
    /// Back before anything is swept.
    Bounce(u8, bool),
    Announce(u8, u8, u8),
    Withdraw(u8, u8),
    Originate(u8, u8),
    WithdrawOrigin(u8),
    EndOfRib(u8, AfiSafi),
    SweepStale(u8),
    Refresh(u8, AfiSafi),
    SetImport(u8, u8),
    SetExport(u8, u8, bool, u8),
    Deliver(u8),
    /// All that there is for one peer.
    Drain(u8),
    /// And for every peer, as the speaker does after each input.
    DrainAll,
    PollFib,
    Sweep,
}

/// What is said, what happens to sessions and rules, and who comes to see it in between. Sweeps are rare, so that much
/// comes before them.
fn event() -> impl Strategy<Value = Event> {
    let peer = || 1..=PEERS;
    let family = || prop_oneof![Just(V4), Just(V6)];
    let prefix = || 0..12u8;
    let said = prop_oneof![
        8 => (peer(), prefix(), 0..6u8).prop_map(|(n, prefix, path)| Event::Announce(n, prefix, path)),
        3 => (peer(), prefix()).prop_map(|(n, prefix)| Event::Withdraw(n, prefix)),
        1 => (prefix(), 0..2u8).prop_map(|(prefix, value)| Event::Originate(prefix, value)),
        1 => prefix().prop_map(Event::WithdrawOrigin),
    ];
    let happened = prop_oneof![
        4 => (peer(), prop::bool::weighted(0.2)).prop_map(|(n, other)| Event::Up(n, other)),
        2 => (peer(), any::<bool>()).prop_map(|(n, keep)| Event::Down(n, keep)),
        4 => (peer(), any::<bool>()).prop_map(|(n, keep)| Event::Bounce(n, keep)),
        1 => (peer(), family()).prop_map(|(n, family)| Event::EndOfRib(n, family)),
        1 => peer().prop_map(Event::SweepStale),
        1 => (peer(), family()).prop_map(|(n, family)| Event::Refresh(n, family)),
        2 => (peer(), 0..5u8).prop_map(|(n, rules)| Event::SetImport(n, rules)),
        3 => (peer(), 0..3u8, prop::bool::weighted(0.2), 0..5u8)
            .prop_map(|(n, routes, drained, rules)| Event::SetExport(n, routes, drained, rules)),
    ];
    let seen = prop_oneof![
        4 => peer().prop_map(Event::Deliver),
        4 => peer().prop_map(Event::Drain),
        4 => Just(Event::DrainAll),
        1 => Just(Event::PollFib),
        1 => Just(Event::Sweep),
    ];
    prop_oneof![4 => said, 2 => happened, 3 => seen]
}

/// Two externals in one AS, one in another, two clients and a reflector beside us.
fn model_peer(n: u8, other: bool) -> RibPeer {
    let mut peer = match n {
        1..=3 => transit(external(n)),
        4..=5 => client(n),
        _ => transit(internal(n)),
    };
    peer.router_id = RouterId(Ipv4Addr::new(10, 255, n, other.into()));
    // A small message, which just holds the longest route, so that announcements are split.
    peer.encode.max_message_len = 112;
    peer
}

fn import_rules(n: u8) -> ImportPolicy {
    let some = Accept::Within(vec![net("10.0.0.0/14"), net("2001:db8:0::/46")].into());
    let accept = if n == 1 { some } else { Accept::Any };
    ImportPolicy { accept, filter: filter(n.saturating_sub(1)), ..ImportPolicy::default() }
}

/// None for 0; others keep out, change, or do both, by prefix and by path.
fn filter(n: u8) -> Filter {
    let within = |prefix, lengths| Some(vec![PrefixRange { network: net(prefix), lengths }]);
    let low = RouteMatch { prefixes: within("10.0.0.0/14", 14..=32), ..RouteMatch::default() };
    let long = RouteMatch { as_path_length: Some(2..=9), ..RouteMatch::default() };
    let rule = |matches, med, prepend, action| FilterRule {
        matches,
        set: RouteChange { med, prepend, ..RouteChange::default() },
        action,
    };
    match n {
        0 => Vec::new(),
        1 => vec![rule(low, Some(3), 0, FilterAction::Next), rule(long, None, 0, FilterAction::Reject)],
        2 => vec![rule(low, None, 1, FilterAction::Accept), rule(long, Some(20), 0, FilterAction::Next)],
        _ => vec![rule(long, None, 0, FilterAction::Accept), rule(low, None, 0, FilterAction::Reject)],
    }
    .into()
}

fn prefix(n: u8) -> IpNetwork {
    if n < 9 { net(&format!("10.{n}.0.0/16")) } else { net(&format!("2001:db8:{n}::/48")) }
}

fn nexthop_for(n: u8, prefix: IpNetwork) -> Nexthop {
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(n));
    if prefix.is_ipv4() { nexthop(n) } else { Nexthop::V6 { global: v6, link_local: None } }
}

fn attributes(n: u8, kind: PeerKind, variant: u8) -> PathAttributes {
    let neighbor = if n == 2 { 65001 } else { 65000 + u32::from(n) };
    let mut attributes = match variant {
        0 => path(&[neighbor]),
        1 => PathAttributes { med: Some(10), ..path(&[neighbor]) },
        2 => PathAttributes { med: Some(5), ..path(&[neighbor, 7]) },
        3 => {
            PathAttributes { communities: [Community::NO_EXPORT].into_iter().collect(), ..path(&[neighbor]) }
        }
        4 => path(&[neighbor, LOCAL_ASN.0]),
        _ => path(&[neighbor, 7]),
    };
    if kind == PeerKind::Internal {
        attributes.local_pref = Some(100);
    }
    attributes
}

#[derive(Clone, Debug)]
struct ModelPath {
    /// As sent; where the path is usable, as the filter leaves them.
    attributes: PathAttributes,
    nexthop: Nexthop,
    stale: bool,
}

/// The RIB as its rules read: maps of maps, everything computed anew.
#[derive(Debug, Default)]
struct Model {
    /// As of the last session, and whether it is up.
    peers: BTreeMap<u8, (RibPeer, bool)>,
    paths: BTreeMap<IpNetwork, BTreeMap<u8, ModelPath>>,
    origin: BTreeMap<IpNetwork, PathAttributes>,
}

impl Model {
    fn is_up(&self, n: u8) -> bool {
        self.peers.get(&n).is_some_and(|(_, up)| *up)
    }

    fn drop_stale(&mut self, n: u8, families: &[AfiSafi]) {
        for (prefix, paths) in &mut self.paths {
            if families.contains(&AfiSafi::of(*prefix)) {
                paths.retain(|&peer, path| peer != n || !path.stale);
            }
        }
    }

    fn end_session(&mut self, n: u8, keep_stale: bool) {
        self.drop_stale(n, &AfiSafi::ALL);
        for paths in self.paths.values_mut() {
            paths.retain(|&peer, _| peer != n || keep_stale);
            paths.get_mut(&n).into_iter().for_each(|path| path.stale = true);
        }
        if let Some((_, up)) = self.peers.get_mut(&n) {
            *up = false;
        }
    }

    fn usable(&self, prefix: IpNetwork) -> Vec<(u8, ModelPath)> {
        let paths = self.paths.get(&prefix).into_iter().flatten();
        let unlooped = paths.filter(|(_, path)| !path.attributes.as_path.contains(LOCAL_ASN));
        let usable = unlooped.filter_map(|(&n, path)| {
            let peer = &self.peers[&n].0;
            let attributes = peer.import.judge(peer.kind, prefix, &path.attributes).ok()?.into_owned();
            Some((n, ModelPath { attributes, ..path.clone() }))
        });
        usable.collect()
    }

    /// Those equal up to the IGP cost, the best first.
    fn chosen(&self, prefix: IpNetwork) -> Vec<(u8, ModelPath)> {
        let mut paths = self.usable(prefix);
        let length = |p: &ModelPath| p.attributes.as_path.path_length();
        let shortest = paths.iter().map(|(_, p)| length(p)).min();
        paths.retain(|(_, p)| Some(length(p)) == shortest);
        let med = |p: &ModelPath| p.attributes.med.unwrap_or(0);
        let neighbor = |p: &ModelPath| p.attributes.as_path.neighbor_asn();
        let equal = paths.clone();
        paths.retain(|(_, p)| !equal.iter().any(|(_, q)| neighbor(q) == neighbor(p) && med(q) < med(p)));
        let kind = |n: u8| self.peers[&n].0.kind;
        if paths.iter().any(|&(n, _)| kind(n) == PeerKind::External) {
            paths.retain(|&(n, _)| kind(n) == PeerKind::External);
        }
        paths.sort_by_key(|&(n, _)| n); // Router IDs and addresses rise with the number.
        paths
    }

    fn fib(&self) -> BTreeMap<IpNetwork, Vec<FibNexthop>> {
        let learned = self.paths.keys().filter(|prefix| !self.origin.contains_key(prefix));
        let routes = learned.map(|&prefix| {
            let chosen = self.chosen(prefix);
            let gateways = chosen.iter().take(config().max_paths).map(|(_, path)| match path.nexthop {
                Nexthop::V4(address) => FibNexthop { address: address.into(), interface: None },
                Nexthop::V6 { global, .. } => FibNexthop { address: global.into(), interface: None },
            });
            (prefix, gateways.collect::<Vec<_>>())
        });
        routes.filter(|(_, gateways)| !gateways.is_empty()).collect()
    }

    /// What an established peer believes when it has been told everything.
    fn view(&self, n: u8) -> BTreeMap<IpNetwork, (PathAttributes, Nexthop)> {
        let peer = &self.peers[&n].0;
        let key = GroupKey {
            local_asn: LOCAL_ASN,
            cluster_id: CLUSTER,
            kind: peer.kind,
            client: peer.client,
            families: peer.families.clone(),
            export: peer.export.clone(),
            encode: peer.encode.clone(),
        };
        let prefixes: BTreeSet<IpNetwork> = self.paths.keys().chain(self.origin.keys()).copied().collect();
        let told = prefixes.into_iter().filter_map(|prefix| {
            let (via, from_client, attributes) = match self.origin.get(&prefix) {
                Some(attributes) => (None, false, attributes.clone()),
                None => {
                    let (from, path) = self.chosen(prefix).into_iter().next()?;
                    if from == n {
                        return None;
                    }
                    let RibPeer { kind, router_id, client, .. } = self.peers[&from].0;
                    let via = Via { nexthop: path.nexthop, kind, router_id };
                    (Some(via), client, path.attributes)
                }
            };
            let passes = key.filter(prefix, &attributes).accepted != Some(false);
            if !passes || !key.admits(via.as_ref(), from_client, &attributes) {
                return None;
            }
            Some((prefix, key.export(via.as_ref(), &attributes, prefix)?))
        });
        told.collect()
    }
}

/// The RIB and the model, side by side.
#[derive(Debug)]
struct Pair {
    network: Network,
    model: Model,
}

impl Pair {
    fn new() -> Self {
        let network = Network::new(RibConfig { keep_incumbent: false, ..config() });
        Self { network, model: Model::default() }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Up(n, other) if !self.model.is_up(n) => {
                let peer = model_peer(n, other);
                let before = self.model.peers.insert(n, (peer.clone(), true));
                if before.is_some_and(|(before, _)| before.router_id != peer.router_id) {
                    self.model.drop_stale(n, &AfiSafi::ALL);
                }
                self.network.up(n, peer);
            }
            Event::Down(n, keep_stale) if self.model.is_up(n) => {
                self.model.end_session(n, keep_stale);
                self.network.down(n, keep_stale);
            }
            Event::Bounce(n, keep_stale) => {
                self.happen(Event::Down(n, keep_stale));
                self.happen(Event::Up(n, false));
            }
            Event::Announce(n, p, variant) if self.model.is_up(n) => {
                let (prefix, attributes) = (prefix(p), attributes(n, self.model.peers[&n].0.kind, variant));
                let nexthop = nexthop_for(n, prefix);
                let path = ModelPath { attributes: attributes.clone(), nexthop, stale: false };
                self.model.paths.entry(prefix).or_default().insert(n, path);
                self.network.rib.apply(id(n), announce(prefix, nexthop, attributes)).unwrap();
            }
            Event::Withdraw(n, p) if self.model.is_up(n) => {
                self.model.paths.entry(prefix(p)).or_default().remove(&n);
                self.network.rib.apply(id(n), withdraw(prefix(p))).unwrap();
            }
            Event::Originate(p, value) => {
                let communities = vec![Community(u32::from(value))];
                let values =
                    PathAttributes { communities: communities.clone().into(), ..PathAttributes::default() };
                self.model.origin.insert(prefix(p), values);
                let communities = communities.into_iter().map(AnyCommunity::Standard).collect();
                self.network.rib.originate(prefix(p), OriginAttributes { communities });
            }
            Event::WithdrawOrigin(p) => {
                self.model.origin.remove(&prefix(p));
                self.network.rib.withdraw_origin(prefix(p));
            }
            Event::EndOfRib(n, family) if self.model.is_up(n) => {
                self.model.drop_stale(n, &[family]);
                self.network.rib.end_of_rib(id(n), family);
            }
            Event::SweepStale(n) => {
                self.model.drop_stale(n, &AfiSafi::ALL);
                self.network.rib.sweep_stale(id(n), None);
            }
            Event::Refresh(n, family) => self.network.rib.refresh(id(n), family),
            Event::SetImport(n, rules) if self.model.is_up(n) => {
                self.model.peers.get_mut(&n).unwrap().0.import = import_rules(rules);
                self.network.rib.set_import(id(n), import_rules(rules), 1000);
            }
            Event::SetExport(n, routes, drained, rules) if self.model.is_up(n) => {
                let peer = &mut self.model.peers.get_mut(&n).unwrap().0;
                peer.export.routes = if routes == 0 { ExportRoutes::Own } else { ExportRoutes::Transit };
                peer.export.filter = filter(rules.saturating_sub(1));
                peer.client = routes == 1 && peer.kind == PeerKind::Internal;
                peer.export.communities =
                    drained.then_some(Community::GRACEFUL_SHUTDOWN).into_iter().collect();
                self.network.rib.set_export(id(n), peer.export.clone());
                self.network.rib.set_client(id(n), peer.client);
            }
            Event::Deliver(n) => {
                self.network.deliver_one(n);
            }
            Event::Drain(n) => while self.network.deliver_one(n) {},
            Event::DrainAll => (1..=PEERS).for_each(|n| self.happen(Event::Drain(n))),
            Event::PollFib => {
                self.network.poll_fib();
            }
            Event::Sweep => {
                self.network.rib.sweep();
            }
            // Of a peer whose session is not in the state for it.
            Event::Up(..) | Event::Down(..) | Event::Announce(..) | Event::Withdraw(..) => {}
            Event::EndOfRib(..) | Event::SetImport(..) | Event::SetExport(..) => {}
        }
    }

    fn check(&mut self) {
        self.network.settle();
        assert_eq!(self.network.fib, self.model.fib(), "the FIB");
        for (&n, inbox) in &self.network.inboxes {
            assert_eq!(inbox.routes, self.model.view(n), "the view of peer {n}");
            let advertised: usize = AfiSafi::ALL
                .map(|family| self.network.rib.counts(id(n), family).advertised as usize)
                .iter()
                .sum();
            assert_eq!(advertised, inbox.routes.len(), "the count of peer {n}");
            let shown = self.network.rib.advertised(id(n));
            let shown = shown.into_iter().map(|route| (route.prefix, (route.attributes, route.nexthop)));
            assert_eq!(shown.collect::<BTreeMap<_, _>>(), inbox.routes, "what is shown of peer {n}");
            assert_eq!(inbox.ends_of_rib, AfiSafi::ALL, "one End-of-RIB per family");
        }
        let groups =
            self.network.inboxes.keys().map(|&n| self.network.rib.group_key(&self.model.peers[&n].0));
        let groups: HashSet<_> = groups.collect();
        assert_eq!(self.network.rib.out.census().len(), groups.len(), "streams that say the same are one");
        self.check_counts();
    }

    fn check_counts(&self) {
        for (&n, family) in self.model.peers.keys().flat_map(|n| AfiSafi::ALL.map(|family| (n, family))) {
            let paths = self.model.paths.iter().filter(|(prefix, _)| AfiSafi::of(**prefix) == family);
            let of_peer: Vec<_> =
                paths.filter_map(|(&prefix, paths)| Some((prefix, paths.get(&n)?))).collect();
            let usable = |prefix| self.model.usable(prefix).iter().any(|&(peer, _)| peer == n);
            let accepted = of_peer.iter().filter(|(prefix, _)| usable(*prefix)).count();
            let stale = of_peer.iter().filter(|(_, path)| path.stale).count();
            let counts = self.network.rib.counts(id(n), family);
            let counted = (counts.accepted as usize, counts.rejected as usize, counts.stale as usize);
            assert_eq!(counted, (accepted, of_peer.len() - accepted, stale), "counts of peer {n}, {family}");
        }
    }

    fn end(&mut self) {
        for n in 1..=PEERS {
            self.happen(Event::Down(n, false));
            self.network.rib.sweep_stale(id(n), None);
        }
        (0..12).for_each(|p| self.happen(Event::WithdrawOrigin(p)));
        self.network.settle();
        assert!(self.network.fib.is_empty());
        self.network.assert_empty();
    }
}

proptest! {
    #[test]
    fn every_history_ends_as_the_model_says(
        events in prop::collection::vec(event(), 1..200),
        more in prop::collection::vec(event(), 0..100),
    ) {
        let mut pair = Pair::new();
        (1..=PEERS).for_each(|n| pair.happen(Event::Up(n, false)));
        events.into_iter().for_each(|event| pair.happen(event));
        pair.check();
        more.into_iter().for_each(|event| pair.happen(event));
        pair.check();
        pair.end();
    }

    #[test]
    fn the_order_of_arrival_leaves_no_trace(
        said in prop::collection::btree_map((1..=PEERS, 0..12u8), 0..6u8, 1..40),
        shuffle in any::<u64>(),
    ) {
        let run = |order: Vec<(&(u8, u8), &u8)>| {
            let mut pair = Pair::new();
            (1..=PEERS).for_each(|n| pair.happen(Event::Up(n, false)));
            order.into_iter().for_each(|(&(n, p), &v)| pair.happen(Event::Announce(n, p, v)));
            pair.check();
            (pair.network.rib.routes(), pair.network.fib)
        };
        let straight: Vec<_> = said.iter().collect();
        let mut mixed = straight.clone();
        mixed.sort_by_key(|((n, p), _)| (u64::from(*n) * 31 + u64::from(*p) * 17).wrapping_mul(shuffle | 1));
        prop_assert_eq!(run(straight), run(mixed));
    }
}
