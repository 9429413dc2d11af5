//! Runs a packet through a typed ruleset, as nf_tables would: test support.
//!
//! In: a ruleset and a packet that the host forwards. Out: whether it comes out on the other side. A name that is not
//! in the ruleset panics, so every run also checks that nothing dangles.

use std::net::IpAddr;

use crate::ruleset::{
    Chain, ChainKind, Direction, End, Family, Hook, Key, KeyField, KeyType, Match, Rule, Ruleset, Side,
    Statement, Value, Verdict,
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Packet {
    pub(crate) iif: String,
    pub(crate) oif: String,
    pub(crate) source: Option<IpAddr>,
    pub(crate) destination: Option<IpAddr>,
    pub(crate) protocol: u8,
    pub(crate) port: Option<u16>,
    pub(crate) icmpv6_type: Option<u8>,
    pub(crate) established: bool,
    pub(crate) mark: u32,
}

/// Whether the packet passes PREROUTING and FORWARD.
pub(crate) fn forwards(ruleset: &Ruleset, packet: &Packet) -> bool {
    passes(ruleset, Hook::Prerouting, packet) && passes(ruleset, Hook::Forward, packet)
}

/// Whether all base chains of the hook let it pass; drop is final, accept ends only its own chain.
pub(crate) fn passes(ruleset: &Ruleset, hook: Hook, packet: &Packet) -> bool {
    let mut chains: Vec<_> = ruleset
        .chains
        .values()
        .filter_map(|chain| Some((chain.base?, chain)))
        .filter(|(base, _)| base.hook == hook && base.kind == ChainKind::Filter)
        .collect();
    chains.sort_by_key(|(base, _)| base.priority);
    chains.iter().all(|(_, chain)| run(ruleset, chain, packet, 0) != Outcome::Drop)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Accept,
    Drop,
    /// To the rule after the jump; from a base chain, its policy: accept.
    Return,
}

fn run(ruleset: &Ruleset, chain: &Chain, packet: &Packet, depth: usize) -> Outcome {
    assert!(depth < 16, "the kernel's jump stack has 16 places");
    for rule in &chain.rules {
        let Some(verdict) = verdict_of(ruleset, rule, packet) else { continue };
        match verdict {
            Verdict::Accept => return Outcome::Accept,
            Verdict::Drop => return Outcome::Drop,
            Verdict::Return => return Outcome::Return,
            Verdict::Goto(name) => return run(ruleset, &ruleset.chains[&name], packet, depth),
            Verdict::Jump(name) => match run(ruleset, &ruleset.chains[&name], packet, depth + 1) {
                Outcome::Return => {}
                end => return end,
            },
        }
    }
    Outcome::Return
}

fn verdict_of(ruleset: &Ruleset, rule: &Rule, packet: &Packet) -> Option<Verdict> {
    // Without a clock every packet is beyond the limit: what comes after one must not matter to the verdict.
    let limited = rule.statements.iter().any(|statement| matches!(statement, Statement::Limit { .. }));
    if limited || !rule.matches.iter().all(|wanted| packet.fits(ruleset, wanted)) {
        return None;
    }
    match &rule.end {
        End::Continue => None,
        End::Verdict(verdict) => Some(verdict.clone()),
        End::AddrMap { side, family, map } => {
            let map = &ruleset.maps[map];
            let key = vec![packet.address(*side, *family)?];
            assert_types(&key, &map.key);
            match map.elements.get(&key)? {
                Value::Verdict(verdict) => Some(verdict.clone()),
                Value::Endpoint(..) => panic!("an endpoint is no verdict"),
            }
        }
        End::PortMap(entries) => {
            let port = packet.port?;
            let mut holding = entries
                .iter()
                .filter(|(key, _)| key.proto == packet.protocol && (key.first..=key.last).contains(&port));
            let verdict = holding.next().map(|(_, verdict)| verdict.clone());
            assert!(holding.next().is_none(), "ranges of a port map overlap");
            verdict
        }
        End::Dnat { .. } | End::Masquerade => panic!("only in chains that translate"),
    }
}

impl Packet {
    fn fits(&self, ruleset: &Ruleset, wanted: &Match) -> bool {
        let lookup = |set: &str, key: Option<Key>| {
            let set = &ruleset.sets[set];
            key.is_some_and(|key| {
                assert_types(&key, &set.key);
                set.elements.contains(&key)
            })
        };
        match wanted {
            Match::Prefix { side, equal, prefix } => {
                let family = if prefix.is_ipv4() { Family::V4 } else { Family::V6 };
                self.ip(*side, family).is_some_and(|ip| prefix.contains(ip) == *equal)
            }
            Match::AddrInSet { side, family, set } => {
                lookup(set, self.address(*side, *family).map(|address| vec![address]))
            }
            Match::AddrPortInSet { side, family, set } => {
                let key = || {
                    let port = KeyField::Port(self.port?);
                    Some(vec![self.address(*side, *family)?, KeyField::Proto(self.protocol), port])
                };
                lookup(set, key())
            }
            Match::MaskedAddrInSet { side, family, prefix_len, set } => {
                let masked = self.ip(*side, *family).map(|ip| {
                    ipnetwork::IpNetwork::new(ip, *prefix_len).expect("a length of the family").network()
                });
                lookup(set, masked.map(|ip| vec![field(ip)]))
            }
            Match::IfnamePrefix { direction, prefix } => self.link(*direction).starts_with(prefix),
            Match::IifAddrInSet { family, set } => {
                let key = self.address(Side::Source, *family);
                lookup(set, key.map(|address| vec![KeyField::Ifname(self.iif.clone()), address]))
            }
            Match::IifOifInSet { set } => {
                let links = [&self.iif, &self.oif].map(|link| KeyField::Ifname(link.clone()));
                lookup(set, Some(links.to_vec()))
            }
            Match::CtEstablished => self.established,
            Match::CtDnat | Match::DestinationIsLocal => panic!("only in chains that translate"),
            Match::CtMark { mask, set } => (self.mark & mask != 0) == *set,
            Match::L4Proto(number) => self.protocol == *number,
            Match::Icmpv6Type(types) => {
                self.protocol == 58 && self.icmpv6_type.is_some_and(|number| types.contains(&number))
            }
        }
    }

    fn ip(&self, side: Side, family: Family) -> Option<IpAddr> {
        let ip = match side {
            Side::Source => self.source,
            Side::Destination => self.destination,
        };
        ip.filter(|ip| ip.is_ipv4() == (family == Family::V4))
    }

    fn address(&self, side: Side, family: Family) -> Option<KeyField> {
        self.ip(side, family).map(field)
    }

    fn link(&self, direction: Direction) -> &str {
        match direction {
            Direction::Iif => &self.iif,
            Direction::Oif => &self.oif,
        }
    }
}

fn field(ip: IpAddr) -> KeyField {
    match ip {
        IpAddr::V4(v4) => KeyField::Ipv4(v4),
        IpAddr::V6(v6) => KeyField::Ipv6(v6),
    }
}

/// The kernel compares bytes: a key of other fields than the set declares would never match, or match wrongly.
fn assert_types(key: &Key, types: &[KeyType]) {
    let actual: Vec<_> = key
        .iter()
        .map(|field| match field {
            KeyField::Ipv4(_) => KeyType::Ipv4Addr,
            KeyField::Ipv6(_) => KeyType::Ipv6Addr,
            KeyField::Proto(_) => KeyType::InetProto,
            KeyField::Port(_) => KeyType::InetService,
            KeyField::Ifname(_) => KeyType::Ifname,
        })
        .collect();
    assert_eq!(actual, types, "key does not fit its set");
}
