//! What an agent may do: of the API server no more than it asks for, on its node no more than its work needs.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use weft_e2e::cluster::Cluster;

/// Verb, group, resource.
type Right = (String, String, String);

/// What was asked counts, not what was answered: a server that has just started refuses also what is granted.
pub(crate) fn of_the_api_server_what_they_ask_for(cluster: &Cluster) {
    let granted = granted(cluster);
    let mut asked = BTreeSet::new();
    for event in cluster.audited().unwrap() {
        let is_thief = event["userAgent"].as_str().is_some_and(|program| program.starts_with("curl/"));
        if is_thief || event["user"]["username"] != "system:serviceaccount:weft-system:weft-agent" {
            continue;
        }
        let of = |field: &str| event["objectRef"][field].as_str().unwrap_or_default();
        let resource = match of("subresource") {
            "" => of("resource").to_owned(),
            part => format!("{}/{part}", of("resource")),
        };
        assert!(!resource.is_empty(), "an agent asked for no resource: {event}");
        let is_by_name = || event["requestURI"].as_str().unwrap().contains("fieldSelector=metadata.name%3D");
        assert!(resource != "secrets" || is_by_name(), "more than the Secrets of peers: {event}");
        let mut right =
            |verb: &str| asked.insert((verb.to_owned(), of("apiGroup").to_owned(), resource.clone()));
        right(event["verb"].as_str().unwrap());
        // Server-side apply of an object that is not there needs the right to create it.
        if event["responseStatus"]["code"] == 201 {
            right("create");
        }
    }
    let unused: Vec<_> =
        granted.difference(&asked).filter(|right| !is_for_older_servers(right, &asked)).collect();
    assert!(unused.is_empty(), "granted and never used: {unused:?}");
    let beyond: Vec<_> = asked.difference(&granted).collect();
    assert!(beyond.is_empty(), "asked for and not granted: {beyond:?}");
}

/// Where a server does not stream lists, agents list what they watch.
fn is_for_older_servers((verb, group, resource): &Right, asked: &BTreeSet<Right>) -> bool {
    verb == "list" && asked.contains(&("watch".to_owned(), group.clone(), resource.clone()))
}

fn granted(cluster: &Cluster) -> BTreeSet<Right> {
    let roles = [&["clusterrole", "weft-agent"][..], &["-n", "weft-system", "role", "weft-agent"]]
        .map(|words| cluster.get(words).unwrap());
    let mut rights = BTreeSet::new();
    for rule in roles.iter().flat_map(|role| role["rules"].as_array().unwrap()) {
        let words = |field: &str| -> Vec<String> { serde_json::from_value(rule[field].clone()).unwrap() };
        for verb in words("verbs") {
            for group in words("apiGroups") {
                rights.extend(
                    words("resources").into_iter().map(|resource| (verb.clone(), group.clone(), resource)),
                );
            }
        }
    }
    rights
}

/// CAP_NET_ADMIN and CAP_NET_BIND_SERVICE.
const CAPABILITIES: &str = "0000000000001400";

/// By what the chart asks for, and by what the kernel then says of the process.
pub(crate) fn on_their_node_what_they_need(cluster: &Cluster) {
    let daemon_set = cluster.get(&["-n", "weft-system", "daemonset", "weft-agent"]).unwrap();
    let pod = &daemon_set["spec"]["template"]["spec"];
    for shared in ["hostPID", "hostIPC"] {
        assert!(pod[shared].is_null(), "{shared}");
    }
    let (agent, install) = (&pod["containers"][0], &pod["initContainers"][0]);
    assert_eq!(
        mounted(pod, agent),
        BTreeSet::from(["/run/weft", "/var/lib/weft", "/etc/cni/net.d", "/proc/sys/net"])
    );
    assert_eq!(mounted(pod, install), BTreeSet::from(["/opt/cni/bin"]));
    assert_eq!(install["securityContext"]["capabilities"], json!({ "drop": ["ALL"] }));
    for container in [agent, install] {
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    }

    for node in &cluster.lab().plan().nodes {
        let status = cluster.lab().shell(&node.name, "cat /proc/$(pgrep -x weft-agent)/status").unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("{name} in {status}")).trim().to_owned()
        };
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(field(set), CAPABILITIES, "{set} on {}", node.name);
        }
        assert_eq!(field("NoNewPrivs"), "1");
        let mounts = cluster.lab().shell(&node.name, "cat /proc/$(pgrep -x weft-agent)/mountinfo").unwrap();
        assert!(mounts.contains("cni/net.d") && !mounts.contains("cni/bin"), "{mounts}");
        assert_eq!(field("Seccomp"), "2", "RuntimeDefault is a filter");
    }
}

/// Paths of the node that a container sees.
fn mounted<'a>(pod: &'a Value, container: &Value) -> BTreeSet<&'a str> {
    let volumes = pod["volumes"].as_array().unwrap();
    let path = |mount: &Value| {
        let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
        volume["hostPath"]["path"].as_str().unwrap()
    };
    container["volumeMounts"].as_array().unwrap().iter().map(path).collect()
}
