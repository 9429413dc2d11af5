//! OPEN: who a speaker is and what it can do (RFC 4271 §4.2, §6.2; capabilities RFC 5492).
//!
//! In: a body. Out: an [`Open`], or the NOTIFICATION that it deserves. What can be judged by the message alone is judged
//! here; whether it comes from the peer that we expect is the session's question. A capability that we know but whose value
//! is broken is taken as not announced, except the four-octet AS number, without which we do not know who is speaking.

use std::net::Ipv4Addr;

use bytes::{BufMut, Bytes, BytesMut};
use nom::Parser;
use nom::combinator::map;
use nom::multi::length_data;
use nom::number::complete::{be_u8, be_u16, be_u32};
use nom::sequence::pair;
use serde::{Deserialize, Serialize};

use super::header::put_message;
use super::leaf::{Parsed, exactly, list};
use super::{MessageKind, Notification};
use crate::types::{AfiSafi, Asn, RouterId};

/// RFC 4271 §4.2. `asn` is the real one: from capability 65 where present (RFC 6793 §4.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    pub asn: Asn,
    /// Seconds; 0 (never expires) or at least 3.
    pub hold_time: u16,
    pub router_id: RouterId,
    pub capabilities: Capabilities,
}

/// What an OPEN announces (RFC 5492). Unknown codes are kept for display, never answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Code 1, those that we speak. A received OPEN without code 1 means IPv4 unicast alone and reads so (RFC 4760 §8);
    /// it is empty when the peer announced only families that we do not speak.
    pub families: Vec<AfiSafi>,
    /// Code 2.
    pub route_refresh: bool,
    /// Code 5 (RFC 8950): families whose prefixes may come with an IPv6 nexthop. Only IPv4 unicast matters to us.
    pub extended_nexthop: Vec<AfiSafi>,
    /// Code 64 (RFC 4724).
    pub graceful_restart: Option<GracefulRestart>,
    /// Code 65.
    pub four_octet_asn: bool,
    /// Codes that we do not speak, in order of arrival, each once.
    pub unknown: Vec<u8>,
}

/// RFC 4724 §3 and, for the N bit, RFC 8538 §2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GracefulRestart {
    /// R: the sender has just restarted.
    pub restarting: bool,
    /// N: a NOTIFICATION does not end graceful restart.
    pub notification: bool,
    /// Seconds, 12 bits.
    pub restart_time: u16,
    /// Family and its F bit: forwarding state was kept.
    pub families: Vec<(AfiSafi, bool)>,
}

const VERSION: u8 = 4;
const MULTIPROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const EXTENDED_NEXTHOP: u8 = 5;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_ASN: u8 = 65;
/// The optional parameter that holds capabilities (RFC 5492 §4).
const CAPABILITIES_PARAMETER: u8 = 2;
/// In place of the first parameter's type: lengths have two octets (RFC 9072 §2).
const EXTENDED_LENGTHS: u8 = 255;

const RESTART_FLAG: u16 = 0x8000;
const NOTIFICATION_FLAG: u16 = 0x4000;
const RESTART_TIME_MASK: u16 = 0x0fff;
const FORWARDING_FLAG: u8 = 0x80;

impl Open {
    pub fn decode(body: &[u8]) -> Result<Self, Notification> {
        let (rest, (version, two_octet_asn, hold_time, router_id)) =
            fixed_fields(body).map_err(|_| Notification::malformed_open())?;
        if version != VERSION {
            return Err(Notification::unsupported_version());
        }
        if matches!(hold_time, 1 | 2) {
            return Err(Notification::unacceptable_hold_time());
        }
        // RFC 6286 §2.2: not zero; it need not be an address.
        if router_id == 0 {
            return Err(Notification::bad_router_id());
        }
        let (capabilities, four_octet_asn) = decode_parameters(rest)?;
        let asn = four_octet_asn.unwrap_or(Asn(u32::from(two_octet_asn)));
        // RFC 7607 §2.
        if asn == Asn(0) {
            return Err(Notification::bad_peer_as());
        }
        Ok(Self { asn, hold_time, router_id: RouterId(Ipv4Addr::from_bits(router_id)), capabilities })
    }

