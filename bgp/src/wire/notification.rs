//! NOTIFICATION: the last words of a session (RFC 4271 §4.5), and the error of every decoder.
//!
//! In: a body. Out: a [`Notification`], its name in the words of the RFCs and its shutdown text (RFC 9003). Constructors
//! carry the names of the errors, so that no code or subcode stands elsewhere in the crate.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::MessageKind;
use super::header::put_message;
use crate::types::AfiSafi;

/// RFC 4271 §4.5. Also the error of every decoder: what to send before closing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    pub code: u8,
    pub subcode: u8,
    pub data: Bytes,
}

/// Why a session is ended without an error (RFC 4486 §3, RFC 8538 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CeaseReason {
    MaximumPrefixes,
    AdministrativeShutdown,
    PeerDeconfigured,
    AdministrativeReset,
    OtherConfigurationChange,
    ConnectionCollision,
    OutOfResources,
    HardReset,
    /// RFC 9384.
    BfdDown,
}

impl CeaseReason {
    fn subcode(self) -> u8 {
        match self {
            Self::MaximumPrefixes => 1,
            Self::AdministrativeShutdown => 2,
            Self::PeerDeconfigured => 3,
            Self::AdministrativeReset => 4,
            Self::OtherConfigurationChange => 6,
            Self::ConnectionCollision => 7,
            Self::OutOfResources => 8,
            Self::HardReset => 9,
            Self::BfdDown => 10,
        }
    }

    fn carries_text(self) -> bool {
        matches!(self, Self::AdministrativeShutdown | Self::AdministrativeReset)
    }
}

/// The states in which a message can be the wrong one (RFC 6608 §3). In all others the connection is just closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnexpectedIn {
    OpenSent,
    OpenConfirm,
    Established,
}

/// RFC 9003 §2.
const MAX_SHUTDOWN_TEXT: usize = 255;

impl Notification {
    const CEASE: u8 = 6;

    fn new(code: u8, subcode: u8) -> Self {
        Self { code, subcode, data: Bytes::new() }
    }

    fn with_data(code: u8, subcode: u8, data: &[u8]) -> Self {
        Self { code, subcode, data: Bytes::copy_from_slice(data) }
    }

    // Message header (RFC 4271 §6.1).

    pub fn connection_not_synchronized() -> Self {
        Self::new(1, 1)
    }

    pub fn bad_message_length(len: u16) -> Self {
        Self::with_data(1, 2, &len.to_be_bytes())
    }

    pub fn bad_message_type(code: u8) -> Self {
        Self::with_data(1, 3, &[code])
    }

    // OPEN (RFC 4271 §6.2).

    pub fn malformed_open() -> Self {
        Self::new(2, 0)
    }

    /// Carries the only version that we speak.
    pub fn unsupported_version() -> Self {
        Self::with_data(2, 1, &4u16.to_be_bytes())
    }

    pub fn bad_peer_as() -> Self {
        Self::new(2, 2)
    }

    pub fn bad_router_id() -> Self {
        Self::new(2, 3)
    }

    pub fn unsupported_parameter() -> Self {
        Self::new(2, 4)
    }

    pub fn unacceptable_hold_time() -> Self {
        Self::new(2, 6)
    }

    /// `missing` is the capability that we require, encoded as in an OPEN (RFC 5492 §5).
    pub fn unsupported_capability(missing: &[u8]) -> Self {
        Self::with_data(2, 7, missing)
    }

    // UPDATE (RFC 4271 §6.3, as far as RFC 7606 leaves it a NOTIFICATION).

    pub fn malformed_attribute_list() -> Self {
        Self::new(3, 1)
    }

    /// `attribute` is the whole attribute: type, length and value.
    pub fn optional_attribute_error(attribute: &[u8]) -> Self {
        Self::with_data(3, 9, attribute)
    }

    pub fn invalid_network_field() -> Self {
        Self::new(3, 10)
    }

    // Session.

    pub fn hold_timer_expired() -> Self {
        Self::new(4, 0)
    }

    pub fn fsm_error(state: UnexpectedIn) -> Self {
        Self::new(
            5,
            match state {
                UnexpectedIn::OpenSent => 1,
                UnexpectedIn::OpenConfirm => 2,
                UnexpectedIn::Established => 3,
            },
        )
    }

    /// `text` is told to the operator of the other side where the reason may carry one (RFC 9003 §2): cut to 255 octets.
    pub fn cease(reason: CeaseReason, text: Option<&str>) -> Self {
        let mut data = BytesMut::new();
        if let Some(text) = text.filter(|_| reason.carries_text()) {
            let text = text.get(..text.floor_char_boundary(MAX_SHUTDOWN_TEXT)).unwrap_or_default();
            data.put_u8(u8::try_from(text.len()).expect("cut to 255 octets above"));
            data.put_slice(text.as_bytes());
        }
        Self { code: Self::CEASE, subcode: reason.subcode(), data: data.freeze() }
    }

