//! `BGPPeer`: a router, and the nodes that peer with it.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ObjectStatus, default_port, without_additional_properties};

/// A router that the selected nodes peer with.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "BGPPeer",
    plural = "bgppeers",
    shortname = "bgppeer",
    category = "weft",
    doc = "A router that the selected nodes peer with.",
    derive = "PartialEq",
    status = "ObjectStatus",
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.address"),
    printcolumn(name = "AS", type_ = "string", json_path = ".spec.asn"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = without_additional_properties)]
#[x_kube(validation = Rule::new("!(has(self.multihop) && has(self.ttlSecurity))")
    .message("`ttlSecurity` counts the hops itself: leave out `multihop`"))]
pub struct BGPPeerSpec {
    /// The nodes that have this peer. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// The router's address; of the family that the session runs over.
    #[schemars(with = "String", length(max = 45))]
    #[x_kube(validation = Rule::new("isIP(self)").message("an IPv4 or IPv6 address"))]
    pub address: IpAddr,
    /// The router's TCP port, 1-65535. Default: 179.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The router's AS: a number 1-4294967295, `internal` (same as ours) or `external` (any other).
    #[x_kube(validation = Rule::new(
        "type(self) == int ? self >= 1 && self <= 4294967295 : self in ['internal', 'external']"
    ).message("a number 1-4294967295, `internal` or `external`"))]
    pub asn: PeerAsn,
    /// Routes carried over the session. Default: both.
    #[serde(default = "default_families")]
    #[schemars(length(min = 1, max = 2))]
    pub families: Vec<Family>,
    /// Wait for the router to connect; never dial. Default: false.
    #[serde(default)]
    pub passive: bool,
    /// Accept IPv4 routes with IPv6 next hops where the router can (RFC 8950). Default: true.
    #[serde(default = "yes")]
    pub extended_nexthop: bool,
    /// Accept a default route from this peer. Default: false.
    #[serde(default)]
    pub accept_default_route: bool,
    /// Prefixes accepted beyond the cluster's CIDRs, each with everything inside it. Default: none.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 49)))]
    #[x_kube(validation = Rule::new("self.all(cidr, isCIDR(cidr))").message("every entry is a CIDR like 10.0.0.0/8"))]
    pub accept_cidrs: Vec<String>,
    /// Refuse routes of an external peer whose AS path does not begin with the peer's AS (RFC 4271 §6.3). Route servers
    /// send such routes (RFC 7947 §2.2.2.1): set it to false for them. Default: true.
    #[serde(default = "yes")]
    pub enforce_first_asn: bool,
    /// Prefixes per family before the session is stopped with Cease/1, 1-10000000. Default: 10000.
    #[serde(default = "default_max_prefixes")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_prefixes: u32,
    /// Seconds, 0 or 3-65535. Default: that of the BGPConfiguration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == 0 || self >= 3").message("0 or at least 3 seconds"))]
    pub hold_time_seconds: Option<u16>,
    /// Hops to an external peer that is not on a shared link, 2-255. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2))]
    pub multihop: Option<u8>,
    /// Accept packets from at most this many hops away, 1-254 (GTSM, RFC 5082). Default: off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 254))]
    pub ttl_security: Option<u8>,
    /// TCP MD5 password (RFC 2385), from a Secret. Without the Secret the session stays down. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretKeyRef>,
}

/// Where a password stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = without_additional_properties)]
pub struct SecretKeyRef {
    pub namespace: String,
    pub name: String,
    /// Default: `password`.
    #[serde(default = "default_secret_key")]
    pub key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PeerAsn {
    Number(u32),
    Rule(AsnRule),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AsnRule {
    Internal,
    External,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl JsonSchema for PeerAsn {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PeerAsn".into()
    }

    /// Structural: Kubernetes knows `x-kubernetes-int-or-string`, not `anyOf` of two types.
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "x-kubernetes-int-or-string": true })
    }
}

fn default_max_prefixes() -> u32 {
    10_000
}
fn default_families() -> Vec<Family> {
    vec![Family::Ipv4, Family::Ipv6]
}
fn default_secret_key() -> String {
    "password".to_owned()
}
fn yes() -> bool {
    true
}
