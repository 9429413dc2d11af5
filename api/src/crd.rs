//! The custom resources of group `weft.dev/v1alpha1`, all cluster-scoped. A field exists when something acts on it.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the nodes of this cluster speak BGP. Only the object named `default` is read.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "weft.dev", version = "v1alpha1", kind = "BGPConfiguration", plural = "bgpconfigurations")]
#[kube(shortname = "bgpconfig", derive = "PartialEq")]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BGPConfigurationSpec {
    /// The nodes' AS number, 1-4294967295. A node's annotation `weft.dev/asn` overrides it. Default: 64512.
    #[serde(default = "default_asn")]
    pub asn: u32,
    /// Whether every node peers with every other node of the same AS. Default: full.
    #[serde(default)]
    pub node_mesh: NodeMesh,
    /// TCP port to listen on and to reach fellow nodes at. Default: 179.
    #[serde(default = "default_port")]
    pub listen_port: u16,
    /// Prefixes within which learned routes are accepted. Default: none beyond the nodes' own pod CIDRs.
    #[serde(default)]
    pub cluster_cidrs: Vec<String>,
    /// Seconds, 0 or 3-65535; the lower of both sides' counts. Default: 90.
    #[serde(default = "default_hold_time")]
    pub hold_time_seconds: u16,
    /// Seconds between connection attempts, 1-65535, before jitter. Default: 5.
    #[serde(default = "default_connect_retry")]
    pub connect_retry_seconds: u16,
    /// Seconds that peers keep our routes while we restart, 0 (off) to 4095. Default: 120.
    #[serde(default = "default_restart_time")]
    pub graceful_restart_seconds: u16,
    /// Next hops of one kernel route, 1-64. Default: 8.
    #[serde(default = "default_multipath")]
    pub max_paths: u8,
    /// Communities attached to the node's own routes, `ASN:VALUE` or `GLOBAL:LOCAL1:LOCAL2`. Default: none.
    #[serde(default)]
    pub communities: Vec<String>,
}

impl Default for BGPConfigurationSpec {
    fn default() -> Self {
        Self {
            asn: default_asn(),
            node_mesh: NodeMesh::default(),
            listen_port: default_port(),
            cluster_cidrs: Vec::new(),
            hold_time_seconds: default_hold_time(),
            connect_retry_seconds: default_connect_retry(),
            graceful_restart_seconds: default_restart_time(),
            max_paths: default_multipath(),
            communities: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NodeMesh {
    #[default]
    Full,
    None,
}

/// A router, or several alike, that the selected nodes peer with.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "weft.dev", version = "v1alpha1", kind = "BGPPeer", plural = "bgppeers")]
#[kube(shortname = "bgppeer", derive = "PartialEq")]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BGPPeerSpec {
    /// The nodes that have this peer. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// The router's address; of the family that the session runs over.
    pub address: IpAddr,
    /// The router's TCP port. Default: 179.
    #[serde(default = "default_port")]
    pub port: u16,
    /// The router's AS: a number, `internal` (same as ours) or `external` (any other).
    pub asn: PeerAsn,
    /// Routes carried over the session. Default: both.
    #[serde(default = "default_families")]
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
    pub accept_cidrs: Vec<String>,
    /// Prefixes per family before the session is stopped with Cease/1, 1-10000000. Default: 10000.
    #[serde(default = "default_max_prefixes")]
    pub max_prefixes: u32,
    /// Seconds, 0 or 3-65535. Default: that of the BGPConfiguration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_time_seconds: Option<u16>,
    /// Hops to an external peer that is not on a shared link, 2-255. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multihop: Option<u8>,
    /// Accept packets from at most this many hops away, 1-254 (GTSM, RFC 5082). Default: off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_security: Option<u8>,
    /// TCP MD5 password (RFC 2385), from a Secret. Without the Secret the session stays down. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretKeyRef>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "description": "A number 1-4294967295, `internal` or `external`.",
        })
    }
}

fn default_asn() -> u32 {
    64512
}
fn default_port() -> u16 {
    179
}
fn default_hold_time() -> u16 {
    90
}
fn default_connect_retry() -> u16 {
    5
}
fn default_restart_time() -> u16 {
    120
}
fn default_multipath() -> u8 {
    8
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
