//! What filters match, what they make of routes on their way in and out, and that what a change of them does not change is not
//! said again.

use proptest::prelude::*;

use super::*;
use crate::wire::{Community, LargeCommunity, Origin};

const PREFIX: &str = "10.1.0.0/24";

fn community(text: &str) -> Community {
    let (asn, value) = text.split_once(':').expect("two numbers");
    Community(asn.parse::<u32>().expect("a number") << 16 | value.parse::<u32>().expect("a number"))
}

fn standard(text: &str) -> CommunityPattern {
    let Community(number) = community(text);
    let [a, b, c, d] = number.to_be_bytes();
    let [asn, value] = [[a, b], [c, d]].map(u16::from_be_bytes);
    CommunityPattern::Standard { asn: asn..=asn, value: value..=value }
}

fn on(matches: RouteMatch, action: FilterAction) -> FilterRule {
    FilterRule { matches, action, ..FilterRule::default() }
}

fn changing(set: RouteChange, action: FilterAction) -> FilterRule {
    FilterRule { set, action, ..FilterRule::default() }
}

fn with_communities(texts: &[&str], path: PathAttributes) -> PathAttributes {
    PathAttributes { communities: texts.iter().map(|text| community(text)).collect(), ..path }
}

fn large(global: u32, local1: u32, local2: u32) -> LargeCommunity {
    LargeCommunity { global, local1, local2 }
}

/// Whether a rule with these conditions is about the route.
fn matches(matches: &RouteMatch, prefix: &str, route: &PathAttributes) -> bool {
    matches.is_about(net(prefix), route)
}

#[test]
fn a_rule_matches_by_family_prefix_path_origin_and_all_of_what_it_names() {
    let route = PathAttributes { origin: Origin::Egp, ..path(&[65001, 65002, 65001]) };
    let cases: [(RouteMatch, bool); 10] = [
        (RouteMatch::default(), true),
        (RouteMatch { families: Some(vec![V4]), ..RouteMatch::default() }, true),
        (RouteMatch { families: Some(vec![V6]), ..RouteMatch::default() }, false),
        (RouteMatch { as_path_length: Some(3..=3), ..RouteMatch::default() }, true),
        (RouteMatch { as_path_length: Some(4..=9), ..RouteMatch::default() }, false),
        (RouteMatch { as_path_length: Some(0..=2), ..RouteMatch::default() }, false),
        (RouteMatch { as_path_contains: Some(vec![Asn(7), Asn(65002)]), ..RouteMatch::default() }, true),
        (RouteMatch { as_path_contains: Some(vec![Asn(7)]), ..RouteMatch::default() }, false),
        (RouteMatch { origins: Some(vec![Origin::Igp, Origin::Egp]), ..RouteMatch::default() }, true),
        (
            RouteMatch {
                origins: Some(vec![Origin::Igp]),
                families: Some(vec![V4]),
                ..RouteMatch::default()
            },
            false,
        ),
    ];
    for (rule, expected) in cases {
        assert_eq!(matches(&rule, PREFIX, &route), expected, "{rule:?}");
    }
}

#[test]
fn a_community_matches_number_by_number_and_only_those_of_its_kind() {
    let route = PathAttributes {
        large_communities: vec![large(65000, 1, 7)].into(),
        // RFC 4360 §3.1: two octets of AS and four of number; RFC 5668: four and two; §3.2: an address and two.
        extended_communities: vec![
            [0, 2, 0xfd, 0xe8, 0, 0, 0, 100],
            [2, 2, 0, 1, 0, 0, 0, 200],
            [1, 3, 10, 0, 0, 1, 0, 5],
        ]
        .into(),
        ..with_communities(&["65000:100"], path(&[65001]))
    };
    let standard = |asn, value| CommunityPattern::Standard { asn, value };
    let large = |global, local1, local2| CommunityPattern::Large { global, local1, local2 };
    let extended =
        |purpose, administrator, value| CommunityPattern::Extended { purpose, administrator, value };
    let any = 0..=u32::MAX;
    let asn = |asn: u32| Administrator::Asn(asn..=asn);
    let (target, origin) = (Purpose::RouteTarget, Purpose::RouteOrigin);
    let cases = [
        (standard(65000..=65000, 0..=u16::MAX), true),
        (standard(65000..=65000, 101..=200), false),
        (standard(64999..=64999, 0..=u16::MAX), false),
        (standard(0..=1, 7..=7), false),
        (large(65000..=65000, any.clone(), 7..=9), true),
        (large(65000..=65000, 2..=9, any.clone()), false),
        (large(65000..=65000, any.clone(), 8..=9), false),
        (large(1..=2, any.clone(), any.clone()), false),
        (extended(target, asn(65000), 100..=100), true),
        (extended(target, asn(65000), 101..=200), false),
        (extended(origin, asn(65000), 100..=100), false),
        (extended(target, asn(65536), 200..=200), true),
        (extended(target, asn(65537), 200..=200), false),
        (extended(origin, Administrator::Address([10, 0, 0, 1].into()), 5..=5), true),
        (extended(origin, Administrator::Address([10, 0, 0, 2].into()), 5..=5), false),
        (extended(origin, asn(u32::from_be_bytes([10, 0, 0, 1])), 5..=5), false),
    ];
    for (pattern, expected) in cases {
        let rule = RouteMatch { communities: Some(vec![pattern]), ..RouteMatch::default() };
        assert_eq!(matches(&rule, PREFIX, &route), expected, "{rule:?}");
    }
}

