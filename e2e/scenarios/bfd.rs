//! Paths that are watched by BFD, against BIRD's and FRR's: what dies silently is left at once, edits and restarts are not seen,
//! and a path that works one way only is none.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use weft_api::control::{BfdState, Peer, SessionState};
use weft_e2e::lab::{Lab, LabSpec, RouterKind, Tor};
use weft_e2e::net::{Flow, Proto};
use weft_e2e::wait;

use crate::story::{CONVERGED, at, flows, raise, reaches, server, until_more_echoes, until_sessions_are_up};

const RATE: u32 = 200;
/// Three packets of 300 ms are missed and the routes go; the rest is for a busy machine. The hold time is 9 s.
const PAUSE: Duration = Duration::from_millis(2000);
/// It asks again after 0.2, 0.6, 1.4 and 3 s.
const TCP_PAUSE: Duration = Duration::from_millis(4000);
/// What an agent takes to come back.
const AWAY: Duration = Duration::from_secs(2);

#[test]
fn traffic_leaves_a_path_that_dies_silently() {
    let lab = watched("bfd-silent", ["bird+frr:1", "bird:1"], false);
    let (a, b) = (server(&lab, "default/a", "node1", &[]), server(&lab, "default/b", "node2", &[]));
    reaches(a.namespace(), &b);
    for tor in ["tor1a", "tor1b"] {
        until_sessions_are_up(&lab, tor);
        until_watched(&lab);
        let start = |proto| b.addresses().iter().map(move |ip| (proto, *ip));
        let (protos, flows): (Vec<_>, Vec<_>) = Proto::ALL
            .into_iter()
            .flat_map(start)
            .map(|(proto, ip)| (proto, Flow::start(a.namespace(), proto, at(ip), RATE).unwrap()))
            .unzip();
        until_more_echoes(&flows, RATE);

        // Carrier stays at both ends, as with a switch between them that has lost its mind.
        lab.run(tor, "ip link set node1 nomaster").unwrap();
        wait::until_true("the end of both sessions", CONVERGED, || {
            let lost = of(&lab, "node1", tor);
            lost.iter().all(|peer| {
                peer.last_error.as_ref().is_some_and(|why| why.contains("BFD Down"))
                    && peer.state != SessionState::Established
            })
        })
        .unwrap();
        until_more_echoes(&flows, RATE);
        for (proto, flow) in protos.into_iter().zip(flows) {
            let report = flow.stop().unwrap();
            let pause = if proto == Proto::Udp { PAUSE } else { TCP_PAUSE };
            assert!(report.longest_gap < pause && report.broken.is_none(), "{tor}, {proto:?}: {report}");
        }
        lab.run(tor, "ip link set node1 master rack").unwrap();
    }
}

#[test]
fn routers_see_neither_an_edit_nor_a_restart() {
    let lab = watched("bfd-restart", ["bird:1", "frr:1"], false);
    let (a, b) = (server(&lab, "default/a", "node1", &[]), server(&lab, "default/b", "node2", &[]));
    reaches(a.namespace(), &b);
    until_watched(&lab);
    let before = history(&lab);
    let sessions = established(&lab);

    for (interval, multiplier) in [(1000, 3), (100, 5), (300, 3)] {
        let bfd = json!({ "intervalMilliseconds": interval, "detectMultiplier": multiplier });
        watch(&lab, &bfd);
        let slower = interval.max(300);
        wait::until_true("the new intervals", CONVERGED, || {
            let all = ["node1", "node2"].map(|node| peers(&lab, node)).concat();
            all.iter().all(|peer| {
                let bfd = peer.bfd.as_ref().unwrap();
                (bfd.transmit_interval, bfd.detection_time) == (Some(slower), Some(3 * slower))
            })
        })
        .unwrap();
    }
    assert_eq!(established(&lab), sessions, "an edit has ended a session");
    assert_eq!(history(&lab), before, "an edit was seen");

    let flows: Vec<_> = flows(a.namespace(), &b, RATE).collect();
    for node in ["node1", "node2"] {
        lab.terminate_agent(node).unwrap();
        std::thread::sleep(AWAY);
        lab.start_agent(node).unwrap();
        until_sessions_are_up(&lab, if node == "node1" { "tor1" } else { "tor2" });
        until_watched(&lab);
    }
    assert_eq!(history(&lab), before, "a restart was seen");
    until_more_echoes(&flows, RATE);
    for flow in flows {
        let report = flow.stop().unwrap();
        assert!(report.lost() == 0 && report.broken.is_none(), "{report}");
    }

    // Whoever is not watched any more was not lost.
    watch(&lab, &json!({ "enabled": false }));
    let unwatched = || ["node1", "node2"].map(|node| peers(&lab, node)).concat();
    wait::until_true("nobody watched", CONVERGED, || unwatched().iter().all(|peer| peer.bfd.is_none()))
        .unwrap();
    wait::until_true("the routers told", CONVERGED, || history(&lab) != before).unwrap();
    assert!(unwatched().iter().all(|peer| peer.established_count == 1), "{:?}", unwatched());
    reaches(a.namespace(), &b);
}

