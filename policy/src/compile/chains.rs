//! One allowance, for one family, as chains: named ports, then the port map, then what is allowed on any port.
//!
//! A class's chain also holds the peers of any port, so a packet that finds its port needs one set look-up; a packet
//! that finds none falls to the lines after the map.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::allowance::{Allowance, NamedItem, Peers, Way};
use super::blocks::{self, Blocks};
use super::builder::Builder;
use super::members::{Member, Members};
use super::ports;
use crate::model::PodPeer;
use crate::ruleset::{End, Family, Key, KeyField, KeyType, Match, Name, PortKey, Rule, Set, Side, Verdict};

pub(super) struct Chains<'b, 'a> {
    pub(super) builder: &'b mut Builder,
    pub(super) members: &'b Members<'a>,
    pub(super) way: Way,
    pub(super) family: Family,
}

impl<'a> Chains<'_, 'a> {
    /// What the dispatch map says of a pod with this allowance.
    pub(super) fn verdict(&mut self, allowance: &Allowance<'a>) -> Verdict {
        let any_port = allowance.any_port.of(self.family);
        if any_port.any {
            return Verdict::Return;
        }
        let mut rules = Vec::new();
        if !allowance.named.is_empty() {
            let set = self.named_set(&allowance.named);
            rules.push(allow(Match::AddrPortInSet { side: Side::Destination, family: self.family, set }));
        }
        let ports = self.port_map(allowance, &any_port);
        if !ports.is_empty() {
            rules.push(Rule { end: End::PortMap(ports), ..Rule::default() });
        }
        rules.extend(self.peer_rules(&any_port));
        self.close("", rules)
    }

    fn port_map(&mut self, allowance: &Allowance<'a>, any_port: &Peers<'a>) -> BTreeMap<PortKey, Verdict> {
        let of_family = |(key, peers): &(PortKey, Peers<'a>)| {
            let mut peers = peers.of(self.family);
            peers.unite(any_port);
            (*key, peers)
        };
        let items: Vec<_> = allowance.ports.iter().map(of_family).collect();
        let mut map = BTreeMap::new();
        for (key, peers) in ports::classes(&items) {
            // What the lines after the map say too needs no entry.
            if peers == *any_port {
                continue;
            }
            let verdict = if peers.any {
                Verdict::Return
            } else {
                let rules = self.peer_rules(&peers);
                self.close("c", rules)
            };
            map.insert(key, verdict);
        }
        map
    }

    /// The chain that allows what `rules` allow and denies the rest.
    fn close(&mut self, prefix: &str, mut rules: Vec<Rule>) -> Verdict {
        let (letter, deny) = match self.way {
            Way::Egress => ('e', "deny_e"),
            Way::Ingress => ('i', "deny_i"),
        };
        let deny = Verdict::Goto(deny.to_owned());
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
        self.builder.set(&format!("u{}", self.digit()), format!("{peers:?}"), || Set {
            key: vec![address_type(family)],
            size: None,
            elements: members
                .union(peers)
                .flat_map(|member| addresses(member, family))
                .map(|ip| vec![ip])
                .collect(),
        })
    }

    /// `(address, protocol, port)` of every pod that has a port of one of these names and is among its peers.
    fn named_set(&mut self, items: &[NamedItem<'a>]) -> Name {
        let (family, members) = (self.family, self.members);
        let meanings: BTreeSet<_> = items
            .iter()
            .map(|item| format!("{:?} {:?} {:?}", item.name, item.protocol, item.peers))
            .collect();
        self.builder.set(&format!("n{}", self.digit()), format!("{meanings:?}"), || Set {
            key: vec![address_type(family), KeyType::InetProto, KeyType::InetService],
            size: None,
            elements: items.iter().flat_map(|item| named_keys(item, members, family)).collect(),
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
        let set = self.builder.set(&format!("m{}", self.digit()), format!("{prefixes:?}"), || Set {
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

pub(super) fn address_type(family: Family) -> KeyType {
    match family {
        Family::V4 => KeyType::Ipv4Addr,
        Family::V6 => KeyType::Ipv6Addr,
    }
}

pub(super) fn address_field(ip: IpAddr) -> KeyField {
    match ip {
        IpAddr::V4(v4) => KeyField::Ipv4(v4),
        IpAddr::V6(v6) => KeyField::Ipv6(v6),
    }
}

pub(super) fn family_of(ip: IpAddr) -> Family {
    if ip.is_ipv4() { Family::V4 } else { Family::V6 }
}

fn allow(matching: Match) -> Rule {
    Rule { matches: vec![matching], end: End::Verdict(Verdict::Return), ..Rule::default() }
}

fn addresses(member: &Member<'_>, family: Family) -> impl Iterator<Item = KeyField> {
    member.addresses.iter().filter(move |ip| family_of(**ip) == family).map(|ip| address_field(*ip))
}

fn named_keys<'a>(item: &NamedItem<'a>, members: &Members<'a>, family: Family) -> BTreeSet<Key> {
    let peers = item.peers.of(family);
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
