//! BGPFilters as the speaker takes them. A filter that is not there lets nothing pass, in either direction.

use std::ops::RangeInclusive;

use weft_api::crd::{
    self, Community, CommunityAdministrator, CommunityPatternText, CommunityPurpose, CommunityText,
    PathOrigin, PrefixMatch,
};
use weft_bgp::rib::{
    Administrator, AnyCommunity, CommunityPattern, Filter, FilterAction, FilterRule, PrefixRange, Purpose,
    RouteChange, RouteMatch,
};
use weft_bgp::types::Asn;
use weft_bgp::wire::{self, LargeCommunity, Origin};

use super::settings;
use crate::Snapshot;

/// The rules of all filters that are named, in order, and the name of the first that is missing.
pub(super) fn chain(snapshot: &Snapshot, names: Option<&[String]>) -> (Filter, Option<String>) {
    let mut rules = Vec::new();
    for name in names.unwrap_or_default() {
        match snapshot.bgp.filters.get(name) {
            Some(filter) => rules.extend(filter.rules.iter().map(rule)),
            None => {
                rules.push(FilterRule { action: FilterAction::Reject, ..FilterRule::default() });
                return (rules.into(), Some(name.clone()));
            }
        }
    }
    (rules.into(), None)
}

/// As the speaker runs it.
pub fn rule(written: &crd::FilterRule) -> FilterRule {
    let crd::FilterRule { families, prefixes, communities, as_path, origins, action, set } = written;
    let as_path = as_path.as_ref();
    let matches = RouteMatch {
        families: families.as_deref().map(|families| settings::families(Some(families))),
        prefixes: prefixes.as_ref().map(|prefixes| prefixes.iter().map(range).collect()),
        communities: communities.as_ref().map(|patterns| patterns.iter().map(pattern).collect()),
        as_path_length: as_path
            .map(|path| path.min_length.unwrap_or(0)..=path.max_length.unwrap_or(u32::MAX)),
        as_path_contains: as_path
            .and_then(|path| Some(path.contains.as_ref()?.iter().copied().map(Asn).collect())),
        origins: origins.as_ref().map(|origins| origins.iter().copied().map(origin).collect()),
    };
    let action = match action {
        crd::FilterAction::Accept => FilterAction::Accept,
        crd::FilterAction::Reject => FilterAction::Reject,
        crd::FilterAction::Next => FilterAction::Next,
    };
    FilterRule { matches, set: set.as_ref().map(change).unwrap_or_default(), action }
}

fn range(written: &PrefixMatch) -> PrefixRange {
    let network = written.cidr.network();
    let least = written.min_length.unwrap_or(network.prefix());
    PrefixRange { network, lengths: least..=written.max_length.unwrap_or(least) }
}

pub(crate) fn origin(written: PathOrigin) -> Origin {
    match written {
        PathOrigin::Igp => Origin::Igp,
        PathOrigin::Egp => Origin::Egp,
        PathOrigin::Incomplete => Origin::Incomplete,
    }
}

fn change(written: &crd::RouteChange) -> RouteChange {
    let crd::RouteChange { local_preference, med, prepend, communities } = written;
    let communities = communities.clone().unwrap_or_default();
    let remove = match &communities.replace {
        Some(_) => vec![
            CommunityPattern::Standard { asn: 0..=u16::MAX, value: 0..=u16::MAX },
            CommunityPattern::Large { global: 0..=u32::MAX, local1: 0..=u32::MAX, local2: 0..=u32::MAX },
        ],
        None => communities.remove.iter().flatten().map(pattern).collect(),
    };
    let add = communities.replace.as_ref().or(communities.add.as_ref());
    RouteChange {
        local_pref: *local_preference,
        med: *med,
        prepend: prepend.unwrap_or(0),
        remove,
        add: add.into_iter().flatten().map(community).collect(),
    }
}

fn purpose(written: CommunityPurpose) -> Purpose {
    match written {
        CommunityPurpose::RouteTarget => Purpose::RouteTarget,
        CommunityPurpose::RouteOrigin => Purpose::RouteOrigin,
    }
}

fn pattern(written: &CommunityPatternText) -> CommunityPattern {
    // The text has been read: what is said of 16 bits fits.
    let narrow = |range: &RangeInclusive<u32>| low(*range.start())..=low(*range.end());
    match written.parts() {
        Community::Standard([asn, value]) => {
            CommunityPattern::Standard { asn: narrow(asn), value: narrow(value) }
        }
        Community::Large([global, local1, local2]) => {
            CommunityPattern::Large { global: global.clone(), local1: local1.clone(), local2: local2.clone() }
        }
        Community::Extended { purpose: said, administrator, value } => {
            let administrator = match administrator {
                CommunityAdministrator::Asn(asn) => Administrator::Asn(asn.clone()),
                CommunityAdministrator::Address(address) => Administrator::Address(*address),
            };
            CommunityPattern::Extended { purpose: purpose(*said), administrator, value: value.clone() }
        }
    }
}

/// As it is sent.
pub(crate) fn community(written: &CommunityText) -> AnyCommunity {
    match written.parts() {
        Community::Standard([asn, value]) => AnyCommunity::Standard(wire::Community(asn << 16 | value)),
        Community::Large([global, local1, local2]) => {
            AnyCommunity::Large(LargeCommunity { global: *global, local1: *local1, local2: *local2 })
        }
        Community::Extended { purpose: said, administrator, value } => {
            let subtype = purpose(*said).code();
            AnyCommunity::Extended(match administrator {
                CommunityAdministrator::Asn(asn) if *asn <= u32::from(u16::MAX) => {
                    octets(0, subtype, &low(*asn).to_be_bytes(), &value.to_be_bytes())
                }
                CommunityAdministrator::Asn(asn) => {
                    octets(2, subtype, &asn.to_be_bytes(), &low(*value).to_be_bytes())
                }
                CommunityAdministrator::Address(address) => {
                    octets(1, subtype, &address.octets(), &low(*value).to_be_bytes())
                }
            })
        }
    }
}

/// RFC 4360 §3: a type, a subtype, and six octets that the type divides.
fn octets(kind: u8, subtype: u8, administrator: &[u8], value: &[u8]) -> [u8; 8] {
    let mut octets = [kind, subtype, 0, 0, 0, 0, 0, 0];
    let (whose, what) = octets[2..].split_at_mut(administrator.len());
    whose.copy_from_slice(administrator);
    what.copy_from_slice(value);
    octets
}

fn low(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