#[test]
fn a_path_that_works_one_way_is_none_and_the_router_hears_why() {
    let lab = watched("bfd-one-way", ["frr:1"], false);
    until_watched(&lab);
    let deaf = "add table inet cut; add chain inet cut out { type filter hook output priority 0; }; add rule inet cut out udp dport 3784 drop";
    lab.machine("tor1").unwrap().run(["nft", deaf]).unwrap();
    wait::until_true("the end of both sessions", CONVERGED, || {
        peers(&lab, "node1")
            .iter()
            .all(|peer| peer.last_error.as_ref().is_some_and(|why| why.contains("BFD Down")))
    })
    .unwrap();
    let says = lab.ask("tor1", "show bgp neighbors").unwrap();
    assert!(says.contains("Cease/BFD Down") || says.contains("BFD down"), "{says}");
    // BGP alone says that the path is there, and BFD is not asked again until it was up.
    until_sessions_are_up(&lab, "tor1");
    wait::until_true("the problem", CONVERGED, || {
        lab.weftctl("node1", "status").unwrap().contains("BFD is Down while BGP is up")
    })
    .unwrap();
    lab.run("tor1", "nft delete table inet cut").unwrap();
    until_watched(&lab);
}

#[test]
fn paths_of_several_hops_are_watched_on_their_own_port() {
    let lab = watched("bfd-far", ["bird:1", "frr:1"], true);
    let (a, b) = (server(&lab, "default/a", "node1", &[]), server(&lab, "default/b", "node2", &[]));
    reaches(a.namespace(), &b);
    until_watched(&lab);
    let all = ["node1", "node2"].map(|node| peers(&lab, node)).concat();
    assert!(all.len() == 4 && all.iter().all(|peer| peer.bfd.as_ref().unwrap().port == 4784), "{all:?}");
}

/// Routers and agents that watch one another, over one hop or as if there were more.
fn watched<const N: usize>(story: &str, racks: [&str; N], is_far: bool) -> Lab {
    let lab = raise(story, &LabSpec::racks(racks));
    for tor in lab.plan().tors.clone() {
        match tor.kind {
            RouterKind::Bird => watch_by_bird(&lab, &tor, is_far),
            RouterKind::Frr => watch_by_frr(&lab, &tor, is_far),
        }
    }
    if is_far {
        set(&lab, "multihop", &json!(2));
    }
    watch(&lab, &json!({}));
    lab.start_agents().unwrap();
    lab
}

fn watch_by_bird(lab: &Lab, tor: &Tor, is_far: bool) {
    let config = lab.run(&tor.name, "cat /etc/bird/bird.conf").unwrap();
    let of_nodes = ["10.1.", "fd00:1:1:", "fd00:1:2:"].into_iter().zip([0, 1, 1]);
    let nodes = of_nodes.fold(config, |config, (nodes, family)| {
        let source = tor.addresses.both()[family];
        let far = if is_far { format!("multihop 2; source address {source}; ") } else { String::new() };
        let neighbor = format!("\n  neighbor {nodes}");
        config.replace(&neighbor, &format!("\n  {far}bfd on;{neighbor}"))
    });
    let timers = "min rx interval 300 ms; min tx interval 300 ms; multiplier 3;";
    let bfd = format!("protocol bfd {{ interface \"*\" {{ {timers} }}; multihop {{ {timers} }}; }}\n");
    lab.run_with_input(&tor.name, "tee /etc/bird/bird.conf", &(nodes + &bfd)).unwrap();
    lab.ask(&tor.name, "configure").unwrap();
}

