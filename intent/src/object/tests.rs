use super::*;

fn read(yaml: &str) -> Result<(ObjectKey, Object), Refusal> {
    parse(&serde_saphyr::from_str(yaml).unwrap())
}

fn reason(yaml: &str) -> String {
    read(yaml).expect_err("refused").reason
}

#[test]
fn a_node_gives_addresses_and_pod_cidrs() {
    let (key, object) = read(
        "{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {rack: a}},
          spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.7/24, 'fd00:1::/64'], taints: []},
          status: {addresses: [{type: Hostname, address: n1}, {type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: '2001:db8::1'}]}}",
    )
    .unwrap();
    assert_eq!(key.to_string(), "Node n1");
    let wanted = NodeInfo {
        labels: [("rack".to_owned(), "a".to_owned())].into(),
        internal_ips: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        pod_cidrs: vec!["10.1.0.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()],
        ..NodeInfo::default()
    };
    assert_eq!(object, Object::Node(wanted.into()));
}

#[test]
fn refusals_name_the_field() {
    let node = "{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDRs: [10.0.0.0/33]}}";
    assert!(reason(node).starts_with("spec.podCIDRs[0]: "), "{}", reason(node));
    let node = "{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: x}]}}";
    assert!(reason(node).starts_with("status.addresses[0].address: "));
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: web}, status: {podIPs: [{ip: nine}]}}";
    assert_eq!(reason(pod), "status.podIPs[0].ip: `nine` is no address");
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{ports: [{containerPort: x}]}]}}";
    assert!(reason(pod).starts_with("spec.containers[0].ports[0].containerPort: "), "{}", reason(pod));
    let config = "{apiVersion: weft.dev/v1alpha1, kind: BGPConfiguration, metadata: {name: default}, spec: {maxPaths: 65}}";
    assert_eq!(reason(config), "spec.maxPaths: 65 is not within 1-64");
    let config = "{apiVersion: weft.dev/v1alpha1, kind: BGPConfiguration, metadata: {name: default}, spec: {session: {timers: {holdTimeSeconds: 2}}}}";
    assert!(reason(config).starts_with("spec.session.timers.holdTimeSeconds: "));
    let peer = "{apiVersion: weft.dev/v1alpha1, kind: BGPPeer, metadata: {name: p}, spec: {address: nowhere, asn: 1}}";
    assert!(reason(peer).starts_with("spec.address: "), "{}", reason(peer));
    let peer = "{apiVersion: weft.dev/v1alpha1, kind: BGPPeer, metadata: {name: p}, spec: {address: 192.0.2.1, asn: external, adress: x}}";
    assert!(reason(peer).contains("adress"), "{}", reason(peer));
}

#[test]
fn a_misspelt_policy_field_is_refused_and_never_widens_the_policy() {
    let policy =
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: demo},
        spec: {podSelector: {}, ingress: [{from: [{podSelector: {}, nameSpaceSelector: {}}]}]}}";
    let refusal = read(policy).expect_err("refused");
    assert_eq!(refusal.reason, "spec.ingress[0].from[0].nameSpaceSelector: unknown field");
    assert_eq!(refusal.key.unwrap().to_string(), "NetworkPolicy demo/p");
}

#[test]
fn every_unknown_field_is_named_and_an_empty_one_that_is_known_is_not() {
    let object = |metadata: &str, session: &str| {
        format!(
            "{{apiVersion: weft.dev/v1alpha1, kind: BGPPeerProfile, metadata: {{name: p{metadata}}}, spec: {{session: {session}}}}}"
        )
    };
    read(&object("", "{timers: {}, security: {}, limits: {}, importFilters: []}")).unwrap();
    let unknown = object(", label: {}, labels: {a: b}, annotation: {}", "{}");
    assert_eq!(reason(&unknown), "metadata.annotation: unknown field, as are metadata.label");
}

#[test]
fn a_policy_with_a_senseless_part_is_refused_as_a_whole() {
    let policy = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p1},
        spec: {podSelector: {}, ingress: [{from: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/40}}]}]}}";
    let refusal = read(policy).expect_err("refused");
    assert!(refusal.reason.starts_with("spec.ingress[0].from[1].ipBlock.cidr: "), "{}", refusal.reason);
    assert_eq!(refusal.key.unwrap().to_string(), "NetworkPolicy default/p1");
}

#[test]
fn a_secrets_string_data_wins_over_its_data() {
    let (_, object) = read(
        "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {password: b2xk, other: eA==}, stringData: {password: new}}",
    )
    .unwrap();
    let Object::Secret(values) = object else { panic!("{object:?}") };
    assert_eq!(values["password"], b"new");
    assert_eq!(values["other"], b"x");
}

