//! Policies out of chance: of every part of a rule that decides, some that match and some that just do not.

use super::super::world::{
    Direction, Expression, IpBlock, Labels, Operator, Policy, PolicyPeer, Port, Rule, Selector,
};
use super::{APPS, Draw, TEAMS};
use crate::lab::{OUTSIDE_CIDRS, POD_CIDRS};

impl Draw {
    pub(super) fn policy(&mut self) -> Option<Policy> {
        use Direction::{Egress, Ingress};
        let kinds = [vec![Ingress], vec![Ingress], vec![Egress], vec![Ingress, Egress]];
        let policy_types = self.dice.pick(kinds)?;
        let mut policy = Policy {
            pod_selector: self.selector("app", &APPS)?,
            policy_types,
            ingress: vec![],
            egress: vec![],
        };
        for _ in 0..self.dice.below(3) {
            let (peers, ports) = (self.peers()?, self.ports());
            if policy.policy_types.contains(&Ingress) {
                policy.ingress.push(Rule { from: peers.clone(), to: None, ports: ports.clone() });
            }
            if policy.policy_types.contains(&Egress) {
                policy.egress.push(Rule { from: None, to: peers, ports });
            }
        }
        Some(policy)
    }

    fn peers(&mut self) -> Option<Option<Vec<PolicyPeer>>> {
        if self.dice.of_hundred(15) {
            return Some(None);
        }
        let mut peers = Vec::new();
        for _ in 0..=self.dice.below(2) {
            let kind = self.dice.below(4);
            let mut peer = PolicyPeer::default();
            if kind <= 1 {
                peer.pod_selector = Some(self.selector("app", &APPS)?);
            }
            if kind == 1 || kind == 2 {
                peer.namespace_selector = Some(self.selector("team", &TEAMS)?);
            }
            if kind == 3 {
                peer.ip_block = Some(self.block()?);
            }
            peers.push(peer);
        }
        Some(Some(peers))
    }

    /// Everything, the outside, all pods or those of a node; sometimes but for a part of it.
    fn block(&mut self) -> Option<IpBlock> {
        let v6 = self.dice.of_hundred(50);
        let nodes: Vec<_> = self.model.topology.nodes.keys().cloned().collect();
        let of_node = self.model.topology.pod_cidr(&self.dice.pick(nodes)?, v6);
        let parse = |text: &str| text.parse().ok();
        let (all, pods) = (if v6 { "::/0" } else { "0.0.0.0/0" }, POD_CIDRS[usize::from(v6)]);
        let outside = parse(OUTSIDE_CIDRS[usize::from(v6)])?;
        let (all, pods) = (parse(all)?, parse(pods)?);
        let wide = self.dice.pick([all, pods])?;
        Some(match self.dice.below(4) {
            0 => IpBlock { cidr: outside, except: vec![] },
            1 => IpBlock { cidr: of_node, except: vec![] },
            2 => IpBlock { cidr: wide, except: vec![] },
            _ => IpBlock { cidr: wide, except: vec![of_node] },
        })
    }

    /// 8080 is what is probed; each of these holds it or just not.
    fn ports(&mut self) -> Option<Vec<Port>> {
        let protocol = self.dice.pick(["TCP", "UDP"])?.to_owned();
        let (port, end_port) = self.dice.pick([
            (None, None),
            (Some(8080), None),
            (Some(8000), Some(8080)),
            (Some(8081), None),
        ])?;
        self.dice.of_hundred(60).then(|| vec![Port { protocol, port, end_port }])
    }

    fn selector(&mut self, key: &str, values: &[&str]) -> Option<Selector> {
        let value = self.dice.pick(values)?.to_string();
        let operator =
            self.dice.pick([Operator::In, Operator::NotIn, Operator::Exists, Operator::DoesNotExist])?;
        let values = match operator {
            Operator::In | Operator::NotIn => vec![value.clone()],
            Operator::Exists | Operator::DoesNotExist => vec![],
        };
        let expression = Expression { key: key.to_owned(), operator, values };
        Some(match self.dice.below(10) {
            0..2 => Selector::default(),
            2..8 => Selector { match_labels: [(key.to_owned(), value)].into(), match_expressions: vec![] },
            _ => Selector { match_labels: Labels::new(), match_expressions: vec![expression] },
        })
    }
}
