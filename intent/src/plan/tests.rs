use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use weft_api::crd::{BGPConfigurationSpec, NodeMesh};
use weft_bgp::bfd::{Path, Terms};
use weft_bgp::rib::{
    Administrator, AnyCommunity, CommunityPattern, FilterAction, FilterRule, PrefixRange, Purpose,
    RouteChange, RouteMatch,
};
use weft_bgp::speaker::{Hops, RemoteAsn};
use weft_bgp::types::AfiSafi;
use weft_bgp::wire::{Community, LargeCommunity, Origin};
use weft_policy::model::PodKey;

use super::*;
use crate::object;

fn node(labels: &str, ips: &[&str], cidrs: &[&str]) -> NodeInfo {
    NodeInfo {
        labels: labels
            .split_terminator(',')
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap();
                (key.to_owned(), value.to_owned())
            })
            .collect(),
        internal_ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        pod_cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
        ..NodeInfo::default()
    }
}

/// Three nodes, dual stack but for n3.
fn cluster() -> Snapshot {
    let nodes = [
        ("n1", node("rack=a", &["192.0.2.1", "2001:db8::1"], &["10.1.0.0/24", "fd00:1::/64"])),
        ("n2", node("rack=b", &["192.0.2.2", "2001:db8::2"], &["10.2.0.0/24", "fd00:2::/64"])),
        ("n3", node("rack=b", &["2001:db8::3"], &["fd00:3::/64"])),
    ];
    Snapshot { nodes: nodes.map(|(name, node)| (name.to_owned(), node.into())).into(), ..Snapshot::default() }
}

fn node_mut<'a>(snapshot: &'a mut Snapshot, name: &str) -> &'a mut NodeInfo {
    Arc::make_mut(snapshot.nodes.get_mut(name).unwrap())
}

fn spec<T: DeserializeOwned>(yaml: &str) -> T {
    serde_saphyr::from_str(yaml).unwrap()
}

fn with_peer(mut snapshot: Snapshot, name: &str, yaml: &str) -> Snapshot {
    snapshot.bgp.peers.insert(name.to_owned(), spec(yaml));
    snapshot
}

fn with_override(mut snapshot: Snapshot, name: &str, yaml: &str) -> Snapshot {
    snapshot.bgp.overrides.insert(name.to_owned(), spec(yaml));
    snapshot
}

fn configuration(snapshot: &mut Snapshot) -> &mut BGPConfigurationSpec {
    snapshot.bgp.written.get_or_insert_default()
}

fn plan(snapshot: &Snapshot, node: &str) -> Desired {
    desired(snapshot, node).unwrap()
}

fn peer<'a>(desired: &'a Desired, name: &str) -> &'a PeerConfig {
    desired
        .peers
        .iter()
        .find(|peer| peer.name == name)
        .unwrap_or_else(|| panic!("no {name} in {:?}", desired.peers))
}

fn names(desired: &Desired) -> Vec<&str> {
    desired.peers.iter().map(|peer| peer.name.as_str()).collect()
}

fn reasons(desired: &Desired) -> BTreeMap<String, &str> {
    desired.problems.iter().map(|problem| (problem.about.to_string(), problem.reason.as_str())).collect()
}

#[test]
fn without_its_own_node_there_is_no_plan() {
    assert_eq!(desired(&cluster(), "n9"), Err(NotYet::NoNode("n9".to_owned())));
}

#[test]
fn the_mesh_has_one_session_per_node_over_a_family_that_both_have() {
    let desired = plan(&cluster(), "n1");
    assert_eq!(names(&desired), ["mesh/n2", "mesh/n3"]);
    let (n2, n3) = (peer(&desired, "mesh/n2"), peer(&desired, "mesh/n3"));
    assert_eq!(
        (n2.key.address, n2.transport.local_address),
        ("192.0.2.2".parse().unwrap(), "192.0.2.1".parse().ok())
    );
    assert_eq!(
        (n3.key.address, n3.transport.local_address),
        ("2001:db8::3".parse().unwrap(), "2001:db8::1".parse().ok())
    );
    assert_eq!((n2.asn, n2.families.as_slice()), (RemoteAsn::Any, AfiSafi::ALL.as_slice()));
    assert!(desired.problems.is_empty(), "{:?}", desired.problems);
}

