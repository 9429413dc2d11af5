//! What filters would make of a route: tried without a speaker.

use ipnetwork::IpNetwork;
use weft_api::crd::{CommunityText, FilterRule, PathOrigin};
use weft_bgp::rib::{AnyCommunity, Filter};
use weft_bgp::types::Asn;
use weft_bgp::wire::{AsPath, PathAttributes};

use crate::plan::filters;

/// A route, as a peer would announce it or as it stands in a node's table.
#[derive(Clone, Debug)]
pub struct Route {
    pub prefix: IpNetwork,
    /// The nearest system first.
    pub as_path: Vec<u32>,
    pub origin: PathOrigin,
    pub local_preference: Option<u32>,
    pub med: Option<u32>,
    pub communities: Vec<CommunityText>,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `None`: no rule decides.
    pub accepted: Option<bool>,
    /// Which rules it matched, in order; the last of them decided, if one did.
    pub rules: Vec<usize>,
    pub as_path: String,
    pub local_preference: Option<u32>,
    pub med: Option<u32>,
    pub communities: Vec<String>,
}

/// `prepended`: the AS that a rule puts in front of the path; without one the nearest system.
pub fn run<'a>(
    rules: impl IntoIterator<Item = &'a FilterRule>,
    route: &Route,
    prepended: Option<u32>,
) -> Verdict {
    let filter: Filter = rules.into_iter().map(filters::rule).collect();
    let mut attributes = PathAttributes {
        origin: filters::origin(route.origin),
        as_path: AsPath::from_sequence(route.as_path.iter().copied().map(Asn)),
        med: route.med,
        local_pref: route.local_preference,
        ..PathAttributes::default()
    };
    route.communities.iter().for_each(|written| filters::community(written).attach(&mut attributes));
    let prepended = prepended.or(route.as_path.first().copied()).map(Asn);
    let filtered = filter.run(route.prefix, &attributes, prepended);
    let after = &*filtered.attributes;
    Verdict {
        accepted: filtered.accepted,
        rules: filtered.rules.iter().copied().map(usize::from).collect(),
        as_path: after.as_path.to_string(),
        local_preference: after.local_pref,
        med: after.med,
        communities: AnyCommunity::all(after).map(|community| community.to_string()).collect(),
    }
}
