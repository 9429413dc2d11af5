use super::*;
use crate::attachment::{Addresses, AttachmentId, NetnsId};

fn attachment() -> Attachment {
    let addresses = Addresses { v4: Some(Ipv4Addr::new(10, 0, 0, 5)), v6: Some("fd00::5".parse().unwrap()) };
    Attachment {
        id: AttachmentId { container_id: "c1".to_owned(), ifname: "eth0".to_owned() },
        link: "weft0123456789a".to_owned(),
        ifindex: 7,
        pod: None,
        mac: Mac::of_pod(&addresses),
        addresses,
        netns: NetnsId(1),
        mtu: 1500,
        ports: Vec::new(),
    }
}

fn pretty(document: &str) -> String {
    serde_json::to_string_pretty(&serde_json::from_str::<Value>(document).unwrap()).unwrap()
}

#[test]
fn each_version_gets_its_own_format() {
    for version in CniVersion::ALL {
        let result = pretty(&add(version, &attachment(), "/run/netns/c1"));
        insta::assert_snapshot!(format!("add_{version}"), result);
    }
}

#[test]
fn version_names_all_that_is_supported() {
    insta::assert_snapshot!(super::version(CniVersion::V1_0_0), @r#"{"cniVersion":"1.0.0","supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}"#);
}
