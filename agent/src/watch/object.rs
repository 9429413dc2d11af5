//! One object as the user wrote it, checked and slimmed to the fields that we act on.
//!
//! In: the JSON form of one Kubernetes object. Out: an [`Object`] with its [`ObjectKey`], or a [`Refusal`] that names
//! the object (as far as it could be read) and the field. Pods and nodes are read through slim types of our own (a full
//! Pod costs thirty times the memory); the other kinds strictly, so that a misspelt field cannot widen a policy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weft_api::crd::{BGPConfiguration, BGPConfigurationSpec, BGPPeer, BGPPeerSpec};
use weft_policy::model::{Labels, NamedPort, Pod, PodUid, Policy, Protocol};
use weft_policy::translate;

/// Overrides the AS number of the BGPConfiguration for one node.
pub const ASN_ANNOTATION: &str = "weft.dev/asn";
/// The reason that we give for a node's condition NetworkUnavailable = False.
pub const NETWORK_READY: &str = "WeftIsReady";
/// Set by kubelet on the API's image of a static pod.
const STATIC_POD_UID: &str = "kubernetes.io/config.hash";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Node,
    Namespace,
    Pod,
    NetworkPolicy,
    Secret,
    BgpConfiguration,
    BgpPeer,
}

impl Kind {
    /// By the words of an object's `apiVersion` and `kind`.
    fn from_type(api_version: &str, kind: &str) -> Option<Self> {
        match (api_version, kind) {
            ("v1", "Node") => Some(Self::Node),
            ("v1", "Namespace") => Some(Self::Namespace),
            ("v1", "Pod") => Some(Self::Pod),
            ("networking.k8s.io/v1", "NetworkPolicy") => Some(Self::NetworkPolicy),
            ("v1", "Secret") => Some(Self::Secret),
            ("weft.dev/v1alpha1", "BGPConfiguration") => Some(Self::BgpConfiguration),
            ("weft.dev/v1alpha1", "BGPPeer") => Some(Self::BgpPeer),
            _ => None,
        }
    }

    fn is_namespaced(self) -> bool {
        match self {
            Self::Pod | Self::NetworkPolicy | Self::Secret => true,
            Self::Node | Self::Namespace | Self::BgpConfiguration | Self::BgpPeer => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "Node",
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::Secret => "Secret",
            Self::BgpConfiguration => "BGPConfiguration",
            Self::BgpPeer => "BGPPeer",
        })
    }
}

/// Names an object within the cluster. `namespace` is empty for cluster-scoped kinds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInfo {
    pub uid: Option<String>,
    pub labels: Labels,
    /// The annotation `weft.dev/asn`.
    pub asn: Option<u32>,
    /// In the order of `status.addresses`.
    pub internal_ips: Vec<IpAddr>,
    /// In the order of `spec.podCIDRs`; network addresses, no host bits.
    pub pod_cidrs: Vec<IpNetwork>,
    /// As they stand in `spec.taints`.
    pub taints: Vec<Value>,
    /// The condition NetworkUnavailable is False, and says so for us.
    pub network_available: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    Node(NodeInfo),
    /// With the label that bears its name, as the API server adds it.
    Namespace(Labels),
    Pod(Pod),
    NetworkPolicy(Box<Policy>),
    /// Decoded values.
    Secret(BTreeMap<String, Vec<u8>>),
    BgpConfiguration(BGPConfigurationSpec),
    BgpPeer(BGPPeerSpec),
}

/// Why an object does not act as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `None` when not even the name could be read.
    pub key: Option<ObjectKey>,
    pub reason: String,
}

/// One object of a kind that we read; see [`unknown_kind`] for the others.
pub fn parse(value: &Value) -> Result<(ObjectKey, Object), Refusal> {
    let key = parse_key(value).map_err(|reason| Refusal { key: None, reason })?;
    match parse_object(key.kind, value, Source::Written) {
        Ok(object) => Ok((key, object)),
        Err(reason) => Err(Refusal { key: Some(key), reason }),
    }
}