#[test]
fn pods_outside_the_pod_cidrs_are_announced_one_by_one_and_named() {
    let planned = plan(&cluster(), "n1");
    let pods = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<BTreeSet<_>>();
    let inside = pods(&["10.1.0.7/32", "fd00:1::7/128"]);
    assert_eq!(planned.clone().with_pods("n1", &inside), planned);

    let strays = planned.clone().with_pods("n1", &pods(&["10.1.0.7/32", "10.7.0.1/32", "10.7.0.2/32"]));
    let announced: Vec<_> = strays.origin.prefixes.iter().map(ToString::to_string).collect();
    assert_eq!(announced, ["10.1.0.0/24", "fd00:1::/64", "10.7.0.1/32", "10.7.0.2/32"]);
    assert_eq!(strays.pod_cidrs, planned.pod_cidrs, "new pods get no address there");
    assert!(reasons(&strays)["Node n1"].contains("2 addresses outside"), "{:?}", strays.problems);
    for (count, more) in [(MAX_NAMED, false), (MAX_NAMED + 1, true)] {
        let many = (0..count).map(|i| format!("10.7.0.{i}/32").parse().unwrap()).collect();
        let strays = planned.clone().with_pods("n1", &many);
        assert_eq!(reasons(&strays)["Node n1"].ends_with('…'), more, "{:?}", strays.problems);
    }
}

#[test]
fn no_time_for_a_restart_means_no_graceful_restart() {
    let mut snapshot = cluster();
    for (seconds, time) in [(120, Some(120)), (0, None)] {
        configuration(&mut snapshot).graceful_restart.restart_seconds = seconds;
        assert_eq!(plan(&snapshot, "n1").speaker.restart_time, time);
    }
}

#[test]
fn both_ends_of_the_mesh_agree_on_the_addresses() {
    let snapshot = cluster();
    for (a, b) in [("n1", "n2"), ("n1", "n3"), ("n2", "n3")] {
        let (left, right) = (plan(&snapshot, a), plan(&snapshot, b));
        let (left, right) = (peer(&left, &format!("mesh/{b}")), peer(&right, &format!("mesh/{a}")));
        assert_eq!(Some(left.key.address), right.transport.local_address);
        assert_eq!(Some(right.key.address), left.transport.local_address);
    }
}

