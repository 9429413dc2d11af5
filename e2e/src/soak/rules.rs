//! Who may talk to whom: NetworkPolicy as its documentation tells it, read off the objects one by one.
//!
//! Deliberately the slowest and plainest way, and nothing of the product's.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::topology::Topology;
use super::world::Labels;
use super::world::{
    Direction, End, Expression, IpBlock, Operator, Policy, PolicyPeer, Port, Rule, Selector, World, split,
};
use crate::net::Proto;

/// What is asked for, apart from the ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Traffic {
    pub proto: Proto,
    pub port: u16,
    pub v6: bool,
}

impl World {
    /// Whether the policies of `own` let it send to `other` (egress), or receive from it (ingress).
    pub fn lets(
        &self,
        topology: &Topology,
        direction: Direction,
        own: &End,
        other: &End,
        traffic: Traffic,
    ) -> bool {
        let End::Pod(key) = own else { return true };
        if matches!(other, End::Node(_)) {
            return true;
        }
        let mut isolated = false;
        for (name, policy) in &self.policies {
            let namespace = split(name).0;
            if !policy.policy_types.contains(&direction) || !self.selects(policy, namespace, key) {
                continue;
            }
            isolated = true;
            let rules = match direction {
                Direction::Ingress => &policy.ingress,
                Direction::Egress => &policy.egress,
            };
            if rules.iter().any(|rule| self.admits(topology, rule, namespace, other, traffic)) {
                return true;
            }
        }
        !isolated
    }

    fn selects(&self, policy: &Policy, namespace: &str, pod: &str) -> bool {
        let labels = self.pods.get(pod).map(|pod| &pod.labels);
        split(pod).0 == namespace && labels.is_some_and(|labels| policy.pod_selector.matches(labels))
    }

    fn admits(
        &self,
        topology: &Topology,
        rule: &Rule,
        namespace: &str,
        other: &End,
        traffic: Traffic,
    ) -> bool {
        let port = rule.ports.as_ref().is_none_or(|ports| ports.iter().any(|port| port.admits(traffic)));
        let mut peers = rule.from.iter().chain(&rule.to).flatten();
        let anybody = rule.from.is_none() && rule.to.is_none();
        port && (anybody || peers.any(|peer| self.is_peer(topology, peer, namespace, other, traffic.v6)))
    }

    fn is_peer(
        &self,
        topology: &Topology,
        peer: &PolicyPeer,
        namespace: &str,
        other: &End,
        v6: bool,
    ) -> bool {
        if let Some(block) = &peer.ip_block {
            return block.holds(topology.address(self, other, v6));
        }
        let End::Pod(key) = other else { return false };
        let Some(pod) = self.pods.get(key) else { return false };
        let home = split(key).0;
        let in_namespace = match &peer.namespace_selector {
            None => home == namespace,
            Some(selector) => self.namespaces.get(home).is_some_and(|labels| selector.matches(labels)),
        };
        in_namespace && peer.pod_selector.as_ref().is_none_or(|selector| selector.matches(&pod.labels))
    }
}

impl Selector {
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|expression| expression.matches(labels))
    }
}

