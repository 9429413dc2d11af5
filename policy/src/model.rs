//! What the compiler and the evaluator know: namespaces, pods and policies as the API has them, and the pods of this
//! node as the CNI wired them.
//!
//! A [`Policy`] carries its object twice: as it was written, which the evaluator judges by, and as it was understood
//! ([`Policy::ingress`] and its neighbours, made by [`crate::translate`]), which the compiler reads. So each checks
//! the other's reading.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use k8s_openapi::api::networking::v1::NetworkPolicySpec;

pub use crate::selector::Labels;
use crate::selector::Selector;

mod copy_on_write;
mod pods;

pub use copy_on_write::CopyOnWrite;
pub use pods::{PodChange, Pods};

/// The cluster as the watches show it. Complete: what is missing here does not exist. Two worlds in a row share what did
/// not change, and cost next to nothing to copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// Labels by namespace name. A namespace that is absent matches no namespace selector.
    pub namespaces: CopyOnWrite<BTreeMap<String, Labels>>,
    pub pods: Pods,
    pub policies: CopyOnWrite<BTreeMap<PolicyKey, Arc<Policy>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    pub namespace: String,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyKey {
    pub namespace: String,
    pub name: String,
}

/// Distinguishes two pods that bear one name after another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodUid(pub String);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// What the container runtime calls the pod; for a mirror pod that is the uid of the static pod, not its own.
    /// `None` where nobody wrote one (a directory of YAML).
    pub uid: Option<PodUid>,
    /// Like `ports`, the same for many pods.
    pub labels: Arc<Labels>,
    /// `status.podIPs`; may be empty, may be out of date.
    pub ips: BTreeSet<IpAddr>,
    /// The container ports that have a name. Names may repeat.
    pub ports: Arc<BTreeSet<NamedPort>>,
    /// Neither Succeeded nor Failed. A pod that has ended keeps its addresses in its status while others get them.
    pub active: bool,
    /// Such pods are traffic of their node: never selected, neither as subject nor as peer.
    pub host_network: bool,
    pub node: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedPort {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
}

/// A pod's link on this node and the addresses that the CNI gave it. It may be known before the API shows the pod's
/// addresses, or the pod at all. For its own addresses it is the truth, against whatever any pod's status says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalPod {
    pub key: PodKey,
    /// `None` if the runtime did not say: then the name alone identifies the pod.
    pub uid: Option<PodUid>,
    /// The host side of its veth.
    pub link: String,
    pub ips: BTreeSet<IpAddr>,
    /// Ports of the node that lead to it.
    pub ports: BTreeSet<HostPort>,
}

/// A port of the node that leads to a port of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    pub protocol: Protocol,
    pub host_port: u16,
    /// `None`: at all addresses of the node. An unspecified one: at all of its family.
    pub host_ip: Option<IpAddr>,
    /// The pod's.
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// What one policy may hold, all its rules together; one that holds more isolates its pods and allows nothing. More than
/// anybody is known to write, and little enough that no author can stall a node.
pub const MAX_PORTS: usize = 4096;
/// Peers that are selectors.
pub const MAX_SELECTORS: usize = 1024;
/// Prefixes of ipBlocks, their excepts included.
pub const MAX_PREFIXES: usize = 16384;

/// A NetworkPolicy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub key: PolicyKey,
    /// As written.
    pub object: NetworkPolicySpec,
    /// Which pods of the namespace it selects.
    pub subjects: Selector,
    /// `None`: the policy does not speak of this direction. Empty: it isolates and allows nothing.
    pub ingress: Option<Vec<Rule>>,
    pub egress: Option<Vec<Rule>>,
    /// The parts that could not be understood. They allow nothing.
    pub errors: Vec<FieldError>,
}

/// Allows what matches one of the ports and one of the peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub ports: AnyOr<PortMatch>,
    pub peers: AnyOr<PolicyPeer>,
}

/// A list that, left empty, means "any". `Only` of an empty list matches nothing: all its items were unusable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyOr<T> {
    Any,
    Only(Vec<T>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortMatch {
    pub protocol: Protocol,
    pub port: PortSpec,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortSpec {
    All,
    /// Both ends inclusive, `1 <= first <= last`.
    Range {
        first: u16,
        last: u16,
    },
    /// A port name of the pod at the destination.
    Named(String),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyPeer {
    Pods(PodPeer),
    Block(Block),
}

/// Pods by label in namespaces by name or label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodPeer {
    pub namespaces: NamespaceMatch,
    pub pods: Selector,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamespaceMatch {
    Named(String),
    Labelled(Selector),
}

/// An ipBlock: the addresses of `prefix` that are in no `except`. Prefixes have no host bits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    pub prefix: IpNetwork,
    pub except: BTreeSet<IpNetwork>,
}

/// A part of an object that cannot be used, for its author to read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct FieldError {
    /// `spec.ingress[0].from[1].ipBlock.cidr`
    pub field: String,
    pub reason: String,
}

impl World {
    /// The pods that a policy selects, wherever they run.
    pub fn subjects<'a>(&'a self, policy: &'a Policy) -> impl Iterator<Item = (&'a PodKey, &'a Pod)> {
        let pods = self.pods.iter().map(|(key, pod)| (key, &**pod));
        pods.filter(move |(key, pod)| {
            key.namespace == policy.key.namespace && !pod.host_network && policy.subjects.matches(&pod.labels)
        })
    }
}

impl LocalPod {
    /// The runtime named no Kubernetes pod. It is in no namespace: no policy selects it, and no peer by labels means it.
    pub fn is_nameless(&self) -> bool {
        self.key.namespace.is_empty()
    }

    /// Whether `pod`, the API's object under this pod's name, is this pod and not its forerunner or successor.
    pub fn is(&self, pod: &Pod) -> bool {
        match (&self.uid, &pod.uid) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (None, _) | (_, None) => true,
        }
    }
}

impl Block {
    pub fn holds(&self, ip: IpAddr) -> bool {
        self.prefix.contains(ip) && !self.except.iter().any(|except| except.contains(ip))
    }
}

impl Protocol {
    /// The number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
