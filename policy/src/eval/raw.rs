//! A NetworkPolicy object, read literally.
//!
//! Every `Option` and every empty list is looked at where the API's documentation speaks of it. What makes no sense
//! allows nothing.

use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Flow, Way};
use crate::model::{Labels, MAX_PORTS, MAX_PREFIXES, MAX_SELECTORS, Pod, PodKey, World};
use crate::translate::parse_cidr_sloppy;

#[derive(Clone, Copy)]
pub(super) struct Object<'a> {
    pub(super) namespace: &'a str,
    pub(super) spec: &'a NetworkPolicySpec,
}

/// The far end of a flow, as one of the pods that have the address or as the bare address.
#[derive(Clone, Copy)]
pub(super) struct Remote<'a> {
    pub(super) ip: IpAddr,
    pub(super) pod: Option<(&'a PodKey, &'a Pod)>,
}

impl Object<'_> {
    /// Whether it isolates a pod of its namespace that has these labels.
    pub(super) fn isolates(self, way: Way, labels: &Labels) -> bool {
        let selected = match &self.spec.pod_selector {
            None => true,
            Some(selector) => !is_sound(selector) || matches(selector, labels),
        };
        selected && (self.is_unusable() || self.speaks_of(way))
    }

    /// The first rule that allows the flow between `pod`, which the policy isolates, and the far end.
    pub(super) fn allowing_rule(
        self,
        way: Way,
        world: &World,
        pod: &Pod,
        remote: Remote<'_>,
        flow: &Flow,
    ) -> Option<usize> {
        if self.is_unusable() {
            return None;
        }
        let destination = match way {
            Way::Ingress => Some(pod),
            Way::Egress => remote.pod.map(|(_, pod)| pod),
        };
        let allows = |ports: &Option<Vec<NetworkPolicyPort>>, peers: &Option<Vec<NetworkPolicyPeer>>| {
            let ports = ports.as_deref().unwrap_or(&[]);
            let peers = peers.as_deref().unwrap_or(&[]);
            let port_fits = ports.is_empty() || ports.iter().any(|port| port_fits(port, destination, flow));
            let peer_fits = peers.is_empty() || peers.iter().any(|peer| self.peer_fits(peer, world, remote));
            port_fits && peer_fits
        };
        match way {
            Way::Ingress => {
                self.spec.ingress.as_deref()?.iter().position(|rule| allows(&rule.ports, &rule.from))
            }
            Way::Egress => self.spec.egress.as_deref()?.iter().position(|rule| allows(&rule.ports, &rule.to)),
        }
    }

    fn is_unusable(self) -> bool {
        let types = self.spec.policy_types.as_deref().unwrap_or(&[]);
        types.iter().any(|name| name != "Ingress" && name != "Egress")
            || self.spec.pod_selector.as_ref().is_some_and(|selector| !is_sound(selector))
            || self.is_too_large()
    }

    fn is_too_large(self) -> bool {
        let ingress = || self.spec.ingress.iter().flatten();
        let egress = || self.spec.egress.iter().flatten();
        let ports = ingress().flat_map(|rule| &rule.ports).chain(egress().flat_map(|rule| &rule.ports));
        let peers = || {
            let peers = ingress().flat_map(|rule| &rule.from).chain(egress().flat_map(|rule| &rule.to));
            peers.flatten()
        };
        let blocks = || peers().filter_map(|peer| peer.ip_block.as_ref());
        ports.map(Vec::len).sum::<usize>() > MAX_PORTS
            || peers().count() - blocks().count() > MAX_SELECTORS
            || blocks().map(|block| 1 + block.except.iter().flatten().count()).sum::<usize>() > MAX_PREFIXES
    }

    fn speaks_of(self, way: Way) -> bool {
        let types = self.spec.policy_types.as_deref().unwrap_or(&[]);
        match way {
            Way::Ingress => types.is_empty() || types.iter().any(|name| name == "Ingress"),
            Way::Egress if types.is_empty() => !self.spec.egress.as_deref().unwrap_or(&[]).is_empty(),
            Way::Egress => types.iter().any(|name| name == "Egress"),
        }
    }

    fn peer_fits(self, peer: &NetworkPolicyPeer, world: &World, remote: Remote<'_>) -> bool {
        let pods = peer.pod_selector.as_ref();
        let namespaces = peer.namespace_selector.as_ref();
        if let Some(block) = &peer.ip_block {
            return pods.is_none() && namespaces.is_none() && block_holds(block, remote.ip);
        }
        let Some((key, pod)) = remote.pod else { return false };
        let in_namespace = match namespaces {
            Some(selector) => {
                let labels = world.namespaces.get(&key.namespace);
                labels.is_some_and(|labels| is_sound(selector) && matches(selector, labels))
            }
            None => pods.is_some() && key.namespace == self.namespace,
        };
        in_namespace && pods.is_none_or(|selector| is_sound(selector) && matches(selector, &pod.labels))
    }
}

fn port_fits(port: &NetworkPolicyPort, destination: Option<&Pod>, flow: &Flow) -> bool {
    let wanted = match port.protocol.as_deref() {
        None | Some("" | "TCP") => 6,
        Some("UDP") => 17,
        Some("SCTP") => 132,
        Some(_) => return false,
    };
    let Some(actual) = flow.port.filter(|_| flow.protocol == wanted) else { return false };
    match (&port.port, port.end_port) {
        (None, end) => end.is_none(),
        (Some(IntOrString::Int(first)), None) => *first >= 1 && i32::from(actual) == *first,
        (Some(IntOrString::Int(first)), Some(end)) => {
            *first >= 1 && end <= 65535 && *first <= i32::from(actual) && i32::from(actual) <= end
        }
        (Some(IntOrString::String(_)), Some(_)) => false,
        (Some(IntOrString::String(name)), None) => destination.is_some_and(|pod| {
            let mut ports = pod.ports.iter();
            ports.any(|p| p.name == *name && p.protocol.number() == wanted && p.port == actual)
        }),
    }
}

fn block_holds(block: &IPBlock, ip: IpAddr) -> bool {
    let except = block.except.as_deref().unwrap_or(&[]);
    let holds = |text: &str| parse_cidr_sloppy(text).map(|prefix| prefix.contains(ip));
    holds(&block.cidr) == Some(true) && except.iter().all(|text| holds(text) == Some(false))
}

/// Whether every expression has an operator that exists and the values that it needs.
fn is_sound(selector: &LabelSelector) -> bool {
    let mut expressions = selector.match_expressions.iter().flatten();
    expressions.all(|expression| {
        let has_values = expression.values.as_ref().is_some_and(|values| !values.is_empty());
        match expression.operator.as_str() {
            "In" | "NotIn" => has_values,
            "Exists" | "DoesNotExist" => !has_values,
            _ => false,
        }
    })
}

fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    let mut wanted = selector.match_labels.iter().flatten();
    let mut expressions = selector.match_expressions.iter().flatten();
    wanted.all(|(key, value)| labels.get(key) == Some(value))
        && expressions.all(|e| expression_holds(e, labels))
}

fn expression_holds(expression: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let listed = |value: &String| expression.values.as_ref().is_some_and(|values| values.contains(value));
    match (expression.operator.as_str(), labels.get(&expression.key)) {
        ("In", Some(value)) => listed(value),
        ("NotIn", Some(value)) => !listed(value),
        ("Exists", Some(_)) | ("NotIn" | "DoesNotExist", None) => true,
        _ => false,
    }
}