#[test]
fn a_route_is_changed_rule_by_rule_until_one_decides() {
    let filter = Filter::from(vec![
        changing(
            RouteChange {
                local_pref: Some(50),
                remove: vec![standard("65000:1")],
                add: vec![AnyCommunity::Standard(community("65000:2"))],
                ..RouteChange::default()
            },
            FilterAction::Next,
        ),
        on(
            RouteMatch { communities: Some(vec![standard("65000:1")]), ..RouteMatch::default() },
            FilterAction::Reject,
        ),
        FilterRule {
            matches: RouteMatch { communities: Some(vec![standard("65000:2")]), ..RouteMatch::default() },
            set: RouteChange { med: Some(7), prepend: 2, ..RouteChange::default() },
            action: FilterAction::Accept,
        },
        changing(RouteChange { med: Some(8), ..RouteChange::default() }, FilterAction::Accept),
    ]);
    let route = with_communities(&["65000:1", "65000:3"], path(&[65001]));
    let filtered = filter.run(net(PREFIX), &route, Some(Asn(65001)));
    assert_eq!((filtered.accepted, filtered.rules.as_slice()), (Some(true), [0, 2].as_slice()));
    let expected = PathAttributes {
        local_pref: Some(50),
        med: Some(7),
        ..with_communities(&["65000:3", "65000:2"], path(&[65001, 65001, 65001]))
    };
    assert_eq!(*filtered.attributes, expected);
}

#[test]
fn communities_are_added_once_and_large_ones_in_order() {
    let add = vec![
        AnyCommunity::Standard(community("65000:1")),
        AnyCommunity::Large(large(1, 0, 0)),
        AnyCommunity::Large(large(9, 0, 0)),
        AnyCommunity::Extended([0, 2, 0, 1, 0, 0, 0, 1]),
    ];
    let filter =
        Filter::from(vec![changing(RouteChange { add, ..RouteChange::default() }, FilterAction::Next); 2]);
    let route = PathAttributes { large_communities: vec![large(5, 0, 0)].into(), ..path(&[65001]) };
    let filtered = filter.run(net(PREFIX), &route, None).attributes.into_owned();
    assert_eq!(filtered.communities.as_slice(), [community("65000:1")]);
    assert_eq!(filtered.large_communities.as_slice(), [large(1, 0, 0), large(5, 0, 0), large(9, 0, 0)]);
    assert_eq!(filtered.extended_communities.len(), 1);
}

#[test]
fn communities_are_shown_as_they_are_written() {
    let shown = [
        (AnyCommunity::Standard(community("65000:1")), "65000:1"),
        (AnyCommunity::Large(large(1, 2, 3)), "1:2:3"),
        (AnyCommunity::Extended([0, 2, 0xfd, 0xe8, 0, 1, 0x11, 0x70]), "rt:65000:70000"),
        (AnyCommunity::Extended([1, 3, 192, 0, 2, 1, 0, 7]), "soo:192.0.2.1:7"),
        (AnyCommunity::Extended([2, 2, 0, 1, 0, 0, 0, 7]), "rt:65536:7"),
        (AnyCommunity::Extended([0x40, 4, 0, 0, 0x4b, 0x3c, 0x61, 0x4e]), "0x400400004b3c614e"),
    ];
    let mut route = path(&[]);
    for (community, text) in shown {
        assert_eq!(community.to_string(), text);
        community.attach(&mut route);
    }
    assert_eq!(AnyCommunity::all(&route).collect::<Vec<_>>(), shown.map(|(community, _)| community));
}

/// The attributes of the only path to [`PREFIX`].
fn learned(network: &Network) -> PathAttributes {
    network.rib.explain(net(PREFIX)).expect("a route").paths[0].attributes.clone()
}