    /// RFC 4486 §4: says which limit was passed.
    pub fn maximum_prefixes(family: AfiSafi, limit: u32) -> Self {
        let (afi, safi) = family.codes();
        let mut data = BytesMut::with_capacity(7);
        data.put_u16(afi);
        data.put_u8(safi);
        data.put_u32(limit);
        Self { code: Self::CEASE, subcode: CeaseReason::MaximumPrefixes.subcode(), data: data.freeze() }
    }

    /// Ends graceful restart too, for the reason inside (RFC 8538 §3.1).
    pub fn hard_reset(inner: &Self) -> Self {
        let data = [&[inner.code, inner.subcode], &*inner.data].concat();
        Self { code: Self::CEASE, subcode: CeaseReason::HardReset.subcode(), data: data.into() }
    }

    /// RFC 7313 §5: the ROUTE-REFRESH is given back whole.
    pub fn invalid_route_refresh(body: &[u8]) -> Self {
        let mut message = BytesMut::new();
        put_message(&mut message, MessageKind::RouteRefresh, body);
        Self { code: 7, subcode: 1, data: message.freeze() }
    }

    /// Never fails: a NOTIFICATION is not answered whatever it looks like (RFC 4271 §6.4), so missing octets read as 0.
    pub fn decode(body: &Bytes) -> Self {
        let octet = |index: usize| body.get(index).copied().unwrap_or(0);
        Self {
            code: octet(0),
            subcode: octet(1),
            data: body.get(2..).map(Bytes::copy_from_slice).unwrap_or_default(),
        }
    }

    /// The whole message, header included. Data that would not fit into 4096 octets is cut.
    pub fn encode(&self) -> Bytes {
        let room = super::MAX_MESSAGE_LEN - super::HEADER_LEN - 2;
        let mut body = vec![self.code, self.subcode];
        body.extend(self.data.iter().take(room));
        let mut out = BytesMut::new();
        put_message(&mut out, MessageKind::Notification, &body);
        out.freeze()
    }

    pub fn is_cease(&self, reason: CeaseReason) -> bool {
        self.code == Self::CEASE && self.subcode == reason.subcode()
    }

    /// What the other side's operator said (RFC 9003): never more than is there, broken UTF-8 replaced, not empty.
    pub fn shutdown_text(&self) -> Option<String> {
        let may_carry = self.is_cease(CeaseReason::AdministrativeShutdown)
            || self.is_cease(CeaseReason::AdministrativeReset);
        let (len, rest) = self.data.split_first().filter(|_| may_carry)?;
        let text = rest.get(..usize::from(*len)).unwrap_or(rest);
        (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
    }

    /// The error inside a Hard Reset; some speakers send it empty.
    pub fn hard_reset_cause(&self) -> Option<Self> {
        (self.is_cease(CeaseReason::HardReset) && self.data.len() >= 2).then(|| Self::decode(&self.data))
    }

    /// Name and text, without the cause.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, subcode, .. } = *self;
        match name(code, subcode) {
            (class, Some(detail)) => write!(f, "{class}: {detail} ({code}/{subcode})")?,
            (class, None) => write!(f, "{class} ({code}/{subcode})")?,
        }
        if let Some(text) = self.shutdown_text() {
            // Control characters of a stranger do not reach a terminal.
            write!(f, ": \"{}\"", text.escape_debug())?;
        }
        Ok(())
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)?;
        if let Some(cause) = self.hard_reset_cause() {
            // One level: the inner one is not asked for its own cause, so nesting cannot recurse.
            f.write_str(", caused by ")?;
            cause.describe(f)?;
        }
        Ok(())
    }
}

