//! What one CNI ADD makes: a pod's interface, and who it belongs to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// Names an attachment as CNI does: an interface of a container. Never reused for another container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttachmentId {
    pub container_id: String,
    pub ifname: String,
}

impl fmt::Display for AttachmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container_id, self.ifname)
    }
}

const UNKNOWN: &str = "?";

/// The Kubernetes pod, as the runtime names it in `CNI_ARGS`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
    /// Absent when the runtime does not tell, and for an attachment that was recovered from its link alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

impl PodRef {
    /// Stands for a pod whose name is lost. It is no name that Kubernetes gives: no object answers to it, and policy keeps
    /// the pod closed.
    pub fn unknown(id: &AttachmentId) -> Self {
        Self { namespace: UNKNOWN.to_owned(), name: id.to_string(), uid: None }
    }

    pub fn is_unknown(&self) -> bool {
        self.namespace == UNKNOWN
    }
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// DNS-1123 subdomain, which namespaces, pods and uids all are.
pub(crate) fn is_kubernetes_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}

/// One address per family; at least one of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Addresses {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v4: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }
}

/// The next hop of every pod, which nobody owns.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The next hop of a pod with this address.
pub fn gateway(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(GATEWAY_V4),
        IpAddr::V6(_) => IpAddr::V6(GATEWAY_V6),
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The host side of every pod link. It is the next hop of pods, so it may be the same everywhere.
    pub const HOST: Self = Self([0xee; 6]);

    /// The pod side, out of its address: unique in the node, and recoverable without a record.
    pub fn of_pod(addresses: &Addresses) -> Self {
        let tail = match addresses {
            Addresses { v4: Some(v4), .. } => v4.octets(),
            Addresses { v6: Some(v6), .. } => {
                let octets = v6.octets();
                [octets[12], octets[13], octets[14], octets[15]]
            }
            Addresses { v4: None, v6: None } => [0; 4],
        };
        // Bit 1 of the first octet: locally administered.
        Self([0x0e, 0x57, tail[0], tail[1], tail[2], tail[3]])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A network namespace: the inode of its nsfs file, unique while the namespace lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetnsId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Tcp,
    Udp,
    Sctp,
}

impl Transport {
    const ALL: [(Self, &str); 3] = [(Self::Tcp, "tcp"), (Self::Udp, "udp"), (Self::Sctp, "sctp")];

    /// Kubernetes writes `TCP`, go-cni `tcp`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(_, known)| known.eq_ignore_ascii_case(name))
            .map(|(transport, _)| transport)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(transport, _)| transport == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// A port of the node that leads to a port of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    pub transport: Transport,
    pub host_port: u16,
    pub container_port: u16,
    /// `None`: at all addresses of the node. An unspecified one: at all of its family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

impl PortMapping {
    /// Whether the two claim the same port, as two sockets would: one at all addresses claims it at each.
    pub fn collides_with(&self, other: &Self) -> bool {
        let at_all_or_same = match (self.host_ip, other.host_ip) {
            (Some(a), Some(b)) => {
                a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified())
            }
            (None, _) | (_, None) => true,
        };
        self.transport == other.transport && self.host_port == other.host_port && at_all_or_same
    }
}

/// What it claims: `tcp 192.0.2.1:8080`, `udp *:53`.
impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, host_port, host_ip, .. } = self;
        match host_ip {
            Some(IpAddr::V6(v6)) => write!(f, "{transport} [{v6}]:{host_port}"),
            Some(IpAddr::V4(v4)) => write!(f, "{transport} {v4}:{host_port}"),
            None => write!(f, "{transport} *:{host_port}"),
        }
    }
}

/// A pod's interface on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub id: AttachmentId,
    /// Name of the host side, `weft` and 11 hex digits.
    pub link: String,
    /// Index of the host side; 0 until the link exists.
    pub ifindex: u32,
    /// Absent when the runtime named no pod.
    pub pod: Option<PodRef>,
    pub addresses: Addresses,
    /// Of the pod side.
    pub mac: Mac,
    pub netns: NetnsId,
    pub mtu: u32,
    /// Sorted. Older records have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortMapping>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp_80(host_ip: Option<&str>) -> PortMapping {
        let host_ip = host_ip.map(|ip| ip.parse().unwrap());
        PortMapping { transport: Transport::Tcp, host_port: 80, container_port: 8080, host_ip }
    }

    #[test]
    fn a_port_at_all_addresses_is_taken_at_each() {
        let v4 = "192.0.2.1";
        for (a, b, collide) in [
            (None, None, true),
            (None, Some(v4), true),
            (Some("0.0.0.0"), Some(v4), true),
            (Some(v4), Some(v4), true),
            (Some(v4), Some("127.0.0.1"), false),
            (Some("0.0.0.0"), Some("::"), false),
            (Some("::"), Some("2001:db8::1"), true),
        ] {
            assert_eq!(tcp_80(a).collides_with(&tcp_80(b)), collide, "{a:?} {b:?}");
            assert_eq!(tcp_80(b).collides_with(&tcp_80(a)), collide, "{b:?} {a:?}");
        }
        assert!(!tcp_80(None).collides_with(&PortMapping { transport: Transport::Udp, ..tcp_80(None) }));
        assert!(!tcp_80(None).collides_with(&PortMapping { host_port: 81, ..tcp_80(None) }));
    }
}
