//! What comes in: policy, loops, limits.

use std::ops::RangeInclusive;

use super::*;
use crate::wire::UnknownAttribute;

fn verdict(peer: RibPeer, prefix: &str, attributes: PathAttributes) -> Standing {
    let mut network = Network::with([peer]);
    network.announce(1, prefix, attributes);
    network.best(prefix).1
}

const USED: Standing = Standing::Best(None);

#[test]
fn by_default_nothing_is_accepted() {
    let mut stranger = external(1);
    stranger.import = ImportPolicy::default();
    assert_eq!(
        verdict(stranger.clone(), "10.1.0.0/24", path(&[65001])),
        Standing::Rejected(Rejection::OutsideAccepted)
    );
    assert_eq!(verdict(stranger, "0.0.0.0/0", path(&[65001])), Standing::Rejected(Rejection::DefaultRoute));
}

#[test]
fn what_lies_within_the_accepted_prefixes_is_used() {
    let mut tor = external(1);
    tor.import.accept = Accept::Within(vec![net("10.0.0.0/8"), net("2001:db8::/32")].into());
    let outside = Standing::Rejected(Rejection::OutsideAccepted);
    for (prefix, expected) in [
        ("10.0.0.0/8", USED),
        ("10.9.8.0/24", USED),
        ("10.9.8.7/32", USED),
        ("2001:db8:5::/48", USED),
        ("10.0.0.0/7", outside),
        ("11.0.0.0/24", outside),
        ("2001:db9::/48", outside),
        ("0.0.0.0/0", Standing::Rejected(Rejection::DefaultRoute)),
        ("::/0", Standing::Rejected(Rejection::DefaultRoute)),
    ] {
        assert_eq!(verdict(tor.clone(), prefix, path(&[65001])), expected, "{prefix}");
    }
}

/// Of these lengths, or of its own.
fn range(network: &str, lengths: Option<RangeInclusive<u8>>) -> PrefixRange {
    let network = net(network);
    PrefixRange { network, lengths: lengths.unwrap_or(network.prefix()..=network.prefix()) }
}

fn rule(prefixes: Option<Vec<PrefixRange>>, accept: bool) -> FilterRule {
    let action = if accept { FilterAction::Accept } else { FilterAction::Reject };
    FilterRule { matches: RouteMatch { prefixes, ..RouteMatch::default() }, action, ..FilterRule::default() }
}

#[test]
fn a_default_route_is_used_when_asked_for() {
    let mut tor = external(1);
    tor.import.accept = Accept::default();
    tor.import.filter = vec![rule(Some(vec![range("0.0.0.0/0", None)]), true)].into();
    assert_eq!(verdict(tor.clone(), "0.0.0.0/0", path(&[65001])), USED);
    for other in ["::/0", "10.0.0.0/8"] {
        assert!(matches!(verdict(tor.clone(), other, path(&[65001])), Standing::Rejected(_)), "{other}");
    }
}

#[test]
fn the_first_rule_that_matches_decides_before_the_accepted_prefixes() {
    let mut tor = external(1);
    tor.import.accept = Accept::Within(vec![net("10.0.0.0/8")].into());
    let mut rules = vec![
        rule(Some(vec![range("10.1.0.0/16", Some(24..=26)), range("2001:db8::/32", Some(48..=48))]), false),
        rule(Some(vec![range("172.16.0.0/12", Some(16..=24)), range("10.1.1.0/24", None)]), true),
    ];
    tor.import.filter = rules.clone().into();
    let filtered = Standing::Rejected(Rejection::Filtered);
    let cases = [
        ("10.1.0.0/23", USED),
        ("10.1.2.0/24", filtered),
        ("10.1.1.0/24", filtered),
        ("10.1.2.64/26", filtered),
        ("10.1.2.32/27", USED),
        ("10.2.0.0/24", USED),
        ("2001:db8:1::/48", filtered),
        ("2001:db8::/32", Standing::Rejected(Rejection::OutsideAccepted)),
        ("172.16.0.0/16", USED),
        ("172.31.255.0/24", USED),
        ("172.16.0.0/15", Standing::Rejected(Rejection::OutsideAccepted)),
        ("172.16.0.0/25", Standing::Rejected(Rejection::OutsideAccepted)),
        ("172.32.0.0/16", Standing::Rejected(Rejection::OutsideAccepted)),
    ];
    for (prefix, expected) in cases {
        assert_eq!(verdict(tor.clone(), prefix, path(&[65001])), expected, "{prefix}");
    }
    rules.push(rule(None, false));
    tor.import.filter = rules.into();
    for prefix in ["10.2.0.0/24", "0.0.0.0/0"] {
        assert_eq!(verdict(tor.clone(), prefix, path(&[65001])), filtered, "{prefix}");
    }
    assert_eq!(verdict(tor, "172.16.0.0/16", path(&[65001])), USED);
}

