//! Random worlds, small and full of edges: few labels, few addresses, absent and empty and senseless everywhere.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::{of, weighted};
use proptest::prelude::*;
use proptest::sample::select;

use crate::eval::Flow;
use crate::model::{Labels, LocalPod, NamedPort, Pod, PodKey, PodUid, Policy, Protocol, World};
use crate::testing::{Cluster, ip};
use crate::translate;

pub(crate) const NAMESPACES: [&str; 3] = ["x", "y", "z"];

/// Each with a place in [`ADDRESSES`] of its own, which it mostly has.
const PODS: [(&str, &str); 5] = [("x", "a"), ("x", "b"), ("x", "c"), ("y", "a"), ("z", "a")];

/// Of both families, pods' first; the last of each is nobody's.
const ADDRESSES: [(&str, &str); 6] = [
    ("10.0.0.1", "fd00::1"),
    ("10.0.0.2", "fd00::2"),
    ("10.0.0.3", "fd00::3"),
    ("10.0.1.1", "fd00::1:1"),
    ("10.0.1.2", "fd00::1:2"),
    ("203.0.113.9", "2001:db8::9"),
];
const CIDRS: [&str; 16] = [
    "0.0.0.0/0",
    "::/0",
    "10.0.0.0/8",
    "10.0.0.0/24",
    "10.0.0.0/30",
    "10.0.0.2/31",
    "10.0.0.1/32",
    "10.0.1.0/24",
    "203.0.113.0/24",
    "fd00::/64",
    "fd00::1:0/112",
    "fd00::1/128",
    "::ffff:10.0.1.0/120",
    "010.0.0.3/8",
    "10.0.0.0",
    "",
];
const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

/// All pairs of addresses of one family, with some ports.
pub(crate) fn flows() -> impl Iterator<Item = Flow> {
    let l4 = [
        (6, Some(80)),
        (6, Some(81)),
        (6, Some(8080)),
        (17, Some(80)),
        (17, Some(53)),
        (132, Some(81)),
        (1, None),
        (6, None),
    ];
    let addresses = ADDRESSES.map(|(v4, v6)| [ip(v4), ip(v6)]);
    let addresses: Vec<_> = addresses.into_iter().flatten().collect();
    let pairs = addresses
        .clone()
        .into_iter()
        .flat_map(move |source| addresses.clone().into_iter().map(move |destination| (source, destination)));
    pairs.filter(|(source, destination)| source.is_ipv4() == destination.is_ipv4()).flat_map(
        move |(source, destination)| l4.map(|(protocol, port)| Flow { source, destination, protocol, port }),
    )
}

/// Addresses that more than one living local pod claims.
pub(crate) fn disputed(cluster: &Cluster) -> BTreeSet<IpAddr> {
    let lives = |local: &&LocalPod| match cluster.world.pods.get(&local.key) {
        Some(pod) => !local.is(pod) || pod.host_network || pod.active,
        None => true,
    };
    let mut seen = BTreeSet::new();
    let claims = cluster.local.iter().filter(lives).flat_map(|local| &local.ips);
    claims.copied().filter(|ip| !seen.insert(*ip)).collect()
}

/// Boxed, as are its parts: their nested state is too large for a test's stack.
pub(crate) fn cluster() -> BoxedStrategy<Cluster> {
    let namespaces = NAMESPACES.map(|name| (Just(name), weighted(0.9, labels())));
    let pods = [0, 1, 2, 3, 4].map(|i| weighted(0.9, pod(i)));
    let local = [0, 1, 2, 3, 4].map(|i| weighted(0.6, local_pod(i)));
    let odd = weighted(0.2, (0..PODS.len()).prop_flat_map(local_pod));
    (namespaces, pods, local, odd, vec(policy(), 0..6))
        .prop_map(|(namespaces, pods, local, odd, policies)| {
            let mut world = World::default();
            for (name, labels) in namespaces {
                world.namespaces.extend(labels.map(|labels| (name.to_owned(), labels)));
            }
            world.pods = (0..).zip(pods).filter_map(|(i, pod)| Some((key(i), pod?.into()))).collect();
            for (i, mut policy) in policies.into_iter().enumerate() {
                policy.key.name = format!("p{i}");
                world.policies.insert(policy.key.clone(), policy.into());
            }
            let local = local.into_iter().chain([odd]).flatten().enumerate();
            let local = local.map(|(i, local)| local.wire(&world, format!("weft{i}"))).collect();
            Cluster { world, local }
        })
        .boxed()
}

