//! Addresses as keys of sets and maps.

use std::net::IpAddr;

use crate::ruleset::{Family, KeyField, KeyType};

pub(super) fn address_type(family: Family) -> KeyType {
    match family {
        Family::V4 => KeyType::Ipv4Addr,
        Family::V6 => KeyType::Ipv6Addr,
    }
}

pub(super) fn address_field(ip: IpAddr) -> KeyField {
    match ip {
        IpAddr::V4(v4) => KeyField::Ipv4(v4),
        IpAddr::V6(v6) => KeyField::Ipv6(v6),
    }
}

pub(super) fn family_of(ip: IpAddr) -> Family {
    if ip.is_ipv4() { Family::V4 } else { Family::V6 }
}
