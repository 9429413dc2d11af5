//! `examples/` acts as it says: each file is read as the directory datastore reads it, and planned for nodes of two racks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use weft_agent::watch::dir::read_one_file;
use weft_intent::Snapshot;
use weft_intent::plan;

/// For who writes no Nodes, as Kubernetes has its own.
const NODES: &str = r#"
---
apiVersion: v1
kind: Node
metadata: { name: a1, labels: { rack: a } }
spec: { podCIDRs: [10.244.1.0/24, "fd00:10:244:1::/64"] }
status: { addresses: [{ type: InternalIP, address: 10.1.0.11 }, { type: InternalIP, address: "2001:db8:1::11" }] }
---
apiVersion: v1
kind: Node
metadata: { name: b1, labels: { rack: b } }
spec: { podCIDRs: [10.244.2.0/24, "fd00:10:244:2::/64"] }
status: { addresses: [{ type: InternalIP, address: 10.2.0.11 }, { type: InternalIP, address: "2001:db8:1::12" }] }
"#;

/// File, node, and whom that node peers with.
const PEERS: [(&str, &str, &[&str]); 13] = [
    ("mesh.yaml", "a1", &["mesh/b1"]),
    ("mesh.yaml", "b1", &["mesh/a1"]),
    ("tor-pairs.yaml", "a1", &["rack-a-left", "rack-a-right"]),
    ("tor-pairs.yaml", "b1", &["rack-b-left", "rack-b-right"]),
    ("loopbacks.yaml", "a1", &["spine-1", "spine-2"]),
    ("loopbacks.yaml", "b1", &["spine-1", "spine-2"]),
    ("one-session.yaml", "a1", &["tor"]),
    ("one-session.yaml", "b1", &["tor"]),
    ("ipv6-only.yaml", "a1", &["tor"]),
    ("ipv6-only.yaml", "b1", &["tor"]),
    ("passwords.yaml", "a1", &["tor"]),
    ("passwords.yaml", "b1", &["tor"]),
    ("edge-host", "edge1", &["router"]),
];

#[tokio::test]
async fn each_example_gives_each_node_the_peers_that_it_speaks_of() {
    let mut found = BTreeMap::new();
    for example in examples() {
        let name = example.file_name().unwrap().to_str().unwrap().to_owned();
        let snapshot = read(&example).await;
        assert!(snapshot.problems.is_empty(), "{name}: {:?}", snapshot.problems);
        for node in snapshot.nodes.keys() {
            let desired = plan::desired(&snapshot, node).unwrap();
            assert!(desired.problems.is_empty(), "{name} on {node}: {:?}", desired.problems);
            let peers: BTreeSet<String> = desired.peers.into_iter().map(|peer| peer.name).collect();
            found.insert((name.clone(), node.clone()), peers);
        }
    }
    let wanted = PEERS.map(|(name, node, peers)| {
        ((name.to_owned(), node.to_owned()), peers.iter().map(ToString::to_string).collect())
    });
    assert_eq!(found, wanted.into());
}

#[test]
fn each_example_is_in_the_table() {
    let page = std::fs::read_to_string(root().join("README.md")).unwrap();
    for example in examples() {
        let name = example.file_name().unwrap().to_str().unwrap();
        assert!(page.contains(&format!("| [{name}")), "examples/README.md does not name {name}");
    }
}

/// What one `kubectl apply -f` would take: a file, or a folder of files.
fn examples() -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_none_or(|extension| extension != "md"));
    paths.sort();
    paths
}

/// An example with the nodes of a cluster, unless it has its own.
async fn read(example: &Path) -> Snapshot {
    let mut text = match std::fs::read_dir(example) {
        Err(_) => std::fs::read_to_string(example).unwrap(),
        Ok(files) => {
            let files = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
            files.collect::<Vec<_>>().join("---\n")
        }
    };
    if !text.contains("kind: Node\n") {
        text.push_str(NODES);
    }
    let name = example.file_name().unwrap().to_str().unwrap();
    let path = std::env::temp_dir().join(format!("weft-example-{}-{name}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    let snapshot = read_one_file(&path).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    snapshot
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples")
}
