use ipnetwork::IpNetwork;

use super::{namespace, parse_cidr, pod};
use crate::model::{FieldError, MAX_PORTS, MAX_PREFIXES, MAX_SELECTORS, Pod, PodKey, PodUid, Protocol};
use crate::testing::{ip, named, policy};

#[test]
fn cidrs_are_read_as_old_go_read_them() {
    let cases = [
        ("10.0.0.0/8", Some("10.0.0.0/8")),
        ("10.1.2.3/8", Some("10.0.0.0/8")),
        ("010.001.000.009/24", Some("10.1.0.0/24")),
        ("0.0.0.0/0", Some("0.0.0.0/0")),
        ("10.0.0.0/08", Some("10.0.0.0/8")),
        ("::ffff:10.1.2.3/104", Some("10.0.0.0/8")),
        ("::ffff:10.1.2.3/96", Some("0.0.0.0/0")),
        ("::ffff:10.1.2.3/64", Some("::/64")),
        ("0000fd00:0001::00001/48", Some("fd00:1::/48")),
        ("::/0", Some("::/0")),
        ("::1.2.3.4/128", Some("::102:304/128")),
        ("10.0.0.0", None),
        ("10.0.0/8", None),
        ("10.0.0.0.0/8", None),
        ("10.0.0.256/8", None),
        ("10.0.0.0/33", None),
        ("10.0.0.0/+8", None),
        ("10.0.0.0/-1", None),
        ("10.0.0.0/", None),
        ("+10.0.0.0/8", None),
        ("10..0.0/8", None),
        ("::/129", None),
        ("fe80::1%eth0/64", None),
        ("1:2:3/64", None),
        (":::/64", None),
        ("fd00::12345/64", None),
        ("", None),
        ("/", None),
    ];
    for (text, meaning) in cases {
        let meaning: Option<IpNetwork> = meaning.map(|text| text.parse().unwrap());
        assert_eq!(parse_cidr(text), meaning, "{text}");
    }
}

fn read_pod(text: &str) -> Result<(PodKey, Pod), FieldError> {
    pod(&serde_saphyr::from_str(&format!("{{apiVersion: v1, kind: Pod, {text}}}")).unwrap())
}

#[test]
fn a_pod_is_read_with_all_its_addresses_and_named_ports() {
    let (key, pod) = read_pod(
        "metadata: {name: a, namespace: x, uid: u1, labels: {app: web}},
         spec: {nodeName: n1, containers: [
             {name: c, ports: [{name: http, containerPort: 80}, {containerPort: 81}]},
             {name: d, ports: [{name: http, containerPort: 8080}, {name: dns, protocol: UDP, containerPort: 53}]}],
           initContainers: [
             {name: sidecar, restartPolicy: Always, ports: [{name: mesh, containerPort: 15001}]},
             {name: once, ports: [{name: once, containerPort: 1}]}]},
         status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}",
    )
    .unwrap();
    assert_eq!(key.to_string(), "x/a");
    assert_eq!(pod.uid, Some(PodUid("u1".to_owned())));
    assert_eq!(pod.labels["app"], "web");
    assert_eq!(pod.ips, [ip("10.0.0.1"), ip("fd00::1")].into());
    let ports = [
        ("http", Protocol::Tcp, 80),
        ("http", Protocol::Tcp, 8080),
        ("dns", Protocol::Udp, 53),
        ("mesh", Protocol::Tcp, 15001),
    ];
    assert_eq!(*pod.ports, ports.map(|(name, protocol, port)| named(name, protocol, port)).into());
    assert!(pod.active && !pod.host_network);
    assert_eq!(pod.node.as_deref(), Some("n1"));
}

#[test]
fn a_pod_is_active_until_its_phase_says_that_it_has_ended() {
    let active = |status: &str| read_pod(&format!("metadata: {{name: a}}, {status}")).unwrap().1.active;
    assert!(active("status: {}"));
    assert!(active("spec: {containers: []}"));
    for (phase, expected) in
        [("Pending", true), ("Running", true), ("Unknown", true), ("Succeeded", false), ("Failed", false)]
    {
        assert_eq!(active(&format!("status: {{phase: {phase}}}")), expected, "{phase}");
    }
    let (_, terminating) =
        read_pod("metadata: {name: a, deletionTimestamp: '2026-01-01T00:00:00Z'}, status: {phase: Running, podIP: 10.0.0.9}").unwrap();
    assert!(terminating.active);
    assert_eq!(terminating.ips, [ip("10.0.0.9")].into());
}

