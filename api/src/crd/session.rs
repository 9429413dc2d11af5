//! What a session is like: in the BGPConfiguration for all, in a BGPPeerProfile for many, in a BGPPeer for one.
//!
//! A field that is left out is that of the next wider object; the widest has the defaults that stand here.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::without_additional_properties;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = without_additional_properties)]
pub struct SessionSettings {
    /// Routes carried over the session. Default: both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2), extend("x-kubernetes-list-type" = "set"))]
    pub families: Option<Vec<Family>>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub timers: Timers,
    /// Accept IPv4 routes with IPv6 next hops where the router can (RFC 8950). Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended_nexthop: Option<bool>,
    /// Refuse routes of an external peer whose AS path does not begin with the peer's AS (RFC 4271 §6.3). Route servers
    /// send such routes (RFC 7947 §2.2.2.1): set it to false for them. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforce_first_asn: Option<bool>,
    /// Accept routes that have crossed our own AS up to so many times, 1-10: for nodes that have one AS in all racks and ToRs
    /// that leave it in the paths. Default: none, as such a route may be a loop (RFC 4271 §9.1.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub allow_as_in: Option<u8>,
    /// Hops to an external peer that is not on a shared link, 1-255. Of an internal peer 1 says that it is on one, which counts for
    /// BFD alone. Default: 1 for external peers, any for internal ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub multihop: Option<u8>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub security: Security,
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// Names of BGPFilters that decide in this order which routes are accepted beyond the cluster's prefixes, or not within
    /// them; not for the mesh, where a node may announce what is its own. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(max = 253)), extend("x-kubernetes-list-type" = "atomic"))]
    pub import_filters: Option<Vec<String>>,
    /// Names of BGPFilters that decide in this order which of our routes the peer is told, and with what. Nothing goes out that
    /// would not without them. Not for the mesh. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(max = 253)), extend("x-kubernetes-list-type" = "atomic"))]
    pub export_filters: Option<Vec<String>>,
    /// Watch the path to the peer, and end the session when it is gone (BFD, RFC 5880-5883); the router must do so too. `{}` is
    /// enough. Default: off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<Bfd>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = without_additional_properties)]
pub struct Bfd {
    /// False turns off what a wider object has turned on. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Milliseconds between packets, both ways, 50-60000; the slower of both sides' counts. Default: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 50, max = 60_000))]
    pub interval_milliseconds: Option<u16>,
    /// Packets in a row that the router must miss to give the node up, 2-50; after how many the node gives up is the router's
    /// to say. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 50))]
    pub detect_multiplier: Option<u8>,
}

impl Bfd {
    /// `self` where it says something, else `wider`.
    fn or(self, wider: &Self) -> Self {
        Self {
            enabled: self.enabled.or(wider.enabled),
            interval_milliseconds: self.interval_milliseconds.or(wider.interval_milliseconds),
            detect_multiplier: self.detect_multiplier.or(wider.detect_multiplier),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = without_additional_properties)]
pub struct Timers {
    /// Seconds of silence after which a peer is down, 0 (never) or 3-65535; the lower of both sides' counts. Default: 90.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == 0 || self >= 3").message("0 or at least 3 seconds"))]
    pub hold_time_seconds: Option<u16>,
    /// Seconds between connection attempts, 1-65535, before jitter. Default: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub connect_retry_seconds: Option<u16>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = without_additional_properties)]
pub struct Security {
    /// TCP MD5 password (RFC 2385), from a Secret in the agents' namespace. Without the Secret the session stays down.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretKeyRef>,
    /// Accept packets from at most this many hops away, 1-254 (GTSM, RFC 5082); it counts the hops itself, `multihop` is
    /// not looked at. Default: off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 254))]
    pub ttl_security_hops: Option<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = without_additional_properties)]
pub struct Limits {
    /// Prefixes per family before the session is stopped with Cease/1, 1-10000000. Default: 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_prefixes: Option<u32>,
}

/// Where a password stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = without_additional_properties)]
pub struct SecretKeyRef {
    pub name: String,
    /// Default: `password`.
    #[serde(default = "default_secret_key")]
    pub key: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl SessionSettings {
    /// `self` where it says something, else `wider`.
    #[must_use]
    pub fn or(self, wider: &Self) -> Self {
        let Self {
            families,
            timers,
            extended_nexthop,
            enforce_first_asn,
            allow_as_in,
            multihop,
            security,
            limits,
            import_filters,
            export_filters,
            bfd,
        } = self;
        let (wide_timers, wide_security) = (&wider.timers, &wider.security);
        Self {
            families: families.or_else(|| wider.families.clone()),
            timers: Timers {
                hold_time_seconds: timers.hold_time_seconds.or(wide_timers.hold_time_seconds),
                connect_retry_seconds: timers.connect_retry_seconds.or(wide_timers.connect_retry_seconds),
            },
            extended_nexthop: extended_nexthop.or(wider.extended_nexthop),
            enforce_first_asn: enforce_first_asn.or(wider.enforce_first_asn),
            allow_as_in: allow_as_in.or(wider.allow_as_in),
            multihop: multihop.or(wider.multihop),
            security: Security {
                password_secret: security.password_secret.or_else(|| wide_security.password_secret.clone()),
                ttl_security_hops: security.ttl_security_hops.or(wide_security.ttl_security_hops),
            },
            limits: Limits { max_prefixes: limits.max_prefixes.or(wider.limits.max_prefixes) },
            import_filters: import_filters.or_else(|| wider.import_filters.clone()),
            export_filters: export_filters.or_else(|| wider.export_filters.clone()),
            bfd: match (bfd, &wider.bfd) {
                (Some(own), Some(wide)) => Some(own.or(wide)),
                (own, wide) => own.or_else(|| wide.clone()),
            },
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn default_secret_key() -> String {
    "password".to_owned()
}
