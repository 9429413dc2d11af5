//! Filters: rules in order, each about some routes, which it changes, lets pass or keeps out.
//!
//! In: a route. Out: [`Filtered`]: whether a rule has decided, and what the rules up to there have made of it. A rule sees
//! the route as those before it have left it.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::prefixes::holds;
use crate::types::{AfiSafi, Asn};
use crate::wire::{Community, LargeCommunity, Origin, PathAttributes};

/// Rules in the order in which they are asked. Shared, as many peers of a node have the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<FilterRule>", into = "Vec<FilterRule>")]
pub struct Filter(Arc<[FilterRule]>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FilterRule {
    pub matches: RouteMatch,
    /// What a route that matches becomes, unless it is rejected.
    pub set: RouteChange,
    pub action: FilterAction,
}

/// What becomes of a route that matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FilterAction {
    Accept,
    #[default]
    Reject,
    /// The rules behind this one decide.
    Next,
}

/// Which routes a rule is about: those that match all that is given. A list matches by any of its items.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RouteMatch {
    pub families: Option<Vec<AfiSafi>>,
    pub prefixes: Option<Vec<PrefixRange>>,
    pub communities: Option<Vec<CommunityPattern>>,
    /// Of the path, as it is compared with others (RFC 4271 §9.1.2.2 a).
    pub as_path_length: Option<RangeInclusive<u32>>,
    /// Systems that the route has crossed.
    pub as_path_contains: Option<Vec<Asn>>,
    pub origins: Option<Vec<Origin>>,
}

/// Prefixes within `network`, or the same, of a length within `lengths`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PrefixRange {
    pub network: IpNetwork,
    pub lengths: RangeInclusive<u8>,
}

/// Communities of one kind, number by number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CommunityPattern {
    Standard { asn: RangeInclusive<u16>, value: RangeInclusive<u16> },
    Large { global: RangeInclusive<u32>, local1: RangeInclusive<u32>, local2: RangeInclusive<u32> },
    Extended { purpose: Purpose, administrator: Administrator, value: RangeInclusive<u32> },
}

/// What a transitive extended community says (RFC 4360 §4, §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Purpose {
    RouteTarget,
    RouteOrigin,
}

/// Whose an extended community is (RFC 4360 §3, RFC 5668).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Administrator {
    Asn(RangeInclusive<u32>),
    Address(Ipv4Addr),
}

/// What a rule makes of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RouteChange {
    pub local_pref: Option<u32>,
    pub med: Option<u32>,
    /// How often the AS_PATH's next system is said once more: the neighbor that the route came from, or ourselves on the way
    /// out. Not towards or from internal peers (RFC 4271 §5.1.2).
    pub prepend: u8,
    /// Taken away, before `add`.
    pub remove: Vec<CommunityPattern>,
    pub add: Vec<AnyCommunity>,
}

/// A community of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AnyCommunity {
    Standard(Community),
    Large(LargeCommunity),
    /// RFC 4360, as on the wire.
    Extended([u8; 8]),
}

/// What a filter makes of a route.
#[derive(Clone, Debug)]
pub struct Filtered<'a> {
    /// Whether it passes; `None` when no rule decides.
    pub accepted: Option<bool>,
    /// Borrowed where nothing has changed.
    pub attributes: Cow<'a, PathAttributes>,
    /// Those that matched, in order; the last of them decided, if one did.
    pub rules: SmallVec<[u16; 4]>,
}

impl Filter {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn rules(&self) -> &[FilterRule] {
        &self.0
    }

    /// `prepended`: the system that [`RouteChange::prepend`] is about, if any.
    pub fn run<'a>(
        &self,
        prefix: IpNetwork,
        attributes: &'a PathAttributes,
        prepended: Option<Asn>,
    ) -> Filtered<'a> {
        let mut route =
            Filtered { accepted: None, attributes: Cow::Borrowed(attributes), rules: SmallVec::new() };
        for (at, rule) in (0..).zip(self.0.iter()) {
            if !rule.matches.is_about(prefix, &route.attributes) {
                continue;
            }
            route.rules.push(at);
            if rule.action != FilterAction::Reject {
                rule.set.apply(&mut route.attributes, prepended);
            }
            route.accepted = match rule.action {
                FilterAction::Accept => Some(true),
                FilterAction::Reject => Some(false),
                FilterAction::Next => continue,
            };
            break;
        }
        route
    }
}

impl FromIterator<FilterRule> for Filter {
    fn from_iter<I: IntoIterator<Item = FilterRule>>(rules: I) -> Self {
        Self(rules.into_iter().collect())
    }
}

impl From<Vec<FilterRule>> for Filter {
    fn from(rules: Vec<FilterRule>) -> Self {
        Self(rules.into())
    }
}

impl From<Filter> for Vec<FilterRule> {
    fn from(filter: Filter) -> Self {
        filter.0.to_vec()
    }
}

impl RouteMatch {
    pub fn is_about(&self, prefix: IpNetwork, attributes: &PathAttributes) -> bool {
        let Self { families, prefixes, communities, as_path_length, as_path_contains, origins } = self;
        let length = || u32::try_from(attributes.as_path.path_length()).unwrap_or(u32::MAX);
        families.as_ref().is_none_or(|families| families.contains(&AfiSafi::of(prefix)))
            && prefixes.as_ref().is_none_or(|ranges| ranges.iter().any(|range| range.holds(prefix)))
            && origins.as_ref().is_none_or(|origins| origins.contains(&attributes.origin))
            && as_path_length.as_ref().is_none_or(|lengths| lengths.contains(&length()))
            && as_path_contains
                .as_ref()
                .is_none_or(|asns| asns.iter().any(|asn| attributes.as_path.contains(*asn)))
            && communities
                .as_ref()
                .is_none_or(|patterns| patterns.iter().any(|pattern| pattern.is_on(attributes)))
    }
}

