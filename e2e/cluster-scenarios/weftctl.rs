//! `weftctl` away from the nodes, with nothing but a kubeconfig.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use weft_e2e::cluster::Cluster;
use weft_e2e::wait;

use crate::story::{CONVERGED, Scene};

pub(crate) fn answers_from_anywhere(cluster: &Cluster) {
    let scene = Scene::set(cluster, "from-anywhere");
    let server = scene.server("web", "node2", &[]);
    let address = server.addresses()[0].to_string();
    let nodes: Vec<_> = scene.nodes().collect();

    // Of all nodes, from what they report.
    let (status, code) = cluster.weftctl(&["status", "-o", "json"]).unwrap();
    assert_eq!(code, 0, "{status}");
    let summaries: Value = serde_json::from_str(&status).unwrap();
    let named: Vec<_> =
        summaries.as_array().unwrap().iter().map(|node| node["node"].as_str().unwrap()).collect();
    assert_eq!(named, nodes);
    let (peers, code) = cluster.weftctl(&["bgp", "peers"]).unwrap();
    assert!(code == 0 && nodes.iter().all(|node| peers.contains(node)), "{peers}");

    // Of one, from its agent.
    let (status, code) = cluster.weftctl(&["status", "--node", "node1"]).unwrap();
    assert!(code == 0 && status.contains("router ID"), "{status}");
    let (routes, code) =
        cluster.weftctl(&["bgp", "routes", &address, "--node", "node1", "-o", "json"]).unwrap();
    assert_eq!(code, 0, "{routes}");
    let routes: Value = serde_json::from_str(&routes).unwrap();
    let pod_cidr = cluster.get(&["node", "node2"]).unwrap()["spec"]["podCIDRs"][0].clone();
    assert_eq!(routes[0]["prefix"], pod_cidr, "the longest match of {address}");

    // Exit codes: no, wrong usage, could not find out.
    let (none, code) = cluster.weftctl(&["bgp", "routes", "203.0.113.1", "--node", "node1"]).unwrap();
    assert_eq!(code, 3, "{none}");
    let (usage, code) = cluster.weftctl(&["ipam", "show"]).unwrap();
    assert!(code == 2 && usage.contains("--node"), "{usage}");
    let (unknown, code) = cluster.weftctl(&["status", "--node", "nowhere"]).unwrap();
    assert!(code == 1 && unknown.contains("nowhere"), "{unknown}");

    let (explained, code) =
        cluster.weftctl(&["policy", "explain", "203.0.113.1", "from-anywhere/web:80"]).unwrap();
    assert!(code == 0 && explained.contains("ALLOWED"), "{explained}");
}

/// On a node and off it a program reads the same.
pub(crate) fn says_the_same_on_a_node(cluster: &Cluster) {
    for command in ["status", "bgp peers", "bgp routes", "ipam show", "policy list", "version"] {
        let here = cluster.lab().shell("node1", &format!("weftctl {command} -o json")).unwrap();
        let words: Vec<_> = command.split(' ').chain(["--node", "node1", "-o", "json"]).collect();
        let (there, code) = cluster.weftctl(&words).unwrap();
        assert_eq!(code, 0, "{there}");
        let names = |text: &str| {
            let mut names = BTreeSet::new();
            names_of("", &serde_json::from_str(text).unwrap(), &mut names);
            names
        };
        assert_eq!(names(&here), names(&there), "{command}");
        assert!(names(&here).iter().all(|name| !name.contains('_')), "{command}: {here}");
    }
}

/// The names of all fields, with their path.
fn names_of(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| names_of(path, item, found)),
        Value::Object(members) => {
            for (name, value) in members {
                let path = format!("{path}.{name}");
                names_of(&path, value, found);
                found.insert(path);
            }
        }
        _ => {}
    }
}