#[test]
fn the_mesh_joins_nodes_of_one_as_only_and_can_be_turned_off() {
    let mut snapshot = cluster();
    let rack_c = "{nodeSelector: {matchExpressions: [{key: rack, operator: In, values: [c]}]}, asn: 65001}";
    snapshot = with_override(snapshot, "rack-c", rack_c);
    node_mut(&mut snapshot, "n2").labels.insert("rack".to_owned(), "c".to_owned());
    assert_eq!(names(&plan(&snapshot, "n1")), ["mesh/n3"]);
    assert!(names(&plan(&snapshot, "n2")).is_empty());
    let parted = |snapshot: &Snapshot, node| {
        plan(snapshot, node).parted.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(parted(&snapshot, "n1"), ["192.0.2.2", "2001:db8::2"]);
    assert_eq!(parted(&snapshot, "n2"), ["192.0.2.1", "2001:db8::1", "2001:db8::3"]);
    assert_eq!(plan(&snapshot, "n2").speaker.asn, Asn(65001));
    configuration(&mut snapshot).node_mesh = NodeMesh::None;
    assert!(names(&plan(&snapshot, "n1")).is_empty() && parted(&snapshot, "n1").is_empty());
}

#[test]
fn pods_make_no_new_plan_and_whatever_a_plan_reads_does() {
    let before = cluster();
    let mut after = cluster();
    let key = PodKey { namespace: "demo".to_owned(), name: "web".to_owned() };
    after.world.pods.insert(key, Arc::default());
    assert!(before != after && reads_the_same(&before, &after));
    let changes: [fn(&mut Snapshot); 9] = [
        |snapshot| node_mut(snapshot, "n2").pod_cidrs.clear(),
        |snapshot| configuration(snapshot).asn = 65001,
        |snapshot| *snapshot = with_peer(snapshot.clone(), "tor", "{address: 192.0.2.9, asn: external}"),
        |snapshot| *snapshot = with_override(snapshot.clone(), "all", "{nodeSelector: {}, asn: 65001}"),
        |snapshot| drop(snapshot.bgp.profiles.insert(String::new(), spec("{}"))),
        |snapshot| drop(snapshot.bgp.filters.insert(String::new(), spec("{}"))),
        |snapshot| drop(snapshot.bgp.advertisements.insert(String::new(), spec("{}"))),
        |snapshot| drop(snapshot.secrets.insert(String::new(), BTreeMap::new())),
        |snapshot| drop(snapshot.strays.insert("n2".to_owned(), BTreeSet::new())),
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut after = cluster();
        change(&mut after);
        assert!(!reads_the_same(&before, &after), "change {index}");
    }
}

#[test]
fn nodes_without_a_common_family_are_named() {
    let mut snapshot = cluster();
    node_mut(&mut snapshot, "n1").internal_ips.truncate(1);
    let desired = plan(&snapshot, "n1");
    assert_eq!(names(&desired), ["mesh/n2"]);
    assert!(reasons(&desired)["Node n3"].contains("no InternalIP"));
}

fn accepted(desired: &Desired, name: &str) -> Vec<String> {
    peer(desired, name).accept.iter().map(|prefix| prefix.to_string()).collect()
}

#[test]
fn what_is_accepted_of_routers_is_the_cluster_without_our_own_pods() {
    let mut snapshot = with_peer(cluster(), "tor", "{address: 192.0.2.254, asn: external}");
    configuration(&mut snapshot).cluster_cidrs = vec!["10.0.0.0/8".parse().unwrap()];
    let desired = plan(&snapshot, "n1");
    assert_eq!(accepted(&desired, "tor"), ["10.0.0.0/8", "fd00:2::/64", "fd00:3::/64"]);
    assert!(peer(&desired, "tor").import_filter.is_empty() && !peer(&desired, "tor").enforce_own_nexthop);
}

#[test]
fn what_is_accepted_of_a_fellow_node_is_its_own() {
    let mut snapshot = cluster();
    configuration(&mut snapshot).cluster_cidrs = vec!["10.0.0.0/8".parse().unwrap()];
    // By mistake, as it is ours.
    node_mut(&mut snapshot, "n3").pod_cidrs.push("10.1.0.0/24".parse().unwrap());
    // Of a pod that has outlived its pod CIDR.
    snapshot.strays = [("n2".to_owned(), ["10.7.0.7/32".parse().unwrap()].into())].into();
    let desired = plan(&snapshot, "n1");
    assert_eq!(accepted(&desired, "mesh/n2"), ["10.2.0.0/24", "10.7.0.7/32", "fd00:2::/64"]);
    assert_eq!(accepted(&desired, "mesh/n3"), ["fd00:3::/64"]);
    assert!(peer(&desired, "mesh/n2").enforce_own_nexthop);
}

#[test]
fn a_node_that_joins_changes_no_peer_of_the_mesh() {
    let named = |n: usize| {
        let (ip, cidr) = (format!("192.0.2.{n}"), format!("10.{n}.0.0/24"));
        (format!("n{n}"), Arc::new(node("", &[&ip], &[&cidr])))
    };
    let before = Snapshot { nodes: (1..=100).map(named).collect(), ..Snapshot::default() };
    let mut after = before.clone();
    after.nodes.extend([named(101)]);

    let (before, after) = (plan(&before, "n1"), plan(&after, "n1"));
    assert_eq!(before.peers.len(), 99);
    let (same, new): (Vec<_>, Vec<_>) = after.peers.into_iter().partition(|peer| peer.name != "mesh/n101");
    assert_eq!((same, new.len()), (before.peers, 1));
    assert_eq!(before.origin, after.origin);
}

#[test]
fn a_peer_is_for_the_nodes_that_its_selector_names() {
    let spec = "{address: 192.0.2.254, asn: external, nodeSelector: {matchLabels: {rack: a}}}";
    let snapshot = with_peer(cluster(), "tor", spec);
    assert!(names(&plan(&snapshot, "n1")).contains(&"tor"));
    assert!(!names(&plan(&snapshot, "n2")).contains(&"tor"));
    let snapshot = with_peer(
        cluster(),
        "tor",
        "{address: 192.0.2.254, asn: external, nodeSelector: {matchExpressions: [{key: rack, operator: NotIn, values: [a]}]}}",
    );
    assert!(!names(&plan(&snapshot, "n1")).contains(&"tor"));
    assert!(names(&plan(&snapshot, "n2")).contains(&"tor"));
}

#[test]
fn a_peers_fields_reach_its_session() {
    let spec = "{address: 192.0.2.254, port: 1179, asn: 65000, passive: true, session: {families: [ipv6],
        limits: {maxPrefixes: 7}, timers: {holdTimeSeconds: 9, connectRetrySeconds: 3}, security: {ttlSecurityHops: 1},
        extendedNexthop: false, enforceFirstAsn: false}}";
    let desired = plan(&with_peer(cluster(), "tor", spec), "n1");
    let tor = peer(&desired, "tor");
    assert_eq!(
        (tor.asn, tor.transport.port, tor.transport.hops),
        (RemoteAsn::Number(Asn(65000)), 1179, Hops::Security(1))
    );
    assert_eq!((tor.families.as_slice(), tor.passive), ([AfiSafi::Ipv6Unicast].as_slice(), true));
    assert_eq!((tor.max_prefixes, tor.hold_time, tor.connect_retry.as_secs()), (7, 9, 3));
    assert!(!tor.extended_nexthop && !tor.enforce_first_asn);
    assert_eq!(tor.transport.local_address, None, "on the link the kernel chooses");
    assert_eq!(tor.nexthop.v6, "2001:db8::1".parse().ok());
}

