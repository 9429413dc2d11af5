//! What we take from a peer and what we tell it, as typed values. The defaults are the safe ones: nothing in but what
//! the configuration names, nothing out but our own routes (RFC 8212 in spirit, for internal peers too).

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::attributes::Via;
use super::filter::{AnyCommunity, Filter, Filtered};
use super::{Prefixes, RibConfig, RibPeer};
use crate::types::{AfiSafi, Asn, Nexthop, PeerKind, RouterId};
use crate::wire::{Community, EncodeContext, PathAttributes};

/// Which of a peer's routes may be used. Loop checks (AS_PATH, ORIGINATOR_ID, CLUSTER_LIST) and those of the nexthop
/// always apply.
/// Refused routes are kept and counted, so that a change of policy needs nothing from the peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportPolicy {
    /// Asked before `accept`.
    pub filter: Filter,
    pub accept: Accept,
    /// Ourselves, besides the nexthops that we give this peer: no nexthop of its routes (RFC 4271 §5.1.3).
    pub own_addresses: Vec<IpAddr>,
    /// An external peer must stand first in the AS_PATH of what it sends (RFC 4271 §6.3). Not so a route server
    /// (RFC 7947 §2.2.2.1).
    pub enforce_first_asn: bool,
    /// How often our own AS may be in the AS_PATH of what it sends: where nodes of one AS reach each other through others.
    pub allow_own_asn: u8,
    /// The peer speaks for itself alone: a nexthop of the session's family is the peer's address. In the other family it has
    /// addresses that the session does not show.
    pub enforce_own_nexthop: bool,
}

/// Which prefixes are accepted where the filter does not decide. A default route lies within none of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Accept {
    /// What lies within one of these, or is one of them. Empty: nothing.
    Within(Prefixes),
    /// Everything.
    Any,
}

impl Default for Accept {
    fn default() -> Self {
        Self::Within(Prefixes::default())
    }
}

/// Why a route is in the table and yet not used.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error,
)]
#[serde(rename_all = "kebab-case")]
pub enum Rejection {
    #[error("our own AS is in its AS_PATH, more often than is allowed")]
    AsLoop,
    #[error("we are its ORIGINATOR_ID")]
    OriginatorLoop,
    #[error("our cluster is in its CLUSTER_LIST")]
    ClusterLoop,
    #[error("its nexthop is our own address")]
    OwnNexthop,
    #[error("its nexthop is link-local and the peer's link is not known")]
    LinklessNexthop,
    #[error("its nexthop is not the peer")]
    ForeignNexthop,
    #[error("its AS_PATH does not begin with the peer's AS")]
    FirstAsn,
    #[error("a filter of this peer rejects it")]
    Filtered,
    #[error("default routes are not accepted from this peer")]
    DefaultRoute,
    #[error("it is outside the prefixes accepted from this peer")]
    OutsideAccepted,
}

/// What a peer is told. Part of the key of an update group: peers with equal policies share every encoded message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExportPolicy {
    pub routes: ExportRoutes,
    /// Which of them do not go out, and what the others become. It sees routes as they stand in the table, and its word on
    /// LOCAL_PREF and MULTI_EXIT_DISC counts before what stands here.
    pub filter: Filter,
    /// Nexthop of IPv4 routes whose nexthop we set to ourselves.
    pub nexthop_v4: Option<Ipv4Addr>,
    /// Nexthop of IPv6 routes whose nexthop we set to ourselves, and of IPv4 routes when `nexthop_v4` is absent and
    /// the session has extended nexthops (RFC 8950).
    pub nexthop_v6: Option<Ipv6Addr>,
    /// Sent along with `nexthop_v6`, for peers on the same link (RFC 2545 §3). Alone it is the nexthop itself.
    pub link_local: Option<Ipv6Addr>,
    /// Added to every route, for example GRACEFUL_SHUTDOWN (RFC 8326).
    pub communities: Vec<Community>,
    /// LOCAL_PREF towards internal peers in place of the path's own.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC of our own routes, and of all routes towards external peers.
    pub med: Option<u32>,
}

/// Which routes go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExportRoutes {
    /// Those that we originate.
    #[default]
    Own,
    /// The best path to every prefix; from internal peer to internal peer only where one of them is a client (RFC 4271 §9.2,
    /// RFC 4456 §6).
    Transit,
}

/// What we originate besides the prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OriginAttributes {
    pub communities: Vec<AnyCommunity>,
}

