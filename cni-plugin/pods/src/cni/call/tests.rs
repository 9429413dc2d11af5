use super::*;

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A whole environment for `command`, changed by `more`: an empty value counts as absent.
fn call(command: &str, more: &[(&str, &str)], stdin: &str) -> Result<Verb, CniError> {
    let mut all = env(&[
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ]);
    all.extend(env(more));
    Call::parse(&all, stdin).map(|call| call.verb).map_err(|failed| failed.error)
}

fn conf(version: &str, more: &str) -> String {
    format!(r#"{{"cniVersion":"{version}","name":"net","type":"weft-cni"{more}}}"#)
}

fn id(container_id: &str) -> AttachmentId {
    AttachmentId { container_id: container_id.to_owned(), ifname: "eth0".to_owned() }
}

/// Command, changes of the environment, standard input, and the code expected.
type Fault<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, u32);

#[test]
fn every_fault_has_its_code() {
    let good = &conf("1.1.0", "");
    let long = "a".repeat(MAX_CONTAINER_ID + 1);
    let faults: &[Fault<'_>] = &[
        ("", &[], good, 4),
        ("JUMP", &[], good, 4),
        ("ADD", &[("CNI_CONTAINERID", "")], good, 4),
        ("ADD", &[("CNI_CONTAINERID", "-a")], good, 4),
        ("ADD", &[("CNI_CONTAINERID", "a/b")], good, 4),
        ("ADD", &[("CNI_CONTAINERID", &long)], good, 4),
        ("ADD", &[("CNI_IFNAME", "")], good, 4),
        ("ADD", &[("CNI_IFNAME", "sixteen-letters-")], good, 4),
        ("ADD", &[("CNI_IFNAME", "..")], good, 4),
        ("ADD", &[("CNI_IFNAME", "a:b")], good, 4),
        ("ADD", &[("CNI_IFNAME", "a/b")], good, 4),
        ("ADD", &[("CNI_IFNAME", "a b")], good, 4),
        ("ADD", &[("CNI_IFNAME", "a\u{7f}")], good, 4),
        ("ADD", &[("CNI_NETNS", "")], good, 4),
        ("CHECK", &[("CNI_NETNS", "")], &conf("1.1.0", r#","prevResult":{}"#), 4),
        ("DEL", &[("CNI_IFNAME", "")], good, 4),
        ("ADD", &[], "", 6),
        ("ADD", &[], r#"{"cniVersion":"1.1.0","#, 6),
        ("DEL", &[], "[]", 6),
        ("ADD", &[], &conf("0.2.0", ""), 1),
        ("ADD", &[], &conf("2.0.0", ""), 1),
        ("CHECK", &[], &conf("0.3.1", ""), 1),
        ("GC", &[], &conf("1.0.0", ""), 1),
        ("STATUS", &[], &conf("0.4.0", ""), 1),
        ("ADD", &[], r#"{"cniVersion":"1.1.0"}"#, 7),
        ("ADD", &[], &conf("1.1.0", r#","prevResult":{}"#), 7),
        ("CHECK", &[], good, 7),
        ("CHECK", &[], &conf("1.1.0", r#","prevResult":{"ips":[{"address":"x"}]}"#), 7),
    ];
    for (command, env, stdin, code) in faults {
        let error = call(command, env, stdin).expect_err(command);
        assert_eq!(error.code(), *code, "{command} {env:?} {stdin}: {error}");
    }
}

#[test]
fn the_longest_names_are_good() {
    let id =
        AttachmentId { container_id: "a".repeat(MAX_CONTAINER_ID), ifname: "fifteen-letters".to_owned() };
    let names = [("CNI_CONTAINERID", id.container_id.as_str()), ("CNI_IFNAME", id.ifname.as_str())];
    assert_eq!(call("DEL", &names, &conf("1.1.0", "")), Ok(Verb::Del(id.clone())));
    assert!(is_kubernetes_name(&"a".repeat(253)) && !is_kubernetes_name(&"a".repeat(254)));
}

#[test]
fn a_runtime_may_insist_on_its_own_namespace() {
    for (value, insists) in [("1", true), ("true", true), ("0", false), ("false", false), ("", false)] {
        let Ok(Verb::Add(pod)) = call("ADD", &[("CNI_NETNS_OVERRIDE", value)], &conf("1.1.0", "")) else {
            panic!()
        };
        assert_eq!(pod.netns_override, insists, "{value:?}");
    }
}

#[test]
fn add_knows_the_host_ports_of_its_pod() {
    let more = r#","runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80}]}"#;
    let Ok(Verb::Add(pod)) = call("ADD", &[], &conf("1.1.0", more)) else { panic!() };
    assert_eq!(pod.ports.iter().map(ToString::to_string).collect::<Vec<_>>(), ["tcp *:8080"]);
}

#[test]
fn del_needs_no_namespace() {
    assert_eq!(call("DEL", &[("CNI_NETNS", "")], &conf("0.3.1", "")), Ok(Verb::Del(id("c1"))));
}

#[test]
fn version_needs_nothing() {
    let call = Call { version: CniVersion::LATEST, verb: Verb::Version };
    assert_eq!(Call::parse(&env(&[("CNI_COMMAND", "VERSION")]), ""), Ok(call));
}

#[test]
fn add_knows_the_pod_from_its_arguments() {
    let args = ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web-0;K8S_POD_UID=u-1");
    let Ok(Verb::Add(pod)) = call("ADD", &[args], &conf("0.3.0", "")) else { panic!() };
    let uid = Some("u-1".to_owned());
    assert_eq!(pod.pod, Some(PodRef { namespace: "ns".into(), name: "web-0".into(), uid }));
    let odd = ("CNI_ARGS", "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web 0 if=x");
    let Ok(Verb::Add(pod)) = call("ADD", &[odd], &conf("0.3.0", "")) else { panic!() };
    assert_eq!(pod.pod, None);
}

#[test]
fn check_knows_the_addresses_of_the_previous_result() {
    let previous = r#","prevResult":{"ips":[{"address":"10.0.0.5/32"},{"address":"fd00::5/128"}]}"#;
    let Ok(Verb::Check(pod)) = call("CHECK", &[], &conf("0.4.0", previous)) else { panic!() };
    assert_eq!(pod.previous, BTreeSet::from(["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()]));
}

#[test]
fn gc_tells_no_list_from_an_empty_one_and_reads_both_spellings() {
    let gc = |more: &str| call("GC", &[], &conf("1.1.0", more)).unwrap();
    assert_eq!(gc(""), Verb::Gc(None));
    assert_eq!(gc(r#","cni.dev/valid-attachments":[]"#), Verb::Gc(Some(BTreeSet::new())));
    let one = Verb::Gc(Some(BTreeSet::from([id("c1")])));
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        assert_eq!(gc(&format!(r#","{key}":[{{"containerID":"c1","ifname":"eth0"}}]"#)), one);
    }
}

#[test]
fn the_answer_is_in_the_version_of_the_call_as_far_as_it_can_be_told() {
    let stdins = [
        (conf("0.4.0", ""), CniVersion::V0_4_0),
        // Not to be used, and yet it says how to be answered.
        (r#"{"cniVersion":"0.3.1","name":7}"#.to_owned(), CniVersion::V0_3_1),
        (conf("0.3.0", r#","prevResult":"none""#), CniVersion::V0_3_0),
        (conf("7.0.0", ""), CniVersion::LATEST),
        (r#"{"cniVersion":7}"#.to_owned(), CniVersion::LATEST),
        ("{".to_owned(), CniVersion::LATEST),
    ];
    for (stdin, version) in stdins {
        for command in ["VERSION", "DEL", "JUMP"] {
            let pairs = [("CNI_COMMAND", command), ("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")];
            let answered = Call::parse(&env(&pairs), &stdin);
            let answered = answered.map_or_else(|failed| failed.version, |call| call.version);
            assert_eq!(answered, version, "{command} {stdin}");
        }
    }
}
