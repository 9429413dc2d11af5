//! The custom resources of group `weft.dev/v1alpha1`, all cluster-scoped. A field exists when something acts on it.
//!
//! The schema that an API server enforces is generated from these types (`make crds`). What a schema cannot say is
//! checked by the agent, which answers with a condition.

#[expect(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "KubeSchema derives a twin of each struct; columns repeat keys"
)]
mod bgp_advertisement;
#[expect(unreachable_pub, reason = "KubeSchema derives a twin of each struct inside a function")]
mod bgp_configuration;
#[expect(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "KubeSchema derives a twin of each struct; columns repeat keys"
)]
mod bgp_filter;
#[expect(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "KubeSchema derives a twin of each struct; columns repeat keys"
)]
mod bgp_node_override;
#[expect(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "KubeSchema derives a twin of each struct; columns repeat keys"
)]
mod bgp_peer;
mod community;
#[expect(unreachable_pub, reason = "KubeSchema derives a twin of each struct inside a function")]
mod session;
#[cfg(test)]
mod tests;
mod text;
#[expect(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "KubeSchema derives a twin of each struct; columns repeat keys"
)]
mod weft_node;

pub use bgp_advertisement::{BGPAdvertisement, BGPAdvertisementSpec};
pub use bgp_configuration::{BGPConfiguration, BGPConfigurationSpec, GracefulRestart, NodeMesh};
pub use bgp_filter::{
    AsPathMatch, BGPFilter, BGPFilterSpec, CommunityChange, FilterAction, FilterRule, PathOrigin,
    PrefixMatch, RouteChange,
};
pub use bgp_node_override::{BGPNodeOverride, BGPNodeOverrideSpec};
pub use bgp_peer::{AsnRule, BGPPeer, BGPPeerProfile, BGPPeerProfileSpec, BGPPeerSpec, PeerAsn};
pub use community::{
    Community, CommunityAdministrator, CommunityPatternText, CommunityPurpose, CommunityText,
};
pub use session::{Family, Limits, SecretKeyRef, Security, SessionSettings, Timers};
pub use text::Cidr;
pub use weft_node::{
    PeerDown, PeerSessions, PolicySummary, PoolSummary, WeftNode, WeftNodeSpec, WeftNodeStatus,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResourceExt as _;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

/// Every definition, in the order in which the chart installs them.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![
        BGPConfiguration::crd(),
        BGPPeer::crd(),
        BGPPeerProfile::crd(),
        BGPNodeOverride::crd(),
        BGPFilter::crd(),
        BGPAdvertisement::crd(),
        WeftNode::crd(),
    ]
}

/// What the agents made of an object that users write.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// `Accepted`: whether the object is in force as written; the reason why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What the agents made of a BGPPeer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BGPPeerStatus {
    /// Established sessions of the nodes that have this peer, like `38/40`; up to a minute old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_established: Option<String>,
    #[serde(flatten)]
    pub object: ObjectStatus,
}

/// A directory refuses unknown fields; an API server prunes them, and its schema has no word for refusal.
fn without_additional_properties(schema: &mut Schema) {
    schema.remove("additionalProperties");
}

fn default_port() -> u16 {
    179
}
