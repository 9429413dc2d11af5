//! How a pod's link says whose it is: its name, and the alias that is the second copy of the journal.

use std::net::IpAddr;

use weft_api::LINK_PREFIX;
use weft_api::hash::fnv1a;

use crate::attachment::{
    Addresses, Attachment, AttachmentId, Mac, NetnsId, PodRef, PortMapping, Transport, is_kubernetes_name,
};

/// Names to try for one attachment before giving up: each costs a collision of 44 bits.
pub const MAX_SALT: u8 = 8;
/// IFALIASZ less the terminating zero.
const MAX_ALIAS: usize = 255;
/// ALTIFNAMSIZ less the terminating zero.
const MAX_ALTERNATIVE_NAME: usize = 127;
const POD: &str = " pod=";
/// Of an attachment for which the runtime named no pod.
const NAMELESS: &str = "none";
const ALIAS_MAGIC: &str = "weft/1";
const NAME_DIGITS: usize = 11;

/// `weft` and 11 hex digits of a hash: 15 characters, all that Linux allows. `salt` tells colliding names apart.
pub fn name(id: &AttachmentId, salt: u8) -> String {
    let hash = fnv1a(id.container_id.bytes().chain([0]).chain(id.ifname.bytes()).chain([salt]));
    format!("{LINK_PREFIX}{:0NAME_DIGITS$x}", hash >> 20)
}

/// Whether a link of this name can be ours.
pub fn is_ours(name: &str) -> bool {
    name.strip_prefix(LINK_PREFIX).is_some_and(|digits| {
        digits.len() == NAME_DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// The attachment as text of at most 255 bytes. A pod's name that does not fit is in [`alternative_names`]. Host ports for
/// which there is no room left, after some ten of them, are left out: only who loses the journal loses these.
pub fn alias(attachment: &Attachment) -> String {
    let Attachment { id, addresses, netns, pod, ports, .. } = attachment;
    let ips: Vec<String> = addresses.iter().map(|address| address.to_string()).collect();
    let mut alias = format!(
        "{ALIAS_MAGIC} cid={} if={} ip={} netns={}",
        id.container_id,
        id.ifname,
        ips.join(","),
        netns.0
    );
    let pod = format!("{POD}{}", pod.as_ref().map_or_else(|| NAMELESS.to_owned(), ToString::to_string));
    if alias.len() + pod.len() <= MAX_ALIAS {
        alias.push_str(&pod);
    }
    let mut separator = " ports=";
    for port in ports {
        let port = format!("{separator}{}", port_text(port));
        if alias.len() + port.len() > MAX_ALIAS {
            break;
        }
        alias.push_str(&port);
        separator = ",";
    }
    alias
}

/// Further names of the link, which together say the name of a pod that is too long for its alias: `LINK-0-NAMESPACE_NA`,
/// `LINK-1-ME`. An underscore is in no Kubernetes name, and a slash in no link's.
pub fn alternative_names(attachment: &Attachment) -> Vec<String> {
    let Some(pod) = attachment.pod.as_ref().filter(|_| !alias(attachment).contains(POD)) else {
        return Vec::new();
    };
    let room = MAX_ALTERNATIVE_NAME - attachment.link.len() - "-0-".len();
    let text = format!("{}_{}", pod.namespace, pod.name).into_bytes();
    let parts = text.chunks(room).map(String::from_utf8_lossy);
    parts.enumerate().map(|(n, part)| format!("{}-{n}-{part}", attachment.link)).collect()
}

/// The inverse of [`alias`] and [`alternative_names`], for a link as the kernel shows it. `None` when it is not an alias of
/// ours.
pub fn attachment_of(
    link: &str,
    ifindex: u32,
    mtu: u32,
    alias: &str,
    names: &[String],
) -> Option<Attachment> {
    let fields = alias.strip_prefix(ALIAS_MAGIC)?.split_whitespace().map(|field| field.split_once('='));
    let fields: std::collections::BTreeMap<&str, &str> = fields.collect::<Option<_>>()?;
    let addresses = parse_addresses(fields.get("ip")?)?;
    let id = AttachmentId {
        container_id: (*fields.get("cid")?).to_owned(),
        ifname: (*fields.get("if")?).to_owned(),
    };
    let pod = match fields.get("pod").copied() {
        Some(NAMELESS) => None,
        Some(pod) => Some(parse_pod(pod, '/').unwrap_or_else(|| PodRef::unknown(&id))),
        None => Some(parse_pod(&joined(link, names), '_').unwrap_or_else(|| PodRef::unknown(&id))),
    };
    Some(Attachment {
        id,
        link: link.to_owned(),
        ifindex,
        pod,
        addresses,
        mac: Mac::of_pod(&addresses),
        netns: NetnsId(fields.get("netns")?.parse().ok()?),
        mtu,
        ports: fields
            .get("ports")
            .map_or(Some(Vec::new()), |ports| ports.split(',').map(parse_port).collect())?,
    })
}

fn parse_pod(text: &str, separator: char) -> Option<PodRef> {
    let (namespace, name) = text.split_once(separator)?;
    [namespace, name].into_iter().all(is_kubernetes_name).then(|| PodRef {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: None,
    })
}

fn joined<'a>(link: &str, names: &'a [String]) -> String {
    let part = |name: &'a String| name.strip_prefix(link)?.strip_prefix('-')?.split_once('-');
    let mut parts: Vec<_> = names.iter().filter_map(part).collect();
    parts.sort_unstable();
    parts.into_iter().map(|(_, part)| part).collect()
}

/// `tcp-8080-80`, `udp-53-53-192.0.2.1`
fn port_text(port: &PortMapping) -> String {
    let PortMapping { transport, host_port, container_port, host_ip } = port;
    let at = host_ip.map(|ip| format!("-{ip}")).unwrap_or_default();
    format!("{transport}-{host_port}-{container_port}{at}")
}

fn parse_port(text: &str) -> Option<PortMapping> {
    let mut parts = text.split('-');
    Some(PortMapping {
        transport: Transport::parse(parts.next()?)?,
        host_port: parts.next()?.parse().ok()?,
        container_port: parts.next()?.parse().ok()?,
        host_ip: parts.next().map(str::parse).transpose().ok()?,
    })
}

fn parse_addresses(text: &str) -> Option<Addresses> {
    let mut addresses = Addresses::default();
    for address in text.split(',') {
        match address.parse().ok()? {
            IpAddr::V4(v4) => addresses.v4 = Some(v4),
            IpAddr::V6(v6) => addresses.v6 = Some(v6),
        }
    }
    Some(addresses)
}

#[cfg(test)]
mod tests;
