//! `BGPFilter`: which routes a session lets in or out, and what they become.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cidr, CommunityPatternText, CommunityText, Family, ObjectStatus, without_additional_properties};

/// Which routes a session lets in or out, and what they become. Sessions name their filters; the first rule of them all that
/// matches a route and accepts or rejects it decides. Where none does, a route is accepted within the cluster's prefixes and
/// nowhere else, and goes out as it would without filters.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "BGPFilter",
    plural = "bgpfilters",
    shortname = "bgpfilter",
    category = "weft",
    doc = "Which routes a session lets in or out, and what they become. Sessions name their filters; the first rule of them all that matches a route and accepts or rejects it decides. Where none does, a route is accepted within the cluster's prefixes and nowhere else, and goes out as it would without filters.",
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
#[x_kube(validation = Rule::new("self.action != 'reject' || !has(self.set)").message("a route that is rejected is not changed"))]
pub struct FilterRule {
    /// Matches routes of these. Default: of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2), extend("x-kubernetes-list-type" = "set"))]
    pub families: Option<Vec<Family>>,
    /// Matches routes to one of these; without them, every route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub prefixes: Option<Vec<PrefixMatch>>,
    /// Matches routes with one of these: as in `set`, where each number may also be a range (`65000:100-199`) or `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub communities: Option<Vec<CommunityPatternText>>,
    /// Matches routes by the systems that they have crossed: our own is not among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_path: Option<AsPathMatch>,
    /// Matches routes of these origins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub origins: Option<Vec<PathOrigin>>,
    /// What becomes of a route that matches all of the above.
    pub action: FilterAction,
    /// What such a route is changed to, before rules further down see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<RouteChange>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = without_additional_properties)]
pub struct AsPathMatch {
    /// Least number of systems; one that is there twice counts twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_length: Option<u32>,
    /// Greatest number of systems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u32>,
    /// One of these is among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(range(min = 1)), extend("x-kubernetes-list-type" = "set"))]
    pub contains: Option<Vec<u32>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PathOrigin {
    Igp,
    Egp,
    Incomplete,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = without_additional_properties)]
pub struct RouteChange {
    /// LOCAL_PREF: higher is preferred, 100 is what routes have. Not seen by external peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_preference: Option<u32>,
    /// MULTI_EXIT_DISC: lower is preferred among routes of one neighbouring AS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub med: Option<u32>,
    /// How often our AS, or on the way in that of the peer, is put in front of the path once more, 1-16. Only towards and from
    /// external peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub prepend: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub communities: Option<CommunityChange>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = without_additional_properties)]
#[x_kube(validation = Rule::new("!has(self.replace) || !has(self.remove) && !has(self.add)").message("replace stands alone"))]
pub struct CommunityChange {
    /// Those that match one of these are taken away, before others are added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub remove: Option<Vec<CommunityPatternText>>,
    /// `ASN:VALUE`, `GLOBAL:LOCAL1:LOCAL2`, `rt:ASN:VALUE` or `soo:ADDRESS:VALUE`, or one of `graceful-shutdown`, `no-export`,
    /// `no-advertise`, `blackhole`, `llgr-stale`, `no-llgr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub add: Option<Vec<CommunityText>>,
    /// In the place of all standard and large communities. Extended ones stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub replace: Option<Vec<CommunityText>>,
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
    /// Rules further down decide.
    Next,
}