impl ImportPolicy {
    /// What a route becomes, or why it is refused: by the filter, else by its prefix.
    pub(super) fn judge<'a>(
        &self,
        kind: PeerKind,
        prefix: IpNetwork,
        received: &'a PathAttributes,
    ) -> Result<Cow<'a, PathAttributes>, Rejection> {
        let neighbor = received.as_path.neighbor_asn().filter(|_| kind == PeerKind::External);
        let route = self.filter.run(prefix, received, neighbor);
        match route.accepted {
            Some(true) => {}
            Some(false) => return Err(Rejection::Filtered),
            None => self.accept.rejection(prefix).map_or(Ok(()), Err)?,
        }
        Ok(heed_shutdown(kind, route.attributes))
    }
}

impl Accept {
    fn rejection(&self, prefix: IpNetwork) -> Option<Rejection> {
        match self {
            Self::Any => None,
            Self::Within(_) if prefix.prefix() == 0 => Some(Rejection::DefaultRoute),
            Self::Within(prefixes) => (!prefixes.hold(prefix)).then_some(Rejection::OutsideAccepted),
        }
    }
}

/// RFC 8326 §4.2: what is about to go away is used where there is nothing else. An internal peer that means it says so by its
/// LOCAL_PREF.
fn heed_shutdown(kind: PeerKind, mut route: Cow<'_, PathAttributes>) -> Cow<'_, PathAttributes> {
    let going = route.communities.contains(&Community::GRACEFUL_SHUTDOWN);
    if going && kind == PeerKind::External && route.local_pref != Some(0) {
        route.to_mut().local_pref = Some(0);
    }
    route
}

/// Why a path is refused, whatever its prefix: it came from us, or leads back to us or nowhere (RFC 4271 §9.1.2,
/// RFC 4456 §8), or is not the peer's to send.
pub(super) fn path_rejection(
    config: &RibConfig,
    peer: &RibPeer,
    attributes: &PathAttributes,
    nexthop: Nexthop,
) -> Option<Rejection> {
    let allowed = peer.import.allow_own_asn.into();
    // RFC 4271 §9.1.2.
    if attributes.as_path.asns().filter(|asn| *asn == config.local_asn).nth(allowed).is_some() {
        Some(Rejection::AsLoop)
    } else if attributes.originator_id == Some(config.router_id) {
        Some(Rejection::OriginatorLoop)
    } else if attributes.cluster_list.contains(&config.cluster_id) {
        Some(Rejection::ClusterLoop)
    } else if peer.import.enforce_first_asn
        && peer.kind == PeerKind::External
        && attributes.as_path.neighbor_asn() != Some(peer.asn)
    {
        Some(Rejection::FirstAsn)
    } else {
        nexthop_rejection(peer, nexthop)
    }
}

fn nexthop_rejection(peer: &RibPeer, nexthop: Nexthop) -> Option<Rejection> {
    let ExportPolicy { nexthop_v4, nexthop_v6, link_local, .. } = peer.export;
    let is_own = |address: IpAddr| {
        let given = [nexthop_v4.map(IpAddr::V4), nexthop_v6.map(IpAddr::V6), link_local.map(IpAddr::V6)];
        given.contains(&Some(address)) || peer.import.own_addresses.contains(&address)
    };
    let address = match nexthop {
        Nexthop::V4(address) => IpAddr::V4(address),
        Nexthop::V6 { global, .. } => IpAddr::V6(global),
    };
    let is_foreign = address.is_ipv4() == peer.address.is_ipv4() && address != peer.address;
    if peer.import.enforce_own_nexthop && is_foreign {
        return Some(Rejection::ForeignNexthop);
    }
    match nexthop {
        Nexthop::V4(address) => is_own(address.into()).then_some(Rejection::OwnNexthop),
        Nexthop::V6 { global, link_local } => {
            if is_own(global.into()) || link_local.is_some_and(|address| is_own(address.into())) {
                Some(Rejection::OwnNexthop)
            } else {
                let linkless = global.is_unicast_link_local() && peer.interface.is_none();
                linkless.then_some(Rejection::LinklessNexthop)
            }
        }
    }
}

/// All that decides what a peer is told and in which octets. Derived as a whole, so that a new field cannot be left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    pub(super) local_asn: Asn,
    pub(super) cluster_id: RouterId,
    pub(super) kind: PeerKind,
    pub(super) client: bool,
    pub(super) families: Vec<AfiSafi>,
    pub(super) export: ExportPolicy,
    pub(super) encode: EncodeContext,
}

