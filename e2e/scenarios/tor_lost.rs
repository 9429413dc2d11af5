//! A top-of-rack router loses its power under traffic, and comes back; then its twin does.

use std::time::Duration;

use weft_e2e::lab::LabSpec;
use weft_e2e::net::{Flow, FlowReport, Proto};

use crate::story::{at, cluster, reaches, server, until_more_echoes, until_sessions_are_up};

/// A dark link is noticed at once, so this is for busy machines, far below the routers' hold time of 9 s.
const PAUSE: Duration = Duration::from_secs(3);
/// Records a second.
const RATE: u32 = 200;

#[test]
fn traffic_moves_to_the_other_router_and_back() {
    let lab = cluster("tor-lost", &LabSpec::racks(["bird+frr:1", "bird:1"]));
    let (a, b) = (server(&lab, "default/a", "node1", &[]), server(&lab, "default/b", "node2", &[]));
    reaches(a.namespace(), &b);

    for (off, twin) in [("tor1a", "tor1b"), ("tor1b", "tor1a")] {
        // The twin may have come back just now, and must be in use before it is alone.
        until_sessions_are_up(&lab, twin);
        for ip in b.addresses() {
            let flows = Proto::ALL.map(|proto| Flow::start(a.namespace(), proto, at(*ip), RATE).unwrap());
            until_more_echoes(&flows, RATE);

            lab.power_off(off).unwrap();
            until_more_echoes(&flows, RATE);
            let reports = flows.map(|flow| flow.stop().unwrap());

            for FlowReport { longest_gap, broken, .. } in &reports {
                assert!(*longest_gap < PAUSE && broken.is_none(), "{off} off, to {ip}: {reports:?}");
            }
            lab.power_on(off).unwrap();
            until_sessions_are_up(&lab, off);
        }
    }
}