/// `get`, `apply` and `delete`, as those expect them who know kubectl.
pub(crate) fn writes_objects(cluster: &Cluster) {
    let file = cluster.lab().dir().join("written.yaml");
    let path = file.to_str().unwrap();
    let write = |objects: &[Value]| {
        fs::write(&file, json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string())
            .unwrap();
    };
    let run = |code: i32, words: &[&str]| {
        let (text, ended) = cluster.weftctl(words).unwrap();
        assert_eq!(ended, code, "{words:?}: {text}");
        text
    };
    write(&[peer("written-a", 65098), peer("written-b", 65098)]);
    let trial = run(0, &["apply", "--dry-run", "-f", path]);
    assert!(trial.contains("bgppeer.weft.dev/written-a created (dry run)"), "{trial}");
    run(1, &["get", "bgppeer", "written-a"]);
    assert!(run(0, &["apply", "-f", path]).contains("written-b created"));
    assert_eq!(run(0, &["apply", "-f", path]).matches(" unchanged").count(), 2);

    // What it prints, in the order that was asked for, can be applied.
    let printed = run(0, &["get", "bgppeer", "written-b", "written-a", "-o", "yaml"]);
    assert!(printed.find("written-b").unwrap() < printed.find("written-a").unwrap(), "{printed}");
    fs::write(&file, printed).unwrap();
    assert_eq!(run(0, &["apply", "-f", path]).matches(" unchanged").count(), 2);

    // Somebody else's field is a conflict, and then nothing at all is written.
    fs::write(&file, peer("written-a", 65097).to_string()).unwrap();
    let kubectl = ["apply", "--server-side", "--force-conflicts", "--field-manager=somebody", "-f", path];
    cluster.kubectl(&kubectl).unwrap();
    write(&[peer("written-a", 65098), peer("written-b", 65096), peer("written-c", 65098)]);
    let told = run(1, &["apply", "-f", path]);
    assert!(told.contains("BGPPeer written-a: spec.asn") && told.contains("somebody"), "{told}");
    assert_eq!(cluster.get(&["bgppeer", "written-b"]).unwrap()["spec"]["asn"], 65098);
    run(1, &["get", "bgppeer", "written-c"]);
    let taken = run(0, &["apply", "--force-conflicts", "-f", path]);
    assert!(taken.contains("written-a configured") && taken.contains("written-c created"), "{taken}");

    // A name that is none asks for nothing else.
    for name in ["?", ".", "..", "#", "written-a%2fstatus", "%2e", "Written"] {
        run(1, &["delete", "bgppeer", name]);
        run(1, &["get", "bgppeer", name]);
    }
    assert!(run(0, &["delete", "-f", path]).contains("written-c deleted"));
    assert!(run(1, &["delete", "-f", path]).contains("BGPPeer written-a: not found"));
    run(0, &["delete", "--ignore-not-found", "-f", path]);
}

fn peer(name: &str, asn: u32) -> Value {
    json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "BGPPeer", "metadata": { "name": name },
        "spec": { "address": "192.0.2.99", "asn": asn, "nodeSelector": { "matchLabels": { "no": name } } },
    })
}

/// `validate` of all that there is says of each object what its condition says.
pub(crate) fn validates_as_agents_do(cluster: &Cluster) {
    let node1 = json!({ "matchLabels": { "kubernetes.io/hostname": "node1" } });
    let cases = [
        json!({ "address": "224.0.0.5", "asn": 65099 }),
        json!({ "address": "192.0.2.9", "asn": 65099, "nodeSelector": { "matchLabels": { "no": "node" } } }),
        json!({ "address": "192.0.2.9", "asn": 65099, "nodeSelector": node1, "profile": "missing" }),
        json!({ "address": "192.0.2.9", "asn": 65099, "nodeSelector": node1, "session": { "importFilters": ["missing"] } }),
        json!({ "address": "192.0.2.9", "asn": 65099, "nodeSelector": node1 }),
        // Of an earlier name, on one node of its own.
        json!({ "address": cluster.lab().plan().tors[0].addresses.v4, "asn": 65099 }),
    ];
    let file = cluster.lab().dir().join("judged.json");
    for spec in cases {
        let judged = json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "BGPPeer", "metadata": { "name": "zz-judged" }, "spec": spec,
        });
        cluster.apply(&judged.to_string()).unwrap();
        let mut told = String::new();
        wait::until("BGPPeer zz-judged is judged", CONVERGED, || {
            let object = cluster.get(&["bgppeer", "zz-judged"])?;
            let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
            let mut accepted = conditions.filter(|condition| condition["type"] == "Accepted");
            let of_this =
                |condition: &&Value| condition["observedGeneration"] == object["metadata"]["generation"];
            told =
                accepted.find(of_this).map(|condition| condition["message"].to_string()).unwrap_or_default();
            Ok((!told.is_empty()).then_some(()))
        })
        .unwrap();
        let (objects, code) = cluster.weftctl(&["get", "all", "-o", "json"]).unwrap();
        assert_eq!(code, 0, "{objects}");
        let nodes = cluster.kubectl(&["get", "nodes", "-o", "json"]).unwrap();
        fs::write(&file, format!("{objects}\n---\n{nodes}")).unwrap();
        let (text, _) = cluster.weftctl(&["validate", "-f", file.to_str().unwrap(), "-o", "json"]).unwrap();
        let answer = text.get(text.find("{").unwrap()..=text.rfind('}').unwrap()).unwrap();
        let answer: Value = serde_json::from_str(answer).unwrap();
        let faults = answer["faults"].as_array().unwrap();
        let reason = faults
            .iter()
            .find(|fault| fault["object"] == "BGPPeer zz-judged")
            .map(|fault| fault["reason"].to_string());
        assert_eq!(reason.unwrap_or_else(|| "\"in force as written\"".to_owned()), told, "{judged}");
    }
    cluster.kubectl(&["delete", "bgppeer", "zz-judged"]).unwrap();
}
