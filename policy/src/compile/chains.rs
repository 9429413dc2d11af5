//! One allowance, for one family, as chains: named ports, then the port map, then what is allowed on any port.
//!
//! A class's chain also holds the peers of any port, so a packet that finds its port needs one set look-up; a packet
//! that finds none falls to the lines after the map.
//!
//! What that takes is reckoned before anything is made: one author's policies must not stall the node.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;

use super::address::{address_field, address_type, family_of};
use super::allowance::{Allowance, NamedItem, Peers, Way};
use super::blocks::{self, Blocks};
use super::builder::Builder;
use super::meaning;
use super::members::{Member, Members};
use super::ports::{self, Classes, spend};
use crate::model::PodPeer;
use crate::ruleset::{End, Family, Key, KeyField, KeyType, Match, Name, PortKey, Rule, Set, Side, Verdict};

/// An except halves its prefix at most once for each bit of an address.
const MOST_CUTS: usize = 128;

pub(super) struct Chains<'b, 'a> {
    pub(super) builder: &'b mut Builder,
    pub(super) members: &'b Members<'a>,
    pub(super) way: Way,
    pub(super) family: Family,
    /// What may still be spent: ports, peers, pods looked at, elements made.
    pub(super) budget: &'b mut usize,
}

impl<'a> Chains<'_, 'a> {
    /// What the dispatch map says of a pod with this allowance; `None` if that would be beyond the budget.
    pub(super) fn verdict(mut self, allowance: &Allowance<'a>) -> Option<Verdict> {
        let any_port = allowance.any_port.of(self.family);
        if any_port.any {
            return Some(Verdict::Return);
        }
        let weight = allowance.peers.iter().map(|peers| peers.weight() + any_port.weight()).sum();
        spend(self.budget, weight)?;
        let of_family = |peers: &Peers<'a>| {
            let mut peers = peers.of(self.family);
            peers.unite(&any_port);
            peers
        };
        let peers: Vec<_> = allowance.peers.iter().map(of_family).collect();
        let classes = ports::classes(&allowance.ports, &peers, self.budget)?;
        classes.unions.iter().chain([&any_port]).try_for_each(|peers| self.spend_on(peers))?;
        self.spend_on_named(allowance)?;

        let mut rules = Vec::new();
        if !allowance.named.is_empty() {
            let set = self.named_set(allowance);
            rules.push(allow(Match::AddrPortInSet { side: Side::Destination, family: self.family, set }));
        }
        let ports = self.port_map(&classes, &any_port);
        if !ports.is_empty() {
            rules.push(Rule { end: End::PortMap(ports), ..Rule::default() });
        }
        rules.extend(self.peer_rules(&any_port));
        Some(self.close("", rules))
    }

    /// The pods that are looked at, which are no fewer than the elements; the prefixes, each except cut out bit by bit.
    fn spend_on(&mut self, peers: &Peers<'a>) -> Option<()> {
        let prefixes = peers.blocks.iter().map(|block| 1 + block.except.len() * MOST_CUTS).sum();
        spend(self.budget, prefixes)?;
        if self.builder.knows(&format!("u{}", self.digit()), &meaning::of_pods(&peers.pods)) {
            return Some(());
        }
        spend(self.budget, peers.pods.iter().map(|peer| self.members.candidates(peer)).sum())
    }

    fn spend_on_named(&mut self, allowance: &Allowance<'a>) -> Option<()> {
        let look = |item: &NamedItem<'a>| {
            let peers = &allowance.peers[item.peers];
            let pods: usize = peers.pods.iter().map(|peer| self.members.candidates(peer)).sum();
            let everybody = peers.any || !peers.blocks.is_empty();
            pods + if everybody { self.members.all().len() * peers.weight() } else { 0 }
        };
        spend(self.budget, allowance.named.iter().map(look).sum())
    }

    fn port_map(&mut self, classes: &Classes<'a>, any_port: &Peers<'a>) -> BTreeMap<PortKey, Verdict> {
        let verdict = |peers: &Peers<'a>| {
            // What the lines after the map say too needs no entry.
            (peers != any_port).then(|| {
                if peers.any {
                    return Verdict::Return;
                }
                let rules = self.peer_rules(peers);
                self.close("c", rules)
            })
        };
        let verdicts: Vec<_> = classes.unions.iter().map(verdict).collect();
        classes.ranges.iter().filter_map(|(key, union)| Some((*key, verdicts[*union].clone()?))).collect()
    }

    /// The chain that allows what `rules` allow and denies the rest.
    fn close(&mut self, prefix: &str, mut rules: Vec<Rule>) -> Verdict {
        let letter = match self.way {
            Way::Egress => 'e',
            Way::Ingress => 'i',
        };
        let deny = deny(self.way);
        if rules.is_empty() {
            return deny;
        }
        rules.push(Rule { end: End::Verdict(deny), ..Rule::default() });
        Verdict::Goto(self.builder.chain(&format!("{prefix}{letter}{}", self.digit()), rules))
    }

    fn peer_rules(&mut self, peers: &Peers<'a>) -> Vec<Rule> {
        let mut rules = Vec::new();
        if !peers.pods.is_empty() {
            let set = self.pod_set(&peers.pods);
            rules.push(allow(Match::AddrInSet { side: self.far_side(), family: self.family, set }));
        }
        match blocks::arrange(peers.blocks.iter().copied()) {
            Blocks::Inline(blocks) => rules.extend(blocks.iter().map(|block| self.block_rule(block))),
            Blocks::Masked(sets) => {
                rules.extend(sets.iter().map(|(len, prefixes)| self.masked(*len, prefixes)));
            }
        }
        rules
    }

    fn pod_set(&mut self, peers: &BTreeSet<&'a PodPeer>) -> Name {
        let (family, members) = (self.family, self.members);
        let (mut elements, mut shared) = (BTreeSet::new(), BTreeSet::new());
        let prefix = format!("u{}", self.digit());
        let mut is_new = false;
        let name = self.builder.set(&prefix, meaning::of_pods(peers), || {
            is_new = true;
            for ip in members.union(peers).flat_map(|member| addresses(member, family)) {
                if !elements.insert(vec![ip.clone()]) {
                    shared.insert(vec![ip]);
                }
            }
            Set { key: vec![address_type(family)], size: None, elements }
        });
        if is_new {
            self.builder.sources.add_set(&name, family, peers, shared);
        }
        name
    }

    /// `(address, protocol, port)` of every pod that has a port of one of these names and is among its peers.
    fn named_set(&mut self, allowance: &Allowance<'a>) -> Name {
        let (family, members) = (self.family, self.members);
        let Allowance { named, peers, .. } = allowance;
        self.builder.sources.add_named(named);
        self.builder.set(&format!("n{}", self.digit()), meaning::of_named(named, peers), || Set {
            key: vec![address_type(family), KeyType::InetProto, KeyType::InetService],
            size: None,
            elements: named
                .iter()
                .flat_map(|item| named_keys(item, &peers[item.peers].of(family), members, family))
                .collect(),
        })
    }

    fn block_rule(&self, (prefix, except): &(IpNetwork, Vec<IpNetwork>)) -> Rule {
        let side = self.far_side();
        let mut rule = allow(Match::Prefix { side, equal: true, prefix: *prefix });
        rule.matches.extend(except.iter().map(|except| Match::Prefix {
            side,
            equal: false,
            prefix: *except,
        }));
        rule
    }

    fn masked(&mut self, prefix_len: u8, prefixes: &BTreeSet<IpNetwork>) -> Rule {
        let elements: BTreeSet<Key> =
            prefixes.iter().map(|prefix| vec![address_field(prefix.ip())]).collect();
        let family = self.family;
        let set = self.builder.set(&format!("m{}", self.digit()), meaning::of_prefixes(prefixes), || Set {
            key: vec![address_type(family)],
            size: None,
            elements,
        });
        allow(Match::MaskedAddrInSet { side: self.far_side(), family, prefix_len, set })
    }

    fn far_side(&self) -> Side {
        match self.way {
            Way::Egress => Side::Destination,
            Way::Ingress => Side::Source,
        }
    }

    fn digit(&self) -> char {
        match self.family {
            Family::V4 => '4',
            Family::V6 => '6',
        }
    }
}

