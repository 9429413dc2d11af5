//! What can be read off a node: rights, sysctls, ports, and who else looks after its network.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use crate::answer::Finding;

/// As in linux/capability.h.
const CAPABILITIES: [(&str, u32); 2] = [("NET_BIND_SERVICE", 10), ("NET_ADMIN", 12)];
const OUR_CONFLIST: &str = "05-weft.conflist";

pub(super) fn capabilities() -> Finding {
    const CHECK: &str = "capabilities";
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lacking = lacking(&status);
    if lacking.is_empty() {
        Finding::ok(CHECK, "NET_ADMIN, NET_BIND_SERVICE")
    } else {
        Finding::missing(CHECK, format!("no {}: run as root on the node itself", lacking.join(", ")))
    }
}

fn lacking(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default();
    CAPABILITIES.iter().filter(|(_, bit)| effective & (1 << bit) == 0).map(|(name, _)| *name).collect()
}

/// The agent sets them itself; here it counts whether it can.
pub(super) fn sysctls() -> Vec<Finding> {
    let mut findings = Vec::new();
    let forwarding = "/proc/sys/net/ipv4/ip_forward";
    findings.push(
        match (fs::read_to_string(forwarding), fs::OpenOptions::new().write(true).open(forwarding)) {
            (Ok(value), _) if value.trim() == "1" => Finding::ok("ip_forward", "on"),
            (Ok(_), Ok(_)) => Finding::ok("ip_forward", "off; the agent turns it on"),
            (Ok(_), Err(error)) => Finding::missing(
                "ip_forward",
                format!("off and not writable ({error}): set net.ipv4.ip_forward=1"),
            ),
            (Err(error), _) => Finding::missing("ip_forward", format!("{forwarding}: {error}")),
        },
    );
    findings.push(match fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6") {
        Ok(value) if value.trim() == "0" => Finding::ok("ipv6", "on"),
        _ => Finding::warning("ipv6", "off: dual stack and IPv4 routes with IPv6 next hops are not possible"),
    });
    findings
}

pub(super) fn port(check: &'static str, port: u16) -> Finding {
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
        Ok(_) => Finding::ok(check, format!("{port} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Finding::missing(check, format!("{port} is taken: `ss -ltnp sport = :{port}` says by whom"))
        }
        Err(error) => Finding::missing(check, format!("{port}: {error}")),
    }
}

/// A runtime takes the first file in order of name.
pub(super) fn other_networks(dir: &Path) -> Finding {
    const CHECK: &str = "other networks";
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Finding::ok(CHECK, "none"),
        Err(error) => return Finding::warning(CHECK, format!("{}: {error}", dir.display())),
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let (before, after) = split(names);
    match (before.as_slice(), after.as_slice()) {
        ([], []) => Finding::ok(CHECK, "none"),
        ([], after) => Finding::warning(
            CHECK,
            format!("{}: pods that run keep the other network until they are restarted", after.join(", ")),
        ),
        (before, _) => Finding::missing(
            CHECK,
            format!(
                "{} in {} would be taken before {OUR_CONFLIST}: remove it",
                before.join(", "),
                dir.display()
            ),
        ),
    }
}

/// Configurations that sort before ours, and behind.
fn split(names: impl Iterator<Item = String>) -> (Vec<String>, Vec<String>) {
    let is_configuration =
        |name: &String| [".conf", ".conflist", ".json"].iter().any(|ending| name.ends_with(ending));
    let mut names: Vec<_> = names
        .filter(|name| is_configuration(name) && name != OUR_CONFLIST && !name.starts_with('.'))
        .collect();
    names.sort();
    names.into_iter().partition(|name| name.as_str() < OUR_CONFLIST)
}

/// Both change or remove what they did not make, unless told not to.
pub(super) fn network_managers() -> Vec<Finding> {
    let mut findings = Vec::new();
    if Path::new("/run/NetworkManager").exists() {
        findings.push(if mentions("/etc/NetworkManager/conf.d", "weft") {
            Finding::ok("NetworkManager", "leaves links named weft* alone")
        } else {
            Finding::warning(
                "NetworkManager",
                "runs: write `[keyfile]` and `unmanaged-devices=interface-name:weft*` to \
                 /etc/NetworkManager/conf.d/weft.conf and reload it",
            )
        });
    }
    if Path::new("/run/systemd/netif").exists() {
        findings.push(if mentions("/etc/systemd/networkd.conf.d", "ManageForeignRoutes=no") {
            Finding::ok("systemd-networkd", "leaves others' routes alone")
        } else {
            Finding::warning(
                "systemd-networkd",
                "runs, and drops routes of others when it restarts: write `[Network]` and `ManageForeignRoutes=no` to \
                 /etc/systemd/networkd.conf.d/weft.conf",
            )
        });
    }
    findings
}

fn mentions(dir: &str, word: &str) -> bool {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_to_string(file.path()).ok()).any(|text| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Verdict;

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        assert_eq!(lacking("CapInh:\t0\nCapEff:\t000001ffffffffff\n"), [""; 0]);
        assert_eq!(lacking("CapEff:\t0000000000000400\n"), ["NET_ADMIN"]);
        assert_eq!(lacking("").len(), 2);
    }

    #[test]
    fn only_configurations_that_sort_first_are_in_the_way() {
        let names =
            ["10-calico.conflist", "00-x.conf", "05-weft.conflist", "calico-kubeconfig", ".05-weft.new"];
        let (before, after) = split(names.map(str::to_owned).into_iter());
        assert_eq!((before, after), (vec!["00-x.conf".to_owned()], vec!["10-calico.conflist".to_owned()]));
    }

    #[test]
    fn a_taken_port_is_missing() {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let taken = listener.local_addr().unwrap().port();
        assert_eq!(port("port", taken).verdict, Verdict::Missing);
        drop(listener);
        assert_eq!(port("port", taken).verdict, Verdict::Ok);
    }
}
