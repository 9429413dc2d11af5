use proptest::prelude::*;

use super::*;

fn id(container_id: &str, ifname: &str) -> AttachmentId {
    AttachmentId { container_id: container_id.to_owned(), ifname: ifname.to_owned() }
}

#[test]
fn names_never_change_between_releases() {
    // A fresh agent finds the links of the one before it by these.
    assert_eq!(name(&id("0123456789abcdef", "eth0"), 0), "weftd5272a0babc");
    assert_eq!(name(&id("0123456789abcdef", "eth0"), 1), "weftd5272b0babc");
}

#[test]
fn only_names_of_ours_are_ours() {
    assert!(is_ours("weft0123456789a"));
    for other in ["weft", "weft0123456789", "weft0123456789ab", "weft0123456789A", "veth0123456789a"] {
        assert!(!is_ours(other), "{other}");
    }
}

fn attachment() -> impl Strategy<Value = Attachment> {
    let id = ("[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", "[a-z0-9@=.-]{1,14}x");
    let addresses = prop_oneof![
        any::<[u8; 4]>().prop_map(|v4| (Some(v4), None)),
        any::<[u8; 16]>().prop_map(|v6| (None, Some(v6))),
        (any::<[u8; 4]>(), any::<[u8; 16]>()).prop_map(|(v4, v6)| (Some(v4), Some(v6))),
    ];
    let pod = prop::option::of(("[a-z0-9-]{1,63}", "[a-z0-9.-]{1,253}"));
    let transport = prop_oneof![Just(Transport::Tcp), Just(Transport::Udp), Just(Transport::Sctp)];
    let port = (transport, any::<u16>(), any::<u16>(), any::<Option<IpAddr>>());
    let port = port.prop_map(|(transport, host_port, container_port, host_ip)| PortMapping {
        transport,
        host_port,
        container_port,
        host_ip,
    });
    let ports = prop::collection::vec(port, 0..20);
    (id, addresses, pod, any::<u64>(), ports).prop_map(
        |((container_id, ifname), (v4, v6), pod, netns, ports)| {
            let id = AttachmentId { container_id, ifname };
            let addresses = Addresses { v4: v4.map(Into::into), v6: v6.map(Into::into) };
            Attachment {
                link: name(&id, 0),
                id,
                ifindex: 5,
                pod: pod.map(|(namespace, name)| PodRef { namespace, name, uid: None }),
                mac: Mac::of_pod(&addresses),
                addresses,
                netns: NetnsId(netns),
                mtu: 1500,
                ports,
            }
        },
    )
}

/// Such an attachment must not be taken for one without a pod, which no policy selects.
#[test]
fn a_pod_whose_name_is_lost_is_unknown_and_not_nameless() {
    for pod in ["", " pod=demo"] {
        let alias = format!("weft/1 cid=c1 if=eth0 ip=10.0.0.1 netns=1{pod}");
        let read = attachment_of("weft0123456789a", 1, 1500, &alias, &[]).unwrap();
        assert!(read.pod.is_some_and(|pod| pod.is_unknown()), "{alias}");
    }
    let pod = |alias: &str| attachment_of("weft0123456789a", 1, 1500, alias, &[]).unwrap().pod;
    assert_eq!(pod("weft/1 cid=c1 if=eth0 ip=10.0.0.1 netns=1 pod=none"), None);
    assert!(!pod("weft/1 cid=c1 if=eth0 ip=10.0.0.1 netns=1 pod=demo/web").unwrap().is_unknown());
}

proptest! {
    #[test]
    fn a_link_alone_says_what_its_attachment_is(attachment in attachment()) {
        let (alias, mut names) = (alias(&attachment), alternative_names(&attachment));
        prop_assert!(alias.len() <= 255, "{} bytes", alias.len());
        prop_assert!(names.iter().all(|name| name.len() <= 127), "{names:?}");
        // The kernel keeps them in no order, and others may have named the link too.
        names.reverse();
        names.push("uplink".to_owned());
        let mut read =
            attachment_of(&attachment.link, attachment.ifindex, attachment.mtu, &alias, &names).unwrap();
        // As many as there is room for.
        prop_assert!(attachment.ports.starts_with(&read.ports));
        if let Some(next) = attachment.ports.get(read.ports.len()) {
            let separator = if read.ports.is_empty() { " ports=" } else { "," };
            prop_assert!(alias.len() + separator.len() + port_text(next).len() > 255, "{alias}");
        }
        read.ports.clone_from(&attachment.ports);
        prop_assert_eq!(read, attachment);
    }

    #[test]
    fn any_alias_can_be_read(text in "\\PC*", names: Vec<String>) {
        let names: Vec<_> = names.into_iter().map(|name| format!("weft0123456789a-{name}")).collect();
        let _ = attachment_of("weft0123456789a", 1, 1500, &text, &names);
        let _ = attachment_of("weft0123456789a", 1, 1500, &format!("weft/1 cid=c if=eth0 ip=10.0.0.1 netns=1 {text}"), &names);
    }
}
