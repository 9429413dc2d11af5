use super::*;

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn route(prefix: &str, protocol: u8) -> KernelRoute {
    let key = RouteKey { prefix: net(prefix), metric: 0 };
    KernelRoute { key, protocol, target: Target::Direct { link: 9 } }
}

fn event(prefix: &str, gone: bool) -> Event {
    Event::Route { route: route(prefix, 4), gone, by: 1 }
}

/// Two nexthops, both on links, each with its prefix.
fn settled() -> Work {
    let mut work = Work::new(Table::default());
    work.set_own(vec![net("10.1.0.0/24")]);
    for (prefix, nexthop) in [("10.2.0.0/24", "192.0.2.2"), ("10.3.0.0/24", "198.51.100.2")] {
        let address = nexthop.parse().unwrap();
        work.learn(net(prefix), vec![FibNexthop { address, interface: None }]);
        work.reached([(address, [Hop { gateway: address, link: 2 }].into())].into());
    }
    work.converge();
    settle(&mut work);
    work
}

/// As if the kernel did all that it is told.
fn settle(work: &mut Work) -> Vec<RouteOp> {
    let mut done = Vec::new();
    while let Some(prefixes) = work.next_slice() {
        let (want, have) = work.sides(&prefixes);
        let changes = routes::diff(&want, &have);
        work.applied(&changes, &[]);
        done.extend(changes);
    }
    done
}

#[test]
fn a_route_of_others_moves_only_what_lies_in_it() {
    let mut work = settled();
    assert!(work.is_idle());
    for gone in [false, true] {
        work.handle_event(event("20.0.0.0/24", gone), 7);
        assert!(work.is_idle(), "{work:?}");
    }
    work.handle_event(event("192.0.2.0/25", false), 7);
    assert_eq!(work.lookups, ["192.0.2.2".parse().unwrap()].into());
    work.handle_event(event("0.0.0.0/0", false), 7);
    assert_eq!(work.lookups.len(), 2);
}

#[test]
fn whether_a_prefix_is_free_again_only_the_table_knows_and_only_a_wanted_one_is_asked_for() {
    let mut work = settled();
    work.handle_event(event("10.2.0.0/24", false), 7);
    let [RouteOp::Delete(key)] = settle(&mut work)[..] else { panic!("{work:?}") };
    assert_eq!(key.prefix, net("10.2.0.0/24"));
    assert_eq!(work.status().problems.len(), 1);
    work.handle_event(event("10.2.0.0/24", true), 7);
    assert!(settle(&mut work).is_empty() && work.observe);
    work.observe = false;
    work.observed(Table::default());
    assert!(settle(&mut work).iter().any(|op| op.key().prefix == net("10.2.0.0/24")));
    assert!(work.status().problems.is_empty() && work.is_idle());

    // One that is learned only later.
    work.handle_event(event("10.4.0.0/24", false), 7);
    work.handle_event(event("10.4.0.0/24", true), 7);
    assert!(work.is_idle());
    let nexthop = FibNexthop { address: "192.0.2.2".parse().unwrap(), interface: None };
    work.learn(net("10.4.0.0/24"), vec![nexthop]);
    assert!(settle(&mut work).is_empty() && work.observe);
}

#[test]
fn what_is_withdrawn_leaves_no_problem_and_no_nexthop_behind() {
    let mut work = settled();
    let nexthop = FibNexthop { address: "203.0.113.9".parse().unwrap(), interface: None };
    work.learn(net("10.5.0.0/24"), vec![nexthop]);
    work.resolved(nexthop.address, [Hop { gateway: nexthop.address, link: 2 }].into());
    let prefixes = work.next_slice().unwrap();
    let (want, have) = work.sides(&prefixes);
    let changes = routes::diff(&want, &have);
    let error = std::io::Error::from_raw_os_error(libc::ENETUNREACH);
    work.applied(&changes, &[Refused { key: changes[0].key(), error }]);
    assert!(work.has_failures() && work.status().problems.len() == 1);

    work.learn(net("10.5.0.0/24"), Vec::new());
    settle(&mut work);
    assert!(!work.has_failures() && work.status().problems.is_empty());
    assert!(!work.reach.contains_key(&nexthop.address));
}

