//! A [`Router`] in the language of BIRD 2.

use std::fmt::Write;

use super::{Router, RouterPeer};

pub(super) fn config(router: &Router) -> String {
    let Router { asn, id, hold_seconds, .. } = *router;
    let mut text = format!(
        r#"# {name}
log stderr all;
router id {id};

protocol device {{ scan time 1; }}
protocol direct connected {{ ipv4; ipv6; }}
protocol kernel kernel4 {{ ipv4 {{ import none; export where source = RTS_BGP; }}; merge paths yes; }}
protocol kernel kernel6 {{ ipv6 {{ import none; export where source = RTS_BGP; }}; merge paths yes; }}

template bgp fabric {{
  local as {asn};
  hold time {hold_seconds};
  connect delay time 1;
  connect retry time 1;
  error wait time 1, 4;
}}
"#,
        name = router.name,
    );
    for peer in &router.peers {
        protocol(&mut text, peer);
    }
    text
}

fn protocol(text: &mut String, peer: &RouterPeer) {
    let (name, address, asn) = (&peer.name, peer.address, peer.asn);
    let export = if peer.replace_as {
        // BIRD has no as-override: taking the peer's AS out of the path comes to the same.
        format!("export filter {{ bgp_path.delete({asn}); accept; }}")
    } else {
        "export all".to_owned()
    };
    let mut families = String::new();
    for family in
        [("ipv4", peer.ipv4()), ("ipv6", peer.ipv6())].into_iter().filter_map(|(name, on)| on.then_some(name))
    {
        writeln!(families, "  {family} {{ import all; {export}; }};").expect("a String takes all");
    }
    write!(text, "\nprotocol bgp {name} from fabric {{\n  neighbor {address} as {asn};\n{families}}}\n")
        .expect("a String takes all");
}

#[cfg(test)]
mod tests {
    use super::super::tests::tor;
    use crate::lab::spec::RouterKind;

    #[test]
    fn a_peer_is_a_protocol_with_the_families_of_its_session() {
        let text = super::config(&tor(RouterKind::Bird));
        let spine = "protocol bgp spine_v6 from fabric {\n  neighbor fd00:1:0:20::1 as 65000;\n  ipv6 { import all; export all; };\n}\n";
        assert!(text.contains(spine), "{text}");
        assert!(text.contains(
            "  ipv4 { import all; export filter { bgp_path.delete(64513); accept; }; };\n  ipv6 {"
        ));
    }
}
