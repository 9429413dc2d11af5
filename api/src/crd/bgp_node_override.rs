//! `BGPNodeOverride`: how some nodes speak BGP otherwise than the cluster does.

use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{ObjectStatus, without_additional_properties};

/// How the selected nodes speak BGP otherwise than the BGPConfiguration says. Where two of these say different things of one
/// node, the first by name counts.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "BGPNodeOverride",
    plural = "bgpnodeoverrides",
    shortname = "bgpnode",
    category = "weft",
    doc = "How the selected nodes speak BGP otherwise than the BGPConfiguration says. Where two of these say different things of one node, the first by name counts.",
    derive = "PartialEq",
    derive = "Default",
    status = "ObjectStatus",
    printcolumn(name = "AS", type_ = "integer", json_path = ".spec.asn"),
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
pub struct BGPNodeOverrideSpec {
    /// The nodes that it is about; an empty selector is all of them.
    pub node_selector: LabelSelector,
    /// Their AS number, 1-4294967295. Default: that of the BGPConfiguration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub asn: Option<u32>,
    /// TCP port to listen on and to be reached at by fellow nodes, 1-65535. Default: that of the BGPConfiguration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub listen_port: Option<u16>,
    /// The BGP identifier, not 0.0.0.0; for an override that selects one node. Default: the first IPv4 InternalIP, or a
    /// number out of the node's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(max = 15))]
    pub router_id: Option<Ipv4Addr>,
    /// What the node speaks BGP from, is reached at by fellow nodes, and names as next hop, one per family; for an override
    /// that selects one node. Default: the InternalIPs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>", length(min = 1, max = 2), inner(length(max = 45)), extend("x-kubernetes-list-type" = "set"))]
    #[x_kube(validation = Rule::new("self.all(ip, isIP(ip))").message("every entry is an IPv4 or IPv6 address"))]
    pub local_addresses: Option<Vec<IpAddr>>,
}
