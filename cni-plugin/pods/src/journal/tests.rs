use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::attachment::{Attachment, PortMapping, Transport};
use crate::ledger::tests::attachment;

const BOOT: &str = "5b2c9f0e-0000-4000-8000-000000000000";

/// The journal of `records`, and the ledger after each of its lines.
fn write(records: &[Record]) -> (Vec<u8>, Vec<(usize, Ledger)>) {
    let mut ledger = Ledger::default();
    let mut bytes = compact(&ledger, BOOT);
    let mut states = vec![(bytes.len(), ledger.clone())];
    for record in records {
        if ledger.apply(record).is_ok() {
            bytes.extend(encode(record));
            states.push((bytes.len(), ledger.clone()));
        }
    }
    (bytes, states)
}

fn lives(count: u8) -> Vec<Record> {
    let life = |n: u8| {
        let attachment = attachment(&format!("c{n}"), [10, 0, 0, n]);
        let id = attachment.id.clone();
        [
            Record::Alloc { attachment },
            Record::Commit { id: id.clone(), ifindex: n.into() },
            Record::Release { id: id.clone() },
            Record::Free { id, at: Duration::from_secs(n.into()) },
        ]
    };
    (1..=count).flat_map(life).collect()
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    // Any order: the ledger refuses what does not fit, and only what fits is written.
    Just(lives(6)).prop_shuffle()
}

#[test]
fn the_checksum_is_crc32c() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283); // RFC 3720 appendix B.4's polynomial, the usual check value.
}

/// An agent is replaced by its successor while pods live.
#[test]
fn a_record_of_the_time_before_host_ports_is_read() {
    let before = r#"{"op":"alloc","attachment":{"id":{"container_id":"c1","ifname":"eth0"},"link":"weft0123456789a","ifindex":0,"pod":null,"addresses":{"v4":"10.0.0.1"},"mac":[14,87,10,0,0,1],"netns":7,"mtu":1500}}"#;
    let Record::Alloc { attachment } = serde_json::from_str(before).unwrap() else { panic!("an allocation") };
    assert_eq!(attachment.ports, []);
    assert_eq!(serde_json::to_string(&Record::Alloc { attachment }).unwrap(), before);
}

#[test]
fn host_ports_are_in_the_journal() {
    let host_ip = Some("2001:db8::1".parse().unwrap());
    let port = PortMapping { transport: Transport::Sctp, host_port: 80, container_port: 8080, host_ip };
    let attachment = Attachment { ports: vec![port], ..attachment("c1", [10, 0, 0, 1]) };
    let (bytes, states) = write(&[Record::Alloc { attachment }]);
    assert_eq!(replay(&bytes, BOOT).ledger, states[1].1);
}

#[test]
fn a_journal_of_another_boot_says_nothing() {
    let (bytes, _) = write(&lives(1)[..2]);
    assert_eq!(replay(&bytes, "another boot"), Replay { ledger: Ledger::default(), damaged: false });
}

#[test]
fn no_journal_is_an_empty_one() {
    assert_eq!(replay(b"", BOOT), Replay { ledger: Ledger::default(), damaged: false });
}

#[test]
fn a_damaged_header_loses_all_and_is_reported() {
    let (mut bytes, _) = write(&lives(1)[..2]);
    bytes[12] ^= 1;
    assert_eq!(replay(&bytes, BOOT), Replay { ledger: Ledger::default(), damaged: true });
}

#[test]
fn lines_after_a_damaged_one_are_read() {
    let records = [lives(2)[0].clone(), lives(2)[4].clone()];
    let (mut bytes, states) = write(&records);
    bytes[states[0].0 + 20] ^= 1;
    let replay = replay(&bytes, BOOT);
    assert!(replay.damaged);
    let left: Vec<_> =
        replay.ledger.entries().map(|entry| entry.attachment.id.container_id.as_str()).collect();
    assert_eq!(left, ["c2"]);
}

proptest! {
    #[test]
    fn a_journal_cut_anywhere_says_what_its_whole_lines_say(records in records(), cut in any::<prop::sample::Index>()) {
        let (bytes, states) = write(&records);
        let length = cut.index(bytes.len() + 1);
        let (_, ledger) = states.iter().rev().find(|(end, _)| *end <= length).cloned().unwrap_or_default();
        prop_assert_eq!(replay(&bytes[..length], BOOT), Replay { ledger, damaged: false });
    }

    #[test]
    fn a_flipped_bit_never_gives_one_address_twice(records in records(), bit in any::<prop::sample::Index>()) {
        let (mut bytes, _) = write(&records);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let ledger = replay(&bytes, BOOT).ledger;
        let mut addresses: Vec<_> = ledger.entries().flat_map(|entry| entry.attachment.addresses.iter()).collect();
        let count = addresses.len();
        addresses.sort();
        addresses.dedup();
        prop_assert_eq!(addresses.len(), count);
    }

    #[test]
    fn compaction_changes_nothing_but_the_length(records in records()) {
        let (bytes, states) = write(&records);
        let ledger = &states.last().unwrap().1;
        let compacted = compact(ledger, BOOT);
        prop_assert!(compacted.len() <= bytes.len() + 200 * ledger.ipam().cooling().len());
        prop_assert_eq!(&replay(&compacted, BOOT).ledger, ledger);
    }
}
