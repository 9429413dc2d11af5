//! One speaker against a peer made of bytes.

mod configuring;
mod crowd;
mod returning;

use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use crate::session::StateKind;
use crate::types::{AfiSafi, Asn, Nexthop, RouterId};
use crate::wire::{
    AsPath, Capabilities, EncodeContext, GracefulRestart, Open, PathAttributes, encode_end_of_rib,
    encode_keepalive, encode_reach,
};

const PEER: PeerKey = PeerKey { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), interface: None };
const CONN: ConnId = ConnId::Accepted(1);

struct Bench {
    speaker: Speaker,
    now: Instant,
}

impl Bench {
    /// In AS 65000, with one peer in AS 65001 that may say what lies within 10/8.
    fn new() -> Self {
        let id = RouterId(Ipv4Addr::new(192, 0, 2, 1));
        let speaker = Speaker::new(SpeakerConfig::new(Asn(65000), id, 1));
        let mut bench = Self { speaker, now: Instant(Duration::from_secs(1000)) };
        let mut peer = PeerConfig::new("tor", PEER.address, RemoteAsn::Number(Asn(65001)));
        peer.families = vec![AfiSafi::Ipv4Unicast];
        peer.accept = vec!["10.0.0.0/8".parse().unwrap()].into();
        bench.handle(Input::SetPeers(vec![peer]));
        bench
    }

    fn handle(&mut self, input: Input) -> Vec<Effect> {
        self.speaker.handle(self.now, input);
        std::iter::from_fn(|| self.speaker.poll_effect()).collect()
    }

    fn hears(&mut self, bytes: impl Into<Bytes>) -> Vec<Effect> {
        self.handle(Input::Received { conn: CONN, bytes: bytes.into() })
    }

    fn established(&mut self, graceful_restart: Option<GracefulRestart>) {
        let local = IpAddr::from([192, 0, 2, 1]);
        self.handle(Input::Connected { conn: CONN, local, remote: PEER });
        let open = Open {
            asn: Asn(65001),
            hold_time: 90,
            router_id: RouterId(Ipv4Addr::new(192, 0, 2, 2)),
            capabilities: Capabilities { four_octet_asn: true, graceful_restart, ..Capabilities::default() },
        };
        self.hears(open.encode());
        self.hears(encode_keepalive());
        assert_eq!(self.speaker.peers(self.now)[0].state, StateKind::Established);
    }

    fn announces(&mut self, prefix: &str) -> Vec<Effect> {
        let attributes =
            PathAttributes { as_path: AsPath::from_sequence([Asn(65001)]), ..PathAttributes::default() };
        self.announces_with(prefix, &attributes)
    }

    fn announces_with(&mut self, prefix: &str, attributes: &PathAttributes) -> Vec<Effect> {
        let context = EncodeContext { four_octet_asn: true, max_message_len: 4096, extended_nexthop: false };
        let nexthop = Nexthop::V4(Ipv4Addr::new(192, 0, 2, 2));
        let prefixes: [ipnetwork::Ipv4Network; 1] = [prefix.parse().unwrap()];
        let mut bytes = bytes::BytesMut::new();
        encode_reach(attributes, nexthop, &prefixes, &context, &mut bytes);
        self.hears(bytes)
    }

    /// Lets time pass, as a caller does that keeps to the deadlines. Says when the speaker converged.
    fn converges_within(&mut self, span: Duration) -> Option<Duration> {
        let (began, end) = (self.now, self.now + span);
        while let Some(at) = self.speaker.next_deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            if self.handle(Input::Tick).contains(&Effect::Converged) {
                return Some(self.now.since(began));
            }
        }
        self.now = end;
        None
    }
}

#[test]
fn a_peer_that_marks_no_end_is_done_when_it_falls_silent() {
    let mut bench = Bench::new();
    bench.established(None);
    assert_eq!(bench.converges_within(Duration::from_millis(1500)), None);
    bench.announces("10.1.0.0/24");
    assert_eq!(bench.converges_within(Duration::from_secs(60)), Some(Duration::from_secs(2)));
}

#[test]
fn an_end_of_rib_counts_even_from_a_peer_that_did_not_promise_one() {
    let mut bench = Bench::new();
    bench.established(None);
    assert!(bench.hears(encode_end_of_rib(AfiSafi::Ipv4Unicast)).contains(&Effect::Converged));
}

#[test]
fn a_peer_that_restarts_too_is_waited_for_however_silent() {
    let mut bench = Bench::new();
    let families = vec![(AfiSafi::Ipv4Unicast, true)];
    let restart = GracefulRestart { restarting: true, notification: true, restart_time: 120, families };
    bench.established(Some(restart));
    assert_eq!(bench.converges_within(Duration::from_secs(60)), Some(SpeakerConfig::CONVERGENCE_CAP));
}

/// An UPDATE whose COMMUNITIES are three bytes long: its prefix counts as withdrawn, and the session goes on (RFC 7606 §7.8).
fn with_broken_communities() -> Vec<u8> {
    let attributes = [
        &[0x40, 1, 1, 0][..],                  // ORIGIN: IGP
        &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9], // AS_PATH: 65001
        &[0x40, 3, 4, 192, 0, 2, 2],           // NEXT_HOP
        &[0xc0, 8, 3, 1, 2, 3],
    ]
    .concat();
    let nlri = [24, 10, 1, 0];
    let length = u8::try_from(23 + attributes.len() + nlri.len()).unwrap();
    let head = [0, length, 2, 0, 0, 0, u8::try_from(attributes.len()).unwrap()];
    [&[0xff; 16][..], &head, &attributes, &nlri].concat()
}

#[test]
fn malformed_attributes_are_all_counted_and_told_once_a_minute() {
    let mut bench = Bench::new();
    bench.established(None);
    let told = |effects: Vec<Effect>| {
        effects.into_iter().find_map(|effect| match effect {
            Effect::AttributeErrors { untold, .. } => Some(untold),
            _ => None,
        })
    };
    assert_eq!(told(bench.hears(with_broken_communities())), Some(0));
    for _ in 0..10 {
        assert_eq!(told(bench.hears(with_broken_communities())), None);
    }
    bench.now = bench.now + Duration::from_secs(60);
    assert_eq!(told(bench.hears(with_broken_communities())), Some(10));
    assert_eq!(bench.speaker.peers(bench.now)[0].malformed_attributes, 12);
}
