//! Nodes, read through types that hold only what we act on.

use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde_json::Value;
use weft_api::prefix::without_host_bits;
use weft_policy::model::Labels;

use super::{NETWORK_READY, NodeInfo};

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawMetadata {
    uid: Option<String>,
    labels: Option<Labels>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RawNode {
    metadata: RawMetadata,
    spec: RawNodeSpec,
    status: RawNodeStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawNodeSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<IpNetwork>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<IpNetwork>,
    taints: Vec<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawNodeStatus {
    addresses: Vec<RawNodeAddress>,
    conditions: Vec<RawCondition>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawCondition {
    r#type: String,
    status: String,
    reason: String,
    last_transition_time: Option<String>,
}

impl RawCondition {
    fn says_that_a_network_is_there(&self) -> bool {
        self.r#type == "NetworkUnavailable" && self.status == "False"
    }
}

#[derive(Deserialize)]
struct RawNodeAddress {
    r#type: String,
    address: String,
}

impl TryFrom<RawNode> for NodeInfo {
    type Error = String;

    fn try_from(raw: RawNode) -> Result<Self, String> {
        let mut internal_ips = Vec::new();
        for (index, address) in
            raw.status.addresses.iter().enumerate().filter(|(_, a)| a.r#type == "InternalIP")
        {
            internal_ips.push(address.address.parse().map_err(|_| {
                format!("status.addresses[{index}].address: {:?} is no address", address.address)
            })?);
        }
        let cidrs = if raw.spec.pod_cidrs.is_empty() {
            raw.spec.pod_cidr.into_iter().collect()
        } else {
            raw.spec.pod_cidrs
        };
        let available = raw.status.conditions.into_iter().find(RawCondition::says_that_a_network_is_there);
        Ok(Self {
            uid: raw.metadata.uid,
            labels: raw.metadata.labels.unwrap_or_default(),
            internal_ips,
            pod_cidrs: cidrs.into_iter().map(without_host_bits).collect(),
            taints: raw.spec.taints,
            network_available: available.as_ref().is_some_and(|condition| condition.reason == NETWORK_READY),
            available_since: available.and_then(|condition| condition.last_transition_time),
        })
    }
}
