//! Host ports: the part of the table that translates connections to a port of the node into ones to a pod.
//!
//! In: the mappings of the local pods. Out: four maps (by family, with and without the node's address in the key) and the
//! chains that look them up; nothing when there are no mappings, so that a node without host ports has no NAT hooks of
//! ours. Only connections to addresses of the node itself are translated, and the forward hook, where policy is
//! enforced, sees the pod's address and port.
//!
//! kube-proxy goes first (-100, as iptables and as nftables): a connection that it has translated is left alone, so a
//! Service keeps its node ports and external addresses, and a host port gets what is left. Masquerading comes after its
//! own (100) for the same reason.
//!
//! Masqueraded is only what leaves by the link on which it came: a pod that speaks to its own host port would else
//! get packets from its own address. The node's own connections need it not, for their source is an address of the
//! node already; those from 127.0.0.0/8 and ::1 are left alone, because a packet from there to a pod's link is refused
//! by the kernel unless `route_localnet` opens the node's loopback services to pods. A connection from another address
//! of the node to 127.0.0.1 is translated.

use std::collections::{BTreeMap, BTreeSet};

use weft_api::control::Problem;

use super::address::{address_field, address_type, family_of};
use super::builder::Builder;
use super::layout::{FAMILIES, LOCAL_SIZE, base, chain, rule};
use crate::model::{HostPort, LocalPod};
use crate::ruleset::{
    ChainKind, End, Family, Hook, Key, KeyField, KeyType, Map, Match, Rule, Side, Value, ValueType, Verdict,
};

const AFTER_KUBE_PROXY_DNAT: i32 = -95;
const AFTER_KUBE_PROXY_SNAT: i32 = 105;

const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// With an address of the node in the key, and without; each by family.
#[derive(Default)]
struct Mappings {
    at: [BTreeMap<Key, Value>; 2],
    any: [BTreeMap<Key, Value>; 2],
}

/// How many elements the largest of the maps has.
pub(super) fn largest(local: &[&LocalPod]) -> usize {
    let Mappings { at, any } = Mappings::of(local, &mut Vec::new());
    at.iter().chain(&any).map(BTreeMap::len).max().unwrap_or_default()
}

pub(super) fn add(builder: &mut Builder, local: &[&LocalPod], problems: &mut Vec<Problem>) {
    let mappings = Mappings::of(local, problems);
    if mappings.at.iter().chain(&mappings.any).all(BTreeMap::is_empty) {
        return;
    }
    let Mappings { at, any } = mappings;
    let mut rules = Vec::new();
    for ((family, digit), (at, any)) in FAMILIES.into_iter().zip(["4", "6"]).zip(at.into_iter().zip(any)) {
        let port = [KeyType::InetProto, KeyType::InetService];
        let with_address = [&[address_type(family)], &port[..]].concat();
        for (name, key, by_address, elements) in [
            (format!("hostport_at{digit}"), with_address, true, at),
            (format!("hostport{digit}"), port.to_vec(), false, any),
        ] {
            let value = ValueType::Endpoint(family);
            builder.fixed_map(&name, Map { key, value, size: Some(LOCAL_SIZE), elements });
            rules.push(Rule { end: End::Dnat { family, by_address, map: name }, ..Rule::default() });
        }
    }
    builder.fixed_chain("hostport", chain(rules));
    let pre = vec![to_node()];
    let out = LOOPBACK.into_iter().map(from).chain([to_node()]).collect();
    let post = vec![hairpin()];
    builder.fixed_chain("nat_pre", base(ChainKind::Nat, Hook::Prerouting, AFTER_KUBE_PROXY_DNAT, pre));
    builder.fixed_chain("nat_out", base(ChainKind::Nat, Hook::Output, AFTER_KUBE_PROXY_DNAT, out));
    builder.fixed_chain("nat_post", base(ChainKind::Nat, Hook::Postrouting, AFTER_KUBE_PROXY_SNAT, post));
}

