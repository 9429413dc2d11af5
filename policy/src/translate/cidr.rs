//! CIDRs as Kubernetes has always parsed them in its own objects, and calls `ParseCIDRSloppy`: Go's `net.ParseCIDR` before
//! it became strict. Our own objects are new, and take `weft_api::crd::Cidr`.
//!
//! Host bits are cleared, octets may have leading zeros (and are still decimal), and an IPv4-mapped IPv6 prefix of
//! /96 or longer is IPv4. Zones are not accepted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use weft_api::prefix::without_host_bits;

/// The prefix that `text` means, without host bits; `None` if it means none.
pub(crate) fn parse_cidr_sloppy(text: &str) -> Option<IpNetwork> {
    let (address, len) = text.split_once('/')?;
    let len: u8 = decimal(len)?;
    let (address, len) = match parse_address(address)? {
        IpAddr::V6(v6) if (96..=128).contains(&len) => match v6.to_ipv4_mapped() {
            Some(v4) => (IpAddr::V4(v4), len - 96),
            None => (IpAddr::V6(v6), len),
        },
        address => (address, len),
    };
    IpNetwork::new(address, len).ok().map(without_host_bits)
}

fn parse_address(text: &str) -> Option<IpAddr> {
    parse_v4(text).map(IpAddr::V4).or_else(|| parse_v6(text).map(IpAddr::V6))
}

fn parse_v4(text: &str) -> Option<Ipv4Addr> {
    let octets: Vec<u8> = text.split('.').map(decimal).collect::<Option<_>>()?;
    let octets: [u8; 4] = octets.try_into().ok()?;
    Some(octets.into())
}

/// The standard parser does the work, after each group has lost its needless zeros.
fn parse_v6(text: &str) -> Option<Ipv6Addr> {
    let groups: Vec<String> = text.split(':').map(strict_group).collect::<Option<_>>()?;
    groups.join(":").parse().ok()
}

fn strict_group(group: &str) -> Option<String> {
    if group.contains('.') {
        return parse_v4(group).map(|v4| v4.to_string());
    }
    let digits = group.trim_start_matches('0');
    Some(if digits.is_empty() && !group.is_empty() { "0".to_owned() } else { digits.to_owned() })
}

/// Digits only: the standard parser would also take a sign.
fn decimal(text: &str) -> Option<u8> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
