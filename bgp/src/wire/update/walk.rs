//! The walk over the attributes of one UPDATE (RFC 7606 §3 to §5): notes what is wrong, keeps walking, finds the prefixes.
//!
//! In: the attributes field. Out: an [`Update`]. It stops early only where prefixes are lost, which is what a
//! NOTIFICATION is for. Values are read from slices cut to their length, in [`super::super::value`]; what a failure costs stands
//! in [`super::super::rules`].

use std::net::Ipv4Addr;

use bytes::Bytes;
use nom::Parser;
use nom::combinator::map;
use nom::multi::length_data;
use nom::number::complete::{be_u8, be_u16, be_u32, be_u64};
use nom::sequence::pair;
use smallvec::SmallVec;

use super::super::leaf::{Parsed, exactly, list};
use super::super::rules::{EXTENDED_LENGTH, OPTIONAL, OPTIONAL_TRANSITIVE, PARTIAL, Rule, TRANSITIVE, code};
use super::super::value::{
    aggregator, is_usable, large_communities, mp_nexthop, next_hop, origin, router_id,
};
use super::super::{
    Aggregator, AsPath, AttributeError, Community, DecodeContext, ErrorAction, Fault, Nlri, Notification,
    PathAttributes, UnknownAttribute,
};
use super::{Reach, Update};
use crate::types::{AfiSafi, Asn, Nexthop};

/// What one UPDATE has shown so far.
pub(super) struct Walk<'a> {
    context: &'a DecodeContext,
    /// There are prefixes outside the attributes, so NEXT_HOP means something.
    body_reach: bool,
    seen: Seen,
    attributes: PathAttributes,
    next_hop: Option<Ipv4Addr>,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
    reach: SmallVec<[Announced; 1]>,
    unreach: SmallVec<[Nlri; 1]>,
    /// Prefixes were announced, be it in a family that we skip.
    announces: bool,
    end_of_rib: Option<AfiSafi>,
    errors: Vec<AttributeError>,
}

/// Prefixes whose nexthop may turn out unusable.
struct Announced {
    nexthop: Option<Nexthop>,
    nlri: Nlri,
}

/// One attribute, its value cut to its length.
struct Attribute<'a> {
    flags: u8,
    code: u8,
    value: &'a [u8],
    /// With its header, for a NOTIFICATION.
    whole: &'a [u8],
}

/// The type codes met: a bit for each.
#[derive(Default)]
struct Seen([u128; 2]);

impl Seen {
    /// False when it was there before.
    fn insert(&mut self, code: u8) -> bool {
        let is_new = !self.contains(code);
        let (half, bit) = Self::place(code);
        self.0[half] |= bit;
        is_new
    }

    fn contains(&self, code: u8) -> bool {
        let (half, bit) = Self::place(code);
        self.0[half] & bit != 0
    }

    fn place(code: u8) -> (usize, u128) {
        (usize::from(code >> 7), 1 << (code & 0x7f))
    }

