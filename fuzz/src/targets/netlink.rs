//! Datagrams of rtnetlink: routes, links, addresses and errors.
//!
//! Property: nothing panics, the walk ends, and what is refused says why.

use weft_agent::kernel::rtnl::parse;

pub fn run(data: &[u8]) {
    if let Err(error) = parse(data) {
        assert!(!error.to_string().is_empty());
    }
}

/// A link, a route and an error, as little of each as has their shape.
pub fn seeds() -> Vec<Vec<u8>> {
    let message = |kind: u16, payload: &[u8]| {
        let length = u32::try_from(16 + payload.len()).expect("some 40 octets");
        [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], payload].concat()
    };
    let link = message(16, &[&[0; 16][..], &[9, 0, 3, 0], b"eth0\0\0\0\0"].concat());
    let route =
        message(24, &[&[2, 24, 0, 0, 254, 87, 0, 1, 0, 0, 0, 0][..], &[8, 0, 1, 0, 10, 1, 2, 0]].concat());
    let error = message(2, &[&(-17_i32).to_ne_bytes()[..], &[0; 16]].concat());
    vec![link.clone(), route.clone(), [link, route, error].concat()]
}
