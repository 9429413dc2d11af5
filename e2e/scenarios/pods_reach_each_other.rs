//! Pods on three nodes in two racks, one behind BIRD and one behind FRR, talk to each other, to nodes, and to the
//! outside; in both families, and in both directions.

use weft_e2e::lab::{LabSpec, NodeAsn, OUTSIDE, Plan};
use weft_e2e::net::{EchoServer, until_closed, until_open};

use crate::story::{CONVERGED, PORT, SOON, at, cluster, reaches, server};

#[test]
fn every_pod_reaches_every_other_and_the_outside_reaches_all() {
    let lab = cluster("pods", &LabSpec::default());
    let pods = [("a", "node1"), ("b", "node1"), ("c", "node2"), ("d", "node3")]
        .map(|(name, node)| server(&lab, &format!("default/{name}"), node, &[]));
    let outside = lab.namespace(OUTSIDE).unwrap();

    for to in &pods {
        for from in &pods {
            reaches(from.namespace(), to);
        }
        reaches(&outside, to);
        for node in &lab.plan().nodes {
            reaches(&lab.namespace(&node.name).unwrap(), to);
        }
    }

    let _echo = EchoServer::start(&outside, PORT).unwrap();
    for from in &pods {
        for address in Plan::outside().both() {
            until_open(from.namespace(), at(address), CONVERGED).unwrap();
        }
    }
}

#[test]
fn a_pod_reaches_nodes_of_its_own_and_of_the_other_rack() {
    let lab = cluster("nodes", &LabSpec::racks(["frr:1", "bird:1"]));
    let pod = lab.run_pod("default/a", "node1", &[]).unwrap();

    for node in &lab.plan().nodes {
        let _echo = EchoServer::start(&lab.namespace(&node.name).unwrap(), PORT).unwrap();
        for address in node.uplinks[0].addresses.both() {
            until_open(pod.namespace(), at(address), CONVERGED).unwrap();
        }
    }
}

#[test]
fn one_session_over_ipv4_carries_both_families() {
    let spec = LabSpec { session_per_family: false, ..LabSpec::racks(["bird:1", "frr:1"]) };
    let lab = cluster("both-families", &spec);
    let (a, b) = (server(&lab, "default/a", "node1", &[]), server(&lab, "default/b", "node2", &[]));

    reaches(a.namespace(), &b);
    reaches(b.namespace(), &a);
}

#[test]
fn racks_may_share_an_as_when_the_routers_replace_it() {
    share_an_as("same-as", NodeAsn::Same);
}

#[test]
fn racks_may_share_an_as_when_the_nodes_let_it_in() {
    share_an_as("as-let-in", NodeAsn::Kept);
}

fn share_an_as(story: &str, node_asn: NodeAsn) {
    let spec = LabSpec { node_asn, mesh: false, ..LabSpec::racks(["bird:1", "frr:1"]) };
    let lab = cluster(story, &spec);
    let (a, b) = (server(&lab, "default/a", "node1", &[]), server(&lab, "default/b", "node2", &[]));

    reaches(a.namespace(), &b);
    reaches(b.namespace(), &a);
}

#[test]
fn a_deleted_pod_is_gone_and_its_neighbours_are_not() {
    let lab = cluster("deleted", &LabSpec::racks(["bird:1", "frr:1"]));
    let (a, b) = (server(&lab, "default/a", "node1", &[]), server(&lab, "default/b", "node1", &[]));
    let outside = lab.namespace(OUTSIDE).unwrap();
    reaches(&outside, &a);

    lab.delete_pod(&a).unwrap();
    lab.delete_pod(&a).unwrap_err(); // its object is gone as well

    for ip in a.addresses() {
        until_closed(&outside, at(*ip), SOON).unwrap();
    }
    reaches(&outside, &b);
}
