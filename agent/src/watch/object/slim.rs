//! Nodes and pods, read through types that hold only what we act on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde_json::Value;
use weft_policy::model::{Labels, NamedPort, Pod, PodUid, Protocol};

use super::{NETWORK_READY, NodeInfo};

/// Set by kubelet on the API's image of a static pod.
const STATIC_POD_UID: &str = "kubernetes.io/config.mirror";

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawMetadata {
    uid: Option<String>,
    labels: Option<Labels>,
    annotations: Option<BTreeMap<String, String>>,
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

/// The prefix itself: `10.1.2.3/16` becomes `10.1.0.0/16`.
pub fn without_host_bits(prefix: IpNetwork) -> IpNetwork {
    IpNetwork::new(prefix.network(), prefix.prefix()).expect("the length was valid for the same family")
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RawPod {
    metadata: RawMetadata,
    spec: RawPodSpec,
    status: RawPodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPodSpec {
    node_name: Option<String>,
    host_network: bool,
    containers: Vec<RawContainer>,
    init_containers: Vec<RawContainer>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawContainer {
    restart_policy: Option<String>,
    ports: Vec<RawContainerPort>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContainerPort {
    name: Option<String>,
    protocol: Option<String>,
    container_port: u16,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<RawPodIp>,
}

#[derive(Deserialize)]
struct RawPodIp {
    ip: String,
}

impl TryFrom<RawPod> for Pod {
    type Error = String;

    fn try_from(raw: RawPod) -> Result<Self, String> {
        Ok(Self {
            ips: pod_ips(&raw.status)?,
            active: is_active(raw.status.phase.as_deref())?,
            uid: uid(&raw.metadata),
            labels: Arc::new(raw.metadata.labels.unwrap_or_default()),
            ports: Arc::new(named_ports(raw.spec.containers, raw.spec.init_containers)?),
            host_network: raw.spec.host_network,
            node: raw.spec.node_name,
        })
    }
}

/// What the runtime calls the pod: for the API's image of a static pod, that pod's own uid.
fn uid(metadata: &RawMetadata) -> Option<PodUid> {
    let of_static_pod = metadata.annotations.as_ref().and_then(|annotations| annotations.get(STATIC_POD_UID));
    of_static_pod.or(metadata.uid.as_ref()).filter(|uid| !uid.is_empty()).cloned().map(PodUid)
}

/// `Unknown` means that its node does not answer; the pod may well run.
fn is_active(phase: Option<&str>) -> Result<bool, String> {
    match phase {
        None | Some("" | "Pending" | "Running" | "Unknown") => Ok(true),
        Some("Succeeded" | "Failed") => Ok(false),
        Some(other) => Err(format!("status.phase: {other:?} is no phase")),
    }
}

/// `podIPs`, and `podIP` for those who write only that.
fn pod_ips(status: &RawPodStatus) -> Result<BTreeSet<IpAddr>, String> {
    let single = status.pod_ip.iter().map(|text| ("status.podIP".to_owned(), text));
    let many =
        status.pod_ips.iter().enumerate().map(|(i, entry)| (format!("status.podIPs[{i}].ip"), &entry.ip));
    single
        .chain(many)
        .filter(|(_, text)| !text.is_empty())
        .map(|(field, text)| text.parse().map_err(|_| format!("{field}: {text:?} is no address")))
        .collect()
}

fn named_ports(
    containers: Vec<RawContainer>,
    init: Vec<RawContainer>,
) -> Result<BTreeSet<NamedPort>, String> {
    let sidecars = init.into_iter().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = containers.into_iter().chain(sidecars).flat_map(|container| container.ports);
    ports
        .filter_map(|port| Some((port.name?, port.protocol, port.container_port)))
        .map(|(name, protocol, port)| {
            let protocol = match protocol.as_deref() {
                None | Some("" | "TCP") => Protocol::Tcp,
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                Some(other) => return Err(format!("spec.containers.ports.protocol: {other:?} is none")),
            };
            Ok(NamedPort { name, protocol, port })
        })
        .collect()
}