impl Expression {
    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

impl Port {
    fn admits(&self, traffic: Traffic) -> bool {
        let first = self.port.unwrap_or(0);
        let last = self.end_port.or(self.port).unwrap_or(u16::MAX);
        self.protocol.to_lowercase() == traffic.proto.to_string() && (first..=last).contains(&traffic.port)
    }
}

impl IpBlock {
    fn holds(&self, address: Option<IpAddr>) -> bool {
        let holds = |cidr: &IpNetwork| address.is_some_and(|address| cidr.contains(address));
        holds(&self.cidr) && !self.except.iter().any(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::Pod;
    use super::*;
    use crate::lab::LabSpec;

    const WEB: Traffic = Traffic { proto: Proto::Tcp, port: 8080, v6: false };

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// `red/a` (app a) on node1, `red/b` (app b) and `blue/a` (app a) on node2.
    fn world(policy: &str) -> (World, Topology) {
        let mut world = World::default();
        world.namespaces.insert("red".to_owned(), labels(&[("team", "x")]));
        world.namespaces.insert("blue".to_owned(), labels(&[("team", "y")]));
        for (key, node, app) in [("red/a", "node1", "a"), ("red/b", "node2", "b"), ("blue/a", "node2", "a")] {
            let pod = Pod { node: node.to_owned(), labels: labels(&[("app", app)]) };
            world.pods.insert(key.to_owned(), pod);
        }
        world.policies.insert("red/p".to_owned(), serde_saphyr::from_str(policy).unwrap());
        (world, Topology::of(&LabSpec::default()))
    }

    fn pod(key: &str) -> End {
        End::Pod(key.to_owned())
    }

    /// Who of the others gets into `red/a`.
    fn admitted(policy: &str, traffic: Traffic) -> Vec<&'static str> {
        let (world, topology) = world(policy);
        let others = [
            ("b", pod("red/b")),
            ("blue", pod("blue/a")),
            ("out", End::Outside),
            ("node", End::Node("node1".to_owned())),
        ];
        let gets_in = |other: &End| world.lets(&topology, Direction::Ingress, &pod("red/a"), other, traffic);
        others.iter().filter(|(_, other)| gets_in(other)).map(|(name, _)| *name).collect()
    }

    #[test]
    fn a_policy_isolates_the_pods_that_it_selects_in_its_directions_only() {
        let deny = "{podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress]}";
        assert_eq!(admitted(deny, WEB), ["node"]);
        let (world, topology) = world(deny);
        assert!(world.lets(&topology, Direction::Egress, &pod("red/a"), &pod("red/b"), WEB));
        for free in ["red/b", "blue/a"] {
            assert!(world.lets(&topology, Direction::Ingress, &pod(free), &pod("red/a"), WEB), "{free}");
        }
    }

    #[test]
    fn peers_are_pods_of_the_namespace_of_other_namespaces_or_addresses() {
        let from = |peer: &str| {
            admitted(
                &format!("{{podSelector: {{}}, policyTypes: [Ingress], ingress: [{{from: [{peer}]}}]}}"),
                WEB,
            )
        };
        assert_eq!(from("{podSelector: {}}"), ["b", "node"]);
        assert_eq!(from("{namespaceSelector: {}}"), ["b", "blue", "node"]);
        assert_eq!(from("{namespaceSelector: {matchLabels: {team: y}}}"), ["blue", "node"]);
        assert_eq!(from("{namespaceSelector: {}, podSelector: {matchLabels: {app: b}}}"), ["b", "node"]);
        assert_eq!(from("{ipBlock: {cidr: 198.51.100.0/24}}"), ["out", "node"]);
        assert_eq!(from("{ipBlock: {cidr: 0.0.0.0/0, except: [10.244.2.0/24]}}"), ["out", "node"]);
        assert_eq!(from("{ipBlock: {cidr: '::/0'}}"), ["node"]);
    }

    #[test]
    fn a_rule_without_peers_or_ports_is_for_all_of_them() {
        let rule = |rule: &str, traffic| {
            admitted(&format!("{{podSelector: {{}}, policyTypes: [Ingress], ingress: [{rule}]}}"), traffic)
        };
        let udp = Traffic { proto: Proto::Udp, ..WEB };
        assert_eq!(rule("{}", WEB), ["b", "blue", "out", "node"]);
        assert_eq!(rule("{ports: [{protocol: TCP}]}", WEB).len(), 4);
        assert_eq!(rule("{ports: [{protocol: TCP, port: 8000, endPort: 8080}]}", WEB).len(), 4);
        assert_eq!(rule("{ports: [{protocol: TCP, port: 8000, endPort: 8079}]}", WEB), ["node"]);
        assert_eq!(rule("{ports: [{protocol: TCP, port: 8080}]}", udp), ["node"]);
    }

    #[test]
    fn expressions_of_a_selector() {
        let selects = |expression: &str, pairs: &[(&str, &str)]| {
            let selector: Selector =
                serde_saphyr::from_str(&format!("{{matchExpressions: [{expression}]}}")).unwrap();
            selector.matches(&labels(pairs))
        };
        for (expression, of_a, of_b, of_none) in [
            ("{key: app, operator: In, values: [a]}", true, false, false),
            ("{key: app, operator: NotIn, values: [a]}", false, true, true),
            ("{key: app, operator: Exists}", true, true, false),
            ("{key: app, operator: DoesNotExist}", false, false, true),
        ] {
            let got = (
                selects(expression, &[("app", "a")]),
                selects(expression, &[("app", "b")]),
                selects(expression, &[]),
            );
            assert_eq!(got, (of_a, of_b, of_none), "{expression}");
        }
    }
}
