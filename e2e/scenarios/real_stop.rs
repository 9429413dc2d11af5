//! A real stop says so: Cease with a text that the routers show, and the routes are gone at once, not after a hold time.

use weft_e2e::lab::{LabSpec, OUTSIDE};
use weft_e2e::net::until_closed;
use weft_e2e::wait;

use crate::story::{SOON, at, cluster, reaches, server};

const TEXT: &str = "new power supply, back at noon";

#[test]
fn routers_hear_why_and_stop_sending() {
    let lab = cluster("real-stop", &LabSpec::racks(["bird:1", "frr:1"]));
    let (a, b) = (server(&lab, "default/a", "node1", &[]), server(&lab, "default/b", "node2", &[]));
    let outside = lab.namespace(OUTSIDE).unwrap();

    for (node, pod, tor, log) in [("node1", &a, "tor1", "bird.log"), ("node2", &b, "tor2", "bgpd.log")] {
        reaches(&outside, pod);
        lab.stop_agent(node, TEXT).unwrap();
        for ip in pod.addresses() {
            until_closed(&outside, at(*ip), SOON).unwrap();
        }
        let log = lab.machine(tor).unwrap().dir.join(log);
        wait::until_true(&format!("the reason in {}", log.display()), SOON, || {
            std::fs::read_to_string(&log).is_ok_and(|log| log.contains(TEXT))
        })
        .unwrap();
        lab.start_agent(node).unwrap();
        reaches(&outside, pod);
    }
}