/// The registry's names (IANA, BGP Error Codes and Subcodes).
fn name(code: u8, subcode: u8) -> (&'static str, Option<&'static str>) {
    let (class, details): (_, &[&str]) = match code {
        1 => (
            "Message Header Error",
            &["Connection Not Synchronized", "Bad Message Length", "Bad Message Type"],
        ),
        2 => (
            "OPEN Message Error",
            &[
                "Unsupported Version Number",
                "Bad Peer AS",
                "Bad BGP Identifier",
                "Unsupported Optional Parameter",
                "Authentication Failure",
                "Unacceptable Hold Time",
                "Unsupported Capability",
                "Grouping Conflict",
                "Grouping Required",
                "Capability Value Mismatch",
                "Role Mismatch",
            ],
        ),
        3 => (
            "UPDATE Message Error",
            &[
                "Malformed Attribute List",
                "Unrecognized Well-known Attribute",
                "Missing Well-known Attribute",
                "Attribute Flags Error",
                "Attribute Length Error",
                "Invalid ORIGIN Attribute",
                "AS Routing Loop",
                "Invalid NEXT_HOP Attribute",
                "Optional Attribute Error",
                "Invalid Network Field",
                "Malformed AS_PATH",
            ],
        ),
        4 => ("Hold Timer Expired", &[]),
        5 => (
            "Finite State Machine Error",
            &[
                "Receive Unexpected Message in OpenSent State",
                "Receive Unexpected Message in OpenConfirm State",
                "Receive Unexpected Message in Established State",
            ],
        ),
        6 => (
            "Cease",
            &[
                "Maximum Number of Prefixes Reached",
                "Administrative Shutdown",
                "Peer De-configured",
                "Administrative Reset",
                "Connection Rejected",
                "Other Configuration Change",
                "Connection Collision Resolution",
                "Out of Resources",
                "Hard Reset",
                "BFD Down",
            ],
        ),
        7 => ("ROUTE-REFRESH Message Error", &["Invalid Message Length"]),
        8 => ("Send Hold Timer Expired", &[]),
        _ => ("Unknown Error", &[]),
    };
    let detail = usize::from(subcode).checked_sub(1).and_then(|index| details.get(index)).copied();
    (class, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_text_arrives_and_is_shown() {
        let sent =
            Notification::cease(CeaseReason::AdministrativeShutdown, Some("kernel upgrade, back at 14:00"));
        let received = Notification::decode(&sent.encode().slice(super::super::HEADER_LEN..));
        assert_eq!(received.shutdown_text().as_deref(), Some("kernel upgrade, back at 14:00"));
        assert_eq!(
            received.to_string(),
            "Cease: Administrative Shutdown (6/2): \"kernel upgrade, back at 14:00\""
        );
    }

    #[test]
    fn a_long_shutdown_text_is_cut_between_characters() {
        let sent = Notification::cease(CeaseReason::AdministrativeReset, Some(&"é".repeat(200)));
        assert_eq!(sent.shutdown_text(), Some("é".repeat(127)));
    }

    #[test]
    fn a_shutdown_text_longer_than_its_data_or_not_utf8_is_read_lossily() {
        // BIRD CVE-2019-16159: the length octet was trusted.
        let overrun = Notification { code: 6, subcode: 2, data: Bytes::from_static(b"\xffbye") };
        assert_eq!(overrun.shutdown_text().as_deref(), Some("bye"));
        let broken = Notification { code: 6, subcode: 2, data: Bytes::from_static(b"\x02\xc3\x28") };
        assert_eq!(broken.shutdown_text().as_deref(), Some("\u{fffd}("));
    }

    #[test]
    fn other_ceases_carry_no_text() {
        assert!(Notification::cease(CeaseReason::PeerDeconfigured, Some("x")).data.is_empty());
    }

    #[test]
    fn a_short_notification_is_still_one() {
        assert_eq!(Notification::decode(&Bytes::new()).code, 0);
        assert_eq!(Notification::decode(&Bytes::from_static(&[6])), Notification::new(6, 0));
    }

    #[test]
    fn a_hard_reset_names_its_cause_and_may_be_empty() {
        let sent = Notification::hard_reset(&Notification::hold_timer_expired());
        assert_eq!(sent.hard_reset_cause(), Some(Notification::hold_timer_expired()));
        assert_eq!(Notification::cease(CeaseReason::HardReset, None).hard_reset_cause(), None);
        assert_eq!(sent.to_string(), "Cease: Hard Reset (6/9), caused by Hold Timer Expired (4/0)");
    }

    #[test]
    fn a_shutdown_text_is_shown_from_within_a_hard_reset() {
        let inner = Notification::cease(CeaseReason::AdministrativeShutdown, Some("drained"));
        assert_eq!(
            Notification::hard_reset(&inner).to_string(),
            "Cease: Hard Reset (6/9), caused by Cease: Administrative Shutdown (6/2): \"drained\""
        );
    }

    #[test]
    fn data_is_cut_to_what_a_message_can_hold() {
        let huge = Notification { code: 3, subcode: 9, data: vec![7; 9000].into() };
        assert_eq!(huge.encode().len(), super::super::MAX_MESSAGE_LEN);
    }

    #[test]
    fn each_class_is_shown_by_the_name_that_it_has_in_the_registry() {
        for (code, subcode, text) in [
            (1, 2, "Message Header Error: Bad Message Length"),
            (2, 6, "OPEN Message Error: Unacceptable Hold Time"),
            (3, 11, "UPDATE Message Error: Malformed AS_PATH"),
            (4, 0, "Hold Timer Expired"),
            (5, 3, "Finite State Machine Error: Receive Unexpected Message in Established State"),
            (6, 10, "Cease: BFD Down"),
            (7, 1, "ROUTE-REFRESH Message Error: Invalid Message Length"),
            (8, 0, "Send Hold Timer Expired"),
        ] {
            let shown = Notification::new(code, subcode).to_string();
            assert_eq!(shown, format!("{text} ({code}/{subcode})"));
        }
    }

    #[test]
    fn unknown_codes_are_shown_as_numbers() {
        assert_eq!(Notification::new(3, 77).to_string(), "UPDATE Message Error (3/77)");
        assert_eq!(Notification::new(99, 0).to_string(), "Unknown Error (99/0)");
    }
}