#[test]
fn what_a_peer_does_not_say_its_profile_does_and_then_the_cluster() {
    let mut snapshot = with_peer(
        cluster(),
        "tor",
        "{address: 192.0.2.254, asn: external, profile: tors, session: {timers: {holdTimeSeconds: 9}}}",
    );
    let desired = plan(&snapshot, "n1");
    assert!(!names(&desired).contains(&"tor"), "its password may stand in the profile");
    assert!(reasons(&desired)["BGPPeer tor"].contains("BGPPeerProfile tors is missing"));

    let profile = "{session: {timers: {holdTimeSeconds: 30}, limits: {maxPrefixes: 7}}}";
    snapshot.bgp.profiles.insert("tors".to_owned(), spec(profile));
    configuration(&mut snapshot).session =
        spec("{timers: {connectRetrySeconds: 2, holdTimeSeconds: 60}, limits: {maxPrefixes: 8}}");
    let desired = plan(&snapshot, "n1");
    let of = |name| {
        let PeerConfig { hold_time, max_prefixes, connect_retry, .. } = peer(&desired, name);
        (*hold_time, *max_prefixes, connect_retry.as_secs())
    };
    assert_eq!((of("tor"), of("mesh/n2")), ((9, 7, 2), (60, 8, 2)));
}

#[test]
fn a_path_is_watched_where_somebody_says_so_and_nobody_nearer_says_otherwise() {
    let bfd = |cluster: &str, profile: &str, peer_: &str| {
        let tor = format!("{{address: 192.0.2.254, asn: external, profile: tors, session: {peer_}}}");
        let mut snapshot = with_peer(self::cluster(), "tor", &tor);
        snapshot.bgp.profiles.insert("tors".to_owned(), spec(&format!("{{session: {profile}}}")));
        configuration(&mut snapshot).session = spec(cluster);
        let desired = plan(&snapshot, "n1");
        let of = |name| {
            let Terms { interval, detect_multiplier } = peer(&desired, name).bfd?.terms;
            Some((interval.as_millis(), detect_multiplier))
        };
        (of("tor"), of("mesh/n2"))
    };
    assert_eq!(bfd("{}", "{}", "{}"), (None, None));
    assert_eq!(bfd("{}", "{}", "{bfd: {}}"), (Some((300, 3)), None));
    assert_eq!(
        bfd("{bfd: {detectMultiplier: 5}}", "{bfd: {intervalMilliseconds: 1000}}", "{}"),
        (Some((1000, 5)), Some((300, 5)))
    );
    assert_eq!(bfd("{bfd: {}}", "{bfd: {enabled: false}}", "{}"), (None, Some((300, 3))));
    assert_eq!(bfd("{bfd: {}}", "{bfd: {enabled: false}}", "{bfd: {enabled: true}}").0, Some((300, 3)));
}

#[test]
fn bfd_goes_over_as_many_hops_as_the_session() {
    let path = |asn: &str, session: &str| {
        let tor = format!("{{address: 192.0.2.254, asn: {asn}, session: {session}}}");
        peer(&plan(&with_peer(cluster(), "tor", &tor), "n1"), "tor").bfd.unwrap().path
    };
    let far = |least_ttl| Path::Multihop { least_ttl };
    for (asn, session, expected) in [
        ("external", "{bfd: {}}", Path::SingleHop),
        ("external", "{bfd: {}, multihop: 1}", Path::SingleHop),
        ("external", "{bfd: {}, multihop: 2}", far(1)),
        ("external", "{bfd: {}, security: {ttlSecurityHops: 1}}", Path::SingleHop),
        ("external", "{bfd: {}, security: {ttlSecurityHops: 3}}", far(253)),
        ("internal", "{bfd: {}}", far(1)),
        ("internal", "{bfd: {}, multihop: 1}", Path::SingleHop),
        ("internal", "{bfd: {}, security: {ttlSecurityHops: 254}}", far(2)),
    ] {
        assert_eq!(path(asn, session), expected, "{asn} {session}");
    }
}