#[test]
fn a_mirror_pod_has_the_uid_of_its_static_pod() {
    let (key, pod) =
        read_pod("metadata: {name: etcd, uid: api, annotations: {kubernetes.io/config.mirror: static}}")
            .unwrap();
    assert_eq!(key.namespace, "default");
    assert_eq!(pod.uid, Some(PodUid("static".to_owned())));
    assert_eq!(read_pod("metadata: {name: etcd}").unwrap().1.uid, None);
}

#[test]
fn a_pod_that_makes_no_sense_is_refused_by_field() {
    let problem = |text: &str| read_pod(text).unwrap_err().to_string();
    assert_eq!(problem("metadata: {}"), "metadata.name: is missing");
    assert_eq!(
        problem("metadata: {name: a}, status: {podIPs: [{ip: nine}]}"),
        "status.podIPs: `nine` is no address"
    );
    let port = |port: &str| {
        problem(&format!("metadata: {{name: a}}, spec: {{containers: [{{name: c, ports: [{port}]}}]}}"))
    };
    assert_eq!(port("{name: p, containerPort: 0}"), "spec.containers.ports: 0 is no port number");
    assert_eq!(
        port("{name: p, containerPort: 1, protocol: X}"),
        "spec.containers.ports: `X` is none of TCP, UDP, SCTP"
    );
}

#[test]
fn a_namespace_bears_its_name_as_a_label() {
    let text = "{apiVersion: v1, kind: Namespace, metadata: {name: x, labels: {team: red}}}";
    let (name, labels) = namespace(&serde_saphyr::from_str(text).unwrap()).unwrap();
    assert_eq!(name, "x");
    assert_eq!(labels["team"], "red");
    assert_eq!(labels["kubernetes.io/metadata.name"], "x");
}

#[test]
fn equal_selectors_are_equal_however_they_are_written() {
    let a = policy("{podSelector: {matchLabels: {app: web, tier: a}}}");
    let b = policy(
        "{podSelector: {matchExpressions: [{key: tier, operator: In, values: [a, a]}], matchLabels: {app: web}}}",
    );
    assert_eq!(a.subjects, b.subjects);
}

#[test]
fn a_policy_that_is_too_large_closes_what_it_selects_and_says_of_what_it_has_too_much() {
    let list = |item: &str, count: usize| vec![item; count].join(", ");
    let cases = [
        ("ports", "{port: 80}", MAX_PORTS),
        ("from", "{podSelector: {}}", MAX_SELECTORS),
        (
            "from",
            "{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.2.0.0/16, 10.3.0.0/16]}}",
            MAX_PREFIXES / 4,
        ),
    ];
    for (field, item, most) in cases {
        let with = |count| {
            policy(&format!("{{podSelector: {{}}, ingress: [{{{field}: [{}]}}]}}", list(item, count)))
        };
        let largest = with(most);
        assert_eq!(largest.errors, []);
        let mut cluster = crate::testing::Cluster::new();
        cluster.world.policies.insert(largest.key.clone(), largest.into());
        assert!(cluster.judge("x/b -> x/a tcp/80").allowed(), "{item}");
        let refused = with(most + 1);
        assert_eq!((&refused.ingress, &refused.egress), (&Some(Vec::new()), &Some(Vec::new())), "{item}");
        let said = refused.errors[0].to_string();
        assert!(said.starts_with("spec: has ") && said.contains("more than"), "{said}");
        let mut cluster = crate::testing::Cluster::new();
        cluster.world.policies.insert(refused.key.clone(), refused.into());
        cluster.expect(&[("y/a -> x/a tcp/80", false), ("x/a -> y/a tcp/80", false)]);
    }
}