/// One object of a known kind, from a server that has validated it: items of a list do not say what they are, and fields
/// that are new to us are none of our business.
pub(super) fn parse_served(kind: Kind, value: &Value) -> Result<(ObjectKey, Object), Refusal> {
    let key = served_key(kind, value)
        .ok_or_else(|| Refusal { key: None, reason: format!("metadata.name: a {kind} without") })?;
    match parse_object(kind, value, Source::Served) {
        Ok(object) => Ok((key, object)),
        Err(reason) => Err(Refusal { key: Some(key), reason }),
    }
}

pub(super) fn served_key(kind: Kind, value: &Value) -> Option<ObjectKey> {
    let text = |name: &str| value.get("metadata")?.get(name)?.as_str().filter(|text| !text.is_empty());
    let namespace = text("namespace").unwrap_or_default().to_owned();
    Some(ObjectKey { kind, namespace, name: text("name")?.to_owned() })
}

/// The kind's name when the document is a well-formed object of a kind that we do not read.
pub fn unknown_kind(value: &Value) -> Option<String> {
    let (api_version, kind) = (value.get("apiVersion")?.as_str()?, value.get("kind")?.as_str()?);
    Kind::from_type(api_version, kind).is_none().then(|| format!("{api_version} {kind}"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawIdentity {
    api_version: String,
    kind: String,
    metadata: RawName,
}

#[derive(Deserialize)]
struct RawName {
    name: String,
    namespace: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawMetadata {
    uid: Option<String>,
    labels: Option<Labels>,
    annotations: Option<BTreeMap<String, String>>,
}

fn parse_key(value: &Value) -> Result<ObjectKey, String> {
    let raw: RawIdentity = typed(value)?;
    let kind = Kind::from_type(&raw.api_version, &raw.kind)
        .ok_or_else(|| format!("kind: {} {} is not one that is read here", raw.api_version, raw.kind))?;
    if raw.metadata.name.is_empty() {
        return Err("metadata.name: missing".to_owned());
    }
    let namespace = match (kind.is_namespaced(), raw.metadata.namespace) {
        (true, namespace) => namespace.unwrap_or_else(|| "default".to_owned()),
        (false, None) => String::new(),
        (false, Some(_)) => return Err(format!("metadata.namespace: a {kind} has none")),
    };
    Ok(ObjectKey { kind, namespace, name: raw.metadata.name })
}

/// Who checked an object before us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Nobody.
    Written,
    /// An API server.
    Served,
}

fn parse_object(kind: Kind, value: &Value, source: Source) -> Result<Object, String> {
    match kind {
        Kind::Node => typed::<RawNode>(value)?.try_into().map(Object::Node),
        Kind::Namespace => translate::namespace(&checked::<Namespace>(value, source)?)
            .map(|(_, labels)| Object::Namespace(labels))
            .map_err(|problem| named(&problem)),
        Kind::Pod => typed::<RawPod>(value)?.try_into().map(Object::Pod),
        Kind::NetworkPolicy => {
            network_policy(&checked(value, source)?).map(|policy| Object::NetworkPolicy(Box::new(policy)))
        }
        Kind::Secret => Ok(Object::Secret(secret(checked(value, source)?))),
        Kind::BgpConfiguration => check_configuration(checked::<BGPConfiguration>(value, source)?.spec),
        Kind::BgpPeer => check_peer(checked::<BGPPeer>(value, source)?.spec),
    }
}

/// As `T`, with the path of the offending field in the error.
fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.into_inner();
        if path == "." { reason.to_string() } else { format!("{path}: {reason}") }
    })
}

fn checked<T: DeserializeOwned + Serialize>(value: &Value, source: Source) -> Result<T, String> {
    match source {
        Source::Written => strict(value),
        Source::Served => typed(value),
    }
}

/// As `T`, refusing fields that `T` does not have, as `kubectl apply` does.
fn strict<T: DeserializeOwned + Serialize>(value: &Value) -> Result<T, String> {
    let object: T = typed(value)?;
    let understood = serde_json::to_value(&object).map_err(|error| error.to_string())?;
    match unknown_field(value, &understood) {
        Some(path) => Err(format!("{path}: unknown field")),
        None => Ok(object),
    }
}

