//! One configured peer: its session, and what graceful restart keeps of it between sessions.

use std::net::IpAddr;
use std::time::Duration;

use super::config::{LocalNexthop, MAX_RESTART, PeerConfig, SpeakerConfig, Transport};
use super::log_budget::LogBudget;
use super::refresh::Refreshes;
use super::status::PeerStatus;
use crate::rib::{Accept, ExportPolicy, ImportPolicy, RefusedRoute, Rib, RibPeer};
use crate::session::{Counters, DialRules, Negotiated, Offer, Session, StateKind};
use crate::types::{AfiSafi, Instant, PeerId, RemoteAsn};
use crate::wire::{Capabilities, GracefulRestart, Open};

/// A peer is given no more routes while it has this much to read. What it misses is kept as prefixes in the RIB.
pub(super) const SEND_WINDOW: usize = 256 * 1024;
/// For a session that we reset to come up again.
const RESET_TAKES: Duration = Duration::from_secs(30);
/// A peer that is back gets this long for its End-of-RIB before what is still stale goes (RFC 4724 §4.2).
const STALE_AFTER_RETURN: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) config: PeerConfig,
    pub(super) session: Session,
    pub(super) counters: Counters,
    /// State at the last look, and since when.
    pub(super) state: StateKind,
    pub(super) since: Instant,
    /// When routes kept from before a restart go. `None`: there are none.
    pub(super) stale_until: Option<Instant>,
    /// We ended the last session, to have another: the peer has not restarted.
    pub(super) was_reset: bool,
    pub(super) established_count: u64,
    pub(super) log_budget: LogBudget,
    /// The terms of the session that is up.
    pub(super) up: Option<Box<Negotiated>>,
    /// Our end of it, or of the last.
    pub(super) local: Option<IpAddr>,
    /// When it will have been silent for long, if it stays so. `None`: it has been, or nobody waits for it.
    pub(super) quiet_at: Option<Instant>,
    /// What it asked for in this session.
    pub(super) refreshes: Refreshes,
    /// Under which it stands in the speaker's queue of deadlines.
    pub(super) deadline: Option<Instant>,
}

impl Peer {
    pub(super) fn rules(config: &PeerConfig) -> DialRules {
        DialRules {
            passive: config.passive,
            let_peer_dial: config.let_peer_dial,
            connect_retry: config.connect_retry,
        }
    }

    /// Whether a session under `self.config` would differ from one under `other`.
    pub(super) fn must_reset(&self, other: &PeerConfig) -> bool {
        // The port is where it is dialed the next time.
        let port = self.config.transport.port;
        !self.config.has_terms_of(other)
            || self.config.transport != Transport { port, ..other.transport.clone() }
    }

    /// Our OPEN. `starting`: the first round of routes is not complete yet.
    pub(super) fn offer(&self, speaker: &SpeakerConfig, starting: bool) -> Offer {
        let config = &self.config;
        let kept = |family: &AfiSafi| match &speaker.restarting {
            _ if !starting => true, // The FIB is ours and current.
            Some(preserved) => preserved.contains(family),
            None => false,
        };
        let graceful_restart = speaker.restart_time.map(|restart_time| GracefulRestart {
            restarting: starting && speaker.restarting.is_some(),
            notification: true,
            restart_time,
            families: config.families.iter().map(|family| (*family, kept(family))).collect(),
        });
        let extended_nexthop = config.extended_nexthop && config.families.contains(&AfiSafi::Ipv4Unicast);
        let open = Open {
            asn: speaker.asn,
            hold_time: config.hold_time,
            router_id: speaker.router_id,
            capabilities: Capabilities {
                families: config.families.clone(),
                route_refresh: true,
                extended_nexthop: extended_nexthop.then_some(AfiSafi::Ipv4Unicast).into_iter().collect(),
                graceful_restart,
                four_octet_asn: true,
                unknown: Vec::new(),
            },
        };
        Offer { open, remote: config.asn }
    }

    /// What the RIB must know of the session that has come up.
    pub(super) fn rib_peer(&self, terms: &Negotiated, local: IpAddr) -> RibPeer {
        RibPeer {
            kind: terms.kind,
            asn: terms.asn,
            router_id: terms.router_id,
            address: self.config.key.address,
            interface: self.config.key.interface,
            families: terms.families.clone(),
            sends_end_of_rib: sends_end_of_rib(terms),
            client: self.config.client,
            import: import_policy(&self.config, local),
            export: export_policy(&self.config, terms, local),
            max_prefixes: self.config.max_prefixes,
            encode: terms.encode_context(),
        }
    }

    /// For more messages.
    pub(super) fn has_room(&self) -> bool {
        self.session.unsent().is_some_and(|unsent| unsent < SEND_WINDOW)
    }

