//! One object as the user wrote it, checked and slimmed to the fields that we act on.
//!
//! In: the JSON form of one Kubernetes object. Out: an [`Object`] with its [`ObjectKey`], or a [`Refusal`] that names
//! the object (as far as it could be read) and the field. Pods and nodes are read through types that hold no more; the
//! other kinds strictly, so that a misspelt field cannot widen a policy.

mod name;
mod node;
mod ranges;
mod schema;
mod typed;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use serde::Deserialize;
use serde_json::Value;
use weft_api::crd::{
    BGPAdvertisement, BGPAdvertisementSpec, BGPConfiguration, BGPConfigurationSpec, BGPFilter, BGPFilterSpec,
    BGPNodeOverride, BGPNodeOverrideSpec, BGPPeer, BGPPeerProfile, BGPPeerProfileSpec, BGPPeerSpec,
};
use weft_policy::model::{Labels, Pod, Policy};
use weft_policy::translate;

pub(crate) use self::name::CONFIGURATION;
pub use self::name::is_subdomain;
use self::node::RawNode;
use self::typed::{checked, strict, typed};

/// Where a directory's Secrets must be, as is usual for those of agents on Kubernetes: passwords of BGP are no tenant's.
const SECRETS: &str = "weft-system";
/// The reason that we give for a node's condition NetworkUnavailable = False.
pub const NETWORK_READY: &str = "WeftIsReady";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Node,
    Namespace,
    Pod,
    NetworkPolicy,
    Secret,
    BgpConfiguration,
    BgpPeer,
    BgpPeerProfile,
    BgpNodeOverride,
    BgpFilter,
    BgpAdvertisement,
}

impl Kind {
    /// Our own that users write: agents say of each whether it is in force.
    pub const OURS: [Self; 6] = [
        Self::BgpConfiguration,
        Self::BgpPeer,
        Self::BgpPeerProfile,
        Self::BgpNodeOverride,
        Self::BgpFilter,
        Self::BgpAdvertisement,
    ];

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
            ("weft.dev/v1alpha1", "BGPPeerProfile") => Some(Self::BgpPeerProfile),
            ("weft.dev/v1alpha1", "BGPNodeOverride") => Some(Self::BgpNodeOverride),
            ("weft.dev/v1alpha1", "BGPFilter") => Some(Self::BgpFilter),
            ("weft.dev/v1alpha1", "BGPAdvertisement") => Some(Self::BgpAdvertisement),
            _ => None,
        }
    }

    fn is_namespaced(self) -> bool {
        match self {
            Self::Pod | Self::NetworkPolicy | Self::Secret => true,
            Self::Node
            | Self::Namespace
            | Self::BgpConfiguration
            | Self::BgpPeer
            | Self::BgpPeerProfile
            | Self::BgpNodeOverride
            | Self::BgpFilter
            | Self::BgpAdvertisement => false,
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
            Self::BgpPeerProfile => "BGPPeerProfile",
            Self::BgpNodeOverride => "BGPNodeOverride",
            Self::BgpFilter => "BGPFilter",
            Self::BgpAdvertisement => "BGPAdvertisement",
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

impl ObjectKey {
    /// Of a kind whose objects are in no namespace.
    pub fn cluster(kind: Kind, name: &str) -> Self {
        Self { kind, namespace: String::new(), name: name.to_owned() }
    }
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
    /// In the order of `status.addresses`.
    pub internal_ips: Vec<IpAddr>,
    /// In the order of `spec.podCIDRs`; network addresses, no host bits.
    pub pod_cidrs: Vec<IpNetwork>,
    /// As they stand in `spec.taints`.
    pub taints: Vec<Value>,
    /// The condition NetworkUnavailable is False, and says so for us.
    pub network_available: bool,
    /// Since when the condition NetworkUnavailable is False, whoever said so.
    pub available_since: Option<String>,
}

/// Cheap to clone where there are many: snapshots share them.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    Node(Arc<NodeInfo>),
    /// With the label that bears its name, as the API server adds it.
    Namespace(Labels),
    Pod(Arc<Pod>),
    NetworkPolicy(Arc<Policy>),
    /// Decoded values.
    Secret(BTreeMap<String, Vec<u8>>),
    BgpConfiguration(BGPConfigurationSpec),
    BgpPeer(BGPPeerSpec),
    BgpPeerProfile(BGPPeerProfileSpec),
    BgpNodeOverride(BGPNodeOverrideSpec),
    BgpFilter(BGPFilterSpec),
    BgpAdvertisement(BGPAdvertisementSpec),
}

impl Object {
    /// Of our own kinds: what it says, and what it means by saying nothing.
    pub fn spec(&self) -> Option<Value> {
        let spec = match self {
            Self::BgpConfiguration(spec) => serde_json::to_value(spec),
            Self::BgpPeer(spec) => serde_json::to_value(spec),
            Self::BgpPeerProfile(spec) => serde_json::to_value(spec),
            Self::BgpNodeOverride(spec) => serde_json::to_value(spec),
            Self::BgpFilter(spec) => serde_json::to_value(spec),
            Self::BgpAdvertisement(spec) => serde_json::to_value(spec),
            Self::Node(_) | Self::Namespace(_) | Self::Pod(_) | Self::NetworkPolicy(_) | Self::Secret(_) => {
                return None;
            }
        };
        spec.ok()
    }
}

/// Why an object does not act as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// `None` when not even the name could be read.
    pub key: Option<ObjectKey>,
    pub reason: String,
    /// What acts in its place where no good version is known; else nothing does.
    pub closed: Option<Box<Object>>,
}