/// The path of the first field with a value that `understood` lacks.
fn unknown_field(written: &Value, understood: &Value) -> Option<String> {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => written
            .iter()
            .filter(|(_, value)| !value.is_null())
            .find_map(|(name, value)| match understood.get(name) {
                None => Some(name.clone()),
                Some(inner) => unknown_field(value, inner).map(|rest| join(name, &rest)),
            }),
        (Value::Array(written), Value::Array(understood)) => {
            let pairs = written.iter().zip(understood).enumerate();
            pairs.into_iter().find_map(|(index, (written, understood))| {
                unknown_field(written, understood).map(|rest| join(&format!("[{index}]"), &rest))
            })
        }
        _ => None,
    }
}

fn join(name: &str, rest: &str) -> String {
    if rest.starts_with('[') { format!("{name}{rest}") } else { format!("{name}.{rest}") }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawNode {
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
#[serde(default)]
struct RawCondition {
    r#type: String,
    status: String,
    reason: String,
}

impl RawCondition {
    fn says_that_our_network_is_there(&self) -> bool {
        self.r#type == "NetworkUnavailable" && self.status == "False" && self.reason == NETWORK_READY
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
        let asn = match raw
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(ASN_ANNOTATION))
        {
            None => None,
            Some(text) => Some(text.parse().ok().filter(|asn| *asn != 0).ok_or_else(|| {
                format!(
                    "metadata.annotations[{ASN_ANNOTATION}]: {text:?} is not a number from 1 to 4294967295"
                )
            })?),
        };
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
        Ok(Self {
            uid: raw.metadata.uid,
            labels: raw.metadata.labels.unwrap_or_default(),
            asn,
            internal_ips,
            pod_cidrs: cidrs.into_iter().map(without_host_bits).collect(),
            taints: raw.spec.taints,
            network_available: raw.status.conditions.iter().any(RawCondition::says_that_our_network_is_there),
        })
    }
}

/// The prefix itself: `10.1.2.3/16` becomes `10.1.0.0/16`.
pub fn without_host_bits(prefix: IpNetwork) -> IpNetwork {
    IpNetwork::new(prefix.network(), prefix.prefix()).expect("the length was valid for the same family")
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawPod {
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
            labels: raw.metadata.labels.unwrap_or_default(),
            ports: named_ports(raw.spec.containers, raw.spec.init_containers)?,
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

/// As in the API server, a policy with any part that cannot be understood is refused as a whole.
fn network_policy(object: &NetworkPolicy) -> Result<Policy, String> {
    let policy = translate::policy(object).map_err(|problem| named(&problem))?;
    match policy.problems.first() {
        None => Ok(policy),
        Some(problem) => Err(named(problem)),
    }
}

/// What stands in for a policy that is refused and of which no good version is known: the pods that it selects, as
/// far as that can be read, are isolated in the directions that it names.
pub fn closed(key: &ObjectKey, written: &Value) -> Option<Object> {
    if key.kind != Kind::NetworkPolicy {
        return None;
    }
    let spec = written.get("spec");
    let selector = spec.and_then(|spec| spec.get("podSelector")).map(strict::<LabelSelector>);
    let types = spec.and_then(|spec| spec.get("policyTypes")).map(typed::<Vec<String>>);
    let names_egress = spec.is_some_and(|spec| spec.get("egress").is_some());
    let default =
        || [Some("Ingress"), names_egress.then_some("Egress")].into_iter().flatten().map(str::to_owned);
    let spec = NetworkPolicySpec {
        pod_selector: Some(selector.and_then(Result::ok).unwrap_or_default()),
        policy_types: Some(types.and_then(Result::ok).unwrap_or_else(|| default().collect())),
        ..NetworkPolicySpec::default()
    };
    let metadata = ObjectMeta {
        name: Some(key.name.clone()),
        namespace: Some(key.namespace.clone()),
        ..ObjectMeta::default()
    };
    // A direction or a selector that makes no sense isolates all pods of the namespace.
    let policy = translate::policy(&NetworkPolicy { metadata, spec: Some(spec) }).ok()?;
    Some(Object::NetworkPolicy(Box::new(policy)))
}

fn named(problem: &weft_policy::model::Problem) -> String {
    format!("{}: {}", problem.field, problem.reason)
}

/// `stringData` wins over `data`, as in the API server.
fn secret(raw: Secret) -> BTreeMap<String, Vec<u8>> {
    let mut values: BTreeMap<_, _> =
        raw.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)).collect();
    values.extend(raw.string_data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.into_bytes())));
    values
}