#[test]
fn filters_decide_in_their_order_and_one_that_is_missing_lets_nothing_pass() {
    let tor = "{address: 192.0.2.254, asn: external, session: {importFilters: [second, first], exportFilters: [first]}}";
    let mut snapshot = with_peer(cluster(), "tor", tor);
    let first = "{rules: [{prefixes: [{cidr: 0.0.0.0/0}, {cidr: 172.16.0.0/12, minLength: 16, maxLength: 24}], action: accept}]}";
    snapshot.bgp.filters.insert("first".to_owned(), spec(first));
    snapshot.bgp.filters.insert(
        "second".to_owned(),
        spec("{rules: [{prefixes: [{cidr: 10.2.0.0/16, minLength: 24}], action: reject}]}"),
    );
    let range = |network: &str, lengths| PrefixRange { network: network.parse().unwrap(), lengths };
    let rule = |ranges, action| {
        let matches = RouteMatch { prefixes: Some(ranges), ..RouteMatch::default() };
        FilterRule { matches, action, ..FilterRule::default() }
    };
    let reject = rule(vec![range("10.2.0.0/16", 24..=24)], FilterAction::Reject);
    let routes = vec![range("0.0.0.0/0", 0..=0), range("172.16.0.0/12", 16..=24)];
    let accept = rule(routes, FilterAction::Accept);
    let desired = plan(&snapshot, "n1");
    assert_eq!(peer(&desired, "tor").import_filter.rules(), [reject.clone(), accept.clone()]);
    assert_eq!(peer(&desired, "tor").export_filter.rules(), [accept]);
    assert!(desired.problems.is_empty());
    let mesh = peer(&desired, "mesh/n2");
    assert!(mesh.import_filter.is_empty() && mesh.export_filter.is_empty());

    snapshot.bgp.filters.remove("first");
    let desired = plan(&snapshot, "n1");
    let nothing = FilterRule { action: FilterAction::Reject, ..FilterRule::default() };
    assert_eq!(peer(&desired, "tor").import_filter.rules(), [reject, nothing.clone()]);
    assert_eq!(peer(&desired, "tor").export_filter.rules(), [nothing]);
    assert!(reasons(&desired)["BGPPeer tor"].contains("BGPFilter first is missing"));
}

#[test]
fn a_rule_of_a_filter_is_asked_as_it_is_written() {
    let written = spec(
        "{families: [ipv6], communities: ['65000:1-9', no-export, '1:*:3', 'rt:65536:7', 'soo:192.0.2.1:*'],
          asPath: {minLength: 2, contains: [65001]}, origins: [egp, incomplete], action: next,
          set: {localPreference: 50, med: 0, prepend: 3,
                communities: {remove: ['65000:*'], add: ['65000:7', '1:2:3', 'rt:65000:70000', 'soo:192.0.2.1:7', 'rt:65536:7']}}}",
    );
    let any = 0..=u32::MAX;
    let standard = |asn: u16, value| CommunityPattern::Standard { asn: asn..=asn, value };
    let matches = RouteMatch {
        families: Some(vec![AfiSafi::Ipv6Unicast]),
        prefixes: None,
        communities: Some(vec![
            standard(65000, 1..=9),
            standard(65535, 65281..=65281),
            CommunityPattern::Large { global: 1..=1, local1: any, local2: 3..=3 },
            CommunityPattern::Extended {
                purpose: Purpose::RouteTarget,
                administrator: Administrator::Asn(65536..=65536),
                value: 7..=7,
            },
            CommunityPattern::Extended {
                purpose: Purpose::RouteOrigin,
                administrator: Administrator::Address([192, 0, 2, 1].into()),
                value: 0..=65535,
            },
        ]),
        as_path_length: Some(2..=u32::MAX),
        as_path_contains: Some(vec![Asn(65001)]),
        origins: Some(vec![Origin::Egp, Origin::Incomplete]),
    };
    let set = RouteChange {
        local_pref: Some(50),
        med: Some(0),
        prepend: 3,
        remove: vec![standard(65000, 0..=u16::MAX)],
        add: vec![
            AnyCommunity::Standard(Community(65000 << 16 | 7)),
            AnyCommunity::Large(LargeCommunity { global: 1, local1: 2, local2: 3 }),
            AnyCommunity::Extended([0, 2, 0xfd, 0xe8, 0, 1, 0x11, 0x70]),
            AnyCommunity::Extended([1, 3, 192, 0, 2, 1, 0, 7]),
            AnyCommunity::Extended([2, 2, 0, 1, 0, 0, 0, 7]),
        ],
    };
    assert_eq!(filters::rule(&written), FilterRule { matches, set, action: FilterAction::Next });

    let replaced = filters::rule(&spec("{action: accept, set: {communities: {replace: ['1:1']}}}"));
    assert_eq!(replaced.set.add, [AnyCommunity::Standard(Community(1 << 16 | 1))]);
    assert_eq!(replaced.set.remove.len(), 2, "all standard and all large ones");
}

