//! Bytes to messages and back (RFC 4271 §4). Knows nothing of sessions or routes.
//!
//! In: one whole message, framed by [`Framer`]. Out: a [`Message`], or the NOTIFICATION that its error calls for.
//! Nothing a peer sends makes this module panic, index or truncate: lengths are checked where a slice is cut.

mod as_path;
mod attributes;
mod context;
mod encode;
mod fault;
mod frame;
mod header;
mod leaf;
mod nlri;
mod notification;
mod open;
mod rare;
mod rules;
mod update;
mod value;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

pub use as_path::{AsPath, AsSegment, SegmentKind, Segments};
pub use attributes::{Aggregator, Community, LargeCommunity, Origin, PathAttributes, UnknownAttribute};
pub use context::{DecodeContext, EncodeContext};
pub use encode::{encode_end_of_rib, encode_reach, encode_unreach};
pub use fault::{AttributeError, ErrorAction, Fault};
pub use frame::{Frame, Framer};
pub(crate) use header::count_messages;
pub use header::{HEADER_LEN, MAX_MESSAGE_LEN, MessageKind};
pub use nlri::{Nlri, Prefix};
pub use notification::{CeaseReason, Notification, UnexpectedIn};
pub use open::{Capabilities, GracefulRestart, Open};
pub use rare::RareList;
pub use update::{Reach, Update};

use crate::types::AfiSafi;
use header::put_message;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    Open(Open),
    Update(Box<Update>),
    Notification(Notification),
    Keepalive,
    RouteRefresh(AfiSafi),
    /// A well-formed request for something we never offered (unknown family or subtype): to be ignored.
    RouteRefreshIgnored,
}

impl Message {
    /// `context` matters to an UPDATE alone; before both OPENs are known, its default will do.
    pub fn decode(frame: &Frame, context: &DecodeContext) -> Result<Self, Notification> {
        Ok(match frame.kind {
            MessageKind::Open => Self::Open(Open::decode(&frame.body)?),
            MessageKind::Update => Self::Update(Box::new(Update::decode(&frame.body, context)?)),
            MessageKind::Notification => Self::Notification(Notification::decode(&frame.body)),
            MessageKind::Keepalive => Self::Keepalive,
            MessageKind::RouteRefresh => decode_route_refresh(&frame.body)?,
        })
    }
}

/// RFC 2918 §3; the octet between the codes is a subtype since RFC 7313 §4, of which we speak only the plain request.
fn decode_route_refresh(body: &[u8]) -> Result<Message, Notification> {
    match *body {
        [high, low, 0, safi] => Ok(AfiSafi::from_codes(u16::from_be_bytes([high, low]), safi)
            .map_or(Message::RouteRefreshIgnored, Message::RouteRefresh)),
        // The marks of a refresh that we never negotiate. RFC 7313 §5 has only their length checked.
        [_, _, 1 | 2, _] => Ok(Message::RouteRefreshIgnored),
        [_, _, 1 | 2, ..] => Err(Notification::invalid_route_refresh(body)),
        // Outbound route filters (RFC 5291), which we never offered, or a subtype yet to come.
        [_, _, _, _, ..] => Ok(Message::RouteRefreshIgnored),
        _ => Err(Notification::invalid_route_refresh(body)),
    }
}

/// The whole message, header included.
pub fn encode_keepalive() -> Bytes {
    let mut out = BytesMut::new();
    put_message(&mut out, MessageKind::Keepalive, &[]);
    out.freeze()
}

/// The whole message, header included.
pub fn encode_route_refresh(family: AfiSafi) -> Bytes {
    let (afi, safi) = family.codes();
    let [high, low] = afi.to_be_bytes();
    let mut out = BytesMut::new();
    put_message(&mut out, MessageKind::RouteRefresh, &[high, low, 0, safi]);
    out.freeze()
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
