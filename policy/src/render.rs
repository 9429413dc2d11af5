//! The typed ruleset as nft text: for people, for golden tests, and as the canonical form whose hash names a chain.
//!
//! `nft -f` takes the text of [`ruleset`]; it is never used to program the kernel. Equal rules give equal text and
//! different rules different text.

#[cfg(test)]
mod tests;

use std::fmt::{self, Display, Formatter, Write};

use crate::ruleset::{
    BaseChain, Chain, ChainKind, Direction, End, Family, Hook, Key, KeyField, KeyType, Map, Match, PortKey,
    Rule, Ruleset, Set, Side, Statement, Value, ValueType, Verdict,
};

/// The whole of table `inet NAME`.
pub fn ruleset(table: &str, ruleset: &Ruleset) -> String {
    let mut out = format!("table inet {table} {{\n");
    for (name, set) in &ruleset.sets {
        let _ = writeln!(out, "  set {name} {{ {set} }}");
    }
    for (name, map) in &ruleset.maps {
        let _ = writeln!(out, "  map {name} {{ {map} }}");
    }
    for (name, chain) in &ruleset.chains {
        let _ = write!(out, "  chain {name} {{\n{chain}  }}\n");
    }
    out.push_str("}\n");
    out
}

impl Display for Chain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(BaseChain { kind, hook, priority }) = self.base {
            writeln!(f, "    type {kind} hook {hook} priority {priority}; policy accept;")?;
        }
        self.rules.iter().try_for_each(|rule| writeln!(f, "    {rule}"))
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let matches = self.matches.iter().map(ToString::to_string);
        let statements = self.statements.iter().map(ToString::to_string);
        let end = match &self.end {
            End::Continue => None,
            End::Verdict(verdict) => Some(verdict.to_string()),
            End::AddrMap { side, family, map } => Some(format!("{} vmap @{map}", Addr(*family, *side))),
            End::PortMap(entries) => {
                let entries = entries.iter().map(|(key, verdict)| format!("{key} : {verdict}"));
                Some(format!("meta l4proto . th dport vmap {{ {} }}", entries.collect::<Vec<_>>().join(", ")))
            }
            End::Dnat { family, by_address, map } => {
                let address = by_address.then(|| format!("{} . ", Addr(*family, Side::Destination)));
                let address = address.unwrap_or_default();
                Some(format!("dnat {} to {address}meta l4proto . th dport map @{map}", nat_family(*family)))
            }
            End::Masquerade => Some("masquerade".to_owned()),
        };
        let comment = self.comment.iter().map(|comment| format!("comment \"{comment}\""));
        f.write_str(&matches.chain(statements).chain(end).chain(comment).collect::<Vec<_>>().join(" "))
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix { side, equal, prefix } => {
                let family = if prefix.is_ipv4() { Family::V4 } else { Family::V6 };
                write!(f, "{} {}{prefix}", Addr(family, *side), if *equal { "" } else { "!= " })
            }
            Self::AddrInSet { side, family, set } => write!(f, "{} @{set}", Addr(*family, *side)),
            Self::AddrPortInSet { side, family, set } => {
                write!(f, "{} . meta l4proto . th dport @{set}", Addr(*family, *side))
            }
            Self::MaskedAddrInSet { side, family, prefix_len, set } => {
                write!(f, "{} & {} @{set}", Addr(*family, *side), mask(*family, *prefix_len))
            }
            Self::IfnamePrefix { direction, prefix } => write!(f, "{direction} \"{prefix}*\""),
            Self::IifAddrInSet { family, set } => {
                write!(f, "iifname . {} @{set}", Addr(*family, Side::Source))
            }
            Self::IifOifInSet { set } => write!(f, "iifname . oifname @{set}"),
            Self::CtEstablished => f.write_str("ct state established,related"),
            Self::CtDnat => f.write_str("ct status dnat"),
            Self::DestinationIsLocal => f.write_str("fib daddr type local"),
            Self::CtMark { mask, set } => {
                write!(f, "ct mark & {mask:#010x} {} 0", if *set { "!=" } else { "==" })
            }
            Self::L4Proto(number) => write!(f, "meta l4proto {number}"),
            Self::Icmpv6Type(types) => {
                let types = types.iter().map(ToString::to_string).collect::<Vec<_>>();
                write!(f, "icmpv6 type {{ {} }}", types.join(", "))
            }
        }
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counter => f.write_str("counter"),
            Self::Limit { per_second, burst } => {
                write!(f, "limit rate {per_second}/second burst {burst} packets")
            }
            Self::Log { group, prefix, snaplen } => {
                write!(f, "log prefix \"{prefix}\" group {group} snaplen {snaplen}")
            }
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Display for Set {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "type {};", key_types(&self.key))?;
        write_size(f, self.size)?;
        let elements = self.elements.iter().map(key).collect::<Vec<_>>();
        write_elements(f, &elements)
    }
}

