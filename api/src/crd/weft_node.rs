//! `WeftNode`: one per node, named after it, written by its agent. Users read it and never write it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::control::{PodMtu, Problem};

/// What the agent of a node reports. Everything is in `status`.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "WeftNode",
    plural = "weftnodes",
    shortname = "wn",
    category = "weft",
    doc = "What the agent of a node reports. Written by the agent; everything is in `status`.",
    derive = "PartialEq",
    derive = "Default",
    status = "WeftNodeStatus",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(name = "Peers", type_ = "string", json_path = ".status.peersEstablished"),
    printcolumn(name = "Routes", type_ = "integer", json_path = ".status.routes"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.pods"),
    printcolumn(name = "Problems", type_ = "integer", json_path = ".status.problemCount"),
    printcolumn(name = "Observed", type_ = "date", json_path = ".status.observedTime"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct WeftNodeSpec {}

/// Small, whatever goes wrong on the node: lists hold the first few, the control API of the node has the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WeftNodeStatus {
    /// The agent's version.
    pub version: String,
    /// When the agent last said so; five minutes apart where nothing changes.
    pub observed_time: Option<Time>,
    /// `Ready`: routes and policy are in the kernel.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Established of all, like `2/3`.
    pub peers_established: String,
    /// The first five that are not established, BGPPeers before fellow nodes.
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub peers_down: Vec<PeerDown>,
    /// BGPPeers that this node has sessions with, up or not; the first sixteen by name.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub bgp_peers: Vec<PeerSessions>,
    /// Kernel routes of ours, both families. This and the other counts are up to a minute old.
    pub routes: u32,
    /// Pods with an address of ours.
    pub pods: u32,
    /// The first four.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["cidr"]))]
    pub pools: Vec<PoolSummary>,
    pub policy: PolicySummary,
    pub pod_mtu: Option<PodMtu>,
    /// Objects that do not act as written on this node.
    pub problem_count: u32,
    /// The first five of them, each with its reason.
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub problems: Vec<Problem>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerDown {
    /// The BGPPeer's name, or `mesh/NODE`.
    pub name: String,
    pub address: String,
    /// When the agent first saw it so.
    pub since: Option<Time>,
    /// Why it went down, or why the last attempt failed.
    pub last_error: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerSessions {
    /// The BGPPeer's name.
    pub name: String,
    pub established: u32,
    /// Established or not.
    pub total: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolSummary {
    pub cidr: String,
    pub size: u64,
    pub used: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicySummary {
    /// Commits to the kernel since the agent started.
    pub revision: u64,
    pub policies: u32,
}
