//! What a speaker and its peers are told: plain values, checked where configuration is parsed.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::bfd;
use crate::rib::{AnyCommunity, ExportRoutes, Filter, Prefixes};
use crate::types::{AfiSafi, Asn, PeerKey, RemoteAsn, RouterId};

/// No peer's routes outlive its session, or the speaker that learned them, by more than this, whatever restart time was
/// asked for.
pub(super) const MAX_RESTART: Duration = Duration::from_secs(300);

/// What a speaker starts with. AS and router ID are fixed for its life: to change them, start another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpeakerConfig {
    pub asn: Asn,
    pub router_id: RouterId,
    /// Of reflectors that share their clients; the router ID of one that does not (RFC 4456 §7).
    pub cluster_id: RouterId,
    /// Nexthops of one FIB entry, at least 1.
    pub max_paths: usize,
    /// How long peers keep our routes while we restart, seconds, 1-4095. `None`: no graceful restart at all, in
    /// either role.
    pub restart_time: Option<u16>,
    /// Set when the FIB still holds what an earlier speaker of this node left there: families whose forwarding
    /// state survived (the F bits). `None`: a cold start. RFC 4724 §4.1.
    pub restarting: Option<Vec<AfiSafi>>,
    /// How long what others say waits for peers that do not come up.
    pub settle: Duration,
    /// Of jitter and hash tables: any number that differs between nodes and that peers cannot know.
    pub seed: u64,
}

impl SpeakerConfig {
    /// The default of `settle`: a peer that is alive is up and done by then.
    pub const SETTLE: Duration = Duration::from_secs(10);

    /// RFC 4724 §4.1, the Selection_Deferral_Timer: how long what an earlier speaker left in the FIB waits for peers that
    /// do not come up. As long as they are asked to wait for us, within reason; on a cold start nothing was left.
    pub(super) fn deferral(&self) -> Duration {
        let restart_time = self.restarting.as_ref().and(self.restart_time).unwrap_or(0);
        Duration::from_secs(restart_time.into()).min(MAX_RESTART)
    }

    /// Eight paths, graceful restart of 120 s, cold start.
    pub fn new(asn: Asn, router_id: RouterId, seed: u64) -> Self {
        Self {
            asn,
            router_id,
            cluster_id: router_id,
            max_paths: 8,
            restart_time: Some(120),
            restarting: None,
            settle: Self::SETTLE,
            seed,
        }
    }
}

/// One peer. A change of what the session was negotiated with ([`PeerConfig::has_terms_of`]), or of who may connect, resets
/// the session (Cease/6, or without a word where the peer would forget us over one; what it has said stays until the next is up);
/// a change of `name`, how it is dialed, of what it may announce, of what it is told and of how BFD watches it does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerConfig {
    /// For people: in logs and status.
    pub name: String,
    pub key: PeerKey,
    pub asn: RemoteAsn,
    /// Routes carried over the session; not empty.
    pub families: Vec<AfiSafi>,
    /// Wait for the peer to connect; never dial.
    pub passive: bool,
    /// Leave the peer some time to dial before we do: set at one of two ends that both dial, it makes collisions rare
    /// (RFC 4271 §6.8), and the session still comes up when only this end can connect.
    pub let_peer_dial: bool,
    /// Seconds; 0 (never expires) or at least 3.
    pub hold_time: u16,
    /// Between attempts to connect, before jitter and backoff.
    pub connect_retry: Duration,
    /// Exchange IPv4 routes with IPv6 nexthops where the peer can (RFC 8950).
    pub extended_nexthop: bool,
    /// Which routes are accepted, and what they become; asked before `accept`.
    pub import_filter: Filter,
    /// Prefixes within which routes are accepted, each with everything inside it. Empty: none.
    pub accept: Prefixes,
    /// Refuse routes whose AS_PATH does not begin with the AS of an external peer. Off for route servers (RFC 7947).
    pub enforce_first_asn: bool,
    /// How often our own AS may be in the AS_PATH of its routes.
    pub allow_own_asn: u8,
    /// Refuse routes with a nexthop other than the peer's address, in the family of the session. For peers that announce what
    /// is theirs and pass nothing on.
    pub enforce_own_nexthop: bool,
    /// Per family, counting what the peer sends before the import policy; Cease/1 beyond.
    pub max_prefixes: u32,
    /// Which routes this peer is told.
    pub export: ExportRoutes,
    /// Which of those it is not told, and what the others become on their way.
    pub export_filter: Filter,
    /// We reflect for it: its routes go to all our peers, and those of internal peers to it (RFC 4456).
    pub client: bool,
    /// Our nexthop in the family that the session does not run over; in the other it is the session's own local
    /// address.
    pub nexthop: LocalNexthop,
    pub transport: Transport,
    /// Whether BFD watches the path to it, acted on by the shell alone. `None`: it does not.
    pub bfd: Option<bfd::Config>,
}