/// A pod of one of the names, or its end.
pub(crate) fn edit() -> impl Strategy<Value = (PodKey, Option<Pod>)> {
    (0..PODS.len()).prop_flat_map(|i| (Just(key(i)), weighted(0.7, pod(i))))
}

fn key(i: usize) -> PodKey {
    let (namespace, name) = PODS[i];
    PodKey { namespace: namespace.to_owned(), name: name.to_owned() }
}

#[derive(Clone, Debug)]
struct Wired {
    key: PodKey,
    uid: Option<PodUid>,
    /// Otherwise those that the pod's status has.
    ips: Option<BTreeSet<IpAddr>>,
}

impl Wired {
    fn wire(self, world: &World, link: String) -> LocalPod {
        let status = world.pods.get(&self.key).map(|pod| pod.ips.clone());
        LocalPod {
            key: self.key,
            uid: self.uid,
            link,
            ips: self.ips.or(status).unwrap_or_default(),
            ports: BTreeSet::new(),
        }
    }
}

fn local_pod(i: usize) -> BoxedStrategy<Wired> {
    (uid(), weighted(0.3, addresses(i))).prop_map(move |(uid, ips)| Wired { key: key(i), uid, ips }).boxed()
}

fn pod(i: usize) -> BoxedStrategy<Pod> {
    let ports = btree_set(
        (select(&["web", "dns"][..]), select(&PROTOCOLS[..]), select(&[53_u16, 80, 8080][..])),
        0..4,
    );
    (uid(), labels(), addresses(i), ports, weighted_bool(0.9), weighted_bool(0.1))
        .prop_map(|(uid, labels, ips, ports, active, host_network)| {
            let port =
                |(name, protocol, port): (&str, _, _)| NamedPort { name: name.to_owned(), protocol, port };
            Pod {
                uid,
                labels: labels.into(),
                ips,
                ports: Arc::new(ports.into_iter().map(port).collect()),
                active,
                host_network,
                node: None,
            }
        })
        .boxed()
}

fn uid() -> impl Strategy<Value = Option<PodUid>> {
    weighted(0.5, prop_oneof![12 => Just("1"), 1 => Just("2")].prop_map(|uid| PodUid(uid.to_owned())))
}

fn addresses(i: usize) -> impl Strategy<Value = BTreeSet<IpAddr>> {
    let place = || weighted(0.9, prop_oneof![9 => Just(i), 1 => 0..PODS.len()]);
    (place(), place()).prop_map(|(v4, v6)| {
        let v4 = v4.map(|i| ip(ADDRESSES[i].0));
        v4.into_iter().chain(v6.map(|i| ip(ADDRESSES[i].1))).collect()
    })
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(select(&["app", "tier"][..]), select(&["1", "2"][..]), 0..3).prop_map(|labels| {
        labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    })
}

pub(crate) fn policy() -> BoxedStrategy<Policy> {
    let ingress = list((list(peer(), 2), list(port(), 2)), 2);
    let egress = list((list(peer(), 2), list(port(), 2)), 2);
    let types = prop_oneof![
        3 => Just(None),
        1 => Just(Some(vec![])),
        2 => Just(Some(vec!["Ingress".to_owned()])),
        2 => Just(Some(vec!["Egress".to_owned()])),
        3 => Just(Some(vec!["Ingress".to_owned(), "Egress".to_owned()])),
        1 => weighted(0.3, Just(vec!["Other".to_owned()])),
    ];
    (prop_oneof![3 => Just("x"), 1 => Just("y"), 1 => Just("z")], of(selector()), types, ingress, egress)
        .prop_map(|(namespace, pod_selector, policy_types, ingress, egress)| {
            let ingress_rule = |(from, ports)| NetworkPolicyIngressRule { from, ports };
            let egress_rule = |(to, ports)| NetworkPolicyEgressRule { to, ports };
            let spec = NetworkPolicySpec {
                pod_selector,
                policy_types,
                ingress: ingress.map(|rules| rules.into_iter().map(ingress_rule).collect()),
                egress: egress.map(|rules| rules.into_iter().map(egress_rule).collect()),
            };
            let metadata = ObjectMeta {
                namespace: Some(namespace.to_owned()),
                name: Some("p".to_owned()),
                ..ObjectMeta::default()
            };
            translate::policy(&NetworkPolicy { metadata, spec: Some(spec) }).expect("the policy has a name")
        })
        .boxed()
}

