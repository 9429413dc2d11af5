//! What a session is like in the end: its own settings, else those of its profile, else those of the cluster.
//!
//! What is missing is missed safely: a profile or a password that is not there makes no session.

use std::time::Duration;

use weft_api::crd::{Family, SecretKeyRef, SessionSettings};
use weft_bgp::bfd;
use weft_bgp::speaker::{Hops, Password, PeerConfig, Transport};
use weft_bgp::types::{AfiSafi, Asn};

use crate::Snapshot;

const HOLD_TIME: u16 = 90;
const CONNECT_RETRY: u16 = 5;
const MAX_PREFIXES: u32 = 10_000;

/// `peer` of a node in AS `own` with what the settings say, filters aside.
pub(super) fn apply(
    peer: PeerConfig,
    own: Asn,
    settings: &SessionSettings,
    password: Option<Password>,
) -> PeerConfig {
    let hops = match (settings.security.ttl_security_hops, settings.multihop) {
        (Some(hops), _) => Hops::Security(hops),
        (None, Some(hops)) if hops > 1 => Hops::Multihop(hops),
        (None, _) => Hops::Default,
    };
    let connect_retry = settings.timers.connect_retry_seconds.unwrap_or(CONNECT_RETRY);
    PeerConfig {
        families: families(settings.families.as_deref()),
        hold_time: settings.timers.hold_time_seconds.unwrap_or(HOLD_TIME),
        connect_retry: Duration::from_secs(connect_retry.into()),
        extended_nexthop: settings.extended_nexthop.unwrap_or(true),
        enforce_first_asn: settings.enforce_first_asn.unwrap_or(true),
        allow_own_asn: settings.allow_as_in.unwrap_or(0),
        max_prefixes: settings.limits.max_prefixes.unwrap_or(MAX_PREFIXES),
        transport: Transport { hops, password, ..peer.transport },
        bfd: bfd(settings, peer.asn.is_external(own)),
        ..peer
    }
}

/// Over as many hops as the session. An internal peer may be anywhere, so what says nothing of hops speaks as if it were far:
/// that works on a link too, if both ends do.
fn bfd(settings: &SessionSettings, is_external: bool) -> Option<bfd::Config> {
    let written = settings.bfd.as_ref().filter(|bfd| bfd.enabled.unwrap_or(true))?;
    let terms = bfd::Terms {
        interval: written.interval_milliseconds.map_or(bfd::Terms::DEFAULT.interval, milliseconds),
        detect_multiplier: written.detect_multiplier.unwrap_or(bfd::Terms::DEFAULT.detect_multiplier),
    };
    let path = match (settings.security.ttl_security_hops, settings.multihop) {
        (Some(1), _) | (None, Some(1)) => bfd::Path::SingleHop,
        (Some(hops), _) => bfd::Path::Multihop { least_ttl: (u8::MAX - hops).saturating_add(1) },
        (None, None) if is_external => bfd::Path::SingleHop,
        // Routers do not agree on the TTL with which they send over several hops.
        (None, _) => bfd::Path::Multihop { least_ttl: 1 },
    };
    Some(bfd::Config { terms, path })
}

fn milliseconds(count: u16) -> Duration {
    Duration::from_millis(count.into())
}

/// In our order, each once.
pub(super) fn families(written: Option<&[Family]>) -> Vec<AfiSafi> {
    let wanted = |family| match family {
        AfiSafi::Ipv4Unicast => Family::Ipv4,
        AfiSafi::Ipv6Unicast => Family::Ipv6,
    };
    let is_wanted = |family: &AfiSafi| written.is_none_or(|written| written.contains(&wanted(*family)));
    AfiSafi::ALL.into_iter().filter(is_wanted).collect()
}

pub(super) fn password(snapshot: &Snapshot, settings: &SessionSettings) -> Result<Option<Password>, String> {
    const FIELD: &str = "spec.session.security.passwordSecret";
    let Some(SecretKeyRef { name, key }) = &settings.security.password_secret else { return Ok(None) };
    let secret = snapshot.secrets.get(name);
    let secret =
        secret.ok_or_else(|| format!("{FIELD}: Secret {name} is missing; the session stays down"))?;
    let value = secret
        .get(key)
        .ok_or_else(|| format!("{FIELD}: Secret {name} has no key {key}; the session stays down"))?;
    let too_long = || format!("{FIELD}: {key} of Secret {name} is not 1-{} bytes long", Password::MAX_LEN);
    Password::new(value).map(Some).ok_or_else(too_long)
}