impl Mappings {
    /// Of two pods that claim one port, which the CNI does not let happen, the first in order has it.
    fn of(local: &[&LocalPod], problems: &mut Vec<Problem>) -> Self {
        let mut mappings = Self::default();
        for pod in local.iter().copied().collect::<BTreeSet<_>>() {
            for (port, ip) in pod.ports.iter().flat_map(|port| pod.ips.iter().map(move |ip| (port, *ip))) {
                let Some((map, key)) = mappings.place(port, family_of(ip)) else { continue };
                let endpoint = Value::Endpoint(ip, port.port);
                if *map.entry(key).or_insert_with(|| endpoint.clone()) != endpoint {
                    problems.push(Problem {
                        object: format!("pod {}", pod.key),
                        reason: format!(
                            "link {}: the host port {} is another pod's",
                            pod.link, port.host_port
                        ),
                    });
                }
            }
        }
        mappings
    }

    /// `None`: the mapping is for the other family. An unspecified address stands for all of its family.
    fn place(&mut self, port: &HostPort, family: Family) -> Option<(&mut BTreeMap<Key, Value>, Key)> {
        let service = vec![KeyField::Proto(port.protocol.number()), KeyField::Port(port.host_port)];
        match port.host_ip {
            Some(host_ip) if family_of(host_ip) != family => None,
            Some(host_ip) if !host_ip.is_unspecified() => {
                Some((&mut self.at[family as usize], [vec![address_field(host_ip)], service].concat()))
            }
            Some(_) | None => Some((&mut self.any[family as usize], service)),
        }
    }
}

fn to_node() -> Rule {
    rule(vec![Match::DestinationIsLocal], Verdict::Jump("hostport".to_owned()))
}

fn from(prefix: &str) -> Rule {
    let prefix = prefix.parse().expect("a constant prefix");
    rule(vec![Match::Prefix { side: Side::Source, equal: true, prefix }], Verdict::Return)
}

