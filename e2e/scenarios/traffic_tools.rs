//! The tools that prove things can fail: an outage shows up in a flow's report, and only what passed is seen on a wire.

use std::time::Duration;

use weft_e2e::lab::LabSpec;
use weft_e2e::net::{EchoServer, Flow, Proto, Sniffer, Verdict, probe, until_open};
use weft_e2e::wait;

use crate::story::{CONVERGED, PORT, SOON, at, raise, until_more_echoes};

const RATE: u32 = 200;
const OUTAGE: u64 = 100;
const DROP_ALL: &str =
    "table inet outage { chain forward { type filter hook forward priority 0; policy drop; }; }";

#[test]
fn a_flow_tells_an_outage_from_none() {
    let lab = raise("tools", &LabSpec::racks(["bird:1", "frr:1"]));
    let nodes = &lab.plan().nodes;
    let here = lab.namespace(&nodes[0].name).unwrap();
    let _echo = EchoServer::start(&lab.namespace(&nodes[1].name).unwrap(), PORT).unwrap();

    for to in nodes[1].uplinks[0].addresses.both().map(at) {
        until_open(&here, to, CONVERGED).unwrap();
        let flows = Proto::ALL.map(|proto| Flow::start(&here, proto, to, RATE).unwrap());
        until_more_echoes(&flows, RATE);
        for flow in flows {
            let report = flow.stop().unwrap();
            assert!(report.lost() == 0 && report.broken.is_none(), "{report}");
        }

        let flows = Proto::ALL.map(|proto| Flow::start(&here, proto, to, RATE).unwrap());
        until_more_echoes(&flows, RATE);
        lab.run_with_input("tor1", "nft -f -", DROP_ALL).unwrap();
        // UDP counts the time; TCP stops sending once its buffer is full.
        let udp = &flows[1];
        let enough = udp.sent() + OUTAGE;
        wait::until_true("an outage", SOON, || udp.sent() >= enough).unwrap();
        lab.run("tor1", "nft delete table inet outage").unwrap();
        until_more_echoes(&flows, RATE);
        let [tcp, udp] = flows.map(|flow| flow.stop().unwrap());

        let pause = Duration::from_secs(OUTAGE) / RATE / 2;
        assert!(udp.lost() >= OUTAGE / 2 && udp.longest_gap > pause, "{udp}");
        // TCP repeats what was lost, so its outage is a gap only.
        assert!(tcp.lost() == 0 && tcp.longest_gap > pause, "{tcp}");
    }
}

#[test]
fn a_sniffer_sees_what_passed_and_nothing_else() {
    let lab = raise("sniffer", &LabSpec::racks(["bird:1", "frr:1"]));
    let nodes = &lab.plan().nodes;
    let here = lab.namespace(&nodes[0].name).unwrap();
    let there = nodes[1].uplinks[0].addresses.v4.into();
    let _echo = EchoServer::start(&lab.namespace(&nodes[1].name).unwrap(), PORT).unwrap();
    until_open(&here, at(there), CONVERGED).unwrap();

    let (passed, not_passed) =
        (Sniffer::start(&lab.namespace("tor2").unwrap()), Sniffer::start(&lab.namespace("outside").unwrap()));
    assert_eq!(probe(&here, Proto::Udp, at(there), SOON).unwrap(), Verdict::Allowed);

    let towards = |packet: &weft_e2e::net::Packet| packet.to == there && packet.protocol == 17;
    wait::until_true("the datagram on the router", SOON, || {
        !passed.as_ref().unwrap().seen(towards).is_empty()
    })
    .unwrap();
    assert_eq!(not_passed.unwrap().seen(towards), []);
}
