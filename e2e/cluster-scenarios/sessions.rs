//! How many sessions of a router are up, as its BGPPeer says.

use std::time::Duration;

use weft_e2e::cluster::Cluster;
use weft_e2e::wait;

/// The agent's word about its node, a look at all of them, and the write.
const TOLD: Duration = Duration::from_secs(120);

pub(crate) fn are_counted_on_their_peer(cluster: &Cluster) {
    let lab = cluster.lab();
    let tor = &lab.plan().tors[0];
    let (tor, rack) = (tor.name.as_str(), tor.rack);
    let nodes: Vec<_> = lab.plan().nodes.iter().filter(|node| node.rack == rack).collect();
    let all = nodes.len();
    until_established(cluster, tor, &format!("{all}/{all}"));

    // The lab's sessions of one family are named after it.
    lab.set_session(tor, &nodes[0].name, false, false).unwrap();
    until_established(cluster, tor, &format!("{}/{all}", all - 1));
    lab.set_session(tor, &nodes[0].name, false, true).unwrap();
    until_established(cluster, tor, &format!("{all}/{all}"));
}

fn until_established(cluster: &Cluster, tor: &str, count: &str) {
    let peer = format!("bgppeer/{tor}-ipv4");
    wait::until(&format!("{peer}: {count} established"), TOLD, || {
        let object = cluster.get(&[&peer])?;
        let accepted = object["status"]["conditions"].as_array().is_some_and(|all| !all.is_empty());
        anyhow::ensure!(accepted, "the conditions are gone: {object}");
        Ok((object["status"]["sessionsEstablished"] == count).then_some(()))
    })
    .unwrap();
}
