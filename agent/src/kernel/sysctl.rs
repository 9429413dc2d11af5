//! Sysctls: the node's own (forwarding, and even use of multipath routes), and those of pods' links.
//!
//! In: where they are, as a container's own `/proc/sys` is read-only. Out: what could not be made so, as problems. A value
//! that is right already is not written, so an agent without the right to write works on a node that is prepared.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Once;

use tracing::{info, warn};

use weft_api::control::Problem;

/// Value wanted, and why.
const WANTED: [(&str, &str, &str); 4] = [
    ("ipv4/ip_forward", "1", "pods are reached through this node"),
    ("ipv6/conf/all/forwarding", "1", "pods are reached through this node"),
    ("ipv4/fib_multipath_hash_policy", "1", "flows, not hosts, are spread over next hops"),
    ("ipv6/fib_multipath_hash_policy", "1", "flows, not hosts, are spread over next hops"),
];

/// Of the host side of each pod's link. A node that forwards ignores advertisements unless its administrator wants
/// them, and the ruleset checks sources, in both families: these stand behind both. The kernel takes the larger
/// `rp_filter` of the link and of `all`, so where that is 2 the ruleset stands alone.
const OF_POD_LINKS: [(&str, &str, &str, &str); 2] = [
    ("ipv6", "accept_ra", "0", "a pod is no router"),
    ("ipv4", "rp_filter", "1", "a pod sends from its own address only"),
];

/// Checks and sets. The families that this kernel lacks are passed over.
pub fn ensure(root: &Path) -> Vec<Problem> {
    // Every kernel has IPv4: without it, this is some other directory, and all below would be passed over.
    if let Err(error) = fs::metadata(root.join("ipv4/conf")) {
        let reason = format!("is not where the node's sysctls are: {error}");
        return vec![Problem { object: format!("directory {}", root.display()), reason }];
    }
    keep_router_advertisements(root);
    let mut problems = Vec::new();
    for (name, value, why) in WANTED {
        problems.extend(set(root, name, value, why));
    }
    // Strict reverse-path filtering drops what a second uplink receives. The kernel takes the larger of this and of a
    // link's own value.
    if read(root, "ipv4/conf/all/rp_filter").is_ok_and(|value| value == "1") {
        problems.extend(set(root, "ipv4/conf/all/rp_filter", "2", "answers may come by another uplink"));
    }
    problems
}

/// Sets those of pods' links.
#[derive(Debug)]
pub struct LinkSysctls {
    root: PathBuf,
    complained: Once,
}

impl LinkSysctls {
    pub fn new(root: PathBuf) -> Self {
        Self { root, complained: Once::new() }
    }

    /// A pod is wired without them, but not in silence: the first failure is logged, as the others have the same cause.
    pub fn harden(&self, link: &str) {
        if let Err(Problem { object, reason }) = self.try_harden(link) {
            self.complained.call_once(|| {
                warn!(link, object, error = reason, "sysctls of pod links not set; said once");
            });
        }
    }

    /// A family that this kernel lacks, and a link that has just gone, are passed over.
    fn try_harden(&self, link: &str) -> Result<(), Problem> {
        for (family, name, value, why) in OF_POD_LINKS {
            let name = format!("{family}/conf/{link}/{name}");
            match fs::write(self.root.join(&name), value) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(refused(&name, value, why, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
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
        Err(error) => Some(refused(name, value, why, &error)),
    }
}

fn refused(name: &str, value: &str, why: &str, error: &io::Error) -> Problem {
    Problem {
        object: format!("sysctl net/{name}"),
        reason: format!("must be {value} ({why}) and cannot be set: {error}"),
    }
}

fn read(root: &Path, name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(root.join(name))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{in_netns, ip};

    #[test]
    fn a_wrong_directory_is_a_problem_and_not_a_kernel_without_sysctls() {
        let problems = ensure(Path::new("/nowhere/net"));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].object, "directory /nowhere/net");
    }

    #[test]
    fn a_sysctl_that_cannot_be_written_is_named() {
        in_netns(async || {
            ip("link add weft0 type veth peer name pod0");
            // What a container sees: the kernel's own files, but not to be written.
            let root = std::env::temp_dir().join(format!("weft-sysctl-{}", std::process::id()));
            let unwritable = root.join("ipv6/conf/weft0/accept_ra");
            fs::create_dir_all(&unwritable).unwrap();
            let refused = LinkSysctls::new(root.clone()).try_harden("weft0").unwrap_err();
            fs::remove_dir_all(&root).unwrap();
            assert_eq!(refused.object, "sysctl net/ipv6/conf/weft0/accept_ra");
            assert!(
                refused.reason.starts_with("must be 0 (a pod is no router) and cannot be set: "),
                "{refused:?}"
            );
            assert_eq!(LinkSysctls::new("/proc/sys/net".into()).try_harden("weft0"), Ok(()));
        });
    }
}
