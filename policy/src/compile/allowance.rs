//! What a pod's policies allow in one direction, all rules and policies united.
//!
//! In: the policies that isolate the pod. Out: an [`Allowance`]; equal allowances compile to the same chains. Rules
//! only ever add, so neither the order of policies nor which of them a rule stands in is left.

use std::collections::BTreeSet;

use crate::model::{AnyOr, Block, Pod, PodPeer, PolicyPeer, PortMatch, PortSpec, Protocol, Rule};
use crate::ruleset::{Family, PortKey};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Egress,
    Ingress,
}

#[derive(Default)]
pub(super) struct Allowance<'a> {
    /// Peers allowed on every port of every protocol.
    pub(super) any_port: Peers<'a>,
    /// Of each rule that names ports.
    pub(super) peers: Vec<Peers<'a>>,
    /// Ranges, which may overlap, with the index of their peers.
    pub(super) ports: Vec<(PortKey, usize)>,
    /// Egress only: ports that each peer pod names for itself.
    pub(super) named: Vec<NamedItem<'a>>,
}

pub(super) struct NamedItem<'a> {
    pub(super) name: &'a str,
    pub(super) protocol: Protocol,
    /// The index of its peers.
    pub(super) peers: usize,
}

/// A union of peers. Beside `any` nothing else is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Peers<'a> {
    pub(super) any: bool,
    pub(super) pods: BTreeSet<&'a PodPeer>,
    pub(super) blocks: BTreeSet<&'a Block>,
}

impl<'a> Allowance<'a> {
    /// `pod` is the one that the rules are about.
    pub(super) fn new(way: Way, pod: &Pod, rules: impl Iterator<Item = &'a Rule>) -> Self {
        let mut allowance = Self::default();
        for rule in rules {
            let peers = Peers::new(&rule.peers);
            match &rule.ports {
                AnyOr::Any => allowance.any_port.unite(&peers),
                AnyOr::Only(ports) => {
                    allowance.peers.push(peers);
                    ports.iter().for_each(|port| allowance.add(way, pod, port));
                }
            }
        }
        allowance
    }

    /// A port of the rule whose peers are the last.
    fn add(&mut self, way: Way, pod: &Pod, port: &'a PortMatch) {
        let (proto, peers) = (port.protocol.number(), self.peers.len() - 1);
        let mut range = |first, last| self.ports.push((PortKey { proto, first, last }, peers));
        match (&port.port, way) {
            (PortSpec::All, _) => range(0, u16::MAX),
            (PortSpec::Range { first, last }, _) => range(*first, *last),
            (PortSpec::Named(name), Way::Ingress) => {
                let named = pod.ports.iter().filter(|p| p.name == *name && p.protocol == port.protocol);
                named.for_each(|named| range(named.port, named.port));
            }
            (PortSpec::Named(name), Way::Egress) => {
                self.named.push(NamedItem { name, protocol: port.protocol, peers });
            }
        }
    }
}

impl<'a> Peers<'a> {
    fn new(peers: &'a AnyOr<PolicyPeer>) -> Self {
        let mut union = Self::default();
        match peers {
            AnyOr::Any => union.any = true,
            AnyOr::Only(peers) => {
                for peer in peers {
                    match peer {
                        PolicyPeer::Pods(pods) => union.pods.insert(pods),
                        PolicyPeer::Block(block) => union.blocks.insert(block),
                    };
                }
            }
        }
        union
    }

    /// How much there is to unite or to compare.
    pub(super) fn weight(&self) -> usize {
        1 + self.pods.len() + self.blocks.iter().map(|block| 1 + block.except.len()).sum::<usize>()
    }

    pub(super) fn unite(&mut self, other: &Self) {
        self.any |= other.any;
        self.pods.extend(&other.pods);
        self.blocks.extend(&other.blocks);
        if self.any {
            self.pods.clear();
            self.blocks.clear();
        }
    }

    /// As packets of one family see them; a block that holds the whole family means anybody.
    pub(super) fn of(&self, family: Family) -> Self {
        let ours = |block: &&&Block| block.prefix.is_ipv4() == (family == Family::V4);
        let blocks: BTreeSet<_> = self.blocks.iter().filter(ours).copied().collect();
        let any =
            self.any || blocks.iter().any(|block| block.prefix.prefix() == 0 && block.except.is_empty());
        if any { Self { any, ..Self::default() } } else { Self { any, pods: self.pods.clone(), blocks } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_union_weighs_what_it_holds() {
        let block = |text: &str, except: &[&str]| Block {
            prefix: text.parse().unwrap(),
            except: except.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let blocks =
            [block("10.0.0.0/8", &["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"]), block("fd00::/8", &[])];
        let peers = Peers { blocks: blocks.iter().collect(), ..Peers::default() };
        assert_eq!((Peers::default().weight(), peers.weight()), (1, 1 + (1 + 3) + 1));
    }
}
