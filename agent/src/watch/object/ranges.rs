//! The ranges that the comments of our own resources promise, checked once.

use std::fmt;

use ipnetwork::IpNetwork;
use weft_api::crd::{BGPConfigurationSpec, BGPPeerSpec};

use super::{Object, without_host_bits};

pub(super) fn check_configuration(spec: BGPConfigurationSpec) -> Result<Object, String> {
    check_asn("spec.asn", spec.asn)?;
    check_hold_time("spec.holdTimeSeconds", spec.hold_time_seconds)?;
    check_range("spec.listenPort", spec.listen_port, 1, u16::MAX)?;
    check_range("spec.connectRetrySeconds", spec.connect_retry_seconds, 1, u16::MAX)?;
    check_range("spec.gracefulRestartSeconds", spec.graceful_restart_seconds, 0, 4095)?;
    check_range("spec.maxPaths", spec.max_paths, 1, 64)?;
    check_cidrs("spec.clusterCidrs", &spec.cluster_cidrs)?;
    Ok(Object::BgpConfiguration(spec))
}

pub(super) fn check_peer(spec: BGPPeerSpec) -> Result<Object, String> {
    if let weft_api::crd::PeerAsn::Number(asn) = spec.asn {
        check_asn("spec.asn", asn)?;
    }
    check_range("spec.port", spec.port, 1, u16::MAX)?;
    check_range("spec.maxPrefixes", spec.max_prefixes, 1, 10_000_000)?;
    if let Some(seconds) = spec.hold_time_seconds {
        check_hold_time("spec.holdTimeSeconds", seconds)?;
    }
    if let Some(hops) = spec.multihop {
        check_range("spec.multihop", hops, 2, 255)?;
    }
    if let Some(hops) = spec.ttl_security {
        check_range("spec.ttlSecurity", hops, 1, 254)?;
    }
    if spec.multihop.is_some() && spec.ttl_security.is_some() {
        return Err("spec.ttlSecurity: excludes multihop".to_owned());
    }
    if spec.families.is_empty() {
        return Err("spec.families: empty".to_owned());
    }
    check_cidrs("spec.acceptCidrs", &spec.accept_cidrs)?;
    Ok(Object::BgpPeer(spec))
}

fn check_asn(field: &str, asn: u32) -> Result<(), String> {
    check_range(field, asn, 1, u32::MAX)
}

fn check_hold_time(field: &str, seconds: u16) -> Result<(), String> {
    if matches!(seconds, 1 | 2) {
        Err(format!("{field}: {seconds} is neither 0 nor 3-65535"))
    } else {
        Ok(())
    }
}

fn check_range<T: Copy + PartialOrd + fmt::Display>(
    field: &str,
    value: T,
    low: T,
    high: T,
) -> Result<(), String> {
    if value < low || value > high {
        Err(format!("{field}: {value} is not within {low}-{high}"))
    } else {
        Ok(())
    }
}

fn check_cidrs(field: &str, cidrs: &[String]) -> Result<(), String> {
    for (index, text) in cidrs.iter().enumerate() {
        parse_cidr(text).map_err(|reason| format!("{field}[{index}]: {reason}"))?;
    }
    Ok(())
}

/// With its length written out: a bare address is no prefix. Host bits are dropped.
pub fn parse_cidr(text: &str) -> Result<IpNetwork, String> {
    match text.parse::<IpNetwork>() {
        Ok(prefix) if text.contains('/') => Ok(without_host_bits(prefix)),
        _ => Err(format!("{text:?} is no prefix")),
    }
}
