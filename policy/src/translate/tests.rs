use ipnetwork::IpNetwork;

use super::{namespace, parse_cidr_sloppy};
use crate::model::{MAX_PORTS, MAX_PREFIXES, MAX_SELECTORS};
use crate::testing::policy;

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
        assert_eq!(parse_cidr_sloppy(text), meaning, "{text}");
    }
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
