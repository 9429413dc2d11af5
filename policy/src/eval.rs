//! The naive judge: may this flow pass, and why?
//!
//! Reads the raw policies and loops: each policy, rule, peer and port, one after the other. It shares nothing with the
//! compiler but the model's types, so that each proves the other. It also answers `weftctl policy explain` and decides
//! which established flows are to be revoked.

use std::net::IpAddr;

use crate::model::{LocalPod, PodKey, PolicyKey, World};

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
    #[error("not a pod of this cluster")]
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
    /// `rule` counts from 0, as in `spec.ingress[0]`.
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
    let _ = (world, local, flow);
    let half = Half { pod: None, reason: Reason::NotAPod, enforced_here: false };
    Judgement { egress: half.clone(), ingress: half }
}

fn list(policies: &[PolicyKey]) -> String {
    policies.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
