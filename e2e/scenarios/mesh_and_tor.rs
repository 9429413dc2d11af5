//! iBGP among a rack's nodes and eBGP with its router, together: neighbours are reached directly, other racks by the
//! router, and losing the one does not touch the other.

use weft_e2e::lab::{Lab, LabSpec, OUTSIDE, Pod};
use weft_e2e::net::{Proto, Sniffer, until_verdict};

use crate::story::{CONVERGED, at, cluster, cut_off, reaches, server};

#[test]
fn neighbours_are_reached_directly_and_other_racks_by_the_router() {
    let lab = cluster("mesh", &LabSpec::default());
    let a = server(&lab, "default/a", "node1", &[]);
    let near = server(&lab, "default/near", "node2", &[]);
    let far = server(&lab, "default/far", "node3", &[]);
    reaches(a.namespace(), &near);
    reaches(a.namespace(), &far);

    assert!(routed_by(&lab, "tor1", &a, &far) > 0);
    assert_eq!(routed_by(&lab, "tor1", &a, &near), 0);

    // The router's sessions with its nodes end; as a switch it goes on.
    for session in ["node1_v4", "node1_v6", "node2_v4", "node2_v6"] {
        lab.ask("tor1", &format!("disable {session}")).unwrap();
    }
    cut_off(&lab.namespace(OUTSIDE).unwrap(), &a);
    cut_off(a.namespace(), &far);
    reaches(a.namespace(), &near);

    lab.ask("tor1", "enable all").unwrap();
    reaches(a.namespace(), &far);
    reaches(far.namespace(), &a);
}

/// Packets of one exchange that the router took in to route, as opposed to those that its bridge passed on.
fn routed_by(lab: &Lab, tor: &str, from: &Pod, to: &Pod) -> usize {
    let bridge = lab.run(tor, "ip -o link show rack").unwrap();
    let bridge: usize = bridge.split(':').next().unwrap().parse().unwrap();
    let sniffer = Sniffer::start(&lab.namespace(tor).unwrap()).unwrap();
    for ip in to.addresses() {
        for proto in Proto::ALL {
            until_verdict(from.namespace(), proto, at(*ip), true, CONVERGED).unwrap();
        }
    }
    sniffer.seen(|packet| packet.ifindex == bridge && to.addresses().contains(&packet.to)).len()
}
