//! The answers that succeed, in the format of each CNI version (CNI 1.1.0, section 5, and its predecessors).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use crate::attachment::{Attachment, Mac, gateway};
use crate::cni::CniVersion;

/// The result of ADD, one JSON document. `netns` is `CNI_NETNS` as it was given.
pub fn add(version: CniVersion, attachment: &Attachment, netns: &str) -> String {
    let mut interfaces = [
        json!({ "name": attachment.link, "mac": Mac::HOST.to_string() }),
        json!({ "name": attachment.id.ifname, "mac": attachment.mac.to_string(), "sandbox": netns }),
    ];
    if version >= CniVersion::V1_1_0 {
        for interface in &mut interfaces {
            interface["mtu"] = json!(attachment.mtu);
        }
    }
    let ips: Vec<Value> = attachment.addresses.iter().map(|address| ip(version, address)).collect();
    let routes: Vec<Value> = attachment
        .addresses
        .iter()
        .map(|address| json!({ "dst": default_route(address), "gw": gateway(address).to_string() }))
        .collect();
    json!({ "cniVersion": version.as_str(), "interfaces": interfaces, "ips": ips, "routes": routes, "dns": {} })
        .to_string()
}

/// The result of VERSION. `asked` is repeated, as the specification wants.
pub fn version(asked: CniVersion) -> String {
    let supported: Vec<&str> = CniVersion::ALL.into_iter().map(CniVersion::as_str).collect();
    json!({ "cniVersion": asked.as_str(), "supportedVersions": supported }).to_string()
}

fn ip(version: CniVersion, address: IpAddr) -> Value {
    let length = if address.is_ipv4() { 32 } else { 128 };
    let mut ip = json!({
        "address": format!("{address}/{length}"),
        "gateway": gateway(address).to_string(),
        "interface": 1, // Index of the pod side in `interfaces`.
    });
    if version < CniVersion::V1_0_0 {
        ip["version"] = json!(if address.is_ipv4() { "4" } else { "6" });
    }
    ip
}

fn default_route(address: IpAddr) -> String {
    match address {
        IpAddr::V4(_) => format!("{}/0", Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => format!("{}/0", Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests;