/// The ranges that the schema's comments promise.
fn check_configuration(spec: BGPConfigurationSpec) -> Result<Object, String> {
    check_asn("spec.asn", spec.asn)?;
    check_hold_time("spec.holdTimeSeconds", spec.hold_time_seconds)?;
    check_range("spec.listenPort", spec.listen_port, 1, u16::MAX)?;
    check_range("spec.connectRetrySeconds", spec.connect_retry_seconds, 1, u16::MAX)?;
    check_range("spec.gracefulRestartSeconds", spec.graceful_restart_seconds, 0, 4095)?;
    check_range("spec.maxPaths", spec.max_paths, 1, 64)?;
    check_cidrs("spec.clusterCidrs", &spec.cluster_cidrs)?;
    Ok(Object::BgpConfiguration(spec))
}

fn check_peer(spec: BGPPeerSpec) -> Result<Object, String> {
    if let weft_api::crd::PeerAsn::Number(asn) = spec.asn {
        check_asn("spec.asn", asn)?;
    }
    check_range("spec.port", spec.port, 1, u16::MAX)?;
    check_range("spec.maxPrefixes", spec.max_prefixes, 1, 10_000_000)?;
    if let Some(seconds) = spec.hold_time_seconds {
        check_hold_time("spec.holdTimeSeconds", seconds)?;
    }
    if let Some(hops) = spec.multihop {
        check_range("spec.multihop", hops, 2, 255)?;
    }
    if let Some(hops) = spec.ttl_security {
        check_range("spec.ttlSecurity", hops, 1, 254)?;
    }
    if spec.multihop.is_some() && spec.ttl_security.is_some() {
        return Err("spec.ttlSecurity: excludes multihop".to_owned());
    }
    if spec.families.is_empty() {
        return Err("spec.families: empty".to_owned());
    }
    check_cidrs("spec.acceptCidrs", &spec.accept_cidrs)?;
    Ok(Object::BgpPeer(spec))
}

fn check_asn(field: &str, asn: u32) -> Result<(), String> {
    check_range(field, asn, 1, u32::MAX)
}

fn check_hold_time(field: &str, seconds: u16) -> Result<(), String> {
    if matches!(seconds, 1 | 2) {
        Err(format!("{field}: {seconds} is neither 0 nor 3-65535"))
    } else {
        Ok(())
    }
}

fn check_range<T: Copy + PartialOrd + fmt::Display>(
    field: &str,
    value: T,
    low: T,
    high: T,
) -> Result<(), String> {
    if value < low || value > high {
        Err(format!("{field}: {value} is not within {low}-{high}"))
    } else {
        Ok(())
    }
}

fn check_cidrs(field: &str, cidrs: &[String]) -> Result<(), String> {
    for (index, text) in cidrs.iter().enumerate() {
        parse_cidr(text).map_err(|reason| format!("{field}[{index}]: {reason}"))?;
    }
    Ok(())
}

/// With its length written out: a bare address is no prefix. Host bits are dropped.
pub fn parse_cidr(text: &str) -> Result<IpNetwork, String> {
    match text.parse::<IpNetwork>() {
        Ok(prefix) if text.contains('/') => Ok(without_host_bits(prefix)),
        _ => Err(format!("{text:?} is no prefix")),
    }
}

#[cfg(test)]
mod tests;