#[test]
fn an_override_is_known_to_the_node_and_to_its_fellows() {
    let one = "{nodeSelector: {matchLabels: {rack: a}}, listenPort: 1179, routerId: 192.0.2.77, localAddresses: [203.0.113.1]}";
    let snapshot = with_override(cluster(), "edge", one);
    let own = plan(&snapshot, "n1");
    assert_eq!(
        (own.speaker.listen_port, own.speaker.router_id),
        (1179, RouterId("192.0.2.77".parse().unwrap()))
    );
    assert_eq!(peer(&own, "mesh/n2").transport.local_address, "203.0.113.1".parse().ok());
    assert_eq!(peer(&own, "mesh/n2").nexthop.v4, "203.0.113.1".parse().ok());
    assert_eq!(peer(&own, "mesh/n2").transport.port, 179);
    let fellow = plan(&snapshot, "n2");
    let edge = peer(&fellow, "mesh/n1");
    assert_eq!((edge.key.address, edge.transport.port), ("203.0.113.1".parse().unwrap(), 1179));
}

#[test]
fn of_two_overrides_the_first_by_name_counts_and_each_may_say_another_thing() {
    let all = |rest: &str| format!("{{nodeSelector: {{}}, {rest}}}");
    let snapshot = with_override(cluster(), "a", &all("asn: 65001"));
    let snapshot = with_override(snapshot, "b", &all("asn: 65002, listenPort: 1179"));
    let desired = plan(&snapshot, "n1");
    assert_eq!((desired.speaker.asn, desired.speaker.listen_port), (Asn(65001), 1179));
    assert_eq!(reasons(&desired)["BGPNodeOverride b"], "spec.asn: BGPNodeOverride a says otherwise");
    assert_eq!(names(&desired), ["mesh/n2", "mesh/n3"], "they are all in it");
}

#[test]
fn what_one_node_alone_can_have_is_refused_for_several() {
    let without = plan(&with_override(cluster(), "all", "{nodeSelector: {}, asn: 65001}"), "n1");
    assert_eq!(without.speaker.asn, Asn(65001));
    for field in ["routerId: 192.0.2.77", "localAddresses: [203.0.113.1]"] {
        let spec = format!("{{nodeSelector: {{}}, asn: 65001, {field}}}");
        let snapshot = with_override(cluster(), "all", &spec);
        assert_eq!(plan(&snapshot, "n1"), without, "the rest of it holds");
        let key = object::ObjectKey::cluster(crate::Kind::BgpNodeOverride, "all");
        let snapshot = Snapshot { shown: [(key.clone(), Default::default())].into(), ..snapshot };
        assert!(acceptance::judge(&snapshot)[&key].as_ref().unwrap().contains("more than one node"));
    }
}

#[test]
fn a_far_router_sees_the_nodes_own_address() {
    let far = with_peer(cluster(), "far", "{address: 203.0.113.1, asn: external, session: {multihop: 3}}");
    let desired = plan(&far, "n1");
    let peer = peer(&desired, "far");
    assert_eq!(
        (peer.transport.local_address, peer.transport.hops),
        ("192.0.2.1".parse().ok(), Hops::Multihop(3))
    );
}

#[test]
fn a_peer_that_names_a_node_replaces_the_mesh_session() {
    let desired = plan(&with_peer(cluster(), "special", "{address: 192.0.2.2, asn: internal}"), "n1");
    assert_eq!(names(&desired), ["special", "mesh/n3"]);
}