#[test]
fn paths_that_lead_back_to_us_are_refused() {
    // RFC 4271 §9.1.2, RFC 4456 §8.
    let prefix = "10.1.0.0/24";
    let looped = path(&[65001, LOCAL_ASN.0]);
    let loops = Standing::Rejected(Rejection::AsLoop);
    assert_eq!(verdict(external(1), prefix, looped.clone()), loops);
    let mut shared_as = external(1);
    shared_as.import.allow_own_asn = 1;
    assert_eq!(verdict(shared_as.clone(), prefix, looped), USED);
    assert_eq!(verdict(shared_as, prefix, path(&[65001, LOCAL_ASN.0, LOCAL_ASN.0])), loops);

    let ours = PathAttributes { originator_id: Some(config().router_id), ..path(&[]) };
    assert_eq!(verdict(internal(1), prefix, ours), Standing::Rejected(Rejection::OriginatorLoop));

    let seen = |cluster| PathAttributes { cluster_list: [cluster].into_iter().collect(), ..path(&[]) };
    assert_eq!(verdict(internal(1), prefix, seen(CLUSTER)), Standing::Rejected(Rejection::ClusterLoop));
    assert_eq!(verdict(internal(1), prefix, seen(config().router_id)), USED);
}

#[test]
fn our_own_address_is_no_nexthop() {
    let mut network = Network::with([external(1)]);
    let update = announce(net("10.1.0.0/24"), nexthop(250), path(&[65001]));
    network.rib.apply(id(1), update).unwrap();
    assert_eq!(network.best("10.1.0.0/24").1, Standing::Rejected(Rejection::OwnNexthop));

    // In either half of an IPv6 nexthop.
    let (ours, theirs) = ("2001:db8::250".parse().unwrap(), "2001:db8::1".parse().unwrap());
    let link_local: Ipv6Addr = "fe80::250".parse().unwrap();
    let mut on_link = external(1);
    on_link.export.link_local = Some(link_local);
    let mut network = Network::with([on_link]);
    for (global, link_local, used) in
        [(ours, None, false), (theirs, Some(link_local), false), (theirs, None, true)]
    {
        let update = announce(net("2001:db8:1::/48"), Nexthop::V6 { global, link_local }, path(&[65001]));
        network.rib.apply(id(1), update).unwrap();
        let expected = if used { USED } else { Standing::Rejected(Rejection::OwnNexthop) };
        assert_eq!(network.best("2001:db8:1::/48").1, expected);
    }

    // One that we have beside those that we give to peers.
    let mut tor = external(1);
    tor.import.own_addresses = vec![IpAddr::from([192, 0, 2, 1])];
    assert_eq!(verdict(tor, "10.1.0.0/24", path(&[65001])), Standing::Rejected(Rejection::OwnNexthop));
}