#[test]
fn others_routes_are_remembered_up_to_a_bound_and_then_it_is_said() {
    let mut table = Table::default();
    let mut prefixes = (0..).map(|n: u32| format!("{}/32", std::net::Ipv4Addr::from_bits(n << 4)));
    while !table.taken_is_full {
        table.insert(route(&prefixes.next().unwrap(), 4));
    }
    assert_eq!(table.taken.len(), 1 << 20);
    let work = Work::new(table);
    assert!(work.status().problems.iter().any(|problem| problem.object == "the main routing table"));
}

#[test]
fn what_was_out_of_reach_is_looked_up_again_when_a_route_of_ours_may_lead_to_it_or_has_gone_from_before_it() {
    let mut work = settled();
    let far: IpAddr = "203.0.113.9".parse().unwrap();
    work.set_peers([far].into());
    work.reached([(far, BTreeSet::new())].into());
    let learn = |work: &mut Work, prefix: &str, nexthop: Option<&str>| {
        let nexthop = nexthop.map(|text| FibNexthop { address: text.parse().unwrap(), interface: None });
        work.learn(net(prefix), nexthop.into_iter().collect());
        settle(work);
        std::mem::take(&mut work.lookups).contains(&far)
    };
    assert!(learn(&mut work, "0.0.0.0/0", Some("192.0.2.2")));
    assert!(learn(&mut work, "0.0.0.0/0", Some("198.51.100.2")), "by another way");
    assert!(!learn(&mut work, "203.0.113.0/24", Some("192.0.2.2")), "it would not count");
    assert!(!learn(&mut work, "203.0.112.0/24", Some("192.0.2.2")));
    assert!(!learn(&mut work, "203.0.112.0/24", None));
    assert!(learn(&mut work, "203.0.113.0/24", None), "it hid the default route");
    assert!(learn(&mut work, "0.0.0.0/0", None));
}

#[test]
fn a_pod_outside_our_pod_cidrs_goes_with_its_link_of_which_no_route_tells() {
    let link = |name: &str, up| Event::Link { index: 9, name: format!("{LINK_PREFIX}{name}"), up, mtu: 1500 };
    let mut table = Table::default();
    let target = Target::Direct { link: 9 };
    let key = own_key(net("10.1.0.7/32"));
    table.insert(KernelRoute { key, protocol: ROUTE_PROTOCOL, target });
    let mut work = Work::new(table);
    work.set_own(vec![net("10.1.0.0/24")]);
    work.handle_event(link("1", false), 7);
    assert!(!work.needs_reading(), "nobody announces it by itself");

    work.set_own(vec![net("10.9.0.0/24")]);
    work.handle_event(link("1", true), 7);
    assert!(!work.needs_reading());
    work.handle_event(link("1", false), 7);
    assert!(work.observe && work.lookups.is_empty());
}

/// The kernel tells of both in turn: the route that took the place of ours, and its end.
#[test]
fn who_replaces_a_route_of_ours_is_counted_and_who_only_goes_is_not() {
    let mut work = settled();
    let key = RouteKey { prefix: net("10.2.0.0/24"), metric: 87 };
    let others = KernelRoute { key, protocol: 4, target: Target::Direct { link: 9 } };
    let told = |work: &mut Work, gone| {
        work.handle_event(Event::Route { route: others.clone(), gone, by: 1 }, 7);
        (work.drift, work.have.ours.contains_key(&key))
    };
    assert!(work.have.ours.contains_key(&key), "{work:?}");
    let before = work.drift;
    assert_eq!(told(&mut work, true), (before, true), "nothing of ours went with it");
    assert_eq!(told(&mut work, false), (before + 1, false));
    assert_eq!(work.learned(), 2);
}
