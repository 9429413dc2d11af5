//! What routes share, kept once: attribute sets, nexthops, and the nexthop sets of the FIB.

use super::intern::{Id, Interner};
use crate::types::{Asn, FibNexthop, Nexthop, PeerKind, RouterId};
use crate::wire::{PathAttributes, UnknownAttribute};

/// An attribute set with what the decision asks of it most, worked out once.
#[derive(Debug)]
pub(super) struct AttributeSet {
    /// What the peer has sent, where a filter has made this of it; holds a reference. None: this is what it has sent.
    received: AttributesId,
    pub(super) values: PathAttributes,
    pub(super) as_path_length: u32,
    pub(super) neighbor: Option<Asn>,
    /// What the lists of what was sent hold, about: all of it that the sender can make long.
    pub(super) octets: u32,
}

impl AttributeSet {
    fn new(values: PathAttributes, received: AttributesId, octets: u32) -> Box<Self> {
        let as_path_length = u32::try_from(values.as_path.path_length()).unwrap_or(u32::MAX);
        let neighbor = values.as_path.neighbor_asn();
        Box::new(Self { received, neighbor, as_path_length, octets, values })
    }

    fn is(&self, values: &PathAttributes, received: AttributesId) -> bool {
        self.received == received && self.values == *values
    }
}

fn octets_of_lists(values: &PathAttributes) -> u32 {
    let words = values.as_path.asns().count() + values.communities.len() + values.cluster_list.len();
    let wide = 12 * values.large_communities.len() + 8 * values.extended_communities.len();
    let opaque =
        values.unknown.iter().map(|it| size_of::<UnknownAttribute>() + it.value.len()).sum::<usize>();
    u32::try_from(4 * words + wide + opaque).unwrap_or(u32::MAX)
}

/// A nexthop and the router that gave it. What a path says of its source stays what it was, whoever has the peer's slot
/// later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Via {
    pub(super) nexthop: Nexthop,
    pub(super) kind: PeerKind,
    pub(super) router_id: RouterId,
}

pub(super) type AttributesId = Id<Box<AttributeSet>>;
pub(super) type NexthopId = Id<Via>;
pub(super) type GatewaysId = Id<Box<[FibNexthop]>>;

/// The three interners of a RIB.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) attributes: Interner<Box<AttributeSet>>,
    pub(super) nexthops: Interner<Via>,
    pub(super) gateways: Interner<Box<[FibNexthop]>>,
}

impl Shared {
    pub(super) fn new(seed: u64) -> Self {
        Self { attributes: Interner::new(seed), nexthops: Interner::new(seed), gateways: Interner::new(seed) }
    }

    pub(super) fn intern(&mut self, attributes: &PathAttributes) -> AttributesId {
        let make = || AttributeSet::new(attributes.clone(), AttributesId::NONE, octets_of_lists(attributes));
        self.attributes.intern_where(attributes, |set| set.is(attributes, AttributesId::NONE), make)
    }

    /// What a filter has made of `received`.
    pub(super) fn intern_edited(&mut self, edited: &PathAttributes, received: AttributesId) -> AttributesId {
        let octets = self.attributes.get(received).octets;
        let mut is_new = false;
        let make = || {
            is_new = true;
            AttributeSet::new(edited.clone(), received, octets)
        };
        let id = self.attributes.intern_where(edited, |set| set.is(edited, received), make);
        if is_new {
            self.attributes.retain(received);
        }
        id
    }

    /// As the peer has sent it.
    pub(super) fn received(&self, attributes: AttributesId) -> AttributesId {
        let received = self.attributes.get(attributes).received;
        if received.is_none() { attributes } else { received }
    }

    /// `None` for what is our own.
    pub(super) fn via(&self, nexthop: NexthopId) -> Option<&Via> {
        (!nexthop.is_none()).then(|| self.nexthops.get(nexthop))
    }

    /// None for no gateways at all.
    pub(super) fn intern_gateways(&mut self, gateways: &[FibNexthop]) -> GatewaysId {
        if gateways.is_empty() { GatewaysId::NONE } else { self.gateways.intern(gateways, |all| all.into()) }
    }

    pub(super) fn retain(&mut self, (attributes, nexthop): (AttributesId, NexthopId)) {
        self.attributes.retain(attributes);
        self.nexthops.retain(nexthop);
    }

    pub(super) fn release(&mut self, (attributes, nexthop): (AttributesId, NexthopId)) {
        self.release_attributes(attributes);
        self.nexthops.release(nexthop);
    }

    pub(super) fn release_attributes(&mut self, attributes: AttributesId) {
        // What was sent is not edited itself.
        if let Some(edited) = self.attributes.release(attributes) {
            self.attributes.release(edited.received);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::wire::{AsPath, Community, LargeCommunity};

    #[test]
    fn every_list_that_a_sender_can_make_long_counts() {
        let unknown = |len| UnknownAttribute { flags: 0xc0, code: 99, value: vec![0; len].into() };
        let long = |len| PathAttributes {
            as_path: AsPath::from_sequence((1..=3 * len).map(Asn)),
            communities: (0..5 * len).map(Community).collect(),
            cluster_list: (0..7 * len).map(|id| RouterId(Ipv4Addr::from_bits(id))).collect(),
            large_communities: (0..2 * len)
                .map(|global| LargeCommunity { global, local1: 0, local2: 0 })
                .collect(),
            extended_communities: (0..4 * len).map(|id| u64::from(id).to_be_bytes()).collect(),
            unknown: (0..len).map(|_| unknown(100)).collect(),
            ..PathAttributes::default()
        };
        assert_eq!(octets_of_lists(&long(0)), 0);
        let opaque = u32::try_from(size_of::<UnknownAttribute>()).unwrap() + 100;
        for len in [1, 2] {
            let lists = 4 * (3 + 5 + 7) + 12 * 2 + 8 * 4 + opaque;
            assert_eq!(octets_of_lists(&long(len)), len * lists);
        }
    }
}
