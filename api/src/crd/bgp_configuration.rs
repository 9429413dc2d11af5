//! `BGPConfiguration`: what all sessions of the cluster share.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ObjectStatus, default_port, without_additional_properties};

/// How the nodes of this cluster speak BGP. Only the object named `default` is read.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "BGPConfiguration",
    plural = "bgpconfigurations",
    shortname = "bgpconfig",
    category = "weft",
    doc = "How the nodes of this cluster speak BGP. Only the object named `default` is read.",
    derive = "PartialEq",
    status = "ObjectStatus",
    validation = Rule::new("self.metadata.name == 'default'").message("only the object named `default` is read"),
    printcolumn(name = "AS", type_ = "integer", json_path = ".spec.asn"),
    printcolumn(name = "Mesh", type_ = "string", json_path = ".spec.nodeMesh"),
    printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type=='Accepted')].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = without_additional_properties)]
pub struct BGPConfigurationSpec {
    /// The nodes' AS number, 1-4294967295. A node's annotation `weft.dev/asn` overrides it. Default: 64512.
    #[serde(default = "default_asn")]
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub asn: u32,
    /// Whether every node peers with every other node of the same AS. Default: full.
    #[serde(default)]
    pub node_mesh: NodeMesh,
    /// TCP port to listen on and to reach fellow nodes at, 1-65535. Default: 179.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1))]
    pub listen_port: u16,
    /// Prefixes within which learned routes are accepted. Default: none beyond the nodes' own pod CIDRs.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 49)))]
    #[x_kube(validation = Rule::new("self.all(cidr, isCIDR(cidr))").message("every entry is a CIDR like 10.244.0.0/16"))]
    pub cluster_cidrs: Vec<String>,
    /// Seconds of silence after which a peer is down, 0 (never) or 3-65535; the lower of both sides' counts. Default: 90.
    #[serde(default = "default_hold_time")]
    #[x_kube(validation = Rule::new("self == 0 || self >= 3").message("0 or at least 3 seconds"))]
    pub hold_time_seconds: u16,
    /// Seconds between connection attempts, 1-65535, before jitter. Default: 5.
    #[serde(default = "default_connect_retry")]
    #[schemars(range(min = 1))]
    pub connect_retry_seconds: u16,
    /// Seconds that peers keep our routes while we restart, 0 (off) to 4095. Default: 120.
    #[serde(default = "default_restart_time")]
    #[schemars(range(max = 4095))]
    pub graceful_restart_seconds: u16,
    /// Next hops of one kernel route, 1-64. Default: 8.
    #[serde(default = "default_multipath")]
    #[schemars(range(min = 1, max = 64))]
    pub max_paths: u8,
    /// Communities attached to the node's own routes, `ASN:VALUE` or `GLOBAL:LOCAL1:LOCAL2`. Default: none.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(max = 32), regex(pattern = r"^[0-9]+(:[0-9]+){1,2}$")))]
    pub communities: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NodeMesh {
    #[default]
    Full,
    None,
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

fn default_asn() -> u32 {
    64512
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
