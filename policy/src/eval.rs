//! The naive judge: may this flow pass, and why?
//!
//! Reads the raw policies and loops: each policy, rule, peer and port, one after the other. It shares nothing with the
//! compiler but the model's types, so that each proves the other. It also answers `weftctl policy explain` and decides
//! which established flows are to be revoked.

mod raw;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use crate::model::{LocalPod, Pod, PodKey, Policy, PolicyKey, World};
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
    Judge::new(world, local).judge(flow)
}

fn list(policies: &[PolicyKey]) -> String {
    policies.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Egress,
    Ingress,
}

/// For many questions about one world: who has which address is looked up, not searched for.
#[derive(Debug)]
pub struct Judge<'a> {
    world: &'a World,
    wired: BTreeMap<&'a PodKey, Vec<&'a LocalPod>>,
    claims: BTreeMap<IpAddr, Vec<&'a LocalPod>>,
    /// The pods that live and whose status shows an address, in the order of their keys.
    shown: BTreeMap<IpAddr, Vec<(&'a PodKey, &'a Pod)>>,
    policies: BTreeMap<&'a str, Vec<&'a Policy>>,
    /// The policies that isolate a pod, as far as that has been asked.
    isolating: RefCell<BTreeMap<(Way, &'a PodKey), Policies<'a>>>,
}

type Policies<'a> = Rc<[&'a Policy]>;

/// Who has an address.
struct Endpoint<'a> {
    who: Who<'a>,
    key: Option<&'a PodKey>,
    is_local: bool,
}

enum Who<'a> {
    Nobody,
    Node,
    Nameless,
    Unknown,
    Ended,
    Pod(&'a Pod),
}

impl<'a> Judge<'a> {
    pub fn new(world: &'a World, local: &'a [LocalPod]) -> Self {
        let mut judge = Self {
            world,
            wired: BTreeMap::new(),
            claims: BTreeMap::new(),
            shown: BTreeMap::new(),
            policies: BTreeMap::new(),
            isolating: RefCell::default(),
        };
        for pod in local {
            judge.wired.entry(&pod.key).or_default().push(pod);
            pod.ips.iter().for_each(|ip| judge.claims.entry(*ip).or_default().push(pod));
        }
        for (key, pod) in world.pods.iter().filter(|(_, pod)| pod.active) {
            pod.ips.iter().for_each(|ip| judge.shown.entry(*ip).or_default().push((key, &**pod)));
        }
        for (key, policy) in &world.policies {
            judge.policies.entry(&key.namespace).or_default().push(policy);
        }
        judge
    }

    pub fn judge(&self, flow: &Flow) -> Judgement {
        let source = self.endpoint(flow.source);
        let destination = self.endpoint(flow.destination);
        Judgement {
            egress: self.half(Way::Egress, &source, &destination, flow),
            ingress: self.half(Way::Ingress, &destination, &source, flow),
        }
    }

    /// Whether this node's kernel must stop the flow; `None` if neither end is wired to this node.
    pub fn stops(&self, flow: &Flow) -> Option<bool> {
        if ![flow.source, flow.destination].iter().any(|ip| self.claims.contains_key(ip)) {
            return None;
        }
        let Judgement { egress, ingress } = self.judge(flow);
        Some([egress, ingress].iter().any(|half| half.enforced_here && !half.allowed()))
    }

