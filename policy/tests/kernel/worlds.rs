//! Random clusters and policies, biased to the edges of the API: empty against absent, `NotIn` without the key,
//! overlapping ranges and excepts, named ports that differ between pods.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};
use weft_policy::model::{Labels, LocalPod, NamedPort, Pod, PodKey, Protocol, World};
use weft_policy::translate;

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// `0..bound`
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    fn list(&mut self, max: usize, mut item: impl FnMut(&mut Self) -> Value) -> Vec<Value> {
        (0..self.below(max + 1)).map(|_| item(self)).collect()
    }
}

/// Namespace, name, and whether it runs on this node. Pod `i` has 10.0.0.`i` and fd00::`i`, from 1 on.
pub(crate) const PODS: [(&str, &str, bool); 8] = [
    ("x", "a", true),
    ("x", "b", true),
    ("x", "c", true),
    ("y", "a", true),
    ("y", "b", true),
    ("x", "d", false),
    ("y", "c", false),
    ("z", "a", false),
];

pub(crate) fn addresses(index: usize) -> [IpAddr; 2] {
    let host = u8::try_from(index + 1).unwrap();
    [IpAddr::from([10, 0, 0, host]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host)])]
}

pub(crate) fn link(index: usize) -> String {
    format!("weft{index:011}")
}

/// The links of the pods that run here.
pub(crate) fn local_pods() -> Vec<LocalPod> {
    PODS.iter()
        .enumerate()
        .filter(|(_, (.., local))| *local)
        .map(|(index, _)| LocalPod {
            key: key(index),
            uid: None,
            link: link(index),
            ips: addresses(index).into(),
            ports: BTreeSet::new(),
        })
        .collect()
}

pub(crate) fn world(random: &mut Random) -> World {
    let mut world = World::default();
    for namespace in ["x", "y", "z"] {
        let mut labels = random_labels(random);
        labels.insert("kubernetes.io/metadata.name".into(), namespace.into());
        world.namespaces.insert(namespace.into(), labels);
    }
    for index in 0..PODS.len() {
        world.pods.insert(key(index), pod(random, index).into());
    }
    for number in 0..random.below(6) {
        let namespace = random.pick(&["x", "y", "z"]);
        let policy = policy(random, namespace, number);
        world.policies.insert(policy.key.clone(), policy.into());
    }
    world
}

fn key(index: usize) -> PodKey {
    let (namespace, name, _) = PODS[index];
    PodKey { namespace: namespace.into(), name: name.into() }
}

fn pod(random: &mut Random, index: usize) -> Pod {
    let web = random.pick(&[80, 81, 8080]);
    let mut ports = vec![NamedPort { name: "web".into(), protocol: Protocol::Tcp, port: web }];
    if random.chance(50) {
        ports.push(NamedPort { name: "dns".into(), protocol: Protocol::Udp, port: 53 });
    }
    Pod {
        labels: random_labels(random).into(),
        ips: addresses(index).into(),
        ports: std::sync::Arc::new(ports.into_iter().collect()),
        active: !random.chance(5),
        ..Pod::default()
    }
}

fn random_labels(random: &mut Random) -> Labels {
    let mut labels = BTreeMap::new();
    for name in ["app", "tier"] {
        if random.chance(70) {
            labels.insert(name.to_owned(), random.pick(&["a", "b", "c"]).to_owned());
        }
    }
    labels
}

fn policy(random: &mut Random, namespace: &str, number: usize) -> weft_policy::model::Policy {
    let mut spec = json!({ "podSelector": selector(random) });
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        if random.chance(70) {
            spec[direction] = random.list(3, |random| rule(random, peers)).into();
        }
    }
    if random.chance(70) {
        let types = [vec!["Ingress"], vec!["Egress"], vec!["Ingress", "Egress"]];
        spec["policyTypes"] = json!(random.pick(&types));
    }
    let object =
        json!({ "metadata": { "name": format!("p{number}"), "namespace": namespace }, "spec": spec });
    let object: NetworkPolicy = serde_json::from_value(object).expect("a NetworkPolicy");
    translate::policy(&object).expect("it has a name")
}

fn rule(random: &mut Random, peers: &str) -> Value {
    let mut rule = json!({});
    if random.chance(70) {
        rule[peers] = random.list(3, peer).into();
    }
    if random.chance(60) {
        rule["ports"] = random.list(3, port).into();
    }
    rule
}

fn peer(random: &mut Random) -> Value {
    match random.below(5) {
        0 => json!({ "podSelector": selector(random) }),
        1 => json!({ "namespaceSelector": selector(random) }),
        2 => json!({ "podSelector": selector(random), "namespaceSelector": selector(random) }),
        3 => block(random, &["10.0.0.0/8", "10.0.0.0/29", "10.0.0.2/31", "0.0.0.0/0", "192.0.2.0/24"]),
        _ => block(random, &["fd00::/64", "fd00::4/126", "::/0", "2001:db8::/33"]),
    }
}

fn block(random: &mut Random, prefixes: &[&str]) -> Value {
    let cidr = random.pick(prefixes);
    let inner: &[&str] = if cidr.contains(':') {
        &["fd00::5/128", "fd00::6/127", "2001:db8::/64"]
    } else {
        &["10.0.0.3/32", "10.0.0.4/30", "192.0.2.0/28"]
    };
    let holds = |except: &str| {
        let (outer, inner): (ipnetwork::IpNetwork, ipnetwork::IpNetwork) =
            (cidr.parse().unwrap(), except.parse().unwrap());
        outer.contains(inner.network()) && outer.prefix() < inner.prefix()
    };
    let except: Vec<_> = inner.iter().filter(|except| holds(except) && random.chance(60)).collect();
    json!({ "ipBlock": { "cidr": cidr, "except": except } })
}

fn port(random: &mut Random) -> Value {
    let ports = [
        json!({}),
        json!({ "port": 80 }),
        json!({ "protocol": "TCP", "port": 80, "endPort": 8080 }),
        json!({ "protocol": "TCP", "port": 81, "endPort": 81 }),
        json!({ "protocol": "UDP", "port": 53 }),
        json!({ "protocol": "UDP" }),
        json!({ "protocol": "SCTP", "port": 80 }),
        json!({ "port": "web" }),
        json!({ "protocol": "UDP", "port": "dns" }),
        json!({ "protocol": "UDP", "port": "web" }),
    ];
    random.pick(&ports)
}

fn selector(random: &mut Random) -> Value {
    let key = random.pick(&["app", "tier"]);
    let values = [random.pick(&["a", "b", "c"]), random.pick(&["a", "b", "c"])];
    match random.below(6) {
        0 => json!({}),
        1 => json!({ "matchLabels": { key: values[0] } }),
        2 => json!({ "matchExpressions": [{ "key": key, "operator": "In", "values": values }] }),
        3 => json!({ "matchExpressions": [{ "key": key, "operator": "NotIn", "values": values }] }),
        4 => json!({ "matchExpressions": [{ "key": key, "operator": "Exists" }] }),
        _ => json!({ "matchExpressions": [{ "key": key, "operator": "DoesNotExist" }] }),
    }
}