impl Display for Map {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "type {} : {};", key_types(&self.key), self.value)?;
        write_size(f, self.size)?;
        let elements = self.elements.iter().map(|(fields, value)| format!("{} : {value}", key(fields)));
        write_elements(f, &elements.collect::<Vec<_>>())
    }
}

fn write_size(f: &mut Formatter<'_>, size: Option<u32>) -> fmt::Result {
    size.map_or(Ok(()), |size| write!(f, " size {size};"))
}

fn write_elements(f: &mut Formatter<'_>, elements: &[String]) -> fmt::Result {
    if elements.is_empty() { Ok(()) } else { write!(f, " elements = {{ {} }};", elements.join(", ")) }
}

fn key_types(types: &[KeyType]) -> String {
    types.iter().map(ToString::to_string).collect::<Vec<_>>().join(" . ")
}

fn key(fields: &Key) -> String {
    fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(" . ")
}

impl Display for ValueType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verdict => "verdict",
            Self::Endpoint(Family::V4) => "ipv4_addr . inet_service",
            Self::Endpoint(Family::V6) => "ipv6_addr . inet_service",
        })
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict(verdict) => verdict.fmt(f),
            Self::Endpoint(address, port) => write!(f, "{address} . {port}"),
        }
    }
}

impl Display for KeyType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Addr => "ipv4_addr",
            Self::Ipv6Addr => "ipv6_addr",
            Self::InetProto => "inet_proto",
            Self::InetService => "inet_service",
            Self::Ifname => "ifname",
        })
    }
}

impl Display for KeyField {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(address) => address.fmt(f),
            Self::Ipv6(address) => address.fmt(f),
            Self::Proto(number) => write_proto(f, *number),
            Self::Port(port) => port.fmt(f),
            Self::Ifname(name) => write!(f, "\"{name}\""),
        }
    }
}

impl Display for PortKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_proto(f, self.proto)?;
        write!(f, " . {}", self.first)?;
        if self.first == self.last { Ok(()) } else { write!(f, "-{}", self.last) }
    }
}

impl Display for ChainKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        })
    }
}

impl Display for Hook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        })
    }
}

impl Display for Direction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iif => "iifname",
            Self::Oif => "oifname",
        })
    }
}

struct Addr(Family, Side);

impl Display for Addr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.0, self.1) {
            (Family::V4, Side::Source) => "ip saddr",
            (Family::V4, Side::Destination) => "ip daddr",
            (Family::V6, Side::Source) => "ip6 saddr",
            (Family::V6, Side::Destination) => "ip6 daddr",
        })
    }
}

fn nat_family(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn write_proto(f: &mut Formatter<'_>, number: u8) -> fmt::Result {
    match number {
        6 => f.write_str("tcp"),
        17 => f.write_str("udp"),
        132 => f.write_str("sctp"),
        other => other.fmt(f),
    }
}

fn mask(family: Family, prefix_len: u8) -> String {
    let len = u32::from(prefix_len);
    match family {
        Family::V4 => {
            std::net::Ipv4Addr::from(u32::MAX.checked_shl(32 - len.min(32)).unwrap_or(0)).to_string()
        }
        Family::V6 => {
            std::net::Ipv6Addr::from(u128::MAX.checked_shl(128 - len.min(128)).unwrap_or(0)).to_string()
        }
    }
}