#[test]
fn of_two_peers_with_one_address_the_first_name_counts() {
    let snapshot = with_peer(cluster(), "a", "{address: 192.0.2.254, asn: external}");
    let desired = plan(&with_peer(snapshot, "b", "{address: 192.0.2.254, asn: 65000}"), "n1");
    assert!(names(&desired).contains(&"a") && !names(&desired).contains(&"b"));
    assert_eq!(reasons(&desired)["BGPPeer b"], "spec.address: BGPPeer a has the same");
}

#[test]
fn without_its_password_a_peer_is_not_spoken_to() {
    let spec = "{address: 192.0.2.254, asn: external, session: {security: {passwordSecret: {name: bgp}}}}";
    let mut snapshot = with_peer(cluster(), "tor", spec);
    let desired = plan(&snapshot, "n1");
    assert!(!names(&desired).contains(&"tor"), "fail closed");
    assert!(reasons(&desired)["BGPPeer tor"].contains("Secret bgp is missing"));

    let secret = [("password".to_owned(), b"hunter2".to_vec())];
    snapshot.secrets.insert("bgp".to_owned(), secret.into());
    let desired = plan(&snapshot, "n1");
    assert_eq!(
        peer(&desired, "tor").transport.password.as_ref().map(weft_bgp::speaker::Password::as_bytes),
        Some(b"hunter2".as_slice())
    );
}

#[test]
fn without_its_password_there_is_no_mesh_and_the_configuration_says_so_once() {
    let mut snapshot = cluster();
    configuration(&mut snapshot).session = spec("{security: {passwordSecret: {name: bgp}}}");
    let desired = plan(&snapshot, "n1");
    assert_eq!(names(&desired), [""; 0]);
    let problems = reasons(&desired);
    assert_eq!(problems.len(), 1);
    assert!(problems["BGPConfiguration default"].contains("Secret bgp is missing"), "{problems:?}");
    let kind = crate::Kind::BgpConfiguration;
    let key = object::ObjectKey { kind, namespace: String::new(), name: "default".to_owned() };
    snapshot.shown.insert(key.clone(), Default::default());
    assert!(acceptance::judge(&snapshot)[&key].as_ref().unwrap().contains("Secret bgp is missing"));

    snapshot.secrets.insert("bgp".to_owned(), [("password".to_owned(), b"hunter2".to_vec())].into());
    let desired = plan(&snapshot, "n1");
    assert!(desired.peers.iter().all(|peer| peer.transport.password.is_some()) && desired.peers.len() == 2);
    assert_eq!(acceptance::judge(&snapshot)[&key], None);
}

#[test]
fn addresses_that_no_router_has_are_refused() {
    for address in ["192.0.2.1", "fe80::1", "224.0.0.1", "127.0.0.1", "::"] {
        let desired =
            plan(&with_peer(cluster(), "odd", &format!("{{address: '{address}', asn: external}}")), "n1");
        assert!(reasons(&desired)["BGPPeer odd"].starts_with("spec.address: "), "{address}");
    }
}

#[test]
fn own_prefixes_are_announced_with_the_communities_of_all_that_select_the_node() {
    let mut snapshot = cluster();
    let advertisements = [
        ("all", "{communities: ['65000:100', '4200000000:1:2']}"),
        ("here", "{nodeSelector: {matchLabels: {rack: a}}, communities: ['65000:7', '65000:100']}"),
        ("there", "{nodeSelector: {matchLabels: {rack: b}}, communities: ['65000:9']}"),
    ];
    for (name, yaml) in advertisements {
        snapshot.bgp.advertisements.insert(name.to_owned(), spec(yaml));
    }
    let desired = plan(&snapshot, "n1");
    assert_eq!(desired.origin.prefixes, desired.pod_cidrs);
    let expected = [
        AnyCommunity::Standard(Community(65000 << 16 | 7)),
        AnyCommunity::Standard(Community(65000 << 16 | 100)),
        AnyCommunity::Large(LargeCommunity { global: 4_200_000_000, local1: 1, local2: 2 }),
    ];
    assert_eq!(desired.origin.communities, expected);
}