fn importing(n: u8, rules: Vec<FilterRule>) -> RibPeer {
    let mut peer = external(n);
    peer.import.filter = rules.into();
    peer
}

#[test]
fn what_a_filter_sets_on_the_way_in_decides() {
    let mut network = Network::with([external(1), external(2)]);
    network.announce(1, PREFIX, path(&[65001]));
    network.announce(2, PREFIX, path(&[65002, 65009]));
    network.settle();
    assert_eq!(network.fib, [(net(PREFIX), vec![gateway(1)])].into());

    let prefer = |local_pref| {
        let set = RouteChange { local_pref: Some(local_pref), ..RouteChange::default() };
        importing(2, vec![changing(set, FilterAction::Next)]).import
    };
    for (local_pref, best) in [(200, 2), (50, 1), (200, 2)] {
        network.rib.set_import(id(2), prefer(local_pref), 1000);
        network.settle();
        network.settle();
        assert_eq!(network.fib, [(net(PREFIX), vec![gateway(best)])].into(), "{local_pref}");
    }
    network.rib.set_import(id(2), external(2).import, 1000);
    network.settle();
    network.settle();
    assert_eq!(network.fib, [(net(PREFIX), vec![gateway(1)])].into(), "as it was sent");
}

#[test]
fn a_route_that_is_going_away_is_used_where_there_is_no_other() {
    // RFC 8326 §4.2.
    let going = |asns: &[u32]| PathAttributes {
        communities: [Community::GRACEFUL_SHUTDOWN].into_iter().collect(),
        ..path(asns)
    };
    let mut network = Network::with([external(1), external(2), internal(3)]);
    network.announce(1, PREFIX, going(&[65001]));
    network.settle();
    assert_eq!(network.fib, [(net(PREFIX), vec![gateway(1)])].into());
    assert_eq!(learned(&network).local_pref, Some(0));
    network.announce(2, PREFIX, path(&[65002, 65009, 65010]));
    network.settle();
    assert_eq!(network.fib, [(net(PREFIX), vec![gateway(2)])].into());
    // An internal peer says by its LOCAL_PREF what it means.
    let preferred = PathAttributes { local_pref: Some(300), ..going(&[]) };
    network.announce(3, PREFIX, preferred);
    network.settle();
    assert_eq!(network.fib, [(net(PREFIX), vec![gateway(3)])].into());
}

#[test]
fn what_was_sent_is_kept_whatever_filters_have_made_of_it() {
    let prepend = |times| RouteChange { prepend: times, ..RouteChange::default() };
    let mut network = Network::with([importing(1, vec![changing(prepend(1), FilterAction::Next)])]);
    network.announce(1, PREFIX, path(&[65001, 7]));
    assert_eq!(learned(&network), path(&[65001, 65001, 7]));
    for times in [3, 0, 2] {
        let import = importing(1, vec![changing(prepend(times), FilterAction::Next)]).import;
        network.rib.set_import(id(1), import, 1000);
        network.settle();
        let mut expected = path(&[65001, 7]);
        (0..times).for_each(|_| expected.as_path.prepend(Asn(65001)));
        assert_eq!(learned(&network), expected, "{times} times");
    }
    let before = network.rib.counts(id(1), V4);
    network.announce(1, PREFIX, path(&[65001, 7]));
    assert_eq!((network.rib.counts(id(1), V4), network.rib.poll_change()), (before, None), "said again");
    network.withdraw(1, PREFIX);
    network.down(1, false);
    network.settle();
    network.assert_empty();
}