impl Refusal {
    pub(crate) fn nameless(reason: String) -> Self {
        Self { key: None, reason, closed: None }
    }

    fn of(key: ObjectKey, value: &Value, reason: String) -> Self {
        let closed = closed(&key, value).map(Box::new);
        Self { key: Some(key), reason, closed }
    }
}

/// What is said of a refused object while its stand-in acts.
pub fn isolating(reason: &str) -> String {
    format!("{reason}; until it can be read the pods that it selects are isolated")
}

/// One object of a kind that we read; see [`unknown_kind`] for the others.
pub fn parse(value: &Value) -> Result<(ObjectKey, Object), Refusal> {
    let key = identity(value).map_err(Refusal::nameless)?;
    let object = name::check(&key).and_then(|()| parse_object(key.kind, value, Source::Written));
    match object.and_then(|object| schema::check(key.kind, value).map(|()| object)) {
        Ok(object) => Ok((key, object)),
        Err(reason) => Err(Refusal::of(key, value, reason)),
    }
}

/// One object that names its kind, and was valid once.
pub fn parse_kept(value: &Value) -> Result<(ObjectKey, Object), String> {
    let key = identity(value)?;
    parse_object(key.kind, value, Source::Served).map(|object| (key, object))
}

/// One object of a known kind, from a server that has validated it: items of a list do not say what they are, and fields
/// that are new to us are none of our business.
pub fn parse_served(kind: Kind, value: &Value) -> Result<(ObjectKey, Object), Refusal> {
    let key = served_key(kind, value)
        .ok_or_else(|| Refusal::nameless(format!("metadata.name: a {kind} without")))?;
    match parse_object(kind, value, Source::Served) {
        Ok(object) => Ok((key, object)),
        Err(reason) => Err(Refusal::of(key, value, reason)),
    }
}

