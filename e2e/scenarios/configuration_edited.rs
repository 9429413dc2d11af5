//! The configuration of all nodes is edited under traffic. What needs no other session takes effect at once; what does goes
//! round the nodes. Nothing is lost either way.

use std::time::Duration;

use weft_api::control::{Peer, SessionState};
use weft_e2e::lab::{Lab, LabSpec};
use weft_e2e::wait;

use crate::story::{CONVERGED, cluster, flows, reaches, server, until_more_echoes, until_sessions_are_up};

const RATE: u32 = 200;
const NODES: [&str; 3] = ["node1", "node2", "node3"];

const EDITED: &str = "
apiVersion: weft.dev/v1alpha1
kind: BGPConfiguration
metadata: { name: default }
spec:
  nodeMesh: full
  clusterCidrs: [10.244.0.0/16, 'fd00:10:244::/48']
  listenPort: 1790
  maxPaths: 2
  gracefulRestart: { restartSeconds: 60 }
  session: { timers: { connectRetrySeconds: 1, holdTimeSeconds: 9 } }
";

/// The router knows the nodes by another AS, and lets none of them in after this.
const OTHER_AS: &str = "
apiVersion: weft.dev/v1alpha1
kind: BGPNodeOverride
metadata: { name: rack1 }
spec: { nodeSelector: { matchLabels: { rack: rack1 } }, asn: 64600 }
";

#[test]
fn no_session_ends_that_need_not_and_the_others_do_so_in_turn() {
    let lab = cluster("edited", &LabSpec::racks(["bird:3"]));
    let (a, b) = (server(&lab, "default/a", "node1", &[]), server(&lab, "default/b", "node2", &[]));
    let c = server(&lab, "default/c", "node3", &[]);
    reaches(a.namespace(), &b);
    reaches(c.namespace(), &a);
    let flows: Vec<_> = flows(a.namespace(), &b, RATE).chain(flows(c.namespace(), &a, RATE)).collect();
    let before = NODES.map(|node| sessions(&lab, node));

    lab.store().apply(EDITED).unwrap();
    for node in NODES {
        wait::until_true("the port", CONVERGED, || {
            lab.run(node, "ss -Hltn").is_ok_and(|listening| listening.contains("0.0.0.0:1790 "))
        })
        .unwrap();
    }
    until_more_echoes(&flows, RATE);
    assert_eq!(NODES.map(|node| sessions(&lab, node)), before, "a session began anew");

    lab.store().apply(OTHER_AS).unwrap();
    for node in NODES {
        wait::until_true("the mesh in its new AS", CONVERGED, || {
            let mesh = mesh(&lab, node);
            mesh.iter().all(|peer| {
                (peer.local_asn, peer.asn, peer.state) == (64600, Some(64600), SessionState::Established)
            })
        })
        .unwrap();
    }
    until_more_echoes(&flows, RATE);
    for flow in flows {
        let report = flow.stop().unwrap();
        assert!(report.lost() == 0 && report.broken.is_none(), "{report}");
    }
    let speakers = NODES.map(|node| lab.agent_log(node).unwrap().matches("bgp started").count());
    assert_eq!(speakers, [2, 2, 2], "one for each AS");
}

/// Every session is negotiated anew, the only way between the racks among them. No router hears of it by a NOTIFICATION that
/// would make it forget the node.
#[test]
fn another_hold_time_goes_round_the_nodes_and_the_routers_lose_none_of_them() {
    let lab = cluster("terms", &LabSpec::racks(["bird:1", "frr:1"]));
    let (a, b) = (server(&lab, "default/a", "node1", &[]), server(&lab, "default/b", "node2", &[]));
    reaches(a.namespace(), &b);
    let flows: Vec<_> = flows(a.namespace(), &b, RATE).chain(flows(b.namespace(), &a, RATE)).collect();
    until_more_echoes(&flows, RATE);

    lab.store().apply(&EDITED.replace("holdTimeSeconds: 9", "holdTimeSeconds: 6")).unwrap();
    for node in ["node1", "node2"] {
        wait::until_true("the hold time", CONVERGED, || {
            let all = peers(&lab, node);
            all.iter().all(|peer| (peer.hold_time, peer.state) == (Some(6), SessionState::Established))
        })
        .unwrap();
    }
    until_more_echoes(&flows, RATE);
    for flow in flows {
        let report = flow.stop().unwrap();
        assert!(report.lost() == 0 && report.broken.is_none(), "{report}");
    }
}

/// Three turns, half a minute, and what a busy machine makes of them.
const PARTED: Duration = Duration::from_secs(60);

const OWN_AS: &str = "
apiVersion: weft.dev/v1alpha1
kind: BGPNodeOverride
metadata: { name: own }
spec: { nodeSelector: { matchLabels: { 'kubernetes.io/hostname': node2 } }, asn: 64700 }
";

/// Its fellows had its routes from itself, and will have them from the router. Until all had their turn, loop detection keeps some
/// from hearing it there.
#[test]
fn a_node_that_leaves_the_mesh_for_an_as_of_its_own_is_reached_all_the_time() {
    let lab = cluster("leaves", &LabSpec::racks(["bird:3"]));
    lab.run("tor1", "sed -i s/as.64512;/external;/ /etc/bird/bird.conf").unwrap();
    lab.ask("tor1", "configure").unwrap();
    until_sessions_are_up(&lab, "tor1");
    let (a, b) = (server(&lab, "default/a", "node1", &[]), server(&lab, "default/b", "node2", &[]));
    reaches(a.namespace(), &b);
    let flows: Vec<_> = flows(a.namespace(), &b, RATE).chain(flows(b.namespace(), &a, RATE)).collect();
    until_more_echoes(&flows, RATE);

    lab.store().apply(OWN_AS).unwrap();
    wait::until_true("the node in its AS", CONVERGED, || {
        let all = peers(&lab, "node2");
        all.iter().all(|peer| peer.local_asn == 64700 && peer.state == SessionState::Established)
    })
    .unwrap();
    assert_eq!(mesh(&lab, "node2").len(), 2, "as before");
    wait::until_true("the end of its sessions with the mesh", PARTED, || {
        mesh(&lab, "node2").is_empty() && mesh(&lab, "node1").len() == 1
    })
    .unwrap();
    until_more_echoes(&flows, RATE);
    for flow in flows {
        let report = flow.stop().unwrap();
        assert!(report.lost() == 0 && report.broken.is_none(), "{report}");
    }
}

fn peers(lab: &Lab, node: &str) -> Vec<Peer> {
    serde_json::from_str(&lab.weftctl(node, "bgp peers -o json").unwrap()).unwrap()
}

fn mesh(lab: &Lab, node: &str) -> Vec<Peer> {
    peers(lab, node).into_iter().filter(|peer| peer.name.starts_with("mesh/")).collect()
}

/// How often each was established.
fn sessions(lab: &Lab, node: &str) -> Vec<(String, u64)> {
    peers(lab, node).into_iter().map(|peer| (peer.name, peer.established_count)).collect()
}
