//! A rack with two routers uses both of them, in both directions and both families, counted on the routers' wires.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use weft_e2e::lab::{Lab, LabSpec, Pod};
use weft_e2e::net::{Packet, Proto, Sniffer, probe};
use weft_e2e::wait;

use crate::story::{CONVERGED, PORT, at, cluster, reaches, server};

/// Connections per direction and family. That one router gets fewer than 8 of 64 by chance has odds of 1 to 10^9.
const CONNECTIONS: usize = 64;
const FAIR: usize = 8;

#[test]
fn connections_spread_over_both_routers() {
    spreads(&cluster("ecmp", &LabSpec::racks(["bird+frr:1", "bird:1"])));
}

/// IPv6 nexthops then come from the configuration, and must be those of the session's own link.
#[test]
fn connections_of_both_families_spread_when_the_sessions_run_over_ipv4() {
    let spec = LabSpec { session_per_family: false, ..LabSpec::racks(["bird+frr:1", "bird:1"]) };
    spreads(&cluster("ecmp-v4", &spec));
}

fn spreads(lab: &Lab) {
    let (a, b) = (server(lab, "default/a", "node1", &[]), server(lab, "default/b", "node2", &[]));
    reaches(a.namespace(), &b);

    for (from, to) in [(&a, &b), (&b, &a)] {
        for ip in to.addresses() {
            wait::until_true(&format!("traffic to {ip} on both routers"), CONVERGED, || {
                let counts = connections_by_router(lab, from, *ip);
                counts.iter().all(|count| *count >= FAIR)
            })
            .unwrap();
        }
    }
}

/// How many of [`CONNECTIONS`] each router of the pair forwarded.
fn connections_by_router(lab: &Lab, from: &Pod, to: IpAddr) -> [usize; 2] {
    let sniffers = ["tor1a", "tor1b"].map(|tor| Sniffer::start(&lab.namespace(tor).unwrap()).unwrap());
    for attempt in 0..CONNECTIONS {
        let proto = Proto::ALL[attempt % 2];
        let verdict = probe(from.namespace(), proto, at(to), Duration::from_secs(2)).unwrap();
        assert!(verdict.is_allowed(), "{proto} {to}: {verdict}");
    }
    let towards = |packet: &Packet| packet.to == to && packet.ports.is_some_and(|(_, port)| port == PORT);
    sniffers.map(|sniffer| {
        let packets = sniffer.seen(towards);
        packets.iter().map(|packet| (packet.protocol, packet.ports)).collect::<BTreeSet<_>>().len()
    })
}
