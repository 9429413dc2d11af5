//! How long a full compile takes in a large cluster: 5,000 pods, 200 policies, 100 pods on this node.
//!
//! `cargo run --release -p weft-policy --example compile_scale`

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use weft_policy::model::{LocalPod, NamedPort, Pod, PodKey, Protocol, World};
use weft_policy::{Options, compile, translate};

const NAMESPACES: u8 = 50;
const PODS: u8 = 100;
const LOCAL: usize = 100;
const RUNS: usize = 50;

/// One of each for every namespace.
const POLICIES: [&str; 4] = [
    "{podSelector: {}, policyTypes: [Ingress, Egress]}",
    "{podSelector: {matchLabels: {app: app-1}}, ingress: [{from: [{podSelector: {}}, {namespaceSelector: {}, \
     podSelector: {matchLabels: {app: app-2}}}], ports: [{port: 80}, {port: 8080, endPort: 8089}]}]}",
    "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: team-3}}}, \
     {ipBlock: {cidr: 10.0.0.0/8, except: [10.96.0.0/12]}}]}]}",
    "{podSelector: {matchExpressions: [{key: app, operator: In, values: [app-1, app-4]}]}, policyTypes: [Egress], \
     egress: [{to: [{namespaceSelector: {}}], ports: [{port: dns, protocol: UDP}]}, \
     {to: [{namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [app-3]}]}}]}]}",
];

#[expect(clippy::disallowed_methods, reason = "measures")]
fn main() {
    let (world, local) = cluster();
    let options = Options::default();
    let mut times: Vec<_> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(compile(&world, &local, &options));
            start.elapsed()
        })
        .collect();
    times.sort();
    let ruleset = compile(&world, &local, &options).ruleset;
    let elements: usize = ruleset.sets.values().map(|set| set.elements.len()).sum();
    println!(
        "{} pods, {} policies, {} local pods: {} chains, {} sets, {elements} elements; compile min {:?}, median {:?}, max {:?}",
        world.pods.len(),
        world.policies.len(),
        local.len(),
        ruleset.chains.len(),
        ruleset.sets.len(),
        times[0],
        times[RUNS / 2],
        times[RUNS - 1],
    );
}

fn cluster() -> (World, Vec<LocalPod>) {
    let mut world = World::default();
    for n in 0..NAMESPACES {
        let namespace = format!("ns-{n}");
        let labels =
            [("kubernetes.io/metadata.name", namespace.clone()), ("team", format!("team-{}", n % 10))];
        world.namespaces.insert(namespace.clone(), labels.map(|(k, v)| (k.to_owned(), v)).into());
        for p in 0..PODS {
            let key = PodKey { namespace: namespace.clone(), name: format!("pod-{p}") };
            world.pods.insert(key, pod(n, p).into());
        }
        for (i, spec) in POLICIES.iter().enumerate() {
            let metadata = ObjectMeta {
                namespace: Some(namespace.clone()),
                name: Some(format!("policy-{i}")),
                ..ObjectMeta::default()
            };
            let spec: NetworkPolicySpec = serde_saphyr::from_str(spec).expect("YAML of a policy");
            let policy =
                translate::policy(&NetworkPolicy { metadata, spec: Some(spec) }).expect("a good policy");
            world.policies.insert(policy.key.clone(), policy.into());
        }
    }
    // One less than would divide them evenly: so all kinds of pods are among them.
    let every = usize::from(NAMESPACES) * usize::from(PODS) / LOCAL - 1;
    let wire = |(i, (key, pod)): (usize, (&PodKey, &Arc<Pod>))| LocalPod {
        key: key.clone(),
        uid: None,
        link: format!("weft{i}"),
        ips: pod.ips.clone(),
        ports: BTreeSet::new(),
    };
    let local = world.pods.iter().step_by(every).take(LOCAL).enumerate().map(wire).collect();
    (world, local)
}

fn pod(n: u8, p: u8) -> Pod {
    let labels = [("app", format!("app-{}", p % 10)), ("version", format!("v{}", p % 3))];
    let dns = NamedPort { name: "dns".to_owned(), protocol: Protocol::Udp, port: 53 };
    Pod {
        labels: Arc::new(labels.map(|(key, value)| (key.to_owned(), value)).into()),
        ips: [
            std::net::Ipv4Addr::new(10, 244, n, p).into(),
            std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, n.into(), p.into()).into(),
        ]
        .into(),
        ports: Arc::new([dns].into()),
        active: true,
        ..Pod::default()
    }
}