#[test]
fn a_peer_that_speaks_for_itself_alone_is_its_own_nexthop() {
    let mut node = internal(1);
    node.import.enforce_own_nexthop = true;
    let mut network = Network::with([node, internal(2)]);
    let said = |network: &mut Network, n, prefix, nexthop| {
        network.rib.apply(id(n), announce(net(prefix), nexthop, path(&[]))).unwrap();
        network
            .standings(prefix)
            .into_iter()
            .find(|(peer, _)| *peer == Some(id(n)))
            .map(|(_, standing)| standing)
    };
    assert_eq!(said(&mut network, 1, "10.1.0.0/24", nexthop(1)), Some(USED));
    let foreign = Some(Standing::Rejected(Rejection::ForeignNexthop));
    assert_eq!(said(&mut network, 1, "10.2.0.0/24", nexthop(2)), foreign);
    assert_eq!(said(&mut network, 2, "10.3.0.0/24", nexthop(1)), Some(USED), "nobody asks it of a router");
    // Its address in the family of the session says nothing of the other.
    let other = Nexthop::V6 { global: "2001:db8::1".parse().unwrap(), link_local: None };
    assert_eq!(said(&mut network, 1, "2001:db8:1::/48", other), Some(USED));
}

#[test]
fn a_link_local_nexthop_needs_the_peers_link() {
    for (interface, expected) in [(None, Standing::Rejected(Rejection::LinklessNexthop)), (Some(7), USED)] {
        let mut network = Network::with([RibPeer { interface, ..external(1) }]);
        let global = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let nexthop = Nexthop::V6 { global, link_local: None };
        network.rib.apply(id(1), announce(net("2001:db8::/48"), nexthop, path(&[65001]))).unwrap();
        assert_eq!(network.best("2001:db8::/48").1, expected);
    }
}

#[test]
fn an_external_peer_stands_first_in_its_paths() {
    // RFC 4271 §6.3.
    let prefix = "10.1.0.0/24";
    let mut tor = external(1);
    tor.import.enforce_first_asn = true;
    assert_eq!(verdict(tor.clone(), prefix, path(&[65001, 65002])), USED);
    for asns in [&[65002, 65001][..], &[]] {
        assert_eq!(verdict(tor.clone(), prefix, path(asns)), Standing::Rejected(Rejection::FirstAsn));
    }
    tor.import.enforce_first_asn = false;
    assert_eq!(verdict(tor, prefix, path(&[65002, 65001])), USED);

    let mut node = internal(1);
    node.import.enforce_first_asn = true;
    assert_eq!(verdict(node, prefix, path(&[])), USED);
}

#[test]
fn a_new_import_policy_judges_what_is_there() {
    let mut network = Network::with([external(1)]);
    network.announce(1, "10.1.0.0/24", path(&[65001]));
    network.announce(1, "172.16.0.0/24", path(&[65001]));
    network.settle();
    assert_eq!(network.fib.len(), 2);

    let import =
        ImportPolicy { accept: Accept::Within(vec![net("10.0.0.0/8")].into()), ..ImportPolicy::default() };
    network.rib.set_import(id(1), import, 1000);
    network.settle();

    assert_eq!(network.fib.keys().map(ToString::to_string).collect::<Vec<_>>(), ["10.1.0.0/24"]);
    let Counts { accepted, rejected, .. } = network.rib.counts(id(1), V4);
    assert_eq!((accepted, rejected), (1, 1));
}

#[test]
fn an_address_takes_the_longest_prefix_that_has_a_path_in_use() {
    let mut tor = external(1);
    tor.import.accept = Accept::Within(vec![net("10.0.0.0/8")].into());
    let mut network = Network::with([tor, external(2)]);
    network.announce(2, "10.1.0.0/16", path(&[65002]));
    network.announce(1, "10.1.2.0/24", path(&[65001]));
    network.announce(1, "172.16.0.0/24", path(&[65001]));

    let matched = |address: &str| {
        let route = network.rib.longest_match(address.parse().unwrap());
        route.map(|route| route.prefix.to_string())
    };
    assert_eq!(matched("10.1.2.3").as_deref(), Some("10.1.2.0/24"));
    assert_eq!(matched("10.1.3.3").as_deref(), Some("10.1.0.0/16"));
    assert_eq!(matched("10.2.0.1"), None);
    // Refused, but that is the answer to "why not".
    assert_eq!(matched("172.16.0.1").as_deref(), Some("172.16.0.0/24"));
    assert_eq!(matched("2001:db8::1"), None);
}

