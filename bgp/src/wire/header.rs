//! The header of a message (RFC 4271 §4.1): which messages there are, and how long they may be.

use bytes::{BufMut, BytesMut};

/// Length of marker, length and type (RFC 4271 §4.1).
pub const HEADER_LEN: usize = 19;
/// The largest message without RFC 8654.
pub const MAX_MESSAGE_LEN: usize = 4096;

/// The message types that we know (RFC 4271 §4.1, RFC 2918 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    Open,
    Update,
    Notification,
    Keepalive,
    RouteRefresh,
}

impl MessageKind {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Update => 2,
            Self::Notification => 3,
            Self::Keepalive => 4,
            Self::RouteRefresh => 5,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        [Self::Open, Self::Update, Self::Notification, Self::Keepalive, Self::RouteRefresh]
            .into_iter()
            .find(|kind| kind.code() == code)
    }

    /// The total lengths that the header may claim, as RFC 4271 §6.1 wants them checked.
    ///
    /// A NOTIFICATION must never be answered with another, and the errors of a ROUTE-REFRESH have their own code
    /// (RFC 7313 §5), so both are left to their decoders.
    pub(super) fn admits(self, len: usize) -> bool {
        match self {
            Self::Open => len >= 29,
            Self::Update => len >= 23,
            Self::Keepalive => len == HEADER_LEN,
            Self::Notification | Self::RouteRefresh => true,
        }
    }
}

/// How many messages `octets` are, which an encoder has written.
pub(crate) fn count_messages(octets: &[u8]) -> u64 {
    let (mut rest, mut count) = (octets, 0);
    while let Some([.., high, low, _]) = rest.first_chunk::<HEADER_LEN>() {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        rest = rest.get(len.max(HEADER_LEN)..).unwrap_or_default();
        count += 1;
    }
    count
}

/// Header and body. Only for bodies that their encoder keeps below [`MAX_MESSAGE_LEN`].
pub(super) fn put_message(out: &mut BytesMut, kind: MessageKind, body: &[u8]) {
    let len = u16::try_from(HEADER_LEN + body.len()).expect("bodies are kept below 4096 octets");
    out.reserve(usize::from(len));
    out.put_bytes(0xff, 16);
    out.put_u16(len);
    out.put_u8(kind.code());
    out.put_slice(body);
}
