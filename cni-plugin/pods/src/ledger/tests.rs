use super::*;
use crate::attachment::{Addresses, Mac, NetnsId, Transport};

pub(crate) fn attachment(container_id: &str, v4: [u8; 4]) -> Attachment {
    let addresses = Addresses { v4: Some(v4.into()), v6: None };
    let id = AttachmentId { container_id: container_id.to_owned(), ifname: "eth0".to_owned() };
    Attachment {
        link: crate::mark::name(&id, 0),
        id,
        ifindex: 0,
        pod: None,
        mac: Mac::of_pod(&addresses),
        addresses,
        netns: NetnsId(4_026_532_000),
        mtu: 1500,
        ports: Vec::new(),
    }
}

fn events(id: &AttachmentId, attachment: &Attachment) -> [Record; 4] {
    [
        Record::Alloc { attachment: attachment.clone() },
        Record::Commit { id: id.clone(), ifindex: 7 },
        Record::Release { id: id.clone() },
        Record::Free { id: id.clone(), at: Duration::from_secs(9) },
    ]
}

#[test]
fn an_attachment_lives_from_allocation_to_the_end_of_its_link() {
    let a = attachment("a", [10, 0, 0, 1]);
    let mut ledger = Ledger::default();
    let phases = events(&a.id, &a).map(|event| {
        ledger.apply(&event).unwrap();
        ledger.entry(&a.id).map(|entry| entry.phase)
    });
    let dying = Phase::Dying { was_attached: true };
    assert_eq!(phases, [Some(Phase::Wiring), Some(Phase::Attached), Some(dying), None]);
    assert_eq!(ledger.ipam().cooling(), [("10.0.0.1".parse().unwrap(), Duration::from_secs(9))]);
}

#[test]
fn an_address_cannot_be_in_two_records() {
    let mut ledger = Ledger::default();
    ledger.apply(&Record::Alloc { attachment: attachment("a", [10, 0, 0, 1]) }).unwrap();
    let before = ledger.clone();
    let second = ledger.apply(&Record::Alloc { attachment: attachment("b", [10, 0, 0, 1]) });
    assert!(matches!(second, Err(LedgerError::Ipam(IpamError::InUse(_)))));
    assert_eq!(ledger, before);
}

#[test]
fn a_host_port_is_taken_until_the_link_of_its_pod_is_gone() {
    let port = PortMapping { transport: Transport::Tcp, host_port: 80, container_port: 8080, host_ip: None };
    let [a, b] = [("a", 1), ("b", 2)]
        .map(|(name, last)| Attachment { ports: vec![port], ..attachment(name, [10, 0, 0, last]) });
    let mut ledger = Ledger::default();
    let [alloc, commit, release, free] = events(&a.id, &a);
    let taken = Err(LedgerError::PortTaken { port, owner: a.id.clone() });
    for event in [alloc, commit, release] {
        ledger.apply(&event).unwrap();
        assert_eq!(ledger.apply(&Record::Alloc { attachment: b.clone() }), taken);
    }
    ledger.apply(&free).unwrap();
    ledger.apply(&Record::Alloc { attachment: b }).unwrap();
}

#[test]
fn an_allocation_that_was_never_attached_does_not_cool() {
    let a = attachment("a", [10, 0, 0, 1]);
    let mut ledger = Ledger::default();
    let [alloc, _, release, free] = events(&a.id, &a);
    for event in [alloc, release, free] {
        ledger.apply(&event).unwrap();
    }
    assert_eq!(ledger, Ledger::default());
}

#[test]
fn a_snapshot_leads_to_the_same_ledger_from_every_phase() {
    for steps in 1..=4 {
        let a = attachment("a", [10, 0, 0, 1]);
        let mut ledger = Ledger::default();
        events(&a.id, &a).iter().take(steps).for_each(|event| ledger.apply(event).unwrap());
        let mut copy = Ledger::default();
        ledger.snapshot().iter().for_each(|event| copy.apply(event).unwrap());
        assert_eq!(copy, ledger, "after {steps} steps");
    }
}

#[test]
fn whoever_has_anything_of_an_attachment_is_in_its_way() {
    let port = PortMapping { transport: Transport::Tcp, host_port: 80, container_port: 8080, host_ip: None };
    let old = Attachment { ports: vec![port], ..attachment("old", [10, 0, 0, 1]) };
    let mut ledger = Ledger::default();
    ledger.apply(&Record::Alloc { attachment: old.clone() }).unwrap();
    ledger.apply(&Record::Alloc { attachment: attachment("other", [10, 0, 0, 2]) }).unwrap();
    let new = attachment("new", [10, 0, 0, 3]);
    assert_eq!(ledger.in_the_way_of(&new), []);
    for new in [
        Attachment { id: old.id.clone(), ..new.clone() },
        Attachment { link: old.link.clone(), ..new.clone() },
        Attachment { addresses: old.addresses, ..new.clone() },
        Attachment { ports: vec![PortMapping { container_port: 1, ..port }], ..new.clone() },
    ] {
        assert_eq!(ledger.in_the_way_of(&new), std::slice::from_ref(&old.id), "{new:?}");
    }
}

#[test]
fn what_is_picked_comes_from_the_pools() {
    let mut ledger = Ledger::default();
    assert_eq!(ledger.pick(Duration::ZERO), Err(IpamError::NoPools));
    ledger.ipam_mut().set_pools(&["10.0.0.0/24".parse().unwrap()], &[]);
    assert_eq!(ledger.pick(Duration::ZERO).unwrap().v4, Some([10, 0, 0, 1].into()));
}
