//! The whole agent in a network namespace: no other node, no routers.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use weft_intent::plan::Desired;

use super::parts::LOST_NEXTHOPS;
use super::*;
use crate::config::DatastoreConfig;
use crate::reconcile::routes;
use crate::remember::{Remembered, StateConfig};
use crate::supervise::brief;
use crate::testing::{PATIENCE, eventually, in_netns, ip};
use crate::watch::dir;

const NODE: &str = "apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.1.0.0/24, 'fd00:1::/64']}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
";

struct Machine {
    directory: PathBuf,
}

impl Machine {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("weft-run-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("store")).unwrap();
        ip("link add up1 type veth peer name router");
        ip("link set up1 mtu 1400");
        ip("link set router up");
        ip("link set up1 up");
        ip("addr add 192.0.2.1/24 dev up1");
        Self { directory }
    }

    fn config(&self) -> Config {
        Config {
            node: "n1".to_owned(),
            datastore: DatastoreConfig::Dir(self.directory.join("store")),
            startup_taint: None,
            run_dir: self.directory.join("run"),
            metrics_address: "[::]:9179".parse().unwrap(),
            cni_conf_dir: self.directory.join("net.d"),
            operators: None,
            cni_bin_dir: self.directory.join("bin"),
            cni_binary: None,
            mtu: None,
            proc_sys_net: "/proc/sys/net".into(),
        }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.join("store").join(name), text).unwrap();
    }

    /// Asks on the control socket until the answer satisfies.
    async fn until(&self, path: &str, holds: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let deadline = Instant::now() + PATIENCE;
        let mut last = None;
        while Instant::now() < deadline {
            if let Ok(stream) = UnixStream::connect(self.directory.join("run").join(AGENT_SOCKET)).await {
                let (_, body) = http(stream, path).await;
                last = serde_json::from_str(&body).ok();
                if let Some(answer) = last.as_ref().filter(|answer| holds(answer)) {
                    return answer.clone();
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("GET {path} never said so: {last:?}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Status and body.
async fn http(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split_whitespace().nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn public(path: &str) -> (u16, String) {
    http(TcpStream::connect("127.0.0.1:9179").await.unwrap(), path).await
}

fn table() -> String {
    let output = std::process::Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn nothing_is_written_before_the_datastore_shows_our_node_and_then_all_of_it() {
    in_netns(|| async {
        let machine = Machine::new("life");
        machine.write(
            "other.yaml",
            &NODE.replace("n1", "n2").replace("10.1", "10.2").replace("192.0.2.1", "192.0.2.2"),
        );
        let agent = brief(run(machine.config()));

        let status = machine
            .until("/v1/status", |status| status["waitingFor"][0] == "the datastore has no Node n1")
            .await;
        assert_eq!(status["ready"], false);
        assert_eq!(public("/readyz").await.0, 503);
        assert_eq!(ip("route show proto 87"), "");
        assert!(!table().contains("chain"), "{}", table());
        assert!(!machine.directory.join("net.d").exists());

        machine.write("node.yaml", NODE);
        let status = machine.until("/v1/status", |status| status["ready"] == true).await;
        assert_eq!((&status["routerId"], &status["peers"]["total"]), (&"192.0.2.1".into(), &1.into()));
        assert!(ip("route show proto 87").contains("blackhole 10.1.0.0/24"));
        assert!(table().contains("chain forward"));
        assert!(machine.directory.join("net.d/05-weft.conflist").exists());
        assert_eq!(public("/readyz").await, (200, "ready\n".to_owned()));
        assert_eq!(public("/healthz").await.0, 200);
        let (_, metrics) = public("/metrics").await;
        assert!(
            metrics.contains("weft_ready 1") && metrics.contains("weft_bgp_peer_up{peer=\"mesh/n2\""),
            "{metrics}"
        );
        let peers = machine.until("/v1/bgp/peers", |peers| peers[0]["name"] == "mesh/n2").await;
        assert_eq!(peers[0]["localAsn"], 64512);
        let routes = machine
            .until("/v1/bgp/routes?prefix=10.1.0.0/24", |routes| routes[0]["fib"][0] == "blackhole")
            .await;
        assert_eq!(routes[0]["paths"][0]["from"], "local");

        machine.write(
            "node.yaml",
            "kind: Node\napiVersion: v1\nmetadata: {name: n1}\nspec: {podCIDRs: [nonsense]}\n",
        );
        let bad = |status: &serde_json::Value| status["problems"][0]["object"] == "Node n1";
        let status = machine.until("/v1/status", bad).await;
        assert!(
            status["problems"][0]["reason"]
                .as_str()
                .unwrap()
                .contains("node.yaml document 1 (line 1): spec.podCIDRs[0]")
        );
        assert_eq!(status["podCidrs"][0], "10.1.0.0/24", "the last good version stays in force");

        server::stop_running(&machine.directory.join("run"), "enough".to_owned()).await.unwrap();
        agent.await.unwrap().unwrap();
        assert!(!machine.directory.join("run").join(CNI_SOCKET).exists());
        assert!(ip("route show proto 87").contains("blackhole 10.1.0.0/24"), "forwarding outlives the agent");
        assert!(table().contains("chain forward"), "and so does policy");
    });
}

#[test]
fn an_agent_that_has_lost_a_part_ends_and_says_which_and_forwarding_goes_on() {
    in_netns(|| async {
        let machine = Machine::new("part");
        machine.write("node.yaml", NODE);
        let (tasks, ends) = supervisor();
        let agent = brief(live(machine.config(), tasks.clone(), ends, std::future::pending()));
        machine.until("/v1/status", |status| status["ready"] == true).await;

        tasks.task("some part", async { panic!("injected") });
        let error = agent.await.unwrap().unwrap_err().to_string();
        assert!(error.contains("some part panicked"), "{error}");
        assert!(ip("route show proto 87").contains("blackhole 10.1.0.0/24"));
        assert!(table().contains("chain forward"));
    });
}

/// Each by name, or its end is missed: clippy bans the ways to start one beside the supervisor, but for work that ends.
#[test]
fn every_part_of_an_agent_is_supervised() {
    let ends = in_netns(|| async {
        let machine = Machine::new("parts");
        machine.write("node.yaml", NODE);
        let (tasks, ends) = supervisor();
        let inner = supervisor().1;
        let agent = live(machine.config(), tasks, inner, std::future::pending());
        let ready = machine.until("/v1/status", |status| status["ready"] == true);
        tokio::select! {
            ended = agent => panic!("{ended:?}"),
            _ = ready => {}
        }
        ends
    });
    let parts = [
        "bfd",
        "bgp",
        "cni",
        "control server",
        "datastore",
        "flows",
        "metrics server",
        "mtu",
        "planner",
        "policy",
        "route socket",
        "routes",
    ];
    assert_eq!(ends.all().iter().map(String::as_str).collect::<Vec<_>>(), parts);
}

#[test]
fn every_part_that_a_cluster_adds_is_supervised() {
    let ends = in_netns(|| async {
        let machine = Machine::new("cluster-parts");
        let state = StateConfig { dir: machine.directory.join("state"), passwords: false, bootstrap: None };
        let datastore = DatastoreConfig::Kubernetes { namespace: "weft-system".to_owned(), state };
        fs::create_dir(machine.directory.join("run")).unwrap();
        let (tasks, ends) = supervisor();
        let way = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let config = Config { datastore, ..machine.config() };
        Parts::start_over(Some(way), config, &tasks).await.unwrap();
        ends
    });
    let (ended, kinds) =
        (ends.all(), ["BGPConfiguration", "BGPPeer", "Namespace", "NetworkPolicy", "Node", "Pod"]);
    let watches = kinds.map(|kind| format!("watch of {kind}"));
    let parts = watches.into_iter().chain(["datastore", "memory", "report"].map(str::to_owned));
    for part in parts {
        assert!(ended.contains(&part), "{part}: {ended:?}");
    }
}

#[test]
fn a_second_agent_leaves_the_first_alone() {
    in_netns(|| async {
        let machine = Machine::new("second");
        machine.write("node.yaml", NODE);
        let _first = brief(run(machine.config()));
        machine.until("/v1/status", |status| status["ready"] == true).await;

        let error = run(machine.config()).await.unwrap_err().to_string();
        assert!(error.contains(&format!("process {} uses", std::process::id())), "{error}");
        machine.until("/v1/status", |status| status["ready"] == true).await;
    });
}

#[test]
fn an_agent_that_waits_for_its_forerunner_leaves_when_it_is_told_to() {
    in_netns(|| async {
        let machine = Machine::new("waits");
        let _forerunner = RunDirLock::take(&machine.config().run_dir, Duration::ZERO).await.unwrap();
        let (tasks, ends) = supervisor();
        live(machine.config(), tasks, ends, std::future::ready(Shutdown::Restart)).await.unwrap();
    });
}

#[test]
fn a_conflist_that_somebody_removes_or_changes_comes_back_and_nothing_else_moves() {
    in_netns(|| async {
        let machine = Machine::new("conflist");
        machine.write("node.yaml", NODE);
        let _agent = brief(run(machine.config()));
        machine.until("/v1/status", |status| status["ready"] == true).await;
        let path = machine.directory.join("net.d/05-weft.conflist");
        let is_ours = || fs::read_to_string(&path).is_ok_and(|text| text.contains("weft-cni"));
        eventually("written", is_ours).await;

        fs::remove_file(&path).unwrap();
        eventually("written again", is_ours).await;
        fs::write(&path, "{}").unwrap();
        eventually("put right", is_ours).await;
        fs::remove_dir_all(machine.directory.join("net.d")).unwrap();
        eventually("written again with its directory", is_ours).await;
        assert_eq!(public("/readyz").await.0, 200);
    });
}

#[test]
fn a_planned_peer_has_its_series_while_no_speaker_runs() {
    in_netns(|| async {
        let machine = Machine::new("series");
        machine.write("node.yaml", NODE);
        let peer = "{apiVersion: weft.dev/v1alpha1, kind: BGPPeer, metadata: {name: tor}, spec: {address: 192.0.2.9, asn: 65001}}";
        machine.write("peer.yaml", peer);
        // Somebody else's: ours cannot be started.
        let _port = tokio::net::TcpListener::bind("0.0.0.0:179").await.unwrap();
        let _agent = brief(run(machine.config()));
        machine.until("/v1/status", |status| status["asn"] == 64512).await;
        let (_, metrics) = public("/metrics").await;
        assert!(metrics.contains("weft_bgp_peer_up{peer=\"tor\",address=\"192.0.2.9\"} 0"), "{metrics}");
    });
}

#[test]
fn bgp_begins_with_what_is_remembered_when_the_datastore_does_not_answer_and_ends_with_its_word() {
    in_netns(|| async {
        let machine = Machine::new("remembered");
        machine.write("node.yaml", NODE);
        let read = || async {
            let snapshot = dir::read_one_file(&machine.directory.join("store/node.yaml")).await.unwrap();
            Arc::new(snapshot)
        };
        let remembered = Remembered { snapshot: (*read().await).clone(), source: "a test".to_owned() };
        let (tasks, _ends) = supervisor();
        let (lost_sender, _lost) = mpsc::channel(LOST_NEXTHOPS);
        let (routes, _) = routes::spawn(&tasks, lost_sender).await.unwrap();
        let (snapshots, receiver) = watch::channel(None);
        let mut desired = planner::spawn(&tasks, "n1".to_owned(), receiver, routes, Some(remembered));
        let first = desired.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert_eq!(first.pod_cidrs[0].to_string(), "10.1.0.0/24");
        eventually("announced and blackholed", || ip("route show proto 87").contains("10.1.0.0/24")).await;

        machine.write("node.yaml", &NODE.replace("10.1.0.0/24", "10.7.0.0/24"));
        snapshots.send_replace(Some(read().await));
        let is_new = |now: &Option<Arc<Desired>>| now.as_ref().is_some_and(|now| **now != *first);
        let second = desired.wait_for(is_new).await.unwrap().clone().unwrap();
        assert_eq!(second.pod_cidrs[0].to_string(), "10.7.0.0/24");
    });
}

const PEER: &str = "---
apiVersion: weft.dev/v1alpha1
kind: BGPPeer
metadata: {name: tor}
spec: {address: 192.0.2.254, asn: external}
";

#[test]
fn peers_are_told_the_address_that_their_link_has_by_now() {
    in_netns(|| async {
        let machine = Machine::new("addresses");
        machine.write("node.yaml", &(NODE.to_owned() + PEER));
        let snapshot = dir::read_one_file(&machine.directory.join("store/node.yaml")).await.unwrap();
        let (tasks, _ends) = supervisor();
        let (lost_sender, _lost) = mpsc::channel(LOST_NEXTHOPS);
        let (routes, _) = routes::spawn(&tasks, lost_sender).await.unwrap();
        let (_snapshots, receiver) = watch::channel(Some(Arc::new(snapshot)));
        let mut desired = planner::spawn(&tasks, "n1".to_owned(), receiver, routes, None);
        let mut is_told = async |address: &str| {
            let told = |now: &Option<Arc<Desired>>| {
                now.as_ref().is_some_and(|now| now.peers[0].nexthop.v6 == address.parse().ok())
            };
            tokio::time::timeout(PATIENCE, desired.wait_for(told)).await.expect(address).unwrap();
        };
        is_told("none").await;
        // As router advertisements or DHCP bring it, after the configuration.
        ip("addr add 2001:db8::1/64 dev up1 nodad");
        is_told("2001:db8::1").await;
        ip("addr add 2001:db8::7/64 dev up1 nodad");
        ip("addr del 2001:db8::1/64 dev up1");
        is_told("2001:db8::7").await;
    });
}

#[test]
fn pods_get_the_mtu_of_the_uplinks_and_it_follows_them() {
    in_netns(|| async {
        let machine = Machine::new("mtu");
        // A route leads out of it, and nothing of the pods'.
        ip("link add other type veth peer name otherside");
        ip("link set other mtu 1200 up");
        ip("addr add 198.51.100.1/24 dev other");
        machine.write("node.yaml", &(NODE.to_owned() + PEER));
        let agent = brief(run(machine.config()));
        let mtu = async |bytes: u32| {
            let by =
                |status: &serde_json::Value| status["podMtu"] == json!({ "bytes": bytes, "link": "up1" });
            machine.until("/v1/status", by).await
        };
        mtu(1400).await;
        ip("link set up1 mtu 1300");
        mtu(1300).await;
        ip("link set up1 mtu 1200");
        let status = mtu(1280).await;
        assert_eq!(status["problems"][0]["object"], "link up1");
        agent.abort();
    });
}

#[test]
fn a_pod_is_announced_by_itself_while_it_outlives_its_pod_cidr() {
    in_netns(|| async {
        let machine = Machine::new("stray");
        // As an earlier agent has left it.
        ip("link add weft00000000001 type veth peer name podside");
        ip("link set weft00000000001 up");
        ip("route add 10.1.0.7/32 dev weft00000000001 proto 87 scope link");
        machine.write("node.yaml", &NODE.replace("10.1.0.0/24", "10.9.0.0/24"));
        let agent = brief(run(machine.config()));
        let announced = |routes: &serde_json::Value| routes[0]["paths"][0]["from"] == "local";
        machine.until("/v1/bgp/routes?prefix=10.1.0.7/32", announced).await;
        machine.until("/v1/bgp/routes?prefix=10.9.0.0/24", announced).await;
        let status = machine.until("/v1/status", |status| status["problems"][0]["object"] == "Node n1").await;
        assert!(status["problems"][0]["reason"].as_str().unwrap().contains("10.1.0.7"), "{status}");

        ip("route del 10.1.0.7/32 proto 87");
        machine.until("/v1/bgp/routes?prefix=10.1.0.7/32", |answer| answer["error"].is_string()).await;
        machine.until("/v1/status", |status| status["problems"] == json!([])).await;
        agent.abort();
    });
}