fn hairpin() -> Rule {
    let matches = vec![Match::IifOifInSet { set: "hairpin".to_owned() }, Match::CtDnat];
    Rule { matches, end: End::Masquerade, ..Rule::default() }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::compile::{Full, Options, compile, room_for};
    use crate::model::{PodKey, Protocol, World};
    use crate::ruleset::Ruleset;

    fn pod(name: &str, last: u8, ports: &[(Protocol, u16, Option<&str>)]) -> LocalPod {
        let ports = ports.iter().map(|(protocol, host_port, host_ip)| HostPort {
            protocol: *protocol,
            host_port: *host_port,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            port: 8000,
        });
        LocalPod {
            key: PodKey { namespace: "x".to_owned(), name: name.to_owned() },
            uid: None,
            link: format!("weft{name}"),
            ips: [IpAddr::from([10, 0, 0, last]), format!("fd00::{last}").parse().unwrap()].into(),
            ports: ports.collect(),
        }
    }

    fn entries(ruleset: &Ruleset) -> Vec<String> {
        let maps = ruleset.maps.iter().filter(|(name, _)| name.starts_with("hostport"));
        maps.map(|(name, map)| format!("{name} {map}").replace("size 16384; ", "")).collect()
    }

    #[test]
    fn a_node_without_host_ports_translates_nothing() {
        let ruleset = compile(&World::default(), &[pod("a", 1, &[])], &Options::default()).ruleset;
        let translates =
            |chain: &crate::ruleset::Chain| chain.base.is_some_and(|base| base.kind == ChainKind::Nat);
        assert!(!ruleset.chains.values().any(translates));
        assert_eq!(entries(&ruleset), Vec::<String>::new());
    }

    #[test]
    fn a_mapping_stands_in_the_maps_of_the_families_that_its_address_leaves_open() {
        use Protocol::{Sctp, Tcp, Udp};
        let a = [(Tcp, 80, None), (Udp, 53, Some("0.0.0.0"))];
        let b = [(Udp, 80, Some("192.0.2.1")), (Sctp, 9, Some("2001:db8::1"))];
        let local = [pod("a", 1, &a), pod("b", 2, &b)];
        let compiled = compile(&World::default(), &local, &Options::default());
        let v4 = "type inet_proto . inet_service : ipv4_addr . inet_service;";
        let v6 = "type inet_proto . inet_service : ipv6_addr . inet_service;";
        assert_eq!(
            entries(&compiled.ruleset),
            [
                format!(
                    "hostport4 {v4} elements = {{ tcp . 80 : 10.0.0.1 . 8000, udp . 53 : 10.0.0.1 . 8000 }};"
                ),
                format!("hostport6 {v6} elements = {{ tcp . 80 : fd00::1 . 8000 }};"),
                format!(
                    "hostport_at4 {} elements = {{ 192.0.2.1 . udp . 80 : 10.0.0.2 . 8000 }};",
                    v4.replacen("inet_proto", "ipv4_addr . inet_proto", 1)
                ),
                format!(
                    "hostport_at6 {} elements = {{ 2001:db8::1 . sctp . 9 : fd00::2 . 8000 }};",
                    v6.replacen("inet_proto", "ipv6_addr . inet_proto", 1)
                ),
            ]
        );
        assert_eq!(compiled.problems, []);
    }

    #[test]
    fn of_two_pods_with_one_port_the_first_has_it_and_the_other_is_told() {
        let local = [pod("b", 2, &[(Protocol::Tcp, 80, None)]), pod("a", 1, &[(Protocol::Tcp, 80, None)])];
        let compiled = compile(&World::default(), &local, &Options::default());
        assert!(entries(&compiled.ruleset)[0].contains("tcp . 80 : 10.0.0.1 . 8000"));
        assert_eq!(compiled.problems[0].object, "pod x/b");
    }

    #[test]
    fn what_a_map_cannot_hold_finds_no_room() {
        let with = |name, last, ports: std::ops::RangeInclusive<u16>| {
            let ports: Vec<_> = ports.map(|port| (Protocol::Tcp, port, None)).collect();
            pod(name, last, &ports)
        };
        let (a, b) = (with("a", 1, 1..=16000), with("b", 2, 16001..=16384));
        assert_eq!(room_for([&a].into_iter(), &b), Ok(()));
        let more = with("c", 3, 16385..=16385);
        assert_eq!(room_for([&a, &b].into_iter(), &more), Err(Full::HostPorts));
        assert_eq!(room_for([&a, &b].into_iter(), &with("a", 4, 1..=1)), Ok(()), "the same port again");
    }

    #[test]
    fn only_what_leaves_by_its_own_link_is_masqueraded() {
        let local = [pod("a", 1, &[(Protocol::Tcp, 80, None)])];
        let ruleset = compile(&World::default(), &local, &Options::default()).ruleset;
        let matches = vec![Match::IifOifInSet { set: "hairpin".to_owned() }, Match::CtDnat];
        let hairpin = Rule { matches, end: End::Masquerade, ..Rule::default() };
        assert_eq!(ruleset.chains["nat_post"].rules, [hairpin]);
    }

    /// Where `route_localnet` is not set, the kernel refuses such packets on a pod's link.
    #[test]
    fn connections_of_the_node_from_its_loopback_are_not_translated() {
        let ruleset =
            compile(&World::default(), &[pod("a", 1, &[(Protocol::Tcp, 80, None)])], &Options::default())
                .ruleset;
        let rules = &ruleset.chains["nat_out"].rules;
        let translates = rules.iter().position(|rule| *rule == to_node()).unwrap();
        for prefix in LOOPBACK {
            let spared =
                rules.iter().position(|rule| *rule == from(prefix)).expect("a rule for the loopback");
            assert!(spared < translates, "{prefix}");
        }
        assert_eq!(from("::1/128").end, End::Verdict(Verdict::Return));
    }
}
