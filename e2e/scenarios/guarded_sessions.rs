//! Sessions that are guarded, MD5 with BIRD and TTL security with FRR: where the two ends do not agree there is no session
//! and no traffic, and where they do there is.

use serde_json::{Value, json};
use weft_e2e::lab::{Lab, LabSpec, OUTSIDE};
use weft_e2e::wait;

use crate::story::{CONVERGED, cut_off, raise, reaches, server};

#[test]
fn both_ends_must_have_the_password_and_the_ttl() {
    let lab = raise("guarded", &LabSpec::racks(["bird:1", "frr:1"]));
    // Of a session that ends for an edit the router keeps the routes for so long: here it is to forget them.
    edit(&lab, "bgpconfiguration-default.yaml", |spec| spec["gracefulRestart"]["restartSeconds"] = 1.into());
    let config = lab.run("tor1", "cat /etc/bird/bird.conf").unwrap();
    let guarded = config.replace("\n  neighbor 10.1.", "\n  password \"right\";\n  neighbor 10.1.");
    let guarded = guarded.replace("\n  neighbor fd00:1:1:", "\n  password \"right\";\n  neighbor fd00:1:1:");
    lab.run_with_input("tor1", "tee /etc/bird/bird.conf", &guarded).unwrap();
    lab.ask("tor1", "configure").unwrap();
    for address in lab.plan().nodes[1].uplinks[0].addresses.both() {
        let guarded = format!("configure\nrouter bgp 65002\nneighbor {address} ttl-security hops 1\n");
        lab.run_with_input("tor2", "vtysh", &guarded).unwrap();
    }
    password(&lab, "wrong");
    guard(&lab, "tor1", "passwordSecret", &json!({ "name": "bgp" }));
    lab.start_agents().unwrap();
    let (a, b) = (server(&lab, "default/a", "node1", &[]), server(&lab, "default/b", "node2", &[]));
    let outside = lab.namespace(OUTSIDE).unwrap();

    // Of what the nodes say the routers drop everything.
    until_dropped(&lab, "tor1", "TCPMD5Failure");
    until_dropped(&lab, "tor2", "TCPMinTTLDrop");
    cut_off(&outside, &a);
    cut_off(&outside, &b);

    password(&lab, "right");
    reaches(&outside, &a);
    cut_off(&outside, &b);
    guard(&lab, "tor2", "ttlSecurityHops", &json!(1));
    reaches(&outside, &b);
    reaches(a.namespace(), &b);

    // And of what a router says from too far away the node does: its sessions stay down.
    let before = dropped(&lab, "node1", "TCPMinTTLDrop");
    guard(&lab, "tor1", "ttlSecurityHops", &json!(1));
    wait::until_true("the node drops", CONVERGED, || dropped(&lab, "node1", "TCPMinTTLDrop") > before)
        .unwrap();
    cut_off(&outside, &a);
    reaches(&outside, &b);
}

fn password(lab: &Lab, password: &str) {
    let secret = format!(
        "{{ apiVersion: v1, kind: Secret, metadata: {{ namespace: weft-system, name: bgp }}, stringData: {{ password: {password} }} }}"
    );
    lab.store().apply(&secret).unwrap();
}

/// One more field of the nodes' sessions with this router.
fn guard(lab: &Lab, tor: &str, field: &str, value: &Value) {
    for family in ["v4", "v6"] {
        edit(lab, &format!("bgppeer-{tor}-{family}.yaml"), |spec| {
            spec["session"]["security"][field] = value.clone();
        });
    }
}

fn edit(lab: &Lab, file: &str, change: impl FnOnce(&mut Value)) {
    let text = std::fs::read_to_string(lab.store().dir().join(file)).unwrap();
    let mut object: Value = serde_saphyr::from_str(&text).unwrap();
    change(&mut object["spec"]);
    lab.store().apply(&object.to_string()).unwrap();
}

fn until_dropped(lab: &Lab, machine: &str, counter: &str) {
    wait::until_true(&format!("{counter} on {machine}"), CONVERGED, || dropped(lab, machine, counter) > 0)
        .unwrap();
}

/// A counter of the kernel's TCP.
fn dropped(lab: &Lab, machine: &str, counter: &str) -> u64 {
    let text = lab.run(machine, "cat /proc/net/netstat").unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let value = |pair: &[Vec<&str>]| {
        let column = pair[0].iter().position(|column| *column == counter)?;
        pair[1][column].parse().ok()
    };
    lines.chunks_exact(2).find_map(value).unwrap()
}
