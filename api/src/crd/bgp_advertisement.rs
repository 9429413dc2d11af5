//! `BGPAdvertisement`: with what nodes announce their routes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{CommunityText, ObjectStatus, without_additional_properties};

/// With what the selected nodes announce their pod CIDRs. A node that several of these select takes from all of them.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "BGPAdvertisement",
    plural = "bgpadvertisements",
    shortname = "bgpadv",
    category = "weft",
    doc = "With what the selected nodes announce their pod CIDRs. A node that several of these select takes from all of them.",
    derive = "PartialEq",
    derive = "Default",
    status = "ObjectStatus",
    printcolumn(name = "Communities", type_ = "string", json_path = ".spec.communities"),
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
pub struct BGPAdvertisementSpec {
    /// The nodes that announce so. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// Attached to each route: `ASN:VALUE`, `GLOBAL:LOCAL1:LOCAL2`, `rt:ASN:VALUE`, `soo:ADDRESS:VALUE` or a name like
    /// `no-export`. Default: none.
    #[serde(default)]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub communities: Vec<CommunityText>,
}
