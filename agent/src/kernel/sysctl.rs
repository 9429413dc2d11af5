//! The node's own sysctls: forwarding, and even use of multipath routes.
//!
//! In: nothing. Out: what could not be made so, as problems. A value that is right already is not written, so an agent
//! without the right to write works on a node that is prepared.

use std::fs;
use std::io;
use std::path::Path;

use tracing::info;

use crate::watch::Problem;

const ROOT: &str = "/proc/sys/net";

/// Value wanted, and why.
const WANTED: [(&str, &str, &str); 4] = [
    ("ipv4/ip_forward", "1", "pods are reached through this node"),
    ("ipv6/conf/all/forwarding", "1", "pods are reached through this node"),
    ("ipv4/fib_multipath_hash_policy", "1", "flows, not hosts, are spread over next hops"),
    ("ipv6/fib_multipath_hash_policy", "1", "flows, not hosts, are spread over next hops"),
];

/// Checks and sets. The families that this kernel lacks are passed over.
pub fn ensure() -> Vec<Problem> {
    keep_router_advertisements();
    let mut problems = Vec::new();
    for (name, value, why) in WANTED {
        problems.extend(set(name, value, why));
    }
    // Strict reverse-path filtering drops what a second uplink receives; a link's own value may be stricter.
    if read("ipv4/conf/all/rp_filter").is_ok_and(|value| value == "1") {
        problems.extend(set("ipv4/conf/all/rp_filter", "2", "answers may come by another uplink"));
    }
    problems
}

/// A forwarding node ignores router advertisements unless told otherwise, and would lose its default route.
fn keep_router_advertisements() {
    if read("ipv6/conf/all/forwarding").is_ok_and(|value| value == "1") {
        return;
    }
    let Ok(links) = fs::read_dir(Path::new(ROOT).join("ipv6/conf")) else { return };
    for link in links.flatten() {
        let name = format!("ipv6/conf/{}/accept_ra", link.file_name().to_string_lossy());
        if read(&name).is_ok_and(|value| value == "1") {
            // If it cannot be written, forwarding cannot either, and that is reported.
            let _ = fs::write(Path::new(ROOT).join(&name), "2");
        }
    }
}

fn set(name: &str, value: &str, why: &str) -> Option<Problem> {
    match read(name) {
        Ok(present) if present == value => return None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Ok(_) | Err(_) => {}
    }
    match fs::write(Path::new(ROOT).join(name), value) {
        Ok(()) => {
            info!(sysctl = name, value, "sysctl set");
            None
        }
        Err(error) => Some(Problem {
            object: format!("sysctl net/{name}"),
            reason: format!("must be {value} ({why}) and cannot be set: {error}"),
        }),
    }
}

fn read(name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(Path::new(ROOT).join(name))?.trim().to_owned())
}
