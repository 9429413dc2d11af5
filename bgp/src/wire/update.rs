//! UPDATE: prefixes and their attributes (RFC 4271 §4.3), judged by RFC 7606.
//!
//! In: a body and what the session negotiated. Out: an [`Update`] that says what is left to do, or a NOTIFICATION when the
//! prefixes themselves cannot be trusted. The message is cut into its three parts first; `walk` then notes what is
//! wrong with the attributes without stopping, and only when all is read does the strongest action decide.

mod walk;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{AttributeError, DecodeContext, Nlri, Notification, PathAttributes};
use crate::types::{AfiSafi, Nexthop};
use walk::Walk;

/// One UPDATE after the walk and the judgement of RFC 7606: what remains to be done.
///
/// `reach` holds only what may be installed: when an error called for treat-as-withdraw, its prefixes are in `unreach`.
/// `unreach` is to be applied before `reach`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    pub reach: SmallVec<[Reach; 1]>,
    pub unreach: SmallVec<[Nlri; 1]>,
    /// Common to all of `reach`; the default without any.
    pub attributes: PathAttributes,
    /// RFC 4724 §2: set only when the message has exactly the shape of the marker.
    pub end_of_rib: Option<AfiSafi>,
    /// What was wrong and what was done about it, in wire order.
    pub errors: Vec<AttributeError>,
}

/// Prefixes of one family that share a nexthop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    pub nexthop: Nexthop,
    pub nlri: Nlri,
}

impl Update {
    /// The error is what RFC 7606 leaves of session resets: prefixes that cannot be read, or of which one cannot be sure
    /// to have seen all.
    pub fn decode(body: &[u8], context: &DecodeContext) -> Result<Self, Notification> {
        let parts = Parts::split(body).ok_or_else(Notification::malformed_attribute_list)?;
        if parts.is_empty() {
            let end_of_rib = context.families.contains(&AfiSafi::Ipv4Unicast).then_some(AfiSafi::Ipv4Unicast);
            return Ok(Self { end_of_rib, ..Self::default() });
        }
        let mut walk = Walk::new(context, !parts.nlri.is_empty());
        walk.attributes(parts.attributes)?;
        walk.body_prefixes(parts.withdrawn, parts.nlri)?;
        walk.finish()
    }
}

/// The three fields of an UPDATE.
struct Parts<'a> {
    withdrawn: &'a [u8],
    attributes: &'a [u8],
    nlri: &'a [u8],
}

impl<'a> Parts<'a> {
    /// `None` when the lengths do not fit the message (RFC 4271 §6.3).
    fn split(body: &'a [u8]) -> Option<Self> {
        let (withdrawn, rest) = length_prefixed(body)?;
        let (attributes, nlri) = length_prefixed(rest)?;
        Some(Self { withdrawn, attributes, nlri })
    }

    fn is_empty(&self) -> bool {
        self.withdrawn.is_empty() && self.attributes.is_empty() && self.nlri.is_empty()
    }
}

fn length_prefixed(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = octets.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))
}

#[cfg(test)]
mod tests;