#[test]
fn the_limit_counts_refused_prefixes_too_but_each_once() {
    let mut tor = external(1);
    tor.import =
        ImportPolicy { accept: Accept::Within(vec![net("10.0.0.0/8")].into()), ..ImportPolicy::default() };
    tor.max_prefixes = 2;
    let mut network = Network::with([tor]);
    network.announce(1, "10.1.0.0/24", path(&[65001]));
    network.announce(1, "172.16.0.0/24", path(&[65001]));
    network.announce(1, "10.1.0.0/24", path(&[65001, 65002]));

    let beyond = network.rib.apply(id(1), announce(net("10.2.0.0/24"), nexthop(1), path(&[65001])));
    assert_eq!(beyond, Err(LimitExceeded::Prefixes { family: V4, limit: 2 }));
    assert!(network.rib.explain(net("10.2.0.0/24")).is_none());

    // The other family has its own count, and a withdrawal makes room.
    network.announce(1, "2001:db8::/48", path(&[65001]));
    network.withdraw(1, "172.16.0.0/24");
    network.announce(1, "10.2.0.0/24", path(&[65001]));
    let Counts { accepted, rejected, .. } = network.rib.counts(id(1), V4);
    assert_eq!((accepted, rejected), (2, 0));
}

#[test]
fn attributes_are_limited_by_what_they_take() {
    let long = |value: u8| {
        let value = vec![value; 4000].into();
        PathAttributes {
            unknown: vec![UnknownAttribute { flags: 0xe0, code: 99, value }].into(),
            ..path(&[65001])
        }
    };
    let mut network = Network::with([RibPeer { max_prefixes: 100, ..external(1) }]);
    let mut learn = |n: u8, value| {
        let prefix = net(&format!("10.1.{n}.0/24"));
        network.rib.apply(id(1), announce(prefix, nexthop(1), long(value)))
    };
    let limit = 64 * 1024 + 100 * 256;
    // 4044 octets each.
    assert!((0..22).all(|n| learn(n, n).is_ok()));
    assert_eq!(learn(22, 22), Err(LimitExceeded::Attributes { family: V4, limit }));
    // Another set in the place of one is fine.
    assert!((0..22).all(|n| learn(n, n + 100).is_ok()));

    // So it is for what comes in the place of routes that have gone or are stale.
    network.withdraw(1, "10.1.0.0/24");
    network.rib.apply(id(1), announce(net("10.1.22.0/24"), nexthop(1), long(22))).unwrap();
    network.down(1, true);
    network.up(1, RibPeer { max_prefixes: 100, ..external(1) });
    for n in 0..22 {
        let prefix = net(&format!("10.1.{n}.0/24"));
        network.rib.apply(id(1), announce(prefix, nexthop(1), long(n))).unwrap();
    }
    network.down(1, false);
    network.settle();
    network.assert_empty();
}

#[test]
fn attributes_may_take_the_whole_of_their_limit() {
    let limit = 64 * 1024 + 256;
    // Four octets are those of the AS_PATH.
    let room = limit - size_of::<UnknownAttribute>() - 4;
    for (len, taken) in [(room, true), (room + 1, false)] {
        let value = vec![0; len].into();
        let unknown = vec![UnknownAttribute { flags: 0xe0, code: 99, value }].into();
        let mut network = Network::with([RibPeer { max_prefixes: 1, ..external(1) }]);
        let update = announce(net("10.1.0.0/24"), nexthop(1), PathAttributes { unknown, ..path(&[65001]) });
        assert_eq!(network.rib.apply(id(1), update).is_ok(), taken, "{len} octets");
    }
}

