//! What routes share, kept once: attribute sets, nexthops, and the nexthop sets of the FIB.

use std::borrow::Borrow;

use super::intern::{Id, Interner};
use crate::types::{Asn, FibNexthop, Nexthop};
use crate::wire::PathAttributes;

/// An attribute set with what the decision asks of it most, worked out once.
#[derive(Debug)]
pub(super) struct AttributeSet {
    pub(super) values: PathAttributes,
    pub(super) as_path_length: u32,
    pub(super) neighbor: Option<Asn>,
}

impl AttributeSet {
    fn new(values: &PathAttributes) -> Box<Self> {
        let as_path_length = u32::try_from(values.as_path.path_length()).unwrap_or(u32::MAX);
        Box::new(Self { neighbor: values.as_path.neighbor_asn(), as_path_length, values: values.clone() })
    }
}

impl Borrow<PathAttributes> for Box<AttributeSet> {
    fn borrow(&self) -> &PathAttributes {
        &self.values
    }
}

pub(super) type AttributesId = Id<Box<AttributeSet>>;
pub(super) type NexthopId = Id<Nexthop>;
pub(super) type GatewaysId = Id<Box<[FibNexthop]>>;

/// The three interners of a RIB.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) attributes: Interner<Box<AttributeSet>>,
    pub(super) nexthops: Interner<Nexthop>,
    pub(super) gateways: Interner<Box<[FibNexthop]>>,
}

impl Shared {
    pub(super) fn new(seed: u64) -> Self {
        Self { attributes: Interner::new(seed), nexthops: Interner::new(seed), gateways: Interner::new(seed) }
    }

    pub(super) fn intern(&mut self, attributes: &PathAttributes) -> AttributesId {
        self.attributes.intern(attributes, AttributeSet::new)
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
        self.attributes.release(attributes);
        self.nexthops.release(nexthop);
    }
}