fn watch_by_frr(lab: &Lab, tor: &Tor, is_far: bool) {
    let Tor { name, asn, .. } = tor;
    let mut bfdd = Command::new("/usr/lib/frr/bfdd");
    lab.machine(name).unwrap().daemon("bfdd", bfdd.args(["-A", "127.0.0.1"])).unwrap();
    wait::until_true("bfdd", CONVERGED, || {
        lab.ask(name, "show zebra client summary").is_ok_and(|clients| clients.contains("bfd"))
    })
    .unwrap();
    let mut config = format!("configure\nrouter bgp {asn}\n");
    for uplink in lab.plan().nodes.iter().flat_map(|node| &node.uplinks).filter(|uplink| uplink.tor == *name)
    {
        for address in uplink.addresses.both() {
            if is_far {
                config += &format!("neighbor {address} ebgp-multihop 2\n");
            }
            config += &format!("neighbor {address} bfd\nneighbor {address} bfd 3 300 300\n");
        }
    }
    lab.run_with_input(name, "vtysh", &config).unwrap();
}

/// In the sessions of all routers.
fn watch(lab: &Lab, bfd: &Value) {
    set(lab, "bfd", bfd);
}

fn set(lab: &Lab, field: &str, value: &Value) {
    for tor in &lab.plan().tors {
        for family in ["v4", "v6"] {
            let file = lab.store().dir().join(format!("bgppeer-{}-{family}.yaml", tor.name));
            let mut peer: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
            peer["spec"]["session"][field] = value.clone();
            lab.store().apply(&peer.to_string()).unwrap();
        }
    }
}

fn peers(lab: &Lab, node: &str) -> Vec<Peer> {
    let all: Vec<Peer> = serde_json::from_str(&lab.weftctl(node, "bgp peers -o json").unwrap()).unwrap();
    all.into_iter().filter(|peer| !peer.name.starts_with("mesh/")).collect()
}

fn of(lab: &Lab, node: &str, tor: &str) -> Vec<Peer> {
    peers(lab, node).into_iter().filter(|peer| peer.name.starts_with(&format!("{tor}-"))).collect()
}

fn established(lab: &Lab) -> Vec<u64> {
    let all = lab.plan().nodes.iter().flat_map(|node| peers(lab, &node.name));
    all.map(|peer| peer.established_count).collect()
}

/// Each path of each node, at both ends.
fn until_watched(lab: &Lab) {
    let is_up = |peer: &Peer| {
        peer.bfd
            .as_ref()
            .is_some_and(|bfd| (bfd.state, bfd.remote_state) == (BfdState::Up, Some(BfdState::Up)))
    };
    for node in &lab.plan().nodes {
        wait::until_true(&format!("paths of {}", node.name), CONVERGED, || {
            peers(lab, &node.name).iter().all(is_up)
        })
        .unwrap();
    }
}

/// What the routers saw of sessions so far: of each since when it is up, or how often it came and went.
fn history(lab: &Lab) -> Vec<String> {
    let of_bird = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.get(..4).map(|words| words.join(" "))
    };
    let mut all = Vec::new();
    for tor in &lab.plan().tors {
        match tor.kind {
            RouterKind::Bird => {
                let sessions = lab.ask(&tor.name, "show bfd sessions").unwrap();
                all.extend(sessions.lines().filter(|line| line.contains("rack")).filter_map(of_bird));
            }
            RouterKind::Frr => {
                let sessions = lab.ask(&tor.name, "show bfd peers counters json").unwrap();
                let sessions: Vec<Value> = serde_json::from_str(&sessions).unwrap();
                all.extend(sessions.iter().map(|session| {
                    format!("{} {} {}", session["peer"], session["session-up"], session["session-down"])
                }));
            }
        }
    }
    all.sort();
    all
}
