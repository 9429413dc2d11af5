//! A rule as nf_tables expressions, in the very form that `nft` compiles its text to, so that `nft list` prints it back.
//!
//! Each match loads something into registers and compares it; anonymous sets are messages of their own, sent before
//! their rule (see [`super::object`]) and named here by the id they have in the batch.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::consts::*;
use super::key::IFNAME_LEN;
use super::wire::Writer;
use crate::ruleset::{Direction, End, Family, Match, Name, Rule, Side, Statement, Verdict};

pub(super) const IPPROTO_ICMPV6: u8 = 58;
/// `NFT_REG_1`: 16 bytes, the first of the data registers.
const FIRST: Register = Register { word: 0 };
/// Of destination port, in TCP, UDP and SCTP.
const DPORT_OFFSET: u32 = 2;

/// Writes the list's items. `anonymous` is the batch id of the rule's first anonymous set; the others follow.
pub(super) fn expressions(out: &mut Writer, rule: &Rule, anonymous: u32) {
    let mut encoder = Encoder { out, family: None, anonymous };
    rule.matches.iter().for_each(|condition| encoder.condition(condition));
    rule.statements.iter().for_each(|statement| encoder.statement(statement));
    encoder.end(&rule.end);
}

/// An attribute with a verdict, as rules and map entries hold it.
pub(super) fn verdict(out: &mut Writer, kind: u16, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Accept => (NF_ACCEPT, None),
        Verdict::Drop => (NF_DROP, None),
        Verdict::Return => (NFT_RETURN, None),
        Verdict::Jump(chain) => (NFT_JUMP, Some(chain)),
        Verdict::Goto(chain) => (NFT_GOTO, Some(chain)),
    };
    out.nest(kind, |out| {
        out.nest(DATA_VERDICT, |out| {
            out.attr(VERDICT_CODE, &code.to_be_bytes());
            if let Some(chain) = chain {
                out.attr_str(VERDICT_CHAIN, chain);
            }
        });
    });
}

/// A place in the register file, counted in words of four bytes. Concatenated keys lie side by side.
#[derive(Clone, Copy)]
struct Register {
    word: u32,
}

impl Register {
    /// A register of 16 bytes has its own number; the words between have the 32-bit registers' numbers.
    fn number(self) -> u32 {
        if self.word.is_multiple_of(4) { 1 + self.word / 4 } else { 8 + self.word }
    }

    fn after(self, bytes: u32) -> Self {
        Self { word: self.word + bytes.div_ceil(4) }
    }
}

struct Encoder<'a> {
    out: &'a mut Writer,
    /// The family that an earlier match of this rule has established.
    family: Option<Family>,
    anonymous: u32,
}