#[test]
fn what_goes_out_passes_the_filter_before_we_put_ourselves_in_front() {
    let mut tor = transit(external(2));
    tor.export.med = Some(5);
    tor.export.filter = vec![
        on(
            RouteMatch {
                prefixes: Some(vec![PrefixRange { network: net("10.2.0.0/16"), lengths: 16..=32 }]),
                ..RouteMatch::default()
            },
            FilterAction::Reject,
        ),
        FilterRule {
            matches: RouteMatch {
                prefixes: Some(vec![PrefixRange { network: net("10.3.0.0/16"), lengths: 16..=32 }]),
                ..RouteMatch::default()
            },
            set: RouteChange { med: Some(9), prepend: 2, ..RouteChange::default() },
            action: FilterAction::Accept,
        },
    ]
    .into();
    let mut network = Network::with([external(1), tor]);
    for prefix in ["10.1.0.0/24", "10.2.1.0/24", "10.3.1.0/24"] {
        network.announce(1, prefix, path(&[65001]));
        network.rib.originate(net(&prefix.replace(".0/24", ".128/25")), OriginAttributes::default());
    }
    network.settle();
    let told = |asns: &[u32], med| PathAttributes { med: Some(med), ..path(asns) };
    let own = LOCAL_ASN.0;
    let expected = [
        ("10.1.0.0/24", told(&[own, 65001], 5)),
        ("10.1.0.128/25", told(&[own], 5)),
        ("10.3.1.0/24", told(&[own, own, own, 65001], 9)),
        ("10.3.1.128/25", told(&[own, own, own], 9)),
    ];
    let inbox = &network.inboxes[&2];
    let routes: Vec<_> = inbox.routes.iter().map(|(prefix, (route, _))| (*prefix, route.clone())).collect();
    assert_eq!(routes, expected.clone().map(|(prefix, route)| (net(prefix), route)));
    let shown: Vec<_> =
        network.rib.advertised(id(2)).into_iter().map(|route| (route.prefix, route.attributes)).collect();
    assert_eq!(shown, routes, "and the same is shown");
}

#[test]
fn of_another_filter_a_peer_is_told_the_difference_alone() {
    let tor = |rules: Vec<FilterRule>| {
        let mut tor = external(1);
        tor.export.filter = rules.into();
        tor
    };
    let about = |prefix, set, action| FilterRule {
        matches: RouteMatch {
            prefixes: Some(vec![PrefixRange { network: net(prefix), lengths: 16..=32 }]),
            ..RouteMatch::default()
        },
        set,
        action,
    };
    let mut network = Network::with([tor(Vec::new())]);
    let prefixes = ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"];
    prefixes.iter().for_each(|prefix| network.rib.originate(net(prefix), OriginAttributes::default()));
    network.settle();
    let nothing = RouteChange::default;
    let med = |med| RouteChange { med: Some(med), ..RouteChange::default() };
    let steps = [
        (vec![about(prefixes[0], nothing(), FilterAction::Accept)], 0, 3),
        (vec![about(prefixes[1], med(7), FilterAction::Next)], 1, 3),
        (vec![about(prefixes[1], med(8), FilterAction::Next)], 1, 3),
        (vec![about(prefixes[2], nothing(), FilterAction::Reject)], 2, 2),
        (Vec::new(), 1, 3),
    ];
    for (step, (rules, updates, routes)) in steps.into_iter().enumerate() {
        let before = network.inboxes[&1].updates;
        network.rib.set_export(id(1), tor(rules).export);
        network.settle();
        let inbox = &network.inboxes[&1];
        assert_eq!((inbox.updates - before, inbox.routes.len()), (updates, routes), "step {step}");
    }
}

proptest! {
    /// Prefixes that a filter tells apart share no message with others, and every one is told what its rules make of it.
    #[test]
    fn every_prefix_is_told_what_the_rules_make_of_it(rules in prop::collection::vec((0..8u8, 0..3u8, 0..4u32), 0..6)) {
        let rules: Vec<FilterRule> = rules
            .into_iter()
            .map(|(prefix, action, med)| FilterRule {
                matches: RouteMatch {
                    prefixes: Some(vec![PrefixRange { network: net(&format!("10.{prefix}.0.0/14")), lengths: 14..=32 }]),
                    ..RouteMatch::default()
                },
                set: RouteChange { med: Some(med), ..RouteChange::default() },
                action: [FilterAction::Accept, FilterAction::Reject, FilterAction::Next][usize::from(action)],
            })
            .collect();
        let mut tor = external(1);
        tor.export.filter = rules.clone().into();
        let mut network = Network::with([tor]);
        let prefixes: Vec<_> = (0..20).map(|n| net(&format!("10.{}.{n}.0/24", n % 9))).collect();
        prefixes.iter().for_each(|prefix| network.rib.originate(*prefix, OriginAttributes::default()));
        network.settle();
        let mut expected = BTreeMap::new();
        for prefix in prefixes {
            let mut med = None;
            let mut passes = true;
            for rule in &rules {
                let within = &rule.matches.prefixes.as_ref().unwrap()[0].network;
                if !within.contains(prefix.network()) {
                    continue;
                }
                passes = rule.action != FilterAction::Reject;
                med = if passes { rule.set.med } else { med };
                if rule.action != FilterAction::Next {
                    break;
                }
            }
            if passes {
                expected.insert(prefix, med);
            }
        }
        let told: BTreeMap<_, _> =
            network.inboxes[&1].routes.iter().map(|(prefix, (route, _))| (*prefix, route.med)).collect();
        prop_assert_eq!(told, expected);
    }
}
