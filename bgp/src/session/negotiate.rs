//! What two OPENs make of a session: whether it may be, and on which terms.
//!
//! In: what we offered and what the peer sent. Out: [`Negotiated`], or the NOTIFICATION of RFC 4271 §6.2.
//! A capability is in use only when both sides sent it (RFC 5492 §3).

use crate::types::{AfiSafi, Asn, PeerKind, RemoteAsn, RouterId};
use crate::wire::{DecodeContext, EncodeContext, GracefulRestart, MAX_MESSAGE_LEN, Notification, Open};

use super::collision::End;

/// Our OPEN, and whom we expect to answer.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) open: Open,
    pub(crate) remote: RemoteAsn,
}

impl Offer {
    pub(super) fn end(&self) -> End {
        End { router_id: self.open.router_id, asn: self.open.asn }
    }
}

/// The terms of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Negotiated {
    pub(crate) kind: PeerKind,
    pub(crate) asn: Asn,
    pub(crate) router_id: RouterId,
    /// Seconds; 0: never expires, and no KEEPALIVEs.
    pub(crate) hold_time: u16,
    pub(crate) families: Vec<AfiSafi>,
    pub(crate) four_octet_asn: bool,
    pub(crate) extended_nexthop: bool,
    pub(crate) route_refresh: bool,
    /// The peer's, when we offered ours.
    pub(crate) graceful_restart: Option<GracefulRestart>,
    /// Both set the N bit: a NOTIFICATION that is no Hard Reset counts as a loss of TCP (RFC 8538 §4).
    pub(crate) graceful_notification: bool,
}

impl Negotiated {
    pub(super) fn decode_context(&self) -> DecodeContext {
        DecodeContext {
            peer_kind: self.kind,
            four_octet_asn: self.four_octet_asn,
            families: self.families.clone(),
            extended_nexthop: self.extended_nexthop,
        }
    }

    pub(crate) fn encode_context(&self) -> EncodeContext {
        EncodeContext {
            four_octet_asn: self.four_octet_asn,
            max_message_len: MAX_MESSAGE_LEN,
            extended_nexthop: self.extended_nexthop,
        }
    }

    /// The families that the peer wants kept over its restart.
    pub(crate) fn restart_families(&self) -> Vec<AfiSafi> {
        let families = self.graceful_restart.iter().flat_map(|restart| &restart.families);
        families.map(|(family, _)| *family).filter(|family| self.families.contains(family)).collect()
    }

    /// The peer says that it still forwards what it told us of this family before (the F bit).
    pub(crate) fn forwarding_kept(&self, family: AfiSafi) -> bool {
        self.graceful_restart.iter().any(|restart| restart.families.contains(&(family, true)))
    }

    /// In words, for display.
    pub(crate) fn capabilities(&self) -> Vec<String> {
        let optional = [
            (self.four_octet_asn, "four-octet-asn"),
            (self.route_refresh, "route-refresh"),
            (self.extended_nexthop, "extended-nexthop"),
            (self.graceful_restart.is_some(), "graceful-restart"),
            (self.graceful_notification, "graceful-notification"),
        ];
        let families = self.families.iter().map(ToString::to_string);
        families
            .chain(optional.iter().filter(|(both, _)| *both).map(|(_, name)| (*name).to_owned()))
            .collect()
    }
}

/// RFC 4271 §6.2, as far as it needs to know who we are; the rest is checked where the OPEN is decoded.
pub(super) fn negotiate(offer: &Offer, theirs: &Open) -> Result<Negotiated, Notification> {
    let ours = &offer.open;
    if !offer.remote.admits(theirs.asn, ours.asn) {
        return Err(Notification::bad_peer_as());
    }
    let kind = if theirs.asn == ours.asn { PeerKind::Internal } else { PeerKind::External };
    // RFC 6286 §2.2: identifiers are unique within an AS only.
    if kind == PeerKind::Internal && theirs.router_id == ours.router_id {
        return Err(Notification::bad_router_id());
    }
    // RFC 4271 §4.2 lets us refuse it: without a hold timer a peer that is dead keeps its routes.
    if theirs.hold_time == 0 && ours.hold_time != 0 {
        return Err(Notification::unacceptable_hold_time());
    }
    let families = common_families(ours, theirs);
    if families.is_empty() {
        return Err(Notification::unsupported_capability(&multiprotocol(ours)));
    }
    let graceful =
        ours.capabilities.graceful_restart.as_ref().zip(theirs.capabilities.graceful_restart.as_ref());
    let both = |has: fn(&Open) -> bool| has(ours) && has(theirs);
    Ok(Negotiated {
        kind,
        asn: theirs.asn,
        router_id: theirs.router_id,
        hold_time: ours.hold_time.min(theirs.hold_time),
        families,
        four_octet_asn: both(|open| open.capabilities.four_octet_asn),
        extended_nexthop: both(|open| open.capabilities.extended_nexthop.contains(&AfiSafi::Ipv4Unicast)),
        route_refresh: both(|open| open.capabilities.route_refresh),
        graceful_restart: graceful.map(|(_, theirs)| theirs.clone()),
        graceful_notification: graceful
            .is_some_and(|(ours, theirs)| ours.notification && theirs.notification),
    })
}