impl Encoder<'_> {
    fn condition(&mut self, condition: &Match) {
        match condition {
            Match::Prefix { side, equal, prefix } => self.prefix(*side, *equal, *prefix),
            Match::AddrInSet { side, family, set } => {
                self.require(*family);
                self.address(*side, *family, FIRST);
                self.lookup(set);
            }
            Match::AddrPortInSet { side, family, set } => {
                self.require(*family);
                let next = self.address(*side, *family, FIRST);
                self.l4proto_and_dport(next);
                self.lookup(set);
            }
            Match::MaskedAddrInSet { side, family, prefix_len, set } => {
                self.require(*family);
                self.address(*side, *family, FIRST);
                self.bitwise(&mask(*family, *prefix_len));
                self.lookup(set);
            }
            Match::IfnamePrefix { direction, prefix } => {
                self.ifname(*direction, FIRST);
                self.compare(CMP_EQ, prefix.as_bytes());
            }
            Match::IifAddrInSet { family, set } => {
                self.require(*family);
                let next = self.ifname(Direction::Iif, FIRST);
                self.address(Side::Source, *family, next);
                self.lookup(set);
            }
            Match::IifOifInSet { set } => {
                let next = self.ifname(Direction::Iif, FIRST);
                self.ifname(Direction::Oif, next);
                self.lookup(set);
            }
            Match::CtEstablished => self.ct_bits(CT_STATE, CT_STATE_ESTABLISHED | CT_STATE_RELATED, true),
            Match::CtDnat => self.ct_bits(CT_STATUS, CT_STATUS_DNAT, true),
            Match::CtMark { mask, set } => self.ct_bits(CT_MARK, *mask, *set),
            Match::DestinationIsLocal => self.destination_is_local(),
            Match::L4Proto(proto) => self.l4proto_is(*proto),
            Match::Icmpv6Type(types) => self.icmpv6_type(types),
        }
    }

    /// Whether one of these bits is set, or none.
    fn ct_bits(&mut self, key: u32, mask: u32, set: bool) {
        self.ct(key);
        self.bitwise(&mask.to_ne_bytes());
        self.compare(if set { CMP_NEQ } else { CMP_EQ }, &[0; 4]);
    }

    fn destination_is_local(&mut self) {
        self.expression("fib", |out| {
            out.attr_u32(FIB_FLAGS, FIB_F_DADDR);
            out.attr_u32(FIB_RESULT, FIB_RESULT_ADDRTYPE);
            out.attr_u32(FIB_DREG, FIRST.number());
        });
        self.compare(CMP_EQ, &FIB_TYPE_LOCAL.to_ne_bytes());
    }

    fn icmpv6_type(&mut self, types: &BTreeSet<u8>) {
        self.require(Family::V6);
        self.l4proto_is(IPPROTO_ICMPV6);
        self.payload(BASE_TRANSPORT, 0, 1, FIRST);
        match types.iter().collect::<Vec<_>>()[..] {
            [single] => self.compare(CMP_EQ, &[*single]),
            _ => self.lookup_anonymous(false),
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Counter => self.expression("counter", |_| {}),
            Statement::Limit { per_second, burst } => self.expression("limit", |out| {
                out.attr_u64(LIMIT_RATE, *per_second);
                out.attr_u64(LIMIT_UNIT, 1);
                out.attr_u32(LIMIT_BURST, *burst);
                out.attr_u32(LIMIT_TYPE, 0);
                out.attr_u32(LIMIT_FLAGS, 0);
            }),
            Statement::Log { group, prefix, snaplen } => self.expression("log", |out| {
                out.attr_str(LOG_PREFIX, prefix);
                out.attr_u16(LOG_GROUP, *group);
                out.attr_u32(LOG_SNAPLEN, *snaplen);
            }),
        }
    }

    fn end(&mut self, end: &End) {
        match end {
            End::Continue => {}
            End::Verdict(decision) => self.expression("immediate", |out| {
                out.attr_u32(IMMEDIATE_DREG, REG_VERDICT);
                verdict(out, IMMEDIATE_DATA, decision);
            }),
            End::AddrMap { side, family, map } => {
                self.require(*family);
                self.address(*side, *family, FIRST);
                self.lookup_value(map, REG_VERDICT);
            }
            End::PortMap(_) => {
                self.l4proto_and_dport(FIRST);
                self.lookup_anonymous(true);
            }
            End::Dnat { family, by_address, map } => self.dnat(*family, *by_address, map),
            End::Masquerade => self.expression("masq", |_| {}),
        }
    }

    /// The kernel passes over a translation of the other family, so only loading an address asks for the family.
    fn dnat(&mut self, family: Family, by_address: bool, map: &Name) {
        let mut next = FIRST;
        if by_address {
            self.require(family);
            next = self.address(Side::Destination, family, FIRST);
        }
        self.l4proto_and_dport(next);
        self.lookup_value(map, FIRST.number());
        self.expression("nat", |out| {
            out.attr_u32(NAT_TYPE, NAT_DNAT);
            out.attr_u32(NAT_FAMILY, nfproto(family).into());
            out.attr_u32(NAT_REG_ADDR_MIN, FIRST.number());
            out.attr_u32(NAT_REG_PROTO_MIN, FIRST.after(address_len(family)).number());
        });
    }

    /// `inet` sees both families; the first match on an address fixes which.
    fn require(&mut self, family: Family) {
        if self.family != Some(family) {
            self.family = Some(family);
            self.meta(META_NFPROTO, FIRST);
            self.compare(CMP_EQ, &[nfproto(family)]);
        }
    }

    /// Whole bytes are compared without a mask, as nft does.
    fn prefix(&mut self, side: Side, equal: bool, prefix: IpNetwork) {
        let (family, network) = match prefix.network() {
            IpAddr::V4(address) => (Family::V4, address.octets().to_vec()),
            IpAddr::V6(address) => (Family::V6, address.octets().to_vec()),
        };
        let bits = prefix.prefix();
        let operator = if equal { CMP_EQ } else { CMP_NEQ };
        self.require(family);
        if bits > 0 && bits.is_multiple_of(8) {
            let bytes = bits / 8;
            self.payload(BASE_NETWORK, address_offset(side, family), u32::from(bytes), FIRST);
            self.compare(operator, &network[..usize::from(bytes)]);
        } else {
            self.address(side, family, FIRST);
            self.bitwise(&mask(family, bits));
            self.compare(operator, &network);
        }
    }

    fn address(&mut self, side: Side, family: Family, to: Register) -> Register {
        self.payload(BASE_NETWORK, address_offset(side, family), address_len(family), to)
    }

    fn l4proto_and_dport(&mut self, to: Register) {
        let next = self.meta(META_L4PROTO, to).after(1);
        self.payload(BASE_TRANSPORT, DPORT_OFFSET, 2, next);
    }

    fn l4proto_is(&mut self, proto: u8) {
        self.meta(META_L4PROTO, FIRST);
        self.compare(CMP_EQ, &[proto]);
    }

    fn ifname(&mut self, direction: Direction, to: Register) -> Register {
        let key = match direction {
            Direction::Iif => META_IIFNAME,
            Direction::Oif => META_OIFNAME,
        };
        self.meta(key, to).after(u32::try_from(IFNAME_LEN).expect("16"))
    }

    fn meta(&mut self, key: u32, to: Register) -> Register {
        self.expression("meta", |out| {
            out.attr_u32(META_KEY, key);
            out.attr_u32(META_DREG, to.number());
        });
        to
    }

    fn ct(&mut self, key: u32) {
        self.expression("ct", |out| {
            out.attr_u32(CT_KEY, key);
            out.attr_u32(CT_DREG, FIRST.number());
        });
    }

    /// Returns the register behind what was loaded.
    fn payload(&mut self, base: u32, offset: u32, len: u32, to: Register) -> Register {
        self.expression("payload", |out| {
            out.attr_u32(PAYLOAD_DREG, to.number());
            out.attr_u32(PAYLOAD_BASE, base);
            out.attr_u32(PAYLOAD_OFFSET, offset);
            out.attr_u32(PAYLOAD_LEN, len);
        });
        to.after(len)
    }

    fn compare(&mut self, operator: u32, value: &[u8]) {
        self.expression("cmp", |out| {
            out.attr_u32(CMP_SREG, FIRST.number());
            out.attr_u32(CMP_OP, operator);
            out.nest(CMP_DATA, |out| out.attr(DATA_VALUE, value));
        });
    }

    fn bitwise(&mut self, mask: &[u8]) {
        self.expression("bitwise", |out| {
            out.attr_u32(BITWISE_SREG, FIRST.number());
            out.attr_u32(BITWISE_DREG, FIRST.number());
            out.attr_u32(BITWISE_LEN, u32::try_from(mask.len()).expect("at most 16"));
            out.nest(BITWISE_MASK, |out| out.attr(DATA_VALUE, mask));
            out.nest(BITWISE_XOR, |out| out.attr(DATA_VALUE, &[0; 16][..mask.len()]));
        });
    }

    fn lookup(&mut self, set: &Name) {
        self.expression("lookup", |out| {
            out.attr_u32(LOOKUP_SREG, FIRST.number());
            out.attr_str(LOOKUP_SET, set);
        });
    }

    fn lookup_value(&mut self, map: &Name, to: u32) {
        self.expression("lookup", |out| {
            out.attr_u32(LOOKUP_SREG, FIRST.number());
            out.attr_u32(LOOKUP_DREG, to);
            out.attr_str(LOOKUP_SET, map);
        });
    }

    fn lookup_anonymous(&mut self, map: bool) {
        let id = self.anonymous;
        self.anonymous += 1;
        self.expression("lookup", |out| {
            out.attr_u32(LOOKUP_SREG, FIRST.number());
            if map {
                out.attr_u32(LOOKUP_DREG, REG_VERDICT);
            }
            out.attr_str(LOOKUP_SET, if map { ANONYMOUS_MAP } else { ANONYMOUS_SET });
            out.attr_u32(LOOKUP_SET_ID, id);
        });
    }

    fn expression(&mut self, name: &str, data: impl FnOnce(&mut Writer)) {
        self.out.nest(LIST_ELEM, |out| {
            out.attr_str(EXPR_NAME, name);
            out.nest(EXPR_DATA, data);
        });
    }
}

fn nfproto(family: Family) -> u8 {
    match family {
        Family::V4 => NFPROTO_IPV4,
        Family::V6 => NFPROTO_IPV6,
    }
}

fn address_len(family: Family) -> u32 {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}

/// Within the network header.
fn address_offset(side: Side, family: Family) -> u32 {
    match (family, side) {
        (Family::V4, Side::Source) => 12,
        (Family::V4, Side::Destination) => 16,
        (Family::V6, Side::Source) => 8,
        (Family::V6, Side::Destination) => 24,
    }
}

fn mask(family: Family, bits: u8) -> Vec<u8> {
    match family {
        Family::V4 => u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0).to_be_bytes().to_vec(),
        Family::V6 => u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0).to_be_bytes().to_vec(),
    }
}
