//! `BGPPeer`: a router, and the nodes that peer with it. `BGPPeerProfile`: what many peers have in common.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BGPPeerStatus, ObjectStatus, SessionSettings, without_additional_properties};

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
    status = "BGPPeerStatus",
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.address"),
    printcolumn(name = "AS", type_ = "string", json_path = ".spec.asn"),
    printcolumn(name = "Profile", type_ = "string", json_path = ".spec.profile"),
    printcolumn(name = "Established", type_ = "string", json_path = ".status.sessionsEstablished"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].status"
    ),
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
#[x_kube(validation = Rule::new("has(self.address)").message("exactly one of: address"))]
pub struct BGPPeerSpec {
    /// The nodes that have this peer. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// The router's address; of the family that the session runs over. One of the ways to say who the peer is, of which
    /// exactly one must be given; there is no other yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(max = 45))]
    #[x_kube(validation = Rule::new("isIP(self)").message("an IPv4 or IPv6 address"))]
    pub address: Option<IpAddr>,
    /// The router's TCP port, 1-65535. Default: 179.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// The router's AS: a number 1-4294967295, `internal` (same as ours) or `external` (any other).
    #[x_kube(validation = Rule::new(
        "type(self) == int ? self >= 1 && self <= 4294967295 : self in ['internal', 'external']"
    ).message("a number 1-4294967295, `internal` or `external`"))]
    pub asn: PeerAsn,
    /// Wait for the router to connect; never dial. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive: Option<bool>,
    /// A BGPPeerProfile, by name: what `session` does not say is as there. Without that profile there is no session.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub profile: Option<String>,
    /// What this session has of its own.
    #[serde(default)]
    pub session: SessionSettings,
}

/// What many BGPPeers have in common; each names its profile.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "BGPPeerProfile",
    plural = "bgppeerprofiles",
    shortname = "bgpprofile",
    category = "weft",
    doc = "What many BGPPeers have in common; each names its profile.",
    derive = "PartialEq",
    derive = "Default",
    status = "ObjectStatus",
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].status"
    ),
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
pub struct BGPPeerProfileSpec {
    /// Of every session with a peer of this profile, where the BGPPeer itself does not say otherwise.
    #[serde(default)]
    pub session: SessionSettings,
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

impl JsonSchema for PeerAsn {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PeerAsn".into()
    }

    /// Structural: Kubernetes knows `x-kubernetes-int-or-string`, not `anyOf` of two types.
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "x-kubernetes-int-or-string": true })
    }
}
