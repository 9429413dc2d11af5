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

/// The Kubernetes pod, as the runtime names it in `CNI_ARGS`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
    /// Absent when the runtime does not tell, and for an attachment that was recovered from its link alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
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
}
