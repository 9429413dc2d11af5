//! A [`Router`] in the language of FRR: `bgpd`, with `zebra` to install what it learns.

use std::fmt::Write;

use super::{Router, RouterPeer};

pub(super) fn config(router: &Router) -> String {
    let Router { asn, id, hold_seconds, .. } = *router;
    let mut text = format!(
        "! {name}
frr defaults datacenter
hostname {name}
log stdout
!
router bgp {asn}
 bgp router-id {id}
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 bgp bestpath as-path multipath-relax
 timers bgp {keepalive} {hold_seconds}
",
        name = router.name,
        keepalive = hold_seconds / 3,
    );
    for RouterPeer { name, address, asn, .. } in &router.peers {
        line(&mut text, &format!(" neighbor {address} remote-as {asn}"));
        line(&mut text, &format!(" neighbor {address} description {name}"));
        line(&mut text, &format!(" neighbor {address} timers connect 1"));
    }
    family(&mut text, "ipv4", router.peers.iter().filter(|peer| peer.ipv4()));
    family(&mut text, "ipv6", router.peers.iter().filter(|peer| peer.ipv6()));
    text
}

fn family<'a>(text: &mut String, family: &str, peers: impl Iterator<Item = &'a RouterPeer>) {
    line(text, &format!(" !\n address-family {family} unicast\n  redistribute connected\n  maximum-paths 8"));
    for peer in peers {
        line(text, &format!("  neighbor {} activate", peer.address));
        if peer.replace_as {
            line(text, &format!("  neighbor {} as-override", peer.address));
        }
    }
    line(text, " exit-address-family");
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a String takes all");
}

#[cfg(test)]
mod tests {
    use super::super::tests::tor;
    use crate::lab::spec::RouterKind;

    #[test]
    fn a_peer_is_activated_in_the_families_of_its_session() {
        let text = super::config(&tor(RouterKind::Frr));
        let (_, families) = text.split_once("address-family ipv4 unicast").unwrap();
        let (v4, v6) = families.split_once("address-family ipv6 unicast").unwrap();
        assert!(v4.contains("neighbor 10.0.20.1 activate") && !v6.contains("neighbor 10.0.20.1 activate"));
        assert!(v6.contains("neighbor fd00:1:0:20::1 activate") && !v4.contains("fd00"));
        for family in [v4, v6] {
            assert!(
                family.contains("neighbor 10.1.20.11 activate\n  neighbor 10.1.20.11 as-override"),
                "{text}"
            );
        }
    }
}