pub(super) fn deny(way: Way) -> Verdict {
    let chain = match way {
        Way::Egress => "deny_e",
        Way::Ingress => "deny_i",
    };
    Verdict::Goto(chain.to_owned())
}

fn allow(matching: Match) -> Rule {
    Rule { matches: vec![matching], end: End::Verdict(Verdict::Return), ..Rule::default() }
}

fn addresses(member: &Member<'_>, family: Family) -> impl Iterator<Item = KeyField> {
    member.addresses.iter().filter(move |ip| family_of(**ip) == family).map(|ip| address_field(*ip))
}

fn named_keys<'a>(
    item: &NamedItem<'a>,
    peers: &Peers<'a>,
    members: &Members<'a>,
    family: Family,
) -> BTreeSet<Key> {
    let mut keys = BTreeSet::new();
    let mut add = |member: &Member<'_>, ip: KeyField| {
        let named = member.pod.ports.iter().filter(|p| p.name == item.name && p.protocol == item.protocol);
        let proto = KeyField::Proto(item.protocol.number());
        keys.extend(named.map(|named| vec![ip.clone(), proto.clone(), KeyField::Port(named.port)]));
    };
    for member in members.union(&peers.pods) {
        addresses(member, family).for_each(|ip| add(member, ip));
    }
    for member in members.all().filter(|_| peers.any || !peers.blocks.is_empty()) {
        let ours = member.addresses.iter().filter(|ip| family_of(**ip) == family);
        let meant = ours.filter(|ip| peers.any || peers.blocks.iter().any(|block| block.holds(**ip)));
        meant.for_each(|ip| add(member, address_field(*ip)));
    }
    keys
}