impl GroupKey {
    /// Whether a path goes out to this group at all. Our own always does: what its communities ask for (RFC 1997) is asked
    /// of those who receive it.
    pub(super) fn admits(&self, via: Option<&Via>, from_client: bool, attributes: &PathAttributes) -> bool {
        let Some(via) = via else { return true };
        let allowed = match self.export.routes {
            ExportRoutes::Own => false,
            ExportRoutes::Transit => !self.reflects(via) || self.client || from_client,
        };
        allowed && !attributes.communities.iter().any(|&community| self.is_barred_by(community))
    }

    /// The filter's word on a route.
    pub(super) fn filter<'a>(&self, prefix: IpNetwork, attributes: &'a PathAttributes) -> Filtered<'a> {
        let own = Some(self.local_asn).filter(|_| self.kind == PeerKind::External);
        self.export.filter.run(prefix, attributes, own)
    }

    /// What a path becomes on its way out. `None` when we have no nexthop to give in this family.
    pub(super) fn export(
        &self,
        via: Option<&Via>,
        attributes: &PathAttributes,
        prefix: IpNetwork,
    ) -> Option<(PathAttributes, Nexthop)> {
        let reflected = via.filter(|via| self.reflects(via));
        let nexthop = reflected.map(|via| via.nexthop).or_else(|| self.own_nexthop(AfiSafi::of(prefix)))?;
        let mut out = attributes.clone();
        // A relay does not spread attributes that it does not understand.
        out.unknown.clear();
        if self.kind == PeerKind::External || via.is_none() {
            out.med = self.export.med;
        }
        if self.kind == PeerKind::Internal {
            out.local_pref = self.export.local_pref.or(out.local_pref).or(Some(DEFAULT_LOCAL_PREF));
        }
        let mut out = self.filter(prefix, &out).attributes.into_owned();
        match self.kind {
            PeerKind::Internal => self.mark_reflected(reflected, &mut out),
            PeerKind::External => self.export_external(&mut out),
        }
        for &community in &self.export.communities {
            if !out.communities.contains(&community) {
                out.communities.push(community);
            }
        }
        Some((out, nexthop))
    }

    /// RFC 4456 §8.
    fn mark_reflected(&self, reflected: Option<&Via>, out: &mut PathAttributes) {
        if let Some(via) = reflected {
            out.originator_id.get_or_insert(via.router_id);
            out.cluster_list.insert(0, self.cluster_id);
        }
    }

    fn export_external(&self, out: &mut PathAttributes) {
        // RFC 5065 §4: of a confederation that we are within, others see nothing.
        out.as_path = out.as_path.without_confederations();
        out.as_path.prepend(self.local_asn);
        out.local_pref = None;
        out.originator_id = None;
        out.cluster_list.clear();
        out.extended_communities.retain(|community| community[0] & NON_TRANSITIVE == 0);
    }

    /// From internal peer to internal peer.
    fn reflects(&self, via: &Via) -> bool {
        (self.kind, via.kind) == (PeerKind::Internal, PeerKind::Internal)
    }

    /// RFC 1997. We are in no confederation, so the two NO_EXPORTs mean the same.
    fn is_barred_by(&self, community: Community) -> bool {
        match community {
            Community::NO_ADVERTISE => true,
            Community::NO_EXPORT | Community::NO_EXPORT_SUBCONFED => self.kind == PeerKind::External,
            _ => false,
        }
    }

    fn own_nexthop(&self, family: AfiSafi) -> Option<Nexthop> {
        let ExportPolicy { nexthop_v4, nexthop_v6, link_local, .. } = self.export;
        let v6 = nexthop_v6.or(link_local).map(|global| Nexthop::V6 { global, link_local });
        match family {
            AfiSafi::Ipv4Unicast => {
                nexthop_v4.map(Nexthop::V4).or(v6.filter(|_| self.encode.extended_nexthop))
            }
            AfiSafi::Ipv6Unicast => v6,
        }
    }
}

/// RFC 4271 §9.1.1 leaves it to us; every other speaker takes 100.
pub(super) const DEFAULT_LOCAL_PREF: u32 = 100;

/// T bit of an extended community's type (RFC 4360 §2): not beyond the AS.
const NON_TRANSITIVE: u8 = 0x40;
