//! What was sent, by type.

use weft_bgp::wire::HEADER_LEN;

/// How many messages were sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Messages {
    pub(crate) updates: u64,
    pub(crate) keepalives: u64,
    /// OPEN, NOTIFICATION, ROUTE-REFRESH.
    pub(crate) others: u64,
}

impl Messages {
    /// Those in whole messages.
    pub(super) fn count(&mut self, mut bytes: &[u8]) {
        while let Some([.., high, low, kind]) = bytes.first_chunk::<HEADER_LEN>() {
            *match kind {
                2 => &mut self.updates,
                4 => &mut self.keepalives,
                _ => &mut self.others,
            } += 1;
            bytes = &bytes[usize::from(u16::from_be_bytes([*high, *low]))..];
        }
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            updates: self.updates - earlier.updates,
            keepalives: self.keepalives - earlier.keepalives,
            others: self.others - earlier.others,
        }
    }
}
