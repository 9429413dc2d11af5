//! Against the real kernel, in a namespace of its own.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::testing::{in_netns, ip};

/// A node's folders, gone when dropped.
struct Node(PathBuf);

impl Node {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("weft-cleanup-{}-{number}", std::process::id()));
        for (file, content) in [
            ("net.d/05-weft.conflist", "{}"),
            ("net.d/10-other.conflist", "{}"),
            ("bin/weft-cni", "#!"),
            ("bin/loopback", "#!"),
            ("run/journal/pod", "x"),
            ("state/bgp.json", "x"),
            ("net.d/.05-weft.conflist.new", "{"),
            ("net.d/.05-weft.poke", ""),
            ("bin/.weft-cni.new", "#"),
            ("state/.bgp.json.new", "x"),
        ] {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        Self(root)
    }

    fn cleanup(&self, with_pods: bool) -> Cleanup {
        Cleanup {
            with_pods,
            wait: 0,
            hold: false,
            run_dir: self.0.join("run"),
            state_dir: self.0.join("state"),
            cni_conf_dir: self.0.join("net.d"),
            cni_bin_dir: self.0.join("bin"),
        }
    }

    fn has(&self, file: &str) -> bool {
        self.0.join(file).exists()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What an agent leaves, and beside it what is somebody else's.
fn leave_behind() {
    ip("link add up0 type veth peer name far0");
    ip("link set far0 up");
    ip("addr add 192.0.2.1/24 dev up0");
    ip("link set up0 up");
    ip("route add 10.244.2.0/24 via 192.0.2.2 proto 87 metric 87");
    ip("route add blackhole 10.244.1.0/24 proto 87 metric 87");
    ip("route add 10.9.0.0/16 via 192.0.2.2 proto bird");
    nft("add table inet weft; add chain inet weft a; add table inet other");
}

fn nft(command: &str) -> String {
    let output = Command::new("nft").arg(command).output().unwrap();
    assert!(output.status.success(), "nft {command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn everything_with_our_mark_goes_and_nothing_else() {
    in_netns(|| async {
        let node = Node::new();
        leave_behind();

        let removed = run(&node.cleanup(false)).await.unwrap().join("\n");
        for line in [
            "05-weft.conflist",
            "weft-cni",
            "route 10.244.2.0/24",
            "route 10.244.1.0/24",
            "table inet weft",
            "journal",
            "bgp.json",
        ] {
            assert!(removed.contains(line), "{line} is not in\n{removed}");
        }
        assert_eq!(ip("route show proto 87"), "");
        assert!(ip("route show").contains("10.9.0.0/16"));
        assert_eq!(nft("list tables"), "table inet other\n");
        assert!(node.has("net.d/10-other.conflist") && node.has("bin/loopback"));
        assert!(!node.has("run") && !node.has("state"));
        let left = |dir: &str| std::fs::read_dir(node.0.join(dir)).unwrap().count();
        assert_eq!((left("net.d"), left("bin")), (1, 1));

        assert_eq!(run(&node.cleanup(false)).await.unwrap(), Vec::<String>::new(), "a second time");
    });
}

#[test]
fn connected_pods_are_named_and_kept_unless_they_may_be_cut() {
    in_netns(|| async {
        let node = Node::new();
        leave_behind();
        ip("link add weft0123456789a group 87 type veth peer name peer0");
        ip("link add weft-lookalike type veth peer name far1");

        let refusal = run(&node.cleanup(false)).await.unwrap_err().to_string();
        assert!(refusal.contains("1 pods are still connected (weft0123456789a)"), "{refusal}");
        assert!(node.has("net.d/05-weft.conflist") && nft("list tables").contains("inet weft"));

        let removed = run(&node.cleanup(true)).await.unwrap().join("\n");
        assert!(removed.contains("link weft0123456789a"), "{removed}");
        let links = ip("link show");
        assert!(!links.contains("weft0123456789a") && links.contains("weft-lookalike"), "{links}");
    });
}

#[test]
fn a_living_agent_is_not_robbed() {
    in_netns(|| async {
        let node = Node::new();
        leave_behind();
        let _agent = RunDirLock::take(&node.0.join("run"), Duration::ZERO).await.unwrap();
        let refusal = run(&node.cleanup(true)).await.unwrap_err().to_string();
        assert!(refusal.contains(&format!("process {} uses", std::process::id())), "{refusal}");
        assert!(ip("route show").contains("10.244.2.0/24"));
    });
}