impl PeerConfig {
    /// Both families, active, hold time 90 s, accepts nothing, is told our own routes, 10000 prefixes, one hop.
    pub fn new(name: impl Into<String>, address: IpAddr, asn: RemoteAsn) -> Self {
        Self {
            name: name.into(),
            key: PeerKey { address, interface: None },
            asn,
            families: AfiSafi::ALL.to_vec(),
            passive: false,
            let_peer_dial: false,
            hold_time: 90,
            connect_retry: Duration::from_secs(5),
            extended_nexthop: true,
            import_filter: Filter::default(),
            accept: Prefixes::default(),
            enforce_first_asn: true,
            allow_own_asn: 0,
            enforce_own_nexthop: false,
            max_prefixes: 10_000,
            export: ExportRoutes::Own,
            export_filter: Filter::default(),
            client: false,
            nexthop: LocalNexthop::default(),
            transport: Transport::default(),
            bfd: None,
        }
    }

    /// Sessions under both are negotiated alike.
    pub fn has_terms_of(&self, other: &Self) -> bool {
        (self.asn, self.hold_time, self.extended_nexthop)
            == (other.asn, other.hold_time, other.extended_nexthop)
            && self.families == other.families
    }

    /// This, with sessions that are negotiated as under `other`.
    pub fn with_terms_of(self, other: &Self) -> Self {
        let (asn, hold_time, extended_nexthop) = (other.asn, other.hold_time, other.extended_nexthop);
        Self { asn, hold_time, extended_nexthop, families: other.families.clone(), ..self }
    }
}

/// The node's own addresses, for nexthop self.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LocalNexthop {
    pub v4: Option<std::net::Ipv4Addr>,
    pub v6: Option<std::net::Ipv6Addr>,
}

/// How the connection is made; acted on by the shell alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transport {
    /// The peer's TCP port.
    pub port: u16,
    /// Dial from here, and accept here alone. `None`: the kernel's choice.
    pub local_address: Option<IpAddr>,
    pub hops: Hops,
    /// TCP MD5 (RFC 2385). Never written to a recording.
    #[serde(skip)]
    pub password: Option<Password>,
}

impl Default for Transport {
    fn default() -> Self {
        Self { port: 179, local_address: None, hops: Hops::Default, password: None }
    }
}

/// How far the peer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hops {
    /// On the link (TTL 1) when external; anywhere when internal.
    Default,
    /// TTL of what we send.
    Multihop(u8),
    /// GTSM (RFC 5082): we send with TTL 255 and drop what travelled over more than so many hops, 1-254.
    Security(u8),
}

/// A TCP MD5 key, 1-80 octets. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<[u8]>);

impl Password {
    /// What the kernel takes (`TCP_MD5SIG_MAXKEYLEN`).
    pub const MAX_LEN: usize = 80;

    /// `None` when empty or longer than [`Self::MAX_LEN`].
    pub fn new(secret: impl AsRef<[u8]>) -> Option<Self> {
        let secret = secret.as_ref();
        (1..=Self::MAX_LEN).contains(&secret.len()).then(|| Self(secret.into()))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

/// What we announce: the node's own prefixes and what is attached to all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginConfig {
    pub prefixes: Vec<IpNetwork>,
    pub communities: Vec<AnyCommunity>,
}

/// How a speaker goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shutdown {
    /// For good: Cease/2 to every peer, with a text for its operator (RFC 9003; cut at 255 octets).
    Stop { text: String },
    /// To be back within the restart time: connections close without a NOTIFICATION, so that peers with graceful
    /// restart keep our routes (RFC 4724 §4).
    Restart,
}
