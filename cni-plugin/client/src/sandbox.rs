//! The pod's network namespace, as two descriptors: itself, and a netlink socket that lives in it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::sys::stat::{FileStat, fstat, stat};
use weft_pods::cni::CniError;

pub(crate) struct Sandbox {
    pub(crate) netns: File,
    pub(crate) socket: OwnedFd,
}

/// Enters the namespace, for good: all that this process does afterwards works from anywhere.
pub(crate) fn enter(path: &str, allow_own: bool) -> Result<Sandbox, CniError> {
    let refuse = |reason: String| CniError::Netns { path: path.to_owned(), reason };
    let netns = File::open(path).map_err(|error| refuse(error.to_string()))?;
    let own = stat("/proc/self/ns/net").map_err(|error| refuse(error.to_string()))?;
    let target = fstat(netns.as_fd()).map_err(|error| refuse(error.to_string()))?;
    if same(&own, &target) && !allow_own {
        return Err(refuse("it is the plugin's own".into()));
    }
    setns(&netns, CloneFlags::CLONE_NEWNET).map_err(|error| refuse(error.to_string()))?;
    enable_ipv6();
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)
            .map_err(|error| refuse(format!("no netlink socket: {error}")))?;
    Ok(Sandbox { netns, socket })
}

/// A host that has IPv6 off by default hands that down to its namespaces, where it would refuse the pod's address. For
/// the interface to come; best effort, as a kernel may have no IPv6 at all.
fn enable_ipv6() {
    for scope in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
        if std::fs::read(&path).is_ok_and(|value| value.starts_with(b"1")) {
            let _ = std::fs::write(&path, "0");
        }
    }
}

fn same(a: &FileStat, b: &FileStat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}
