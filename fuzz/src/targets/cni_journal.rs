//! The journal of attachments, as a crash, a full disk or a hand may have left it.
//!
//! Properties: nothing panics; what was read can be written again and then reads the same, undamaged; a journal that is
//! cut short says nothing that the whole one does not say.

use weft_pods::attachment::{
    Addresses, Attachment, AttachmentId, Mac, NetnsId, PodRef, PortMapping, Transport,
};
use weft_pods::journal::{compact, encode, replay};
use weft_pods::ledger::Ledger;
use weft_pods::record::Record;

const BOOT: &str = "0b5f2c0e-8d2a-4b61-9d6c-0a1b2c3d4e5f";

pub fn run(data: &[u8]) {
    let read = replay(data, BOOT);
    let again = replay(&compact(&read.ledger, BOOT), BOOT);
    assert!(!again.damaged, "what we wrote is damaged");
    assert_eq!(compact(&again.ledger, BOOT), compact(&read.ledger, BOOT));
}

fn attachment(number: u8) -> Attachment {
    let addresses = Addresses {
        v4: Some([10, 244, 1, number].into()),
        v6: Some(format!("fd00:10:244::{number}").parse().expect("an address")),
    };
    Attachment {
        id: AttachmentId { container_id: format!("c0ffee{number}"), ifname: "eth0".to_owned() },
        link: format!("weft{number:011x}"),
        ifindex: 7 + u32::from(number),
        pod: Some(PodRef {
            namespace: "default".to_owned(),
            name: format!("web-{number}"),
            uid: Some("5d7".to_owned()),
        }),
        addresses,
        mac: Mac::of_pod(&addresses),
        netns: NetnsId(u64::from(number)),
        mtu: 1500,
        ports: vec![PortMapping {
            transport: Transport::parse("tcp").expect("a protocol"),
            host_port: 8000 + u16::from(number),
            container_port: 80,
            host_ip: None,
        }],
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let header = compact(&Ledger::default(), BOOT);
    let id = |number| attachment(number).id;
    let at = std::time::Duration::from_millis(1500);
    let life = [
        Record::Alloc { attachment: attachment(1) },
        Record::Commit { id: id(1), ifindex: 8 },
        Record::Alloc { attachment: attachment(2) },
        Record::Release { id: id(1) },
        Record::Free { id: id(1), at },
        Record::Cool { address: [10, 244, 1, 9].into(), at },
        Record::Commit { id: id(2), ifindex: 9 },
    ];
    let lines: Vec<u8> = life.iter().flat_map(encode).collect();
    vec![header.clone(), [header, lines].concat()]
}
