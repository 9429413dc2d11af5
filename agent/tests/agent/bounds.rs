//! Somebody opens connections to the agent's metrics port and never ends a request.

use std::io::Write;
use std::net::IpAddr;

use crate::machine::{Agent, connect, get, until};

const NODE: &str = "apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.1.0.0/24]}
status: {addresses: [{type: InternalIP, address: 127.0.0.1}]}
";
const ATTACKERS: usize = 300;
const HEADER: usize = 400 << 10;
const MAY_GROW_BY: usize = 30 << 20;

#[test]
fn connections_with_an_endless_header_cost_little_and_nobody_else_notices() {
    let agent = Agent::start("bounds", &[("store/node.yaml", NODE)], &["--datastore=dir:DIR/store"], &[]);
    let kubelet: IpAddr = [127, 0, 0, 2].into();
    until("ready", || get(connect(kubelet), "/readyz").contains("200 OK"));
    let before = agent.resident_bytes();

    let header = format!("GET /metrics HTTP/1.1\r\nx: {}", "y".repeat(HEADER));
    let mut held = Vec::new();
    for number in 0..ATTACKERS {
        let mut stream = connect([127, 0, 0, 1].into());
        // Those that are refused cannot say it all.
        let _ = stream.write_all(header.as_bytes());
        held.push(stream);
        if number % 50 == 0 {
            assert!(get(connect(kubelet), "/readyz").contains("200 OK"));
        }
    }
    let grown = agent.resident_bytes().saturating_sub(before);
    println!("{ATTACKERS} connections with {HEADER} bytes of header each: {} KiB more", grown >> 10);
    assert!(grown <= MAY_GROW_BY, "{grown} bytes more");
    assert!(get(connect(kubelet), "/metrics").contains("weft_ready 1"));
    assert!(agent.control("/v1/status").contains("\"ready\":true"));
}