#[test]
fn the_router_id_is_the_ipv4_address_or_a_lasting_number() {
    let snapshot = cluster();
    assert_eq!(plan(&snapshot, "n1").speaker.router_id, RouterId("192.0.2.1".parse().unwrap()));
    let number = |name: &str| {
        let mut snapshot = cluster();
        let node = Arc::clone(&snapshot.nodes["n3"]);
        snapshot.nodes.insert(name.to_owned(), node);
        plan(&snapshot, name).speaker.router_id
    };
    let numbers: BTreeSet<_> = ["n3", "n4", "worker-17"].map(number).into();
    assert_eq!(numbers.len(), 3);
    assert_eq!(number("n3"), plan(&snapshot, "n3").speaker.router_id);
}

#[test]
fn an_object_from_yaml_and_the_plan_fit_together() {
    let yaml = "{apiVersion: weft.dev/v1alpha1, kind: BGPPeer, metadata: {name: tor}, spec: {address: '2001:db8::ffff', asn: internal}}";
    let (_, parsed) = object::parse(&serde_saphyr::from_str(yaml).unwrap()).unwrap();
    let object::Object::BgpPeer(spec) = parsed else { panic!("{parsed:?}") };
    let mut snapshot = cluster();
    snapshot.bgp.peers.insert("tor".to_owned(), spec);
    assert_eq!(peer(&plan(&snapshot, "n1"), "tor").asn, RemoteAsn::Internal);
}

#[test]
fn nodes_take_turns_two_seconds_apart_and_many_nodes_within_a_minute() {
    for (count, step) in [(1, 2000), (3, 2000), (30, 2000), (31, 1935), (3000, 20)] {
        let names: BTreeMap<String, ()> = (0..count).map(|n| (format!("rack{}-{n}", n / 40), ())).collect();
        let mut turns: Vec<_> = names.keys().map(|node| turn(names.keys(), node).0.as_millis()).collect();
        turns.sort_unstable();
        let step_of = |pair: &[u128]| pair[1] - pair[0];
        assert!(turns[0] == 0 && turns.windows(2).all(|pair| step_of(pair).abs_diff(step) <= 1), "{turns:?}");
        let round = turn(names.keys(), "rack0-0").1.as_millis();
        assert!(turns.iter().all(|turn| *turn < round) && round <= 60_000, "{round}");
        assert!(round.abs_diff(step * u128::try_from(count).unwrap()) <= 60, "{round}");
    }
}

/// However its machines are numbered: what ends sessions meets few nodes of a rack at a time.
#[test]
fn the_nodes_of_a_rack_do_not_have_their_turns_together() {
    for place in [|n: usize| format!("rack{}-{:02}", n / 40, n % 40), |n| format!("node-{n:04}.example.net")]
    {
        let names: BTreeMap<String, usize> = (0..400).map(|n| (place(n), n / 40)).collect();
        let mut turns: Vec<_> = names.iter().map(|(name, rack)| (turn(names.keys(), name).0, rack)).collect();
        turns.sort_unstable();
        let most = turns
            .windows(40)
            .flat_map(|window| (0..10).map(|rack| window.iter().filter(|(_, of)| **of == rack).count()));
        assert!(most.max() < Some(16), "of forty in a row");
    }
}

#[test]
fn what_nobody_says_of_a_session_is_as_documented() {
    let snapshot = with_peer(cluster(), "tor", "{address: 192.0.2.9, asn: external}");
    let desired = plan(&snapshot, "n1");
    let tor = peer(&desired, "tor");
    assert_eq!((tor.hold_time, tor.connect_retry.as_secs(), tor.max_prefixes), (90, 5, 10_000));
    assert_eq!((tor.extended_nexthop, tor.enforce_first_asn, tor.passive), (true, true, false));
    assert_eq!((tor.allow_own_asn, tor.transport.port, tor.transport.hops), (0, 179, Hops::Default));
    assert_eq!(tor.families, AfiSafi::ALL);
}

#[test]
fn hops_are_those_of_gtsm_else_of_multihop_beyond_one() {
    for (session, hops) in [
        ("{multihop: 1}", Hops::Default),
        ("{multihop: 2}", Hops::Multihop(2)),
        ("{security: {ttlSecurityHops: 3}}", Hops::Security(3)),
        ("{multihop: 7, security: {ttlSecurityHops: 3}}", Hops::Security(3)),
    ] {
        let spec = format!("{{address: 192.0.2.9, asn: external, session: {session}}}");
        let desired = plan(&with_peer(cluster(), "tor", &spec), "n1");
        assert_eq!(peer(&desired, "tor").transport.hops, hops, "{session}");
    }
}
