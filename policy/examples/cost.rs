//! What the dear operations cost in large clusters, one at a time, for an instruction counter:
//!
//! `valgrind --tool=callgrind target/release/examples/cost ports 4000 1`, and the same with `0` for what surrounds it.
//!
//! `ports N ROUNDS`: compile for a pod that a policy of N ports isolates. `event PODS POLICIES ROUNDS`: a pod elsewhere changes
//! its labels, with 100 pods here. `judge PODS ROUNDS`: one more flow to a pod here, that nothing isolates.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use weft_policy::eval::{Flow, Judge};
use weft_policy::model::{LocalPod, Pod, PodKey, World};
use weft_policy::nft::Transaction;
use weft_policy::{Options, compile, translate};

const NAMESPACES: usize = 100;
const LOCAL: usize = 100;
const USAGE: &str = "ports N ROUNDS | event PODS POLICIES ROUNDS | judge PODS ROUNDS";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<usize> = words.iter().skip(1).map(|word| word.parse().expect(USAGE)).collect();
    match (words.first().map(String::as_str), &numbers[..]) {
        (Some("ports"), &[ports, rounds]) => compile_ports(ports, rounds),
        (Some("event"), &[pods, policies, rounds]) => handle_events(pods, policies, rounds),
        (Some("judge"), &[pods, rounds]) => judge(pods, rounds),
        _ => panic!("{USAGE}"),
    }
}

fn compile_ports(ports: usize, rounds: usize) {
    let (mut world, local) = cluster(LOCAL, 1);
    let ports: Vec<_> = (1..=ports).map(|port| format!("{{port: {port}}}")).collect();
    add(
        &mut world,
        0,
        "ports",
        &format!("{{podSelector: {{}}, ingress: [{{ports: [{}]}}]}}", ports.join(", ")),
    );
    for _ in 0..rounds {
        std::hint::black_box(compile(&world, &local, &Options::default()));
    }
}

fn handle_events(pods: usize, policies: usize, rounds: usize) {
    let (mut world, local) = cluster(pods, LOCAL);
    for policy in 0..policies {
        let (app, peer) = (policy / NAMESPACES % 10, (policy / NAMESPACES + 1) % 10);
        let spec = format!(
            "{{podSelector: {{matchLabels: {{app: app-{app}}}}}, ingress: [{{ports: [{{port: 8080}}], from: [\
             {{namespaceSelector: {{matchLabels: {{team: team-{}}}}}, podSelector: {{matchLabels: {{app: app-{peer}}}}}}}]}}]}}",
            policy % 10
        );
        add(&mut world, policy % NAMESPACES, &format!("policy-{policy}"), &spec);
    }
    let options = Options::default();
    let mut have = compile(&world, &local, &options).ruleset;
    for round in 0..rounds {
        let pod = world.pods.get_mut(&key(pods - 1)).expect("the last pod");
        Arc::make_mut(pod).labels = Arc::new([("app".to_owned(), format!("app-{}", round % 10))].into());
        let want = compile(&world, &local, &options).ruleset;
        std::hint::black_box(Transaction::diff(&want, &have));
        have = want;
    }
}

fn judge(pods: usize, rounds: usize) {
    let (world, local) = cluster(pods, LOCAL);
    let judge = Judge::new(&world, &local);
    for round in 0..rounds {
        let flow = Flow {
            source: address(LOCAL + round),
            destination: address(round % LOCAL),
            protocol: 6,
            port: Some(80),
        };
        std::hint::black_box(judge.stops(&flow));
    }
}

/// The first `local` pods are wired to this node.
fn cluster(pods: usize, local: usize) -> (World, Vec<LocalPod>) {
    let mut world = World::default();
    for number in 0..NAMESPACES {
        let labels = [("team".to_owned(), format!("team-{}", number % 10))].into();
        world.namespaces.insert(format!("ns-{number}"), labels);
    }
    for number in 0..pods {
        let labels = [("app".to_owned(), format!("app-{}", number / NAMESPACES % 10))].into();
        let pod =
            Pod { labels: Arc::new(labels), ips: [address(number)].into(), active: true, ..Pod::default() };
        world.pods.insert(key(number), pod.into());
    }
    let wired = (0..local).map(|number| LocalPod {
        key: key(number),
        uid: None,
        link: format!("weft{number:011x}"),
        ips: [address(number)].into(),
        ports: [].into(),
    });
    (world, wired.collect())
}

fn key(number: usize) -> PodKey {
    PodKey { namespace: format!("ns-{}", number % NAMESPACES), name: format!("pod-{number}") }
}

fn address(number: usize) -> IpAddr {
    let [.., a, b, c] = number.to_be_bytes();
    [10, a, b, c].into()
}

fn add(world: &mut World, namespace: usize, name: &str, spec: &str) {
    let spec: NetworkPolicySpec = serde_saphyr::from_str(spec).expect("a spec");
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(format!("ns-{namespace}")),
        ..ObjectMeta::default()
    };
    let policy = translate::policy(&NetworkPolicy { metadata, spec: Some(spec) }).expect("it has a name");
    world.policies.insert(policy.key.clone(), policy.into());
}