    /// The whole message, header included. All capabilities go into one parameter, as RFC 5492 §4 recommends.
    pub fn encode(&self) -> Bytes {
        let capabilities = self.encode_capabilities();
        let mut body = BytesMut::with_capacity(128);
        body.put_u8(VERSION);
        body.put_u16(self.asn.two_octets());
        body.put_u16(self.hold_time);
        body.put_u32(self.router_id.0.to_bits());
        if capabilities.is_empty() {
            body.put_u8(0);
        } else {
            let len = u8::try_from(capabilities.len()).expect("at most 52 octets: each family stands once");
            body.put_u8(len + 2);
            body.put_u8(CAPABILITIES_PARAMETER);
            body.put_u8(len);
            body.put_slice(&capabilities);
        }
        let mut out = BytesMut::new();
        put_message(&mut out, MessageKind::Open, &body);
        out.freeze()
    }

    fn encode_capabilities(&self) -> BytesMut {
        let Capabilities {
            families, route_refresh, extended_nexthop, graceful_restart, four_octet_asn, ..
        } = &self.capabilities;
        let mut out = BytesMut::new();
        for family in each_once(|family| families.contains(&family)) {
            let (afi, safi) = family.codes();
            put_capability(&mut out, MULTIPROTOCOL, |out| {
                out.put_u16(afi);
                out.put_u16(u16::from(safi));
            });
        }
        if *route_refresh {
            put_capability(&mut out, ROUTE_REFRESH, |_| {});
        }
        if !extended_nexthop.is_empty() {
            put_capability(&mut out, EXTENDED_NEXTHOP, |out| {
                for family in each_once(|family| extended_nexthop.contains(&family)) {
                    let (afi, safi) = family.codes();
                    out.put_u16(afi);
                    out.put_u16(u16::from(safi));
                    out.put_u16(AfiSafi::Ipv6Unicast.codes().0);
                }
            });
        }
        if let Some(restart) = graceful_restart {
            put_capability(&mut out, GRACEFUL_RESTART, |out| restart.encode(out));
        }
        if *four_octet_asn {
            put_capability(&mut out, FOUR_OCTET_ASN, |out| out.put_u32(self.asn.0));
        }
        out
    }
}

impl GracefulRestart {
    fn encode(&self, out: &mut BytesMut) {
        let restarting = if self.restarting { RESTART_FLAG } else { 0 };
        let notification = if self.notification { NOTIFICATION_FLAG } else { 0 };
        out.put_u16(restarting | notification | self.restart_time.min(RESTART_TIME_MASK));
        for family in AfiSafi::ALL {
            if let Some((_, forwarding)) = self.families.iter().find(|(listed, _)| *listed == family) {
                let (afi, safi) = family.codes();
                out.put_u16(afi);
                out.put_u8(safi);
                out.put_u8(if *forwarding { FORWARDING_FLAG } else { 0 });
            }
        }
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let family = map(pair(pair(be_u16, be_u8), be_u8), |((afi, safi), flags): ((u16, u8), u8)| {
            AfiSafi::from_codes(afi, safi).map(|family| (family, flags & FORWARDING_FLAG != 0))
        });
        let (head, families): (u16, Vec<_>) = exactly(pair(be_u16, list(family)), value)?;
        Some(Self {
            restarting: head & RESTART_FLAG != 0,
            notification: head & NOTIFICATION_FLAG != 0,
            restart_time: head & RESTART_TIME_MASK,
            families: families.into_iter().flatten().collect(),
        })
    }
}

fn each_once(listed: impl Fn(AfiSafi) -> bool) -> impl Iterator<Item = AfiSafi> {
    AfiSafi::ALL.into_iter().filter(move |family| listed(*family))
}

