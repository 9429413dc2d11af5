//! The ranges that the comments of our own resources promise, and what of them no schema can say of one object alone.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use weft_api::crd::{
    AsPathMatch, BGPAdvertisementSpec, BGPConfigurationSpec, BGPFilterSpec, BGPNodeOverrideSpec, BGPPeerSpec,
    CommunityChange, FilterAction, FilterRule, PeerAsn, PrefixMatch, RouteChange, SessionSettings,
};
use weft_policy::translate;

/// The reason names the field.
type Checked = Result<(), String>;

pub(super) fn configuration(spec: &BGPConfigurationSpec) -> Checked {
    asn("spec.asn", spec.asn)?;
    within("spec.listenPort", spec.listen_port, 1, u16::MAX)?;
    within("spec.gracefulRestart.restartSeconds", spec.graceful_restart.restart_seconds, 0, 4095)?;
    within("spec.maxPaths", spec.max_paths, 1, 64)?;
    session(&spec.session)
}

pub(super) fn peer(spec: &BGPPeerSpec) -> Checked {
    if spec.address.is_none() {
        return Err("spec.address: missing".to_owned());
    }
    if let PeerAsn::Number(number) = spec.asn {
        asn("spec.asn", number)?;
    }
    maybe_within("spec.port", spec.port, 1, u16::MAX)?;
    selector(spec.node_selector.as_ref())?;
    session(&spec.session)
}

pub(super) fn session(settings: &SessionSettings) -> Checked {
    let SessionSettings { families, timers, allow_as_in, multihop, security, limits, .. } = settings;
    if families.as_ref().is_some_and(Vec::is_empty) {
        return Err("spec.session.families: empty".to_owned());
    }
    if let Some(seconds @ (1 | 2)) = timers.hold_time_seconds {
        return Err(format!("spec.session.timers.holdTimeSeconds: {seconds} is neither 0 nor 3-65535"));
    }
    maybe_within("spec.session.timers.connectRetrySeconds", timers.connect_retry_seconds, 1, u16::MAX)?;
    maybe_within("spec.session.allowAsIn", *allow_as_in, 1, 10)?;
    maybe_within("spec.session.multihop", *multihop, 1, u8::MAX)?;
    maybe_within("spec.session.security.ttlSecurityHops", security.ttl_security_hops, 1, 254)?;
    maybe_within("spec.session.limits.maxPrefixes", limits.max_prefixes, 1, 10_000_000)
}

pub(super) fn node_override(spec: &BGPNodeOverrideSpec) -> Checked {
    selector(Some(&spec.node_selector))?;
    maybe_within("spec.asn", spec.asn, 1, u32::MAX)?;
    maybe_within("spec.listenPort", spec.listen_port, 1, u16::MAX)?;
    if spec.router_id.is_some_and(|id| id.is_unspecified()) {
        return Err("spec.routerId: 0.0.0.0 is none".to_owned());
    }
    let addresses = spec.local_addresses.as_deref().unwrap_or_default();
    match addresses {
        [one, other] if one.is_ipv4() == other.is_ipv4() => {
            Err("spec.localAddresses: two of one family".to_owned())
        }
        [] if spec.local_addresses.is_some() => Err("spec.localAddresses: empty".to_owned()),
        [_, _, _, ..] => Err("spec.localAddresses: more than one per family".to_owned()),
        _ => Ok(()),
    }
}

pub(super) fn filter(spec: &BGPFilterSpec) -> Checked {
    for (index, rule) in spec.rules.iter().enumerate() {
        filter_rule(rule).map_err(|reason| format!("spec.rules[{index}]{reason}"))?;
    }
    Ok(())
}

fn filter_rule(rule: &FilterRule) -> Checked {
    let FilterRule { families, prefixes, communities, as_path, origins, action, set } = rule;
    not_empty(".families", families.as_deref())?;
    not_empty(".prefixes", prefixes.as_deref())?;
    not_empty(".communities", communities.as_deref())?;
    not_empty(".origins", origins.as_deref())?;
    for (index, prefix) in prefixes.iter().flatten().enumerate() {
        lengths(&format!(".prefixes[{index}]"), prefix)?;
    }
    if let Some(AsPathMatch { min_length, max_length, contains }) = as_path {
        maybe_within(".asPath.maxLength", *max_length, min_length.unwrap_or(0), u32::MAX)?;
        not_empty(".asPath.contains", contains.as_deref())?;
        for (index, number) in contains.iter().flatten().enumerate() {
            asn(&format!(".asPath.contains[{index}]"), *number)?;
        }
    }
    match set {
        Some(_) if *action == FilterAction::Reject => {
            Err(".set: a route that is rejected is not changed".to_owned())
        }
        Some(set) => change(set),
        None => Ok(()),
    }
}

fn change(set: &RouteChange) -> Checked {
    maybe_within(".set.prepend", set.prepend, 1, 16)?;
    let Some(CommunityChange { remove, add, replace }) = &set.communities else { return Ok(()) };
    not_empty(".set.communities.remove", remove.as_deref())?;
    not_empty(".set.communities.add", add.as_deref())?;
    match replace {
        Some(_) if remove.is_some() || add.is_some() => {
            Err(".set.communities.replace: stands alone".to_owned())
        }
        _ => Ok(()),
    }
}

fn not_empty<T>(field: &str, list: Option<&[T]>) -> Checked {
    if list.is_some_and(<[T]>::is_empty) { Err(format!("{field}: empty")) } else { Ok(()) }
}

fn lengths(path: &str, prefix: &PrefixMatch) -> Checked {
    let network = prefix.cidr.network();
    let longest = if network.is_ipv4() { 32 } else { 128 };
    maybe_within(&format!("{path}.minLength"), prefix.min_length, network.prefix(), longest)?;
    let least = prefix.min_length.unwrap_or(network.prefix());
    maybe_within(&format!("{path}.maxLength"), prefix.max_length, least, longest)
}

pub(super) fn advertisement(spec: &BGPAdvertisementSpec) -> Checked {
    selector(spec.node_selector.as_ref())
}

fn selector(selector: Option<&LabelSelector>) -> Checked {
    let translated = selector.map(translate::selector).transpose();
    translated.map(drop).map_err(|reason| format!("spec.nodeSelector: {reason}"))
}

fn asn(field: &str, number: u32) -> Checked {
    within(field, number, 1, u32::MAX)
}

fn maybe_within<T: Copy + PartialOrd + fmt::Display>(
    field: &str,
    value: Option<T>,
    low: T,
    high: T,
) -> Checked {
    value.map_or(Ok(()), |value| within(field, value, low, high))
}

fn within<T: Copy + PartialOrd + fmt::Display>(field: &str, value: T, low: T, high: T) -> Checked {
    if value < low || value > high {
        Err(format!("{field}: {value} is not within {low}-{high}"))
    } else {
        Ok(())
    }
}
