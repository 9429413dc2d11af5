//! The naive judge: may this flow pass, and why?
//!
//! Reads the raw policies and loops: each policy, rule, peer and port, one after the other. It shares nothing with the
//! compiler but the model's types, so that each proves the other. It also answers `weftctl policy explain` and decides
//! which established flows are to be revoked.

mod raw;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use crate::model::{LocalPod, Pod, PodKey, PolicyKey, World};
use raw::Remote;

/// A new connection's first packet, after destination NAT and before source NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// The number in the IP header.
    pub protocol: u8,
    /// The destination port, if the protocol has ports.
    pub port: Option<u16>,
}

/// What becomes of a flow between the source's node and the destination's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub egress: Half,
    pub ingress: Half,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Half {
    /// The pod whose policies decide this half; `None` if the address is no pod's.
    pub pod: Option<PodKey>,
    /// In words by `to_string`: `isolated by demo/deny-all; no rule matches`.
    pub reason: Reason,
    /// This node's kernel enforces this half.
    pub enforced_here: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("no pod has this address")]
    NotAPod,
    #[error("node traffic is not policed")]
    Node,
    #[error("the pod is not known yet")]
    Unknown,
    #[error("the pod has ended")]
    Ended,
    #[error("a pod cannot block itself")]
    Itself,
    #[error("not isolated")]
    NotIsolated,
    /// `rule` counts from 1.
    #[error("allowed by {policy} rule {rule}")]
    Allowed { policy: PolicyKey, rule: usize },
    #[error("isolated by {}; no rule matches", list(.by))]
    Denied { by: Vec<PolicyKey> },
}

impl Judgement {
    pub fn allowed(&self) -> bool {
        self.egress.allowed() && self.ingress.allowed()
    }
}

impl Half {
    pub fn allowed(&self) -> bool {
        match self.reason {
            Reason::NotAPod
            | Reason::Node
            | Reason::Itself
            | Reason::NotIsolated
            | Reason::Allowed { .. } => true,
            Reason::Unknown | Reason::Ended | Reason::Denied { .. } => false,
        }
    }

    /// The policies that took part.
    pub fn policies(&self) -> Vec<PolicyKey> {
        match &self.reason {
            Reason::Allowed { policy, .. } => vec![policy.clone()],
            Reason::Denied { by } => by.clone(),
            Reason::NotAPod
            | Reason::Node
            | Reason::Unknown
            | Reason::Ended
            | Reason::Itself
            | Reason::NotIsolated => Vec::new(),
        }
    }
}

/// Judges a flow as the nodes of the two pods do; `local` are the pods wired to this node.
pub fn evaluate(world: &World, local: &[LocalPod], flow: &Flow) -> Judgement {
    let scene = Scene { world, local };
    let source = scene.endpoint(flow.source);
    let destination = scene.endpoint(flow.destination);
    Judgement {
        egress: scene.half(Way::Egress, &source, &destination, flow),
        ingress: scene.half(Way::Ingress, &destination, &source, flow),
    }
}

fn list(policies: &[PolicyKey]) -> String {
    policies.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Egress,
    Ingress,
}

#[derive(Clone, Copy)]
struct Scene<'a> {
    world: &'a World,
    local: &'a [LocalPod],
}

/// Who has an address.
struct Endpoint<'a> {
    who: Who<'a>,
    key: Option<&'a PodKey>,
    local: Option<&'a LocalPod>,
}

enum Who<'a> {
    Nobody,
    Node,
    Unknown,
    Ended,
    Pod(&'a Pod),
}