#[test]
fn of_each_peer_the_first_refused_routes_are_named() {
    let picky = |n| {
        let mut peer = external(n);
        peer.import.accept = Accept::default();
        peer
    };
    let mut network = Network::with([picky(1), picky(2)]);
    for n in 1..=5 {
        network.announce(1, &format!("10.{n}.0.0/16"), path(&[65001]));
    }
    network.announce(2, "10.9.0.0/16", path(&[65002]));
    let named = |limit| {
        let names = |routes: Vec<RefusedRoute>| {
            routes.iter().map(|route| route.prefix.to_string()).collect::<Vec<_>>()
        };
        network.rib.refused(limit).into_values().map(names).collect::<Vec<_>>()
    };
    assert_eq!(named(2), [vec!["10.1.0.0/16", "10.2.0.0/16"], vec!["10.9.0.0/16"]]);
    assert_eq!(named(1), [["10.1.0.0/16"], ["10.9.0.0/16"]]);
}

#[test]
fn on_a_known_link_packets_go_to_the_link_local_address() {
    // RFC 2545 §3.
    let global = "2001:db8::1".parse::<Ipv6Addr>().unwrap();
    let link_local = "fe80::1".parse::<Ipv6Addr>().unwrap();
    let expected = [(None, global), (Some(7), link_local)];
    for (interface, address) in expected {
        let mut network = Network::with([RibPeer { interface, ..external(1) }]);
        let nexthop = Nexthop::V6 { global, link_local: Some(link_local) };
        network.rib.apply(id(1), announce(net("2001:db8:1::/48"), nexthop, path(&[65001]))).unwrap();
        network.settle();
        let gateway = FibNexthop { address: address.into(), interface };
        assert_eq!(network.fib[&net("2001:db8:1::/48")], [gateway]);
    }
}

#[test]
fn what_routes_have_in_common_is_kept_once() {
    let mut network = Network::with([external(1), external(2)]);
    for (peer, prefix) in [(1, "10.1.0.0/24"), (1, "10.2.0.0/24"), (2, "10.1.0.0/24"), (2, "10.3.0.0/24")] {
        network.announce(peer, prefix, path(&[65001]));
    }
    network.announce(1, "10.4.0.0/24", path(&[65001, 65002]));
    network.settle();
    let shared = &network.rib.core.shared;
    // Nexthops of the FIB: of either alone, and of both.
    assert_eq!((shared.attributes.len(), shared.nexthops.len(), shared.gateways.len()), (2, 2, 3));
}

#[test]
fn what_a_peer_says_once_more_is_no_change() {
    let mut network = Network::with([external(1)]);
    let mut changes = |attributes| {
        let before = network.rib.tables.v4.end();
        network.announce(1, "10.1.0.0/24", attributes);
        network.rib.tables.v4.end() - before
    };
    assert_eq!([path(&[65001]), path(&[65001]), path(&[65001, 65002])].map(&mut changes), [1, 0, 1]);
    // Nor is it to have it again after a restart, unless what was said before it is dead.
    for (keep_stale, changed) in [(true, 0), (false, 1)] {
        network.down(1, keep_stale);
        network.up(1, external(1));
        let before = network.rib.tables.v4.end();
        network.announce(1, "10.1.0.0/24", path(&[65001, 65002]));
        assert_eq!(network.rib.tables.v4.end() - before, changed);
    }
}

#[test]
fn updates_of_peers_that_are_not_established_are_ignored() {
    let mut network = Network::with([external(1)]);
    network.down(1, false);
    network.rib.apply(id(1), announce(net("10.1.0.0/24"), nexthop(1), path(&[65001]))).unwrap();
    network.rib.apply(id(9), announce(net("10.1.0.0/24"), nexthop(9), path(&[65009]))).unwrap();
    assert_eq!(network.rib.routes(), []);
}
