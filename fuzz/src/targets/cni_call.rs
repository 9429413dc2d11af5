//! What a runtime writes on the plugin's standard input, with each command.
//!
//! Properties: nothing panics, and what is refused is refused with a code of the specification.

use std::collections::BTreeMap;

use weft_pods::cni::Call;

pub const WORDS: &[&str] = &[
    "\"cniVersion\"",
    "\"1.1.0\"",
    "\"0.3.1\"",
    "\"prevResult\"",
    "\"runtimeConfig\"",
    "\"portMappings\"",
    "\"HostPort\"",
    "\"hostPort\"",
    "\"containerPort\"",
    "\"protocol\"",
    "\"HostIP\"",
    "\"cni.dev/valid-attachments\"",
    "null",
    "-1",
    "65536",
    "1e400",
    "[]",
    "{}",
    "[[[[",
    "\\u0000",
    "\"::ffff:10.0.0.1/200\"",
    "4294967296",
];

pub fn run(data: &[u8]) {
    let Ok(stdin) = std::str::from_utf8(data) else { return };
    for command in ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "add"] {
        if let Err(failed) = Call::parse(&environment(command), stdin) {
            assert!(!failed.error.to_string().is_empty());
        }
    }
}

fn environment(command: &str) -> BTreeMap<String, String> {
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=5d7";
    [
        ("COMMAND", command),
        ("CONTAINERID", "c0ffee"),
        ("NETNS", "/run/netns/x"),
        ("IFNAME", "eth0"),
        ("ARGS", args),
    ]
    .map(|(name, value)| (format!("CNI_{name}"), value.to_owned()))
    .into()
}

pub fn seeds() -> Vec<Vec<u8>> {
    [
        r#"{"cniVersion":"1.1.0","name":"weft","type":"weft-cni"}"#,
        r#"{"cniVersion":"0.4.0","name":"weft","type":"weft-cni","prevResult":{"cniVersion":"0.4.0",
            "ips":[{"version":"4","address":"10.244.1.7/32"},{"address":"fd00::7/128"}]}}"#,
        r#"{"cniVersion":"1.0.0","name":"weft","type":"weft-cni","runtimeConfig":{"portMappings":[
            {"hostPort":8080,"containerPort":80,"protocol":"tcp"},
            {"HostPort":53,"ContainerPort":53,"Protocol":"UDP","HostIP":"192.0.2.1"}]}}"#,
        r#"{"cniVersion":"1.1.0","name":"weft","type":"weft-cni","cni.dev/valid-attachments":[
            {"containerID":"c0ffee","ifname":"eth0"}],"cni.dev/attachments":[{"containerID":"a","ifname":"b"}]}"#,
        "",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
