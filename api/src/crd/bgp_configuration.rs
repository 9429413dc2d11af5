//! `BGPConfiguration`: what all nodes and sessions of the cluster share.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cidr, ObjectStatus, SessionSettings, default_port, without_additional_properties};

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
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = without_additional_properties)]
pub struct BGPConfigurationSpec {
    /// The nodes' AS number, 1-4294967295. A BGPNodeOverride may give a node another. Nodes take another one in turn, within a
    /// minute. Default: 64512.
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
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub cluster_cidrs: Vec<Cidr>,
    /// Next hops of one kernel route, 1-64. Default: 8.
    #[serde(default = "default_multipath")]
    #[schemars(range(min = 1, max = 64))]
    pub max_paths: u8,
    /// What routers do while an agent restarts (RFC 4724).
    #[serde(default)]
    pub graceful_restart: GracefulRestart,
    /// Of every session, those of the mesh among them, where neither its BGPPeer nor that peer's profile says otherwise.
    #[serde(default)]
    pub session: SessionSettings,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = without_additional_properties)]
pub struct GracefulRestart {
    /// Seconds that peers keep our routes while we restart, 0 (off) to 4095; agreed when a session begins. Default: 120.
    #[serde(default = "default_restart_time")]
    #[schemars(range(max = 4095))]
    pub restart_seconds: u16,
}

impl Default for GracefulRestart {
    fn default() -> Self {
        Self { restart_seconds: default_restart_time() }
    }
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
            max_paths: default_multipath(),
            graceful_restart: GracefulRestart::default(),
            session: SessionSettings::default(),
        }
    }
}

fn default_asn() -> u32 {
    64512
}
fn default_restart_time() -> u16 {
    120
}
fn default_multipath() -> u8 {
    8
}