/// Absent, empty, or with some items.
fn list<T: std::fmt::Debug + Clone>(
    item: impl Strategy<Value = T>,
    max: usize,
) -> impl Strategy<Value = Option<Vec<T>>> {
    weighted(0.85, vec(item, 0..=max))
}

fn selector() -> impl Strategy<Value = LabelSelector> {
    let labels = of(labels().prop_filter("most selectors have one label", |labels| labels.len() < 2));
    let expressions = weighted(0.4, vec(requirement(), 0..3));
    (labels, expressions)
        .prop_map(|(match_labels, match_expressions)| LabelSelector { match_labels, match_expressions })
}

fn requirement() -> impl Strategy<Value = LabelSelectorRequirement> {
    let operator = prop_oneof![
        6 => Just("In"), 6 => Just("NotIn"), 4 => Just("Exists"), 4 => Just("DoesNotExist"), 1 => Just("Is"),
    ];
    let values = btree_set(select(&["1", "2"][..]), 1..3);
    (select(&["app", "tier"][..]), operator, values, weighted_bool(0.05)).prop_map(
        |(key, operator, values, odd)| {
            let wanted = matches!(operator, "In" | "NotIn") != odd;
            let values = wanted.then(|| values.into_iter().map(str::to_owned).collect());
            LabelSelectorRequirement { key: key.to_owned(), operator: operator.to_owned(), values }
        },
    )
}

fn peer() -> BoxedStrategy<NetworkPolicyPeer> {
    let block =
        (cidr(), weighted(0.5, vec(cidr(), 0..3))).prop_map(|(cidr, except)| IPBlock { cidr, except });
    (0..20, selector(), selector(), block)
        .prop_map(|(kind, pods, namespaces, block)| match kind {
            0 => NetworkPolicyPeer::default(),
            1 => NetworkPolicyPeer {
                ip_block: Some(block),
                pod_selector: Some(pods),
                namespace_selector: None,
            },
            2..=6 => NetworkPolicyPeer { pod_selector: Some(pods), ..NetworkPolicyPeer::default() },
            7..=10 => {
                NetworkPolicyPeer { namespace_selector: Some(namespaces), ..NetworkPolicyPeer::default() }
            }
            11..=14 => NetworkPolicyPeer {
                pod_selector: Some(pods),
                namespace_selector: Some(namespaces),
                ip_block: None,
            },
            _ => NetworkPolicyPeer { ip_block: Some(block), ..NetworkPolicyPeer::default() },
        })
        .boxed()
}

fn cidr() -> impl Strategy<Value = String> {
    select(&CIDRS[..]).prop_map(str::to_owned)
}

fn port() -> BoxedStrategy<NetworkPolicyPort> {
    let protocol = prop_oneof![
        4 => Just(None), 2 => Just(Some("TCP")), 4 => Just(Some("UDP")), 2 => Just(Some("SCTP")), 1 => Just(Some("tcp")),
    ];
    let number =
        prop_oneof![Just(1), Just(53), Just(80), Just(81), Just(8080), Just(65535), Just(0), Just(70000)];
    let port = prop_oneof![
        2 => Just(None),
        6 => number.clone().prop_map(|number| Some(IntOrString::Int(number))),
        4 => select(&["web", "dns", "nosuch"][..]).prop_map(|name| Some(IntOrString::String(name.to_owned()))),
    ];
    (protocol, port, weighted(0.25, number))
        .prop_map(|(protocol, port, end_port)| NetworkPolicyPort {
            protocol: protocol.map(str::to_owned),
            port,
            end_port,
        })
        .boxed()
}

fn weighted_bool(probability: f64) -> impl Strategy<Value = bool> {
    proptest::bool::weighted(probability)
}