impl<'a> Scene<'a> {
    /// What is wired here counts first; of the rest, the pods that the API shows there.
    fn endpoint(self, ip: IpAddr) -> Endpoint<'a> {
        let claims: Vec<_> = self.local.iter().filter(|local| local.ips.contains(&ip)).collect();
        let living: Vec<_> = claims.iter().filter(|local| !matches!(self.wired(local), Who::Ended)).collect();
        match (claims.as_slice(), living.as_slice()) {
            ([], _) => self.elsewhere(ip),
            ([_, ..], [local]) => {
                Endpoint { who: self.wired(local), key: Some(&local.key), local: Some(local) }
            }
            ([local, ..], []) => Endpoint { who: Who::Ended, key: Some(&local.key), local: Some(local) },
            // Two links claim one address: whose traffic it is cannot be said.
            ([local, ..], [_, _, ..]) => Endpoint { who: Who::Unknown, key: None, local: Some(local) },
        }
    }

    fn wired(self, local: &LocalPod) -> Who<'a> {
        match self.world.pods.get(&local.key) {
            Some(pod) if !local.is(pod) || pod.host_network => Who::Unknown,
            Some(pod) if !pod.active => Who::Ended,
            Some(pod) => Who::Pod(pod),
            None => Who::Unknown,
        }
    }

    fn elsewhere(self, ip: IpAddr) -> Endpoint<'a> {
        let there = self.world.pods.iter().filter(|(key, pod)| {
            pod.active && pod.ips.contains(&ip) && (pod.host_network || !self.is_wired(key, pod))
        });
        let (on_node, in_pod): (Vec<_>, Vec<_>) = there.partition(|(_, pod)| pod.host_network);
        let (who, key) = match (in_pod.as_slice(), on_node.as_slice()) {
            ([(key, pod), ..], _) => (Who::Pod(pod), Some(*key)),
            ([], [_, ..]) => (Who::Node, None),
            ([], []) => (Who::Nobody, None),
        };
        Endpoint { who, key, local: None }
    }

    /// Whether the addresses that the CNI gave to this very pod are known; then its status does not matter.
    fn is_wired(self, key: &PodKey, pod: &Pod) -> bool {
        self.local.iter().any(|local| local.key == *key && local.is(pod))
    }

    /// One half: `own` is the pod's side, `other` the far one.
    fn half(self, way: Way, own: &Endpoint<'a>, other: &Endpoint<'a>, flow: &Flow) -> Half {
        let enforced_here = own.local.is_some();
        let reason = match own.who {
            Who::Nobody => Reason::NotAPod,
            Who::Node => Reason::Node,
            Who::Unknown => Reason::Unknown,
            Who::Ended => Reason::Ended,
            Who::Pod(_) if own.key == other.key => Reason::Itself,
            Who::Pod(pod) => {
                let far = match way {
                    Way::Egress => flow.destination,
                    Way::Ingress => flow.source,
                };
                let key = own.key.expect("an endpoint that is a pod has its key");
                self.judge(way, key, pod, &self.remotes(far), flow)
            }
        };
        Half { pod: own.key.cloned(), reason, enforced_here }
    }

    /// What policies may take the far end for: each pod that has the address, and the bare address.
    fn remotes(self, ip: IpAddr) -> Vec<Remote<'a>> {
        let mut remotes = vec![Remote { ip, pod: None }];
        for (key, pod) in &self.world.pods {
            let wired_here: Vec<_> =
                self.local.iter().filter(|local| local.key == *key && local.is(pod)).collect();
            let has_address = if wired_here.is_empty() {
                pod.ips.contains(&ip) && !self.local.iter().any(|local| local.ips.contains(&ip))
            } else {
                wired_here.iter().any(|local| local.ips.contains(&ip))
            };
            if has_address && pod.active && !pod.host_network {
                remotes.push(Remote { ip, pod: Some((key, pod)) });
            }
        }
        remotes
    }

    fn judge(self, way: Way, key: &PodKey, pod: &Pod, remotes: &[Remote<'_>], flow: &Flow) -> Reason {
        let mut by = Vec::new();
        for (policy_key, policy) in &self.world.policies {
            let object = raw::Object { namespace: &policy_key.namespace, spec: &policy.object };
            if policy_key.namespace != key.namespace || !object.isolates(way, &pod.labels) {
                continue;
            }
            for remote in remotes {
                if let Some(rule) = object.allowing_rule(way, self.world, pod, *remote, flow) {
                    return Reason::Allowed { policy: policy_key.clone(), rule: rule + 1 };
                }
            }
            by.push(policy_key.clone());
        }
        if by.is_empty() { Reason::NotIsolated } else { Reason::Denied { by } }
    }
}
