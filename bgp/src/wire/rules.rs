//! How each path attribute is judged: the table of RFC 7606 §7 and of the documents that define the attributes.
//!
//! A judgement never depends on what a broken attribute says about itself (its flags), only on its type code and on the peer.

use super::{DecodeContext, ErrorAction};
use crate::types::PeerKind;

pub(super) const OPTIONAL: u8 = 0x80;
pub(super) const TRANSITIVE: u8 = 0x40;
pub(super) const PARTIAL: u8 = 0x20;
pub(super) const EXTENDED_LENGTH: u8 = 0x10;

const WELL_KNOWN: u8 = TRANSITIVE;
pub(super) const OPTIONAL_TRANSITIVE: u8 = 0xc0;
const OPTIONAL_NON_TRANSITIVE: u8 = OPTIONAL;

/// Type codes (IANA, BGP Path Attributes).
pub(super) mod code {
    pub(in super::super) const ORIGIN: u8 = 1;
    pub(in super::super) const AS_PATH: u8 = 2;
    pub(in super::super) const NEXT_HOP: u8 = 3;
    pub(in super::super) const MULTI_EXIT_DISC: u8 = 4;
    pub(in super::super) const LOCAL_PREF: u8 = 5;
    pub(in super::super) const ATOMIC_AGGREGATE: u8 = 6;
    pub(in super::super) const AGGREGATOR: u8 = 7;
    pub(in super::super) const COMMUNITIES: u8 = 8;
    pub(in super::super) const ORIGINATOR_ID: u8 = 9;
    pub(in super::super) const CLUSTER_LIST: u8 = 10;
    pub(in super::super) const MP_REACH_NLRI: u8 = 14;
    pub(in super::super) const MP_UNREACH_NLRI: u8 = 15;
    pub(in super::super) const EXTENDED_COMMUNITIES: u8 = 16;
    pub(in super::super) const AS4_PATH: u8 = 17;
    pub(in super::super) const AS4_AGGREGATOR: u8 = 18;
    pub(in super::super) const IPV6_EXTENDED_COMMUNITIES: u8 = 25;
    pub(in super::super) const LARGE_COMMUNITIES: u8 = 32;
    pub(in super::super) const ONLY_TO_CUSTOMER: u8 = 35;
    pub(in super::super) const PREFIX_SID: u8 = 40;
}

/// What is expected of one attribute, and what its failure costs.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) code: u8,
    /// The Optional and Transitive bits. Wrong ones cost the routes (RFC 7606 §3 c); Partial is not judged.
    pub(super) flags: u8,
    pub(super) length: Length,
    pub(super) accepted: Accepted,
    /// When the value is malformed. For the two attributes that hold prefixes: a broken list leaves the routes
    /// unknown, so that they cannot be withdrawn (RFC 7606 §5.3).
    pub(super) malformed: ErrorAction,
}

/// Octets of the value.
#[derive(Debug)]
pub(super) enum Length {
    Exactly(usize),
    /// One or more of so many.
    MultipleOf(usize),
    /// Known to the value's decoder alone.
    Any,
}

/// From whom. From others it is discarded without a word, whatever its shape.
#[derive(Debug)]
pub(super) enum Accepted {
    Everybody,
    Internal,
    /// Those that do not speak four-octet AS numbers (RFC 6793 §3).
    OldSpeakers,
    Nobody,
}

impl Rule {
    pub(super) fn of(code: u8) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.code == code)
    }

    pub(super) fn accepts(&self, context: &DecodeContext) -> bool {
        match self.accepted {
            Accepted::Everybody => true,
            Accepted::Internal => context.peer_kind == PeerKind::Internal,
            Accepted::OldSpeakers => !context.four_octet_asn,
            Accepted::Nobody => false,
        }
    }

    pub(super) fn admits_length(&self, len: usize) -> bool {
        match self.length {
            Length::Exactly(expected) => len == expected,
            Length::MultipleOf(unit) => len >= unit && len.is_multiple_of(unit),
            Length::Any => true,
        }
    }
}

const fn rule(code: u8, flags: u8, length: Length, accepted: Accepted, malformed: ErrorAction) -> Rule {
    Rule { code, flags, length, accepted, malformed }
}

/// In order of type code, which is the order in which most speakers send them.
static RULES: [Rule; 19] = {
    use Accepted::{Everybody, Internal, Nobody, OldSpeakers};
    use ErrorAction::{Discard, Reset, TreatAsWithdraw};
    use Length::{Any, Exactly, MultipleOf};
    [
        // RFC 7606 §7.1 to §7.7.
        rule(code::ORIGIN, WELL_KNOWN, Exactly(1), Everybody, TreatAsWithdraw),
        rule(code::AS_PATH, WELL_KNOWN, Any, Everybody, TreatAsWithdraw),
        rule(code::NEXT_HOP, WELL_KNOWN, Exactly(4), Everybody, TreatAsWithdraw),
        rule(code::MULTI_EXIT_DISC, OPTIONAL_NON_TRANSITIVE, Exactly(4), Everybody, TreatAsWithdraw),
        rule(code::LOCAL_PREF, WELL_KNOWN, Exactly(4), Internal, TreatAsWithdraw),
        rule(code::ATOMIC_AGGREGATE, WELL_KNOWN, Exactly(0), Everybody, Discard),
        rule(code::AGGREGATOR, OPTIONAL_TRANSITIVE, Any, Everybody, Discard),
        // §7.8 to §7.12.
        rule(code::COMMUNITIES, OPTIONAL_TRANSITIVE, MultipleOf(4), Everybody, TreatAsWithdraw),
        rule(code::ORIGINATOR_ID, OPTIONAL_NON_TRANSITIVE, Exactly(4), Internal, TreatAsWithdraw),
        rule(code::CLUSTER_LIST, OPTIONAL_NON_TRANSITIVE, MultipleOf(4), Internal, TreatAsWithdraw),
        rule(code::MP_REACH_NLRI, OPTIONAL_NON_TRANSITIVE, Any, Everybody, Reset),
        rule(code::MP_UNREACH_NLRI, OPTIONAL_NON_TRANSITIVE, Any, Everybody, Reset),
        // §7.14.
        rule(code::EXTENDED_COMMUNITIES, OPTIONAL_TRANSITIVE, MultipleOf(8), Everybody, TreatAsWithdraw),
        // RFC 6793 §6.
        rule(code::AS4_PATH, OPTIONAL_TRANSITIVE, Any, OldSpeakers, Discard),
        rule(code::AS4_AGGREGATOR, OPTIONAL_TRANSITIVE, Exactly(8), OldSpeakers, Discard),
        // RFC 7606 §7.15.
        rule(
            code::IPV6_EXTENDED_COMMUNITIES,
            OPTIONAL_TRANSITIVE,
            MultipleOf(20),
            Everybody,
            TreatAsWithdraw,
        ),
        // RFC 8092 §6.
        rule(code::LARGE_COMMUNITIES, OPTIONAL_TRANSITIVE, MultipleOf(12), Everybody, TreatAsWithdraw),
        // RFC 9234 §5.
        rule(code::ONLY_TO_CUSTOMER, OPTIONAL_TRANSITIVE, Exactly(4), Everybody, TreatAsWithdraw),
        // RFC 8669 §6: means nothing to unlabelled unicast, and has brought sessions down where it was passed on.
        rule(code::PREFIX_SID, OPTIONAL_TRANSITIVE, Any, Nobody, Discard),
    ]
};