pub fn served_key(kind: Kind, value: &Value) -> Option<ObjectKey> {
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

/// Which object it is, of a kind that we read, whatever else is in it.
pub fn identity(value: &Value) -> Result<ObjectKey, String> {
    if !value.is_object() {
        return Err("no object: it has no fields".to_owned());
    }
    let raw: RawIdentity = typed(value)?;
    let kind = Kind::from_type(&raw.api_version, &raw.kind)
        .ok_or_else(|| format!("kind: {} {} is not one that is read here", raw.api_version, raw.kind))?;
    if raw.metadata.name.is_empty() {
        return Err("metadata.name: missing".to_owned());
    }
    let namespace = match (kind.is_namespaced(), raw.metadata.namespace) {
        (true, None) if kind == Kind::Secret => SECRETS.to_owned(),
        (true, Some(other)) if kind == Kind::Secret && other != SECRETS => {
            return Err(format!("metadata.namespace: Secrets are read of {SECRETS} only"));
        }
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
        Kind::Node => typed::<RawNode>(value)?.try_into().map(|node| Object::Node(Arc::new(node))),
        Kind::Namespace => translate::namespace(&checked::<Namespace>(value, source)?)
            .map(|(_, labels)| Object::Namespace(labels))
            .map_err(|error| error.to_string()),
        Kind::Pod => translate::pod(typed(value)?)
            .map(|pod| Object::Pod(Arc::new(pod)))
            .map_err(|error| error.to_string()),
        Kind::NetworkPolicy => {
            network_policy(&checked(value, source)?).map(|policy| Object::NetworkPolicy(Arc::new(policy)))
        }
        Kind::Secret => {
            checked(value, source).map(|raw| Object::Secret(secret(raw))).map_err(|reason| unquoted(&reason))
        }
        Kind::BgpConfiguration => {
            let spec = checked::<BGPConfiguration>(value, source)?.spec;
            ranges::configuration(&spec).map(|()| Object::BgpConfiguration(spec))
        }
        Kind::BgpPeer => {
            let spec = checked::<BGPPeer>(value, source)?.spec;
            ranges::peer(&spec).map(|()| Object::BgpPeer(spec))
        }
        Kind::BgpPeerProfile => {
            let spec = checked::<BGPPeerProfile>(value, source)?.spec;
            ranges::session(&spec.session).map(|()| Object::BgpPeerProfile(spec))
        }
        Kind::BgpNodeOverride => {
            let spec = checked::<BGPNodeOverride>(value, source)?.spec;
            ranges::node_override(&spec).map(|()| Object::BgpNodeOverride(spec))
        }
        Kind::BgpFilter => {
            let spec = checked::<BGPFilter>(value, source)?.spec;
            ranges::filter(&spec).map(|()| Object::BgpFilter(spec))
        }
        Kind::BgpAdvertisement => {
            let spec = checked::<BGPAdvertisement>(value, source)?.spec;
            ranges::advertisement(&spec).map(|()| Object::BgpAdvertisement(spec))
        }
    }
}

/// As in the API server, a policy with any part that cannot be understood is refused as a whole.
fn network_policy(object: &NetworkPolicy) -> Result<Policy, String> {
    let policy = translate::policy(object).map_err(|error| error.to_string())?;
    match policy.errors.first() {
        None => Ok(policy),
        Some(error) => Err(error.to_string()),
    }
}

/// What stands in for a policy that is refused and of which no good version is known: the pods that it selects are
/// isolated in the directions that it names, all of its namespace and both ways where that cannot be read.
fn closed(key: &ObjectKey, written: &Value) -> Option<Object> {
    if key.kind != Kind::NetworkPolicy {
        return None;
    }
    let field =
        |name: &str| written.get("spec").and_then(|spec| spec.get(name)).filter(|value| !value.is_null());
    let selector = field("podSelector").map_or(Ok(LabelSelector::default()), strict);
    let types = match field("policyTypes").map(typed::<Vec<String>>) {
        Some(types) => types.unwrap_or_else(|_| vec!["Ingress".to_owned(), "Egress".to_owned()]),
        None => ["Ingress"].into_iter().chain(field("egress").map(|_| "Egress")).map(str::to_owned).collect(),
    };
    let spec = NetworkPolicySpec {
        pod_selector: Some(selector.unwrap_or_default()),
        policy_types: Some(types),
        ..NetworkPolicySpec::default()
    };
    let metadata = ObjectMeta {
        name: Some(key.name.clone()),
        namespace: Some(key.namespace.clone()),
        ..ObjectMeta::default()
    };
    // An operator or a direction that does not exist isolates all pods of the namespace.
    let policy = translate::policy(&NetworkPolicy { metadata, spec: Some(spec) }).ok()?;
    Some(Object::NetworkPolicy(Arc::new(policy)))
}

/// What is wrong with a Secret, without the value that it is wrong with: reasons are logged and shown.
fn unquoted(reason: &str) -> String {
    match reason.split_once(": ") {
        Some((field, wrong)) if !wrong.starts_with("unknown field") => {
            format!("{field}: not what a Secret has there")
        }
        _ => reason.to_owned(),
    }
}

/// `stringData` wins over `data`, as in the API server.
fn secret(raw: Secret) -> BTreeMap<String, Vec<u8>> {
    let mut values: BTreeMap<_, _> =
        raw.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)).collect();
    values.extend(raw.string_data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.into_bytes())));
    values
}

#[cfg(test)]
mod tests;