    /// The session went down and the peer is expected back.
    pub(super) fn restart_began(&mut self, now: Instant) {
        let restart = self.up.as_ref().and_then(|terms| terms.graceful_restart.as_ref());
        let restart_time = restart.map_or(0, |restart| restart.restart_time);
        let takes = match self.was_reset {
            true => RESET_TAKES,
            false => Duration::from_secs(restart_time.into()).min(MAX_RESTART),
        };
        self.stale_until = Some(now + takes);
    }

    /// It is back.
    pub(super) fn restart_ended(&mut self, now: Instant) {
        if self.stale_until.is_some() {
            self.stale_until = Some(now + STALE_AFTER_RETURN);
        }
    }

    /// RFC 4724 §4.2: whether what it has said of a family in the session that ended stays over its absence.
    pub(super) fn keeps(&self, terms: &Negotiated, family: AfiSafi) -> bool {
        match self.was_reset {
            true => terms.families.contains(&family) && self.config.families.contains(&family),
            // Only what the peer named.
            false => terms.restart_families().contains(&family),
        }
    }

    /// The same, when it is back: whether it claims to have kept it.
    pub(super) fn has_kept(&self, terms: &Negotiated, family: AfiSafi) -> bool {
        terms.families.contains(&family) && (self.was_reset || terms.forwarding_kept(family))
    }

    /// It has sent everything it had. One that restarts as we do is silent because it waits for us: only the mark counts.
    pub(super) fn is_converged(&self, rib: &Rib) -> bool {
        self.up.as_ref().is_some_and(|terms| {
            let marked = terms.families.iter().all(|family| rib.counts(self.id, *family).end_of_rib);
            marked || (terms.graceful_restart.is_none() && self.quiet_at.is_none())
        })
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let own = self.session.next_deadline().into_iter().chain(self.refreshes.next_deadline());
        own.chain(self.stale_until).chain(self.quiet_at).min()
    }

    pub(super) fn status(
        &self,
        speaker: &SpeakerConfig,
        rib: &Rib,
        refused: Vec<RefusedRoute>,
        now: Instant,
    ) -> PeerStatus {
        let terms = self.session.terms();
        let configured = match self.config.asn {
            RemoteAsn::Number(asn) => Some(asn),
            RemoteAsn::Internal => Some(speaker.asn),
            RemoteAsn::External | RemoteAsn::Any => None,
        };
        let families = self.config.families.iter().copied();
        PeerStatus {
            id: self.id,
            name: self.config.name.clone(),
            key: self.config.key,
            port: self.config.transport.port,
            asn: configured.or(terms.map(|terms| terms.asn)),
            local_asn: speaker.asn,
            state: self.state,
            state_age: now.since(self.since),
            router_id: terms.map(|terms| terms.router_id),
            hold_time: terms.map(|terms| terms.hold_time),
            families: families.map(|family| (family, rib.counts(self.id, family))).collect(),
            last_error: self.session.last_down().map(str::to_owned),
            messages_in: self.counters.messages_in,
            messages_out: self.counters.messages_out,
            established_count: self.established_count,
            malformed_attributes: self.log_budget.malformed_total(),
            refused,
            capabilities: terms.map(Negotiated::capabilities).unwrap_or_default(),
        }
    }
}

/// RFC 4724 §4.1: two restarting speakers do not wait for one another.
fn sends_end_of_rib(terms: &Negotiated) -> bool {
    terms.graceful_restart.as_ref().is_some_and(|restart| !restart.restarting)
}

pub(super) fn import_policy(config: &PeerConfig, local: IpAddr) -> ImportPolicy {
    let LocalNexthop { v4, v6 } = config.nexthop;
    ImportPolicy {
        filter: config.import_filter.clone(),
        accept: Accept::Within(config.accept.clone()),
        own_addresses: v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6)).chain([local]).collect(),
        enforce_first_asn: config.enforce_first_asn,
        allow_own_asn: config.allow_own_asn,
        enforce_own_nexthop: config.enforce_own_nexthop,
    }
}

/// The configured routes, with ourselves as nexthop: in the session's family the address that the peer talks to, in the other
/// the configured one. IPv4 routes over an IPv6 session get the IPv6 nexthop where the peer can (RFC 8950): it need
/// not share an IPv4 subnet with us.
pub(super) fn export_policy(config: &PeerConfig, terms: &Negotiated, local: IpAddr) -> ExportPolicy {
    let configured = config.nexthop;
    let unless_extended = configured.v4.filter(|_| !terms.extended_nexthop);
    let (nexthop_v4, nexthop_v6, link_local) = match local {
        IpAddr::V4(local) => (Some(local), configured.v6, None),
        IpAddr::V6(local) if local.is_unicast_link_local() => (unless_extended, configured.v6, Some(local)),
        IpAddr::V6(local) => (unless_extended, Some(local), None),
    };
    let (routes, filter) = (config.export, config.export_filter.clone());
    ExportPolicy { routes, filter, nexthop_v4, nexthop_v6, link_local, ..ExportPolicy::default() }
}
