//! Somebody flushes the routes, flushes the ruleset, or bounces a link: the agent puts back what it owns.

use std::time::Duration;

use weft_e2e::lab::{Lab, LabSpec, OUTSIDE};
use weft_e2e::net::until_open;

use crate::story::{SOON, TwoRacks, at, cluster, cut_off, reaches, server, two_racks};

/// The agent repairs within a second; the rest is for the probes.
const REPAIRED: Duration = Duration::from_secs(3);

#[test]
fn what_others_remove_comes_back() {
    let TwoRacks { lab, outside, a, b, closed } = two_racks("drift");

    for family in ["-4", "-6"] {
        lab.run("node1", &format!("ip {family} route flush proto 87")).unwrap();
    }
    for ip in b.addresses() {
        until_open(a.namespace(), at(*ip), REPAIRED).unwrap();
    }
    for ip in a.addresses() {
        until_open(&outside, at(*ip), REPAIRED).unwrap();
    }

    lab.run("node1", "nft flush ruleset").unwrap();
    cut_off(&outside, &closed);
    delete_table(&lab);
    cut_off(&outside, &closed);
    reaches(&outside, &a);

    // The cable is pulled and put back; then the link is taken down on the node itself.
    for state in ["down", "up"] {
        lab.run("tor1", &format!("ip link set node1 {state}")).unwrap();
    }
    reaches(a.namespace(), &b);
    reaches(&outside, &a);

    lab.run("node1", "ip link set eth0 down").unwrap();
    lab.run("node1", "ip link set eth0 up").unwrap();
    // The kernel dropped what an installer had put there as well; that is not ours to repair.
    let uplink = &lab.node("node1").unwrap().uplinks[0];
    lab.run("node1", &format!("ip address replace {}/64 dev eth0", uplink.addresses.v6)).unwrap();
    lab.run("node1", &format!("ip route replace 10.0.0.0/15 via {}", uplink.gateways.v4)).unwrap();
    lab.run("node1", &format!("ip route replace fd00:1::/32 via {}", uplink.gateways.v6)).unwrap();
    reaches(a.namespace(), &b);
    reaches(&outside, &a);
    cut_off(&outside, &closed);
}

#[test]
fn what_is_not_ours_stays() {
    let lab = cluster("foreign", &LabSpec::racks(["bird:1"]));
    let a = server(&lab, "default/a", "node1", &[]);
    for command in [
        "ip route add 203.0.113.0/24 via 10.1.10.1 proto static",
        "ip -6 route add 2001:db8:113::/64 via fd00:1:1:10::1 proto static",
        "nft add table inet theirs",
        "ip link add weftish type bridge",
    ] {
        lab.run("node1", command).unwrap();
    }

    lab.kill_agent("node1").unwrap();
    lab.start_agent("node1").unwrap();
    delete_table(&lab);
    reaches(&lab.namespace(OUTSIDE).unwrap(), &a);

    let theirs = [
        ("ip -4 route show 203.0.113.0/24", "203.0.113.0/24 via 10.1.10.1"),
        ("ip -6 route show 2001:db8:113::/64", "2001:db8:113::/64 via fd00:1:1:10::1"),
        ("nft list tables", "table inet theirs"),
        ("ip link show weftish", "weftish"),
    ];
    for (question, answer) in theirs {
        assert!(lab.run("node1", question).unwrap().contains(answer), "{question}");
    }
    // And the table of ours came back beside it.
    weft_e2e::wait::until_true("table inet weft", SOON, || {
        lab.run("node1", "nft list tables").is_ok_and(|tables| tables.contains("table inet weft"))
    })
    .unwrap();
}

/// Kernels that know owners (6.9) refuse; on others the agent must notice.
fn delete_table(lab: &Lab) {
    if let Err(error) = lab.run("node1", "nft delete table inet weft") {
        assert!(format!("{error:#}").contains("Operation not permitted"), "{error:#}");
    }
}
