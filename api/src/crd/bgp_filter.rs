//! `BGPFilter`: which of a peer's routes are accepted.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cidr, ObjectStatus, without_additional_properties};

/// Which of a peer's routes are accepted. Sessions name their filters; the first rule of them all that matches a route
/// decides, and without one the route is accepted within the cluster's prefixes and nowhere else.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "BGPFilter",
    plural = "bgpfilters",
    shortname = "bgpfilter",
    category = "weft",
    doc = "Which of a peer's routes are accepted. Sessions name their filters; the first rule of them all that matches a route decides, and without one the route is accepted within the cluster's prefixes and nowhere else.",
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
pub struct BGPFilterSpec {
    /// In the order in which they are asked.
    #[serde(default)]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub rules: Vec<FilterRule>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = without_additional_properties)]
pub struct FilterRule {
    /// Matches routes to one of these; without them, every route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub prefixes: Option<Vec<PrefixMatch>>,
    /// What becomes of a route that matches.
    pub action: FilterAction,
}

/// The prefix itself, and with a length range also what lies within it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = without_additional_properties)]
pub struct PrefixMatch {
    /// `0.0.0.0/0` and `::/0` are the default routes.
    pub cidr: Cidr,
    /// Least length of a prefix within it. Default: that of `cidr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 128))]
    pub min_length: Option<u8>,
    /// Greatest length of a prefix within it. Default: that of `cidr`, or `minLength` where that is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 128))]
    pub max_length: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FilterAction {
    Accept,
    Reject,
}
