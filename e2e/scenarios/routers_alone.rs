//! The lab itself, without Weft: BIRD and FRR carry the racks' subnets, so whatever fails later is not the cabling.

use std::net::IpAddr;

use weft_e2e::lab::{Lab, LabSpec, OUTSIDE, OUTSIDE_CIDRS, Uplink};
use weft_e2e::net::{EchoServer, until_open};

use crate::story::{CONVERGED, PORT, at, raise};

#[test]
fn the_outside_reaches_both_racks_through_both_kinds_of_router() {
    let lab = raise("routers", &LabSpec::racks(["bird:1", "frr:1"]));
    for node in &lab.plan().nodes {
        let _echo = EchoServer::start(&lab.namespace(&node.name).unwrap(), PORT).unwrap();
        answers_over(&lab, &node.name, &node.uplinks[0]);
    }
}

#[test]
fn a_rack_with_two_routers_survives_each_of_them() {
    let lab = raise("pairs", &LabSpec::racks(["bird+frr:1"]));
    let node = &lab.plan().nodes[0];
    let _echo = EchoServer::start(&lab.namespace(&node.name).unwrap(), PORT).unwrap();

    for (off, on) in [(0, 1), (1, 0)] {
        lab.power_off(&node.uplinks[off].tor).unwrap();
        answers_over(&lab, &node.name, &node.uplinks[on]);
        lab.power_on(&node.uplinks[off].tor).unwrap();
        answers_over(&lab, &node.name, &node.uplinks[off]);
    }
}

/// The node's way back is the one route that Weft would learn, set by hand.
fn answers_over(lab: &Lab, node: &str, uplink: &Uplink) {
    let outside = lab.namespace(OUTSIDE).unwrap();
    for (family, address) in uplink.addresses.both().into_iter().enumerate() {
        let gateway: IpAddr = uplink.gateways.both()[family];
        lab.run(node, &format!("ip route replace {} via {gateway}", OUTSIDE_CIDRS[family])).unwrap();
        until_open(&outside, at(address), CONVERGED).unwrap();
    }
}