    fn only(&self, code: u8) -> bool {
        let mut alone = Self::default();
        alone.insert(code);
        self.0 == alone.0
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(context: &'a DecodeContext, body_reach: bool) -> Self {
        Self {
            context,
            body_reach,
            seen: Seen::default(),
            attributes: PathAttributes::default(),
            next_hop: None,
            as4_path: None,
            as4_aggregator: None,
            reach: SmallVec::new(),
            unreach: SmallVec::new(),
            announces: body_reach,
            end_of_rib: None,
            errors: Vec::new(),
        }
    }

    pub(super) fn attributes(&mut self, mut octets: &[u8]) -> Result<(), Notification> {
        while !octets.is_empty() {
            let Some((attribute, rest)) = Attribute::cut(octets) else {
                return self.overrun(octets);
            };
            self.attribute(&attribute)?;
            octets = rest;
        }
        Ok(())
    }

    /// RFC 7606 §4: the prefixes are found through Total Attribute Length, unless it is they that run over.
    fn overrun(&mut self, rest: &[u8]) -> Result<(), Notification> {
        if let [_, code::MP_REACH_NLRI | code::MP_UNREACH_NLRI, ..] = rest {
            return Err(Notification::malformed_attribute_list());
        }
        self.note(0, ErrorAction::TreatAsWithdraw, Fault::Overrun);
        Ok(())
    }

    fn attribute(&mut self, attribute: &Attribute<'_>) -> Result<(), Notification> {
        let code = attribute.code;
        if !self.seen.insert(code) {
            // RFC 7606 §3 g: the first one counts, but prefixes that contradict each other do not.
            if matches!(code, code::MP_REACH_NLRI | code::MP_UNREACH_NLRI) {
                return Err(Notification::malformed_attribute_list());
            }
            self.note(code, ErrorAction::Discard, Fault::Duplicate);
            return Ok(());
        }
        match Rule::of(code) {
            None => self.unknown(attribute),
            Some(rule) => self.known(rule, attribute)?,
        }
        Ok(())
    }

    fn unknown(&mut self, attribute: &Attribute<'_>) {
        let Attribute { flags, code, .. } = *attribute;
        if flags & OPTIONAL == 0 {
            // RFC 4271 §6.3 would reset; RFC 7606 §3 has no reason left to.
            self.note(code, ErrorAction::TreatAsWithdraw, Fault::UnrecognizedWellKnown);
        } else if flags & TRANSITIVE != 0 {
            self.carry(attribute, PARTIAL);
        }
        // What is optional and not transitive is nobody's fault: quietly ignored (RFC 4271 §5).
    }

    /// Keeps the value as it is. Copied, so that a route that stays does not keep a whole receive buffer.
    fn carry(&mut self, attribute: &Attribute<'_>, set: u8) {
        let flags = (attribute.flags | set) & (OPTIONAL_TRANSITIVE | PARTIAL);
        let value = Bytes::copy_from_slice(attribute.value);
        self.attributes.unknown.push(UnknownAttribute { flags, code: attribute.code, value });
    }

    fn known(&mut self, rule: &Rule, attribute: &Attribute<'_>) -> Result<(), Notification> {
        let Attribute { flags, code, value, .. } = *attribute;
        // RFC 4760 §3: beside prefixes of MP_REACH_NLRI alone, NEXT_HOP is ignored.
        let ignored = code == code::NEXT_HOP && !self.body_reach;
        if !rule.accepts(self.context) {
            return Ok(()); // Well-formed or not, it was never meant for us.
        }
        let flags_are_wrong = (flags ^ rule.flags) & OPTIONAL_TRANSITIVE != 0;
        if flags_are_wrong {
            let action = if ignored { ErrorAction::Discard } else { ErrorAction::TreatAsWithdraw };
            self.note(code, action, Fault::Flags);
        }
        // Their prefixes are needed even when the flags are wrong.
        match code {
            code::MP_REACH_NLRI => return self.mp_reach(attribute),
            code::MP_UNREACH_NLRI => return self.mp_unreach(attribute),
            _ if flags_are_wrong || ignored => return Ok(()),
            _ => {}
        }
        if !rule.admits_length(value.len()) {
            self.note(code, rule.malformed, Fault::Length);
        } else if self.value(attribute).is_none() {
            let has_set = code == code::AS4_PATH && AsPath::has_set_in_as4(value);
            let action = if has_set { ErrorAction::TreatAsWithdraw } else { rule.malformed };
            self.note(code, action, Fault::Value);
        }
        Ok(())
    }

    /// `None` when the value is malformed.
    fn value(&mut self, attribute: &Attribute<'_>) -> Option<()> {
        let value = attribute.value;
        let attributes = &mut self.attributes;
        match attribute.code {
            code::ORIGIN => attributes.origin = origin(value)?,
            code::AS_PATH => attributes.as_path = AsPath::decode_received(value, self.context)?,
            code::NEXT_HOP => self.next_hop = Some(next_hop(value)?),
            code::MULTI_EXIT_DISC => attributes.med = Some(exactly(be_u32, value)?),
            code::LOCAL_PREF => attributes.local_pref = Some(exactly(be_u32, value)?),
            code::ATOMIC_AGGREGATE => attributes.atomic_aggregate = true,
            code::AGGREGATOR => attributes.aggregator = Some(aggregator(value, self.context.four_octet_asn)?),
            code::COMMUNITIES => attributes.communities = exactly(list(map(be_u32, Community)), value)?,
            code::ORIGINATOR_ID => attributes.originator_id = Some(exactly(router_id, value)?),
            code::CLUSTER_LIST => attributes.cluster_list = exactly(list(router_id), value)?,
            code::EXTENDED_COMMUNITIES => {
                attributes.extended_communities = exactly(list(map(be_u64, u64::to_be_bytes)), value)?;
            }
            code::LARGE_COMMUNITIES => attributes.large_communities = large_communities(value)?.into(),
            code::AS4_PATH => self.as4_path = Some(AsPath::decode_as4(value)?),
            code::AS4_AGGREGATOR => self.as4_aggregator = Some(aggregator(value, true)?),
            code::ONLY_TO_CUSTOMER => {
                exactly(be_u32, value).filter(|asn| *asn != 0)?;
                self.carry(attribute, 0);
            }
            // Understood well enough to be passed on: its length was right.
            _ => self.carry(attribute, 0),
        }
        Some(())
    }

    /// RFC 4760 §3.
    fn mp_reach(&mut self, attribute: &Attribute<'_>) -> Result<(), Notification> {
        let malformed = || Notification::optional_attribute_error(attribute.whole);
        let (nlri, (afi, safi, nexthop, _reserved)) =
            mp_reach_fields(attribute.value).map_err(|_| malformed())?;
        self.announces |= !nlri.is_empty();
        let Some(family) = self.negotiated(afi, safi) else {
            self.note(code::MP_REACH_NLRI, ErrorAction::Discard, Fault::Family);
            return Ok(());
        };
        // RFC 7606 §7.11: a nexthop of the wrong length puts all that follows it in doubt.
        let nexthop = mp_nexthop(family, nexthop, self.context).ok_or_else(malformed)?;
        let nlri = Nlri::decode(family, nlri).ok_or_else(malformed)?;
        if !is_usable(nexthop) {
            self.note(code::MP_REACH_NLRI, ErrorAction::TreatAsWithdraw, Fault::Value);
        }
        if !nlri.is_empty() {
            self.reach.push(Announced { nexthop: Some(nexthop), nlri });
        }
        Ok(())
    }

    /// RFC 4760 §4.
    fn mp_unreach(&mut self, attribute: &Attribute<'_>) -> Result<(), Notification> {
        let malformed = || Notification::optional_attribute_error(attribute.whole);
        let parsed: Parsed<'_, (u16, u8)> = pair(be_u16, be_u8).parse(attribute.value);
        let (nlri, (afi, safi)) = parsed.map_err(|_| malformed())?;
        let Some(family) = self.negotiated(afi, safi) else {
            self.note(code::MP_UNREACH_NLRI, ErrorAction::Discard, Fault::Family);
            return Ok(());
        };
        if nlri.is_empty() {
            self.end_of_rib = Some(family);
        } else {
            self.unreach.push(Nlri::decode(family, nlri).ok_or_else(malformed)?);
        }
        Ok(())
    }

    fn negotiated(&self, afi: u16, safi: u8) -> Option<AfiSafi> {
        AfiSafi::from_codes(afi, safi).filter(|family| self.context.families.contains(family))
    }

    /// The IPv4 prefixes outside the attributes. Comes last, because the nexthop of the announced ones is an attribute.
    pub(super) fn body_prefixes(&mut self, withdrawn: &[u8], announced: &[u8]) -> Result<(), Notification> {
        let decode = |octets| {
            Nlri::decode(AfiSafi::Ipv4Unicast, octets).ok_or_else(Notification::invalid_network_field)
        };
        if withdrawn.is_empty() && announced.is_empty() {
            return Ok(());
        }
        self.end_of_rib = None;
        if !self.context.families.contains(&AfiSafi::Ipv4Unicast) {
            self.note(0, ErrorAction::Discard, Fault::Family);
            return Ok(());
        }
        if !withdrawn.is_empty() {
            self.unreach.insert(0, decode(withdrawn)?);
        }
        if !announced.is_empty() {
            let nexthop = self.next_hop.map(Nexthop::V4);
            if !self.seen.contains(code::NEXT_HOP) {
                self.note(code::NEXT_HOP, ErrorAction::TreatAsWithdraw, Fault::Missing);
            }
            self.reach.insert(0, Announced { nexthop, nlri: decode(announced)? });
        }
        Ok(())
    }

    fn note(&mut self, code: u8, action: ErrorAction, fault: Fault) {
        self.errors.push(AttributeError { code, action, fault });
    }

    /// The strongest action wins (RFC 7606 §3 h).
    pub(super) fn finish(mut self) -> Result<Update, Notification> {
        if !self.reach.is_empty() {
            for code in [code::ORIGIN, code::AS_PATH] {
                if !self.seen.contains(code) {
                    self.note(code, ErrorAction::TreatAsWithdraw, Fault::Missing);
                }
            }
        }
        let withdraw = self.errors.iter().any(|error| error.action > ErrorAction::Discard);
        // RFC 7606 §5.2: attributes, an error among them, and no prefix to withdraw for it. Some may have been lost.
        if withdraw && !self.announces && !self.only_mp_unreach() {
            return Err(Notification::malformed_attribute_list());
        }
        let end_of_rib = self.end_of_rib.filter(|_| self.errors.is_empty() && self.only_mp_unreach());
        if !self.context.four_octet_asn {
            self.merge_as4();
        }
        let mut update =
            Update { unreach: self.unreach, end_of_rib, errors: self.errors, ..Update::default() };
        for Announced { nexthop, nlri } in self.reach {
            match nexthop {
                Some(nexthop) if !withdraw => update.reach.push(Reach { nexthop, nlri }),
                Some(_) | None => update.unreach.push(nlri),
            }
        }
        if !update.reach.is_empty() {
            update.attributes = self.attributes;
        }
        Ok(update)
    }

    fn only_mp_unreach(&self) -> bool {
        let overrun = self.errors.iter().any(|error| error.fault == Fault::Overrun);
        self.seen.only(code::MP_UNREACH_NLRI) && !overrun
    }

    /// RFC 6793 §4.2.3: an OLD speaker carries the real AS numbers beside the ones that it understands.
    fn merge_as4(&mut self) {
        match (self.attributes.aggregator, self.as4_aggregator) {
            // An OLD speaker has aggregated since: what stands beside is from before.
            (Some(old), Some(_)) if old.asn != Asn::TRANS => return,
            (Some(_), Some(new)) => self.attributes.aggregator = Some(new),
            (None, _) | (_, None) => {}
        }
        if let Some(as4_path) = &self.as4_path {
            self.attributes.as_path.merge_as4(as4_path);
        }
    }
}

impl<'a> Attribute<'a> {
    /// The attribute at the front, and what follows it; `None` when there is not room for it.
    fn cut(octets: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let ([flags, code], rest) = octets.split_first_chunk()?;
        let (value, rest) = if flags & EXTENDED_LENGTH == 0 {
            let (len, rest) = rest.split_first()?;
            rest.split_at_checked(usize::from(*len))?
        } else {
            let (len, rest) = rest.split_first_chunk()?;
            rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?
        };
        let whole = octets.get(..octets.len().checked_sub(rest.len())?)?;
        Some((Self { flags: *flags, code: *code, value, whole }, rest))
    }
}

fn mp_reach_fields(value: &[u8]) -> Parsed<'_, (u16, u8, &[u8], u8)> {
    (be_u16, be_u8, length_data(be_u8), be_u8).parse(value)
}
