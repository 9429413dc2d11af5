//! An agent ends under traffic: by SIGKILL, or by SIGTERM for an upgrade. Nothing is lost, and the next one adopts what it
//! finds: no route and no rule is touched, on the node or on the routers.

use std::process::Command;
use std::time::Duration;

use weft_e2e::lab::{Lab, Process};
use weft_e2e::net::Flow;

use crate::story::{
    TwoRacks, cut_off, flows, reaches, server, two_racks, until_more_echoes, until_sessions_are_up,
};

const RATE: u32 = 500;
/// No packet is lost when none of 500 a second is late by more than this, on a machine that compiles beside it.
const HICCUP: Duration = Duration::from_millis(500);

#[test]
fn no_packet_is_lost_and_nothing_is_touched() {
    let TwoRacks { lab, outside, a, b, closed } = two_racks("agent-killed");

    // On a node behind BIRD and on one behind FRR.
    let ends: [fn(&Lab, &str) -> anyhow::Result<()>; 2] = [Lab::kill_agent, Lab::terminate_agent];
    for (node, end) in ["node1", "node2"].into_iter().flat_map(|node| ends.map(|end| (node, end))) {
        let (rules, monitors) = (ruleset(&lab, node), watch_routes(&lab));
        let flows: Vec<_> = flows(a.namespace(), &b, RATE).chain(flows(&outside, &a, RATE)).collect();

        end(&lab, node).unwrap();
        until_more_echoes(&flows, RATE);
        cut_off(&outside, &closed);
        lab.start_agent(node).unwrap();
        for tor in ["tor1", "tor2"] {
            until_sessions_are_up(&lab, tor);
        }
        until_more_echoes(&flows, RATE);

        nothing_was_lost(flows, node);
        assert_eq!(changes(&lab, monitors), "", "after {node}");
        assert_eq!(ruleset(&lab, node), rules, "after {node}");
        cut_off(&outside, &closed);
    }

    // The agent that adopted works on: pods of before can go, new ones can come.
    lab.delete_pod(&a).unwrap();
    let new = server(&lab, "default/new", "node1", &[]);
    reaches(new.namespace(), &b);
    reaches(&outside, &new);
}

fn nothing_was_lost(flows: Vec<Flow>, node: &str) {
    for flow in flows {
        let report = flow.stop().unwrap();
        assert!(report.lost() == 0 && report.broken.is_none(), "{node}: {report}");
        assert!(report.longest_gap < HICCUP, "{node}: {report}");
    }
}

/// With the kernel's handles, which tell a rule that stayed from an equal one in its place; without counters.
fn ruleset(lab: &Lab, node: &str) -> String {
    lab.run(node, "nft --stateless --handle list ruleset").unwrap()
}

const MONITORED: [&str; 4] = ["node1", "node2", "tor1", "tor2"];

/// Every change of a route, from now on.
fn watch_routes(lab: &Lab) -> Vec<Process> {
    let start = |machine: &str| {
        let machine = lab.machine(machine).unwrap();
        std::fs::write(machine.dir.join("routes.log"), "").unwrap();
        let mut monitor = Command::new("ip");
        machine.daemon("routes", monitor.args(["monitor", "route"])).unwrap()
    };
    MONITORED.map(start).into()
}

/// What the monitors saw, without what the kernel does by itself (`proto kernel`: addresses, multicast).
fn changes(lab: &Lab, monitors: Vec<Process>) -> String {
    for monitor in monitors {
        monitor.kill().unwrap();
    }
    let mut all = String::new();
    for machine in MONITORED {
        let log = std::fs::read_to_string(lab.machine(machine).unwrap().dir.join("routes.log")).unwrap();
        for line in log.lines().filter(|line| !line.contains("proto kernel")) {
            all += &format!("{machine}: {line}\n");
        }
    }
    all
}