fn put_capability(out: &mut BytesMut, code: u8, value: impl FnOnce(&mut BytesMut)) {
    let mut bytes = BytesMut::new();
    value(&mut bytes);
    out.put_u8(code);
    out.put_u8(u8::try_from(bytes.len()).expect("at most 12 octets: each family stands once"));
    out.put_slice(&bytes);
}

fn fixed_fields(body: &[u8]) -> Parsed<'_, (u8, u16, u16, u32)> {
    (be_u8, be_u16, be_u16, be_u32).parse(body)
}

/// The optional parameters, from their length octet to the end of the message, which must be their end too.
fn decode_parameters(rest: &[u8]) -> Result<(Capabilities, Option<Asn>), Notification> {
    let malformed = || Notification::malformed_open();
    let (len, parameters) = rest.split_first().ok_or_else(malformed)?;
    // RFC 9072 §2: the first type is what tells, not the length before it.
    let (mut parameters, extended) = match (len, parameters) {
        (1.., [EXTENDED_LENGTHS, rest @ ..]) => {
            (exactly(length_data(be_u16), rest).ok_or_else(malformed)?, true)
        }
        _ => (exactly(length_data(be_u8), rest).ok_or_else(malformed)?, false),
    };
    let mut found = Found::default();
    while !parameters.is_empty() {
        let (rest, (kind, value)) = parameter(parameters, extended).map_err(|_| malformed())?;
        if kind != CAPABILITIES_PARAMETER {
            return Err(Notification::unsupported_parameter());
        }
        found.read(value)?;
        parameters = rest;
    }
    if !found.multiprotocol {
        found.capabilities.families.push(AfiSafi::Ipv4Unicast);
    }
    Ok((found.capabilities, found.asn))
}

fn parameter(input: &[u8], extended: bool) -> Parsed<'_, (u8, &[u8])> {
    if extended {
        pair(be_u8, length_data(be_u16)).parse(input)
    } else {
        pair(be_u8, length_data(be_u8)).parse(input)
    }
}

/// What the parameters have told so far.
#[derive(Default)]
struct Found {
    capabilities: Capabilities,
    multiprotocol: bool,
    asn: Option<Asn>,
}

impl Found {
    fn read(&mut self, mut list: &[u8]) -> Result<(), Notification> {
        while !list.is_empty() {
            let capability: Parsed<'_, (u8, &[u8])> = pair(be_u8, length_data(be_u8)).parse(list);
            let (rest, (code, value)) = capability.map_err(|_| Notification::malformed_open())?;
            self.add(code, value)?;
            list = rest;
        }
        Ok(())
    }

    fn add(&mut self, code: u8, value: &[u8]) -> Result<(), Notification> {
        let known = &mut self.capabilities;
        match code {
            MULTIPROTOCOL => {
                self.multiprotocol = true;
                if let Some((afi, _reserved, safi)) = exactly((be_u16, be_u8, be_u8), value) {
                    push_once(&mut known.families, AfiSafi::from_codes(afi, safi));
                }
            }
            ROUTE_REFRESH => known.route_refresh = true,
            EXTENDED_NEXTHOP => {
                let entry = map((be_u16, be_u16, be_u16), |(afi, safi, nexthop_afi)| {
                    let family = AfiSafi::from_codes(afi, u8::try_from(safi).ok()?)?;
                    (nexthop_afi == AfiSafi::Ipv6Unicast.codes().0).then_some(family)
                });
                let families: Vec<_> = exactly(list(entry), value).unwrap_or_default();
                for family in families {
                    push_once(&mut known.extended_nexthop, family);
                }
            }
            GRACEFUL_RESTART => known.graceful_restart = GracefulRestart::decode(value),
            FOUR_OCTET_ASN => {
                let asn = exactly(be_u32, value).ok_or_else(Notification::malformed_open)?;
                self.asn = Some(Asn(asn));
                known.four_octet_asn = true;
            }
            unknown => push_once(&mut known.unknown, Some(unknown)),
        }
        Ok(())
    }
}

fn push_once<T: PartialEq>(list: &mut Vec<T>, item: Option<T>) {
    list.extend(item.filter(|item| !list.contains(item)));
}