/// None, when the peer announces only what we do not speak: an OPEN without the capability has been read as IPv4 unicast.
fn common_families(ours: &Open, theirs: &Open) -> Vec<AfiSafi> {
    let theirs = &theirs.capabilities.families;
    ours.capabilities.families.iter().copied().filter(|family| theirs.contains(family)).collect()
}

/// The capabilities that we miss, as an OPEN would carry them (RFC 5492 §5).
fn multiprotocol(ours: &Open) -> Vec<u8> {
    let capability = |family: &AfiSafi| {
        let (afi, safi) = family.codes();
        let [high, low] = afi.to_be_bytes();
        [1, 4, high, low, 0, safi]
    };
    ours.capabilities.families.iter().flat_map(capability).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::wire::{Capabilities, HEADER_LEN};

    fn open(asn: u32, id: u8) -> Open {
        let restart = GracefulRestart {
            restarting: false,
            notification: true,
            restart_time: 120,
            families: vec![(AfiSafi::Ipv4Unicast, true), (AfiSafi::Ipv6Unicast, false)],
        };
        Open {
            asn: Asn(asn),
            hold_time: 90,
            router_id: RouterId(Ipv4Addr::new(10, 0, 0, id)),
            capabilities: Capabilities {
                families: AfiSafi::ALL.to_vec(),
                route_refresh: true,
                extended_nexthop: vec![AfiSafi::Ipv4Unicast],
                graceful_restart: Some(restart),
                four_octet_asn: true,
                unknown: Vec::new(),
            },
        }
    }

    fn offer(remote: RemoteAsn) -> Offer {
        Offer { open: open(65000, 1), remote }
    }

    #[test]
    fn an_as_that_was_not_expected_is_2_2() {
        for (remote, asn) in [
            (RemoteAsn::Number(Asn(65001)), 65002),
            (RemoteAsn::Internal, 65001),
            (RemoteAsn::External, 65000),
        ] {
            assert_eq!(negotiate(&offer(remote), &open(asn, 2)), Err(Notification::bad_peer_as()));
        }
    }

    #[test]
    fn a_peer_of_any_as_is_internal_or_external_as_it_says() {
        for (asn, kind) in [(65000, PeerKind::Internal), (65001, PeerKind::External)] {
            assert_eq!(negotiate(&offer(RemoteAsn::Any), &open(asn, 2)).unwrap().kind, kind);
        }
        assert_eq!(negotiate(&offer(RemoteAsn::Any), &open(65000, 1)), Err(Notification::bad_router_id()));
    }

    #[test]
    fn our_own_identifier_is_2_3_inside_the_as_and_fine_outside() {
        assert_eq!(
            negotiate(&offer(RemoteAsn::Internal), &open(65000, 1)),
            Err(Notification::bad_router_id())
        );
        assert!(negotiate(&offer(RemoteAsn::External), &open(65001, 1)).is_ok());
    }

    #[test]
    fn the_shorter_hold_time_counts() {
        let (mut ours, mut theirs) = (offer(RemoteAsn::External), open(65001, 2));
        for (configured, offered, negotiated) in [(90, 180, 90), (90, 9, 9), (0, 90, 0), (0, 0, 0)] {
            (ours.open.hold_time, theirs.hold_time) = (configured, offered);
            assert_eq!(negotiate(&ours, &theirs).unwrap().hold_time, negotiated);
        }
    }

    #[test]
    fn no_hold_time_at_all_is_2_6_unless_we_want_none() {
        let mut theirs = open(65001, 2);
        theirs.hold_time = 0;
        assert_eq!(
            negotiate(&offer(RemoteAsn::External), &theirs),
            Err(Notification::unacceptable_hold_time())
        );
    }

    #[test]
    fn a_peer_without_multiprotocol_speaks_ipv4_unicast() {
        let mut theirs = open(65001, 2);
        theirs.capabilities = Capabilities::default();
        let theirs = Open::decode(&theirs.encode()[HEADER_LEN..]).unwrap();
        let terms = negotiate(&offer(RemoteAsn::External), &theirs).unwrap();
        assert_eq!(terms.families, [AfiSafi::Ipv4Unicast]);
        assert!(!terms.four_octet_asn && !terms.route_refresh && terms.graceful_restart.is_none());
    }

    #[test]
    fn no_common_family_is_2_7_and_names_what_we_miss() {
        let (v4, v6) = (vec![AfiSafi::Ipv4Unicast], vec![AfiSafi::Ipv6Unicast]);
        let (mut ours, mut theirs) = (offer(RemoteAsn::External), open(65001, 2));
        // None: only such as nobody here speaks.
        for (we, they, afi) in [(&v6, &v4, 2), (&v4, &Vec::new(), 1)] {
            ours.open.capabilities.families.clone_from(we);
            theirs.capabilities.families.clone_from(they);
            let refusal = negotiate(&ours, &theirs).unwrap_err();
            assert_eq!(refusal, Notification::unsupported_capability(&[1, 4, 0, afi, 0, 1]));
        }
    }

    #[test]
    fn the_forwarding_bit_is_read_per_family() {
        let terms = negotiate(&offer(RemoteAsn::External), &open(65001, 2)).unwrap();
        assert!(terms.graceful_notification);
        assert!(terms.forwarding_kept(AfiSafi::Ipv4Unicast));
        assert!(!terms.forwarding_kept(AfiSafi::Ipv6Unicast));
    }
}