#[test]
fn objects_of_ours_are_refused_by_field() {
    let cases = [
        ("BGPConfiguration", "clusterCidrs: [10.0.0.0]", "spec.clusterCidrs[0]: "),
        ("BGPPeer", "asn: 65001", "spec.address: missing"),
        ("BGPPeer", "address: 192.0.2.1, asn: 0", "spec.asn: "),
        ("BGPPeer", "address: 192.0.2.1, asn: 1, session: {families: []}", "spec.session.families: "),
        ("BGPPeer", "address: 192.0.2.1, asn: 1, session: {multihop: 0}", "spec.session.multihop: "),
        (
            "BGPPeer",
            "address: 192.0.2.1, asn: 1, session: {limits: {maxPrefixes: 0}}",
            "spec.session.limits.maxPrefixes: ",
        ),
        (
            "BGPPeer",
            "address: 192.0.2.1, asn: 1, session: {security: {ttlSecurityHops: 255}}",
            "spec.session.security.ttlSecurityHops: ",
        ),
        (
            "BGPPeer",
            "address: 192.0.2.1, asn: 1, nodeSelector: {matchExpressions: [{key: a, operator: Like}]}",
            "spec.nodeSelector: ",
        ),
        ("BGPPeerProfile", "session: {allowAsIn: 0}", "spec.session.allowAsIn: "),
        (
            "BGPPeerProfile",
            "session: {timers: {connectRetrySeconds: 0}}",
            "spec.session.timers.connectRetrySeconds: ",
        ),
        ("BGPNodeOverride", "asn: 65001", "spec: missing field `nodeSelector`"),
        ("BGPNodeOverride", "nodeSelector: {}, asn: 0", "spec.asn: "),
        ("BGPNodeOverride", "nodeSelector: {}, listenPort: 0", "spec.listenPort: "),
        ("BGPNodeOverride", "nodeSelector: {}, routerId: 0.0.0.0", "spec.routerId: "),
        (
            "BGPNodeOverride",
            "nodeSelector: {}, localAddresses: [192.0.2.1, 192.0.2.2]",
            "spec.localAddresses: two of one family",
        ),
        ("BGPNodeOverride", "nodeSelector: {}, localAddresses: []", "spec.localAddresses: empty"),
        ("BGPFilter", "rules: [{action: allow}]", "spec.rules[0].action: "),
        ("BGPFilter", "rules: [{prefixes: [], action: accept}]", "spec.rules[0].prefixes: empty"),
        (
            "BGPFilter",
            "rules: [{prefixes: [{cidr: 10.0.0.0}], action: accept}]",
            "spec.rules[0].prefixes[0].cidr: ",
        ),
        (
            "BGPFilter",
            "rules: [{prefixes: [{cidr: 10.0.0.0/8, minLength: 7}], action: accept}]",
            "spec.rules[0].prefixes[0].minLength: 7 is not within 8-32",
        ),
        (
            "BGPFilter",
            "rules: [{prefixes: [{cidr: 10.0.0.0/8, minLength: 24, maxLength: 23}], action: accept}]",
            "spec.rules[0].prefixes[0].maxLength: 23 is not within 24-32",
        ),
        ("BGPFilter", "rules: [{communities: [], action: accept}]", "spec.rules[0].communities: empty"),
        (
            "BGPFilter",
            "rules: [{action: next}, {communities: ['65000:9-1'], action: accept}]",
            "spec.rules[1].communities[0]: ",
        ),
        (
            "BGPFilter",
            "rules: [{asPath: {minLength: 3, maxLength: 2}, action: accept}]",
            "spec.rules[0].asPath.maxLength: 2 is not within 3-",
        ),
        (
            "BGPFilter",
            "rules: [{asPath: {contains: [0]}, action: accept}]",
            "spec.rules[0].asPath.contains[0]: ",
        ),
        ("BGPFilter", "rules: [{origins: [static], action: accept}]", "spec.rules[0].origins[0]: "),
        ("BGPFilter", "rules: [{action: reject, set: {med: 1}}]", "spec.rules[0].set: "),
        ("BGPFilter", "rules: [{action: next, set: {prepend: 17}}]", "spec.rules[0].set.prepend: "),
        ("BGPFilter", "rules: [{action: next, set: {localpref: 1}}]", "spec.rules[0].set.localpref: "),
        (
            "BGPFilter",
            "rules: [{action: next, set: {communities: {add: ['1:1'], replace: []}}}]",
            "spec.rules[0].set.communities.replace: ",
        ),
        ("BGPAdvertisement", "communities: ['65536:1']", "spec.communities[0]: "),
        ("BGPAdvertisement", "communities: ['1:2:3:4']", "spec.communities[0]: "),
        ("BGPAdvertisement", "comunities: []", "spec.comunities: unknown field"),
    ];
    for (kind, spec, expected) in cases {
        let text = format!(
            "{{apiVersion: weft.dev/v1alpha1, kind: {kind}, metadata: {{name: default}}, spec: {{{spec}}}}}"
        );
        let reason = reason(&text);
        assert!(reason.starts_with(expected), "{kind} {spec}: {reason}");
    }
}

#[test]
fn secrets_are_those_of_the_agents_namespace() {
    let secret = |metadata| format!("{{apiVersion: v1, kind: Secret, metadata: {{name: s{metadata}}}}}");
    for ours in ["", ", namespace: weft-system"] {
        assert_eq!(read(&secret(ours)).unwrap().0.to_string(), "Secret weft-system/s");
    }
    assert!(reason(&secret(", namespace: demo")).starts_with("metadata.namespace: "));
}

#[test]
fn what_is_wrong_with_a_secret_does_not_tell_it() {
    let secret = |fields| format!("{{apiVersion: v1, kind: Secret, metadata: {{name: s}}, {fields}}}");
    for fields in ["stringData: {password: 31337}", "data: {password: '31337!'}", "stringData: [31337]"] {
        let reason = reason(&secret(fields));
        assert!(!reason.contains("31337") && reason.contains("ata"), "{reason}");
    }
    assert_eq!(reason(&secret("stringdata: {password: x}")), "stringdata: unknown field");
}

#[test]
fn cluster_scoped_kinds_have_no_namespace() {
    assert!(
        reason("{apiVersion: v1, kind: Node, metadata: {name: n1, namespace: x}}")
            .starts_with("metadata.namespace: ")
    );
}
