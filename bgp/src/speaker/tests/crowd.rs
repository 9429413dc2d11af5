//! One speaker among many peers, each made of bytes: host n is 10.0.n/256.n%256 in AS 65000, or 65001 where it is external.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ipnetwork::Ipv4Network;

use super::super::*;
use crate::session::StateKind;
use crate::types::{AfiSafi, Asn, Nexthop, PeerKind, RemoteAsn, RouterId};
use crate::wire::{
    AsPath, Capabilities, DecodeContext, EncodeContext, Framer, GracefulRestart, Message, Open,
    PathAttributes, encode_keepalive, encode_reach,
};

pub(super) const INTERNAL: Asn = Asn(65000);
pub(super) const EXTERNAL: Asn = Asn(65001);

pub(super) struct Crowd {
    pub(super) speaker: Speaker,
    pub(super) now: Instant,
    /// Of each host the connection that it has.
    conns: BTreeMap<u16, ConnId>,
    connected: u64,
}

pub(super) fn host(n: u16) -> Ipv4Addr {
    let [high, low] = n.to_be_bytes();
    Ipv4Addr::new(10, 0, high, low)
}

pub(super) fn key(n: u16) -> PeerKey {
    PeerKey { address: host(n).into(), interface: None }
}

/// Accepts what is the peer's own. Without a hold time, as hosts say nothing while time passes.
pub(super) fn peer(n: u16, asn: Asn) -> PeerConfig {
    PeerConfig {
        passive: true,
        hold_time: 0,
        accept: vec![own(n).into()].into(),
        families: vec![AfiSafi::Ipv4Unicast],
        ..PeerConfig::new(format!("p{n}"), host(n).into(), RemoteAsn::Number(asn))
    }
}

/// What host n announces.
pub(super) fn own(n: u16) -> Ipv4Network {
    let [high, low] = n.to_be_bytes();
    Ipv4Network::new(Ipv4Addr::new(11, high, low, 0), 24).expect("24 is a length")
}

/// The graceful restart of a peer that says to have kept forwarding, or not.
pub(super) fn graceful(restart_time: u16, kept: bool) -> Option<GracefulRestart> {
    let families = vec![(AfiSafi::Ipv4Unicast, kept)];
    Some(GracefulRestart { restarting: false, notification: true, restart_time, families })
}

impl Crowd {
    pub(super) fn new(peers: &[PeerConfig], restarting: Option<Vec<AfiSafi>>) -> Self {
        let config = SpeakerConfig { restarting, ..SpeakerConfig::new(INTERNAL, RouterId(host(0)), 7) };
        let now = Instant(Duration::from_secs(1000));
        let mut crowd = Self { speaker: Speaker::new(config), now, conns: BTreeMap::new(), connected: 0 };
        crowd.handle(Input::SetPeers(peers.to_vec()));
        crowd
    }

    /// What comes of it; TCP takes all that is sent at once.
    pub(super) fn handle(&mut self, input: Input) -> Vec<Effect> {
        self.speaker.handle(self.now, input);
        let mut all = Vec::new();
        while let Some(effect) = self.speaker.poll_effect() {
            if let Effect::Send { conn, bytes } = &effect {
                self.speaker.handle(self.now, Input::Sent { conn: *conn, len: bytes.len() });
            }
            all.push(effect);
        }
        all
    }

    /// The host comes to us.
    pub(super) fn connects(&mut self, n: u16) -> Vec<Effect> {
        self.connected += 1;
        let conn = ConnId::Accepted(self.connected);
        self.conns.insert(n, conn);
        self.handle(Input::Connected { conn, local: host(0).into(), remote: key(n) })
    }

    pub(super) fn up(&mut self, n: u16, asn: Asn, graceful_restart: Option<GracefulRestart>) {
        self.connects(n);
        let open = Open {
            asn,
            hold_time: 0,
            router_id: RouterId(host(n)),
            capabilities: Capabilities {
                families: vec![AfiSafi::Ipv4Unicast],
                four_octet_asn: true,
                graceful_restart,
                ..Capabilities::default()
            },
        };
        self.hears(n, open.encode());
        self.hears(n, encode_keepalive());
        assert_eq!(self.state(n), StateKind::Established);
    }

    pub(super) fn hears(&mut self, n: u16, bytes: impl Into<Bytes>) -> Vec<Effect> {
        self.handle(Input::Received { conn: self.conns[&n], bytes: bytes.into() })
    }

    pub(super) fn announces(&mut self, n: u16, asn: Asn, prefixes: &[Ipv4Network]) -> Vec<Effect> {
        let as_path = AsPath::from_sequence(Some(asn).filter(|asn| *asn != INTERNAL));
        let attributes = PathAttributes { as_path, local_pref: Some(100), ..PathAttributes::default() };
        let context = EncodeContext { four_octet_asn: true, max_message_len: 4096, extended_nexthop: false };
        let mut bytes = BytesMut::new();
        encode_reach(&attributes, Nexthop::V4(host(n)), prefixes, &context, &mut bytes);
        self.hears(n, bytes)
    }

    pub(super) fn hangs_up(&mut self, n: u16) -> Vec<Effect> {
        self.handle(Input::Closed { conn: self.conns[&n] })
    }

    pub(super) fn state(&self, n: u16) -> StateKind {
        self.status(n).state
    }

    pub(super) fn status(&self, n: u16) -> PeerStatus {
        self.speaker.peers(self.now).into_iter().find(|peer| peer.key == key(n)).expect("it is configured")
    }

    /// Lets time pass, as a caller does that keeps to the deadlines.
    pub(super) fn run(&mut self, span: Duration) -> Vec<Effect> {
        let end = self.now + span;
        let mut all = Vec::new();
        while let Some(at) = self.speaker.next_deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            all.extend(self.handle(Input::Tick));
        }
        self.now = end;
        all
    }

    /// Prefixes that the FIB was told of since the last time, and whether they are in use.
    pub(super) fn changes(&mut self) -> Vec<(Ipv4Network, bool)> {
        let changes = std::iter::from_fn(|| self.speaker.poll_change());
        let change = |change: Change| match change.prefix {
            IpNetwork::V4(prefix) => (prefix, !change.nexthops.is_empty()),
            IpNetwork::V6(prefix) => panic!("nobody announces {prefix}"),
        };
        changes.map(change).collect()
    }

    /// What was sent to a host.
    pub(super) fn messages(&self, n: u16, effects: &[Effect]) -> Vec<Message> {
        let context = DecodeContext {
            peer_kind: PeerKind::Internal,
            four_octet_asn: true,
            families: vec![AfiSafi::Ipv4Unicast],
            extended_nexthop: false,
        };
        let mut framer = Framer::default();
        for effect in effects {
            if let Effect::Send { conn, bytes } = effect
                && *conn == self.conns[&n]
            {
                framer.push(bytes);
            }
        }
        let frames = std::iter::from_fn(|| framer.next_frame().expect("framed well"));
        frames.map(|frame| Message::decode(&frame, &context).expect("a good message")).collect()
    }
}

pub(super) fn sends_anything(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Send { .. }))
}