impl PrefixRange {
    fn holds(&self, prefix: IpNetwork) -> bool {
        self.lengths.contains(&prefix.prefix()) && holds(self.network, prefix)
    }
}

impl CommunityPattern {
    fn is_on(&self, attributes: &PathAttributes) -> bool {
        attributes.communities.iter().any(|community| self.is_standard(*community))
            || attributes.large_communities.iter().any(|community| self.is_large(*community))
            || attributes.extended_communities.iter().any(|community| self.is_extended(*community))
    }

    fn is_standard(&self, Community(number): Community) -> bool {
        let [a, b, c, d] = number.to_be_bytes();
        let Self::Standard { asn, value } = self else { return false };
        asn.contains(&u16::from_be_bytes([a, b])) && value.contains(&u16::from_be_bytes([c, d]))
    }

    fn is_large(&self, community: LargeCommunity) -> bool {
        let Self::Large { global, local1, local2 } = self else { return false };
        global.contains(&community.global)
            && local1.contains(&community.local1)
            && local2.contains(&community.local2)
    }

    /// RFC 4360 §3: the type says how the six octets behind it are divided.
    fn is_extended(&self, community: [u8; 8]) -> bool {
        let Self::Extended { purpose, administrator, value } = self else { return false };
        let [kind, subtype, a, b, c, d, e, f] = community;
        let (wide, narrow) = (u32::from_be_bytes([a, b, c, d]), u32::from(u16::from_be_bytes([e, f])));
        let is_whose = match (kind, administrator) {
            (0, Administrator::Asn(asns)) => {
                let (asn, number) = (u32::from(u16::from_be_bytes([a, b])), u32::from_be_bytes([c, d, e, f]));
                asns.contains(&asn) && value.contains(&number)
            }
            (1, Administrator::Address(address)) => address.to_bits() == wide && value.contains(&narrow),
            (2, Administrator::Asn(asns)) => asns.contains(&wide) && value.contains(&narrow),
            _ => false,
        };
        is_whose && subtype == purpose.code()
    }
}

impl Purpose {
    pub fn code(self) -> u8 {
        match self {
            Self::RouteTarget => 2,
            Self::RouteOrigin => 3,
        }
    }
}

impl RouteChange {
    fn apply(&self, route: &mut Cow<'_, PathAttributes>, prepended: Option<Asn>) {
        if *self == Self::default() {
            return;
        }
        let route = route.to_mut();
        route.local_pref = self.local_pref.or(route.local_pref);
        route.med = self.med.or(route.med);
        for asn in std::iter::repeat_n(prepended, self.prepend.into()).flatten() {
            route.as_path.prepend(asn);
        }
        for pattern in &self.remove {
            route.communities.retain(|community| !pattern.is_standard(*community));
            route.large_communities.retain(|community| !pattern.is_large(*community));
            route.extended_communities.retain(|community| !pattern.is_extended(*community));
        }
        self.add.iter().for_each(|community| community.attach(route));
    }
}

impl AnyCommunity {
    /// All of a route: standard, large, extended.
    pub fn all(route: &PathAttributes) -> impl Iterator<Item = Self> {
        let standard = route.communities.iter().copied().map(Self::Standard);
        let large = route.large_communities.iter().copied().map(Self::Large);
        standard.chain(large).chain(route.extended_communities.iter().copied().map(Self::Extended))
    }

    /// Once.
    pub fn attach(self, route: &mut PathAttributes) {
        match self {
            Self::Standard(community) if !route.communities.contains(&community) => {
                route.communities.push(community);
            }
            Self::Large(community) => {
                if let Err(place) = route.large_communities.binary_search(&community) {
                    route.large_communities.insert(place, community);
                }
            }
            Self::Extended(community) if !route.extended_communities.contains(&community) => {
                route.extended_communities.push(community);
            }
            Self::Standard(_) | Self::Extended(_) => {}
        }
    }
}

/// `65000:100`, `65000:1:2`, `rt:65000:100`, `soo:192.0.2.1:7`; in octets what nobody here has a word for.
impl fmt::Display for AnyCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octets = match self {
            Self::Standard(community) => return community.fmt(f),
            Self::Large(community) => return community.fmt(f),
            Self::Extended(octets) => *octets,
        };
        let [kind, subtype, a, b, c, d, e, g] = octets;
        let purpose = match subtype {
            2 => "rt",
            3 => "soo",
            _ => return write!(f, "0x{:016x}", u64::from_be_bytes(octets)),
        };
        let (wide, narrow) = (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, g]));
        match kind {
            0 => {
                let (asn, value) = (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, g]));
                write!(f, "{purpose}:{asn}:{value}")
            }
            1 => write!(f, "{purpose}:{}:{narrow}", Ipv4Addr::from_bits(wide)),
            2 => write!(f, "{purpose}:{wide}:{narrow}"),
            _ => write!(f, "0x{:016x}", u64::from_be_bytes(octets)),
        }
    }
}
