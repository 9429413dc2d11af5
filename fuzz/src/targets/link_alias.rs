//! The alias of a pod's link and its further names, a line each: the journal's second copy. Anybody with CAP_NET_ADMIN can
//! write them.
//!
//! Property: an attachment that was read from an alias and fits into one again is read back the same.

use weft_pods::mark::{alias, alternative_names, attachment_of};

pub const WORDS: &[&str] = &[
    "weft/1",
    " cid=",
    " if=",
    " ip=",
    " netns=",
    " pod=",
    " ports=",
    "tcp-80-80",
    "-::1",
    "10.0.0.1",
    ",",
    "=",
];
const LONGEST: usize = 255;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n').map(str::to_owned);
    let (first, names) = (lines.next().unwrap_or_default(), lines.collect::<Vec<_>>());
    let read = |alias: &str, names: &[String]| attachment_of("weft0123456789a", 7, 1500, alias, names);
    let Some(attachment) = read(&first, &names) else { return };
    let again = alias(&attachment);
    if again.len() <= LONGEST {
        let again = read(&again, &alternative_names(&attachment)).expect("ours");
        assert_eq!((again.id, again.addresses), (attachment.id, attachment.addresses));
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    [
        "weft/1 cid=c0ffee if=eth0 ip=10.244.1.7,fd00::7 netns=4026532001 pod=default/web-0 ports=tcp-8080-80,udp-53-53-192.0.2.1",
        "weft/1 cid=c0ffee if=eth0 ip=fd00::7 netns=1",
        "weft/1 cid=c0ffee if=eth0 ip=fd00::7 netns=1\nweft0123456789a-0-default_we\nweft0123456789a-1-b-0",
        "eth0 of somebody else",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