    /// What is wired here counts first; of the rest, the pods that the API shows there.
    fn endpoint(&self, ip: IpAddr) -> Endpoint<'a> {
        let Some(claims) = self.claims.get(&ip) else { return self.elsewhere(ip) };
        let mut living = claims.iter().filter(|local| !matches!(self.wired(local), Who::Ended));
        let (who, key) = match (living.next(), living.next()) {
            (Some(local), None) => (self.wired(local), Some(&local.key)),
            // Two links claim one address: whose traffic it is cannot be said.
            (Some(_), Some(_)) => (Who::Unknown, None),
            (None, _) => (Who::Ended, claims.first().map(|local| &local.key)),
        };
        Endpoint { who, key, is_local: true }
    }

    fn wired(&self, local: &LocalPod) -> Who<'a> {
        match self.world.pods.get(&local.key) {
            Some(pod) if !local.is(pod) || pod.host_network => Who::Unknown,
            Some(pod) if !pod.active => Who::Ended,
            Some(pod) => Who::Pod(pod),
            None if local.is_nameless() => Who::Nameless,
            None => Who::Unknown,
        }
    }

    fn elsewhere(&self, ip: IpAddr) -> Endpoint<'a> {
        let (mut who, mut key) = (Who::Nobody, None);
        if let Some((first, pod)) = self.peers(ip).next() {
            (who, key) = (Who::Pod(pod), Some(first));
        } else if self.shown.get(&ip).into_iter().flatten().any(|(_, pod)| pod.host_network) {
            who = Who::Node;
        }
        Endpoint { who, key, is_local: false }
    }

    /// The pods that selectors may mean by an address. Where the CNI gave it to a pod, no status counts.
    fn peers(&self, ip: IpAddr) -> impl Iterator<Item = (&'a PodKey, &'a Pod)> {
        let claims = self.claims.get(&ip);
        let claiming = claims.into_iter().flatten().filter_map(|local| match self.wired(local) {
            Who::Pod(pod) => Some((&local.key, pod)),
            Who::Nobody | Who::Node | Who::Nameless | Who::Unknown | Who::Ended => None,
        });
        let shown = self.shown.get(&ip).filter(|_| claims.is_none()).into_iter().flatten().copied();
        claiming.chain(shown.filter(|(key, pod)| !pod.host_network && !self.is_wired(key, pod)))
    }

    /// Whether the addresses that the CNI gave to this very pod are known; then its status does not matter.
    fn is_wired(&self, key: &PodKey, pod: &Pod) -> bool {
        self.wired.get(key).into_iter().flatten().any(|local| local.is(pod))
    }

    /// One half: `own` is the pod's side, `other` the far one.
    fn half(&self, way: Way, own: &Endpoint<'a>, other: &Endpoint<'a>, flow: &Flow) -> Half {
        let reason = match own.who {
            Who::Nobody => Reason::NotAPod,
            Who::Node => Reason::Node,
            Who::Nameless => Reason::NotIsolated,
            Who::Unknown => Reason::Unknown,
            Who::Ended => Reason::Ended,
            Who::Pod(_) if own.key == other.key => Reason::Itself,
            Who::Pod(pod) => {
                let key = own.key.expect("an endpoint that is a pod has its key");
                self.rule_on(way, key, pod, flow)
            }
        };
        Half { pod: own.key.cloned(), reason, enforced_here: own.is_local }
    }

    fn rule_on(&self, way: Way, key: &'a PodKey, pod: &Pod, flow: &Flow) -> Reason {
        let policies = self.isolating(way, key, pod);
        if policies.is_empty() {
            return Reason::NotIsolated;
        }
        let ip = match way {
            Way::Egress => flow.destination,
            Way::Ingress => flow.source,
        };
        // What policies may take the far end for: the bare address, and each pod that has it.
        let pods = self.peers(ip).map(|pod| Remote { ip, pod: Some(pod) });
        let remotes: Vec<_> = std::iter::once(Remote { ip, pod: None }).chain(pods).collect();
        for policy in policies.iter() {
            for remote in &remotes {
                if let Some(rule) = object(policy).allowing_rule(way, self.world, pod, *remote, flow) {
                    return Reason::Allowed { policy: policy.key.clone(), rule: rule + 1 };
                }
            }
        }
        Reason::Denied { by: policies.iter().map(|policy| policy.key.clone()).collect() }
    }

    fn isolating(&self, way: Way, key: &'a PodKey, pod: &Pod) -> Policies<'a> {
        let search = || {
            let policies = self.policies.get(key.namespace.as_str()).into_iter().flatten().copied();
            policies.filter(|policy| object(policy).isolates(way, &pod.labels)).collect()
        };
        self.isolating.borrow_mut().entry((way, key)).or_insert_with(search).clone()
    }
}

fn object(policy: &Policy) -> raw::Object<'_> {
    raw::Object { namespace: &policy.key.namespace, spec: &policy.object }
}
