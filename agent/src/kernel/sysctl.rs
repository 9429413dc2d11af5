//! The node's own sysctls: forwarding, and even use of multipath routes.
//!
//! In: where they are. Out: what could not be made so, as problems. A value that is right already is not written, so an agent
//! without the right to write works on a node that is prepared.

use std::fs;
use std::io;
use std::path::Path;

use tracing::info;

use crate::watch::Problem;

/// Value wanted, and why.
const WANTED: [(&str, &str, &str); 4] = [
    ("ipv4/ip_forward", "1", "pods are reached through this node"),
    ("ipv6/conf/all/forwarding", "1", "pods are reached through this node"),
    ("ipv4/fib_multipath_hash_policy", "1", "flows, not hosts, are spread over next hops"),
    ("ipv6/fib_multipath_hash_policy", "1", "flows, not hosts, are spread over next hops"),
];

/// Checks and sets. The families that this kernel lacks are passed over.
pub fn ensure(root: &Path) -> Vec<Problem> {
    keep_router_advertisements(root);
    let mut problems = Vec::new();
    for (name, value, why) in WANTED {
        problems.extend(set(root, name, value, why));
    }
    // Strict reverse-path filtering drops what a second uplink receives; a link's own value may be stricter.
    if read(root, "ipv4/conf/all/rp_filter").is_ok_and(|value| value == "1") {
        problems.extend(set(root, "ipv4/conf/all/rp_filter", "2", "answers may come by another uplink"));
    }
    problems
}

/// A forwarding node ignores router advertisements unless told otherwise, and would lose its default route.
fn keep_router_advertisements(root: &Path) {
    if read(root, "ipv6/conf/all/forwarding").is_ok_and(|value| value == "1") {
        return;
    }
    let Ok(links) = fs::read_dir(root.join("ipv6/conf")) else { return };
    for link in links.flatten() {
        let name = format!("ipv6/conf/{}/accept_ra", link.file_name().to_string_lossy());
        if read(root, &name).is_ok_and(|value| value == "1") {
            // If it cannot be written, forwarding cannot either, and that is reported.
            let _ = fs::write(root.join(&name), "2");
        }
    }
}

fn set(root: &Path, name: &str, value: &str, why: &str) -> Option<Problem> {
    match read(root, name) {
        Ok(present) if present == value => return None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Ok(_) | Err(_) => {}
    }
    match fs::write(root.join(name), value) {
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

fn read(root: &Path, name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(root.join(name))?.trim().to_owned())
}
