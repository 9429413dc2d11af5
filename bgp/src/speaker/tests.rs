//! One speaker against a peer made of bytes.

mod configuring;
mod crowd;
mod restarting;
mod returning;
mod showing;
mod watched;

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;

use super::peer::SEND_WINDOW;
use super::*;
use crate::session::StateKind;
use crate::types::{AfiSafi, Asn, Nexthop, RemoteAsn, RouterId};
use crate::wire::{
    AsPath, Capabilities, EncodeContext, GracefulRestart, Open, PathAttributes, encode_end_of_rib,
    encode_keepalive, encode_reach,
};

const PEER: PeerKey = PeerKey { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), interface: None };
const CONN: ConnId = ConnId::Accepted(1);

fn peer() -> PeerConfig {
    let mut peer = PeerConfig::new("tor", PEER.address, RemoteAsn::Number(Asn(65001)));
    peer.families = vec![AfiSafi::Ipv4Unicast];
    peer.accept = vec!["10.0.0.0/8".parse().unwrap()].into();
    peer
}

struct Bench {
    speaker: Speaker,
    now: Instant,
}

impl Bench {
    /// In AS 65000, with one peer in AS 65001 that may say what lies within 10/8.
    fn new() -> Self {
        Self::starting(None)
    }

    fn starting(restarting: Option<Vec<AfiSafi>>) -> Self {
        let id = RouterId(Ipv4Addr::new(192, 0, 2, 1));
        let config = SpeakerConfig { restarting, ..SpeakerConfig::new(Asn(65000), id, 1) };
        let mut bench = Self { speaker: Speaker::new(config), now: Instant(Duration::from_secs(1000)) };
        bench.handle(Input::SetPeers(vec![peer()]));
        bench
    }

    fn handle(&mut self, input: Input) -> Vec<Effect> {
        self.speaker.handle(self.now, input);
        std::iter::from_fn(|| self.speaker.poll_effect()).collect()
    }

    fn hears(&mut self, bytes: impl Into<Bytes>) -> Vec<Effect> {
        self.handle(Input::Received { conn: CONN, bytes: bytes.into() })
    }

    fn connected(&mut self) -> Vec<Effect> {
        let local = IpAddr::from([192, 0, 2, 1]);
        self.handle(Input::Connected { conn: CONN, local, remote: PEER })
    }

    fn established(&mut self, graceful_restart: Option<GracefulRestart>) {
        self.established_with(Capabilities { graceful_restart, ..Capabilities::default() });
    }

    fn established_with(&mut self, capabilities: Capabilities) {
        self.connected();
        let open = Open {
            asn: Asn(65001),
            hold_time: 90,
            router_id: RouterId(Ipv4Addr::new(192, 0, 2, 2)),
            capabilities: Capabilities { four_octet_asn: true, ..capabilities },
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

    /// How many nexthops the FIB is told for the prefix that changed; `None` when none did.
    fn nexthops(&mut self) -> Option<usize> {
        self.speaker.poll_change().map(|change| change.nexthops.len())
    }

    /// Lets time pass, as a caller does that keeps to the deadlines. Gives what came of it, and when.
    fn run(&mut self, span: Duration) -> Vec<(Duration, Effect)> {
        let (began, end) = (self.now, self.now + span);
        let mut all = Vec::new();
        while let Some(at) = self.speaker.next_deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            let when = self.now.since(began);
            all.extend(self.handle(Input::Tick).into_iter().map(|effect| (when, effect)));
        }
        self.now = end;
        all
    }

    fn converges_within(&mut self, span: Duration) -> Option<Duration> {
        time_of(&Effect::Converged, &self.run(span))
    }
}

fn time_of(effect: &Effect, all: &[(Duration, Effect)]) -> Option<Duration> {
    all.iter().find(|(_, other)| other == effect).map(|(when, _)| *when)
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
    assert_eq!(bench.converges_within(Duration::from_secs(60)), Some(SpeakerConfig::SETTLE));
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

fn told(effects: &[Effect]) -> Vec<u64> {
    let others = |effect: &Effect| match effect {
        Effect::AttributeErrors { others, .. } => Some(*others),
        _ => None,
    };
    effects.iter().filter_map(others).collect()
}

#[test]
fn malformed_attributes_are_all_counted_and_told_once_a_minute() {
    let mut bench = Bench::new();
    bench.established(None);
    assert_eq!(told(&bench.hears(with_broken_communities())), [0]);
    for _ in 0..10 {
        assert!(told(&bench.hears(with_broken_communities())).is_empty());
    }
    bench.now = bench.now + Duration::from_secs(60);
    assert_eq!(told(&bench.hears(with_broken_communities())), [10]);
    assert_eq!(bench.speaker.peers(bench.now)[0].malformed_attributes, 12);
}

#[test]
fn an_update_that_is_wrong_in_a_thousand_ways_is_one_line_of_the_log() {
    let mut bench = Bench::new();
    bench.established(None);
    let attributes = [0x40, 6, 0].repeat(1300); // ATOMIC_AGGREGATE, once and 1299 times more.
    let lengths =
        [23 + attributes.len(), attributes.len()].map(|len| u16::try_from(len).unwrap().to_be_bytes());
    let update = [&[0xff; 16][..], &lengths[0], &[2, 0, 0], &lengths[1], &attributes].concat();
    assert_eq!(told(&bench.hears(update)), [1298]);
    assert_eq!(bench.speaker.peers(bench.now)[0].malformed_attributes, 1299);
}

#[test]
fn the_log_hears_of_a_peer_that_flaps_but_not_each_time() {
    let mut bench = Bench::new();
    let mut lines = 0;
    for conn in (0..1000).map(ConnId::Accepted) {
        let connected = Input::Connected { conn, local: IpAddr::from([192, 0, 2, 1]), remote: PEER };
        for input in [connected, Input::Received { conn, bytes: vec![0; 19].into() }] {
            let effects = bench.handle(input);
            lines += effects
                .iter()
                .filter(|effect| matches!(effect, Effect::PeerStateChanged { log: true, .. }))
                .count();
        }
    }
    assert_eq!(lines, 2);
    bench.now = bench.now + Duration::from_secs(600);
    bench.handle(Input::Tick);
    bench.established(None);
    let effects = bench.handle(Input::Closed { conn: CONN });
    assert!(effects.iter().any(|effect| matches!(effect, Effect::PeerStateChanged { log: true, .. })));
}

/// What a peer that does not read is sent, in octets.
fn sent(effects: &[Effect]) -> usize {
    let len = |effect: &Effect| if let Effect::Send { bytes, .. } = effect { bytes.len() } else { 0 };
    effects.iter().map(len).sum()
}

#[test]
fn a_peer_that_does_not_read_is_not_given_more_than_the_window() {
    let mut bench = Bench::new();
    bench.established(None);
    let host = |last: u32| IpNetwork::from(IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + last)));
    let prefixes = (0..100_000).map(host).collect();
    let told = sent(&bench.handle(Input::SetOrigin(OriginConfig { prefixes, ..OriginConfig::default() })));
    // The window counts the OPEN too; and what closes it is a whole chunk of the RIB.
    assert!((SEND_WINDOW - 4096..SEND_WINDOW + 64 * 1024).contains(&told), "{told}");
    let unsent = bench.speaker.peers.values().next().and_then(|peer| peer.session.unsent()).unwrap();
    let all_but_the_window = Input::Sent { conn: CONN, len: unsent - SEND_WINDOW };
    assert_eq!(sent(&bench.handle(all_but_the_window)), 0);
    assert!(sent(&bench.handle(Input::Sent { conn: CONN, len: 1 })) > 0);
}

#[test]
fn a_stop_says_why_and_a_restart_says_nothing() {
    let cease = |text| Notification::cease(CeaseReason::AdministrativeShutdown, text).encode();
    let stop = |text: &str| Shutdown::Stop { text: text.to_owned() };
    for (how, word) in
        [(stop("bye"), Some(cease(Some("bye")))), (stop(""), Some(cease(None))), (Shutdown::Restart, None)]
    {
        let mut bench = Bench::new();
        bench.established(None);
        let effects = bench.handle(Input::Shutdown(how));
        let said: Vec<_> = effects
            .iter()
            .filter_map(|effect| if let Effect::Send { bytes, .. } = effect { Some(bytes) } else { None })
            .collect();
        assert_eq!(said, word.iter().collect::<Vec<_>>());
        let end = if word.is_some() { Effect::Close { conn: CONN } } else { Effect::Abort { conn: CONN } };
        assert!(effects.contains(&end), "{effects:?}");
        assert_eq!(bench.connected(), []);
    }
}

#[test]
fn a_password_is_what_the_kernel_takes_as_a_key() {
    assert_eq!(Password::new("s3cret").as_ref().map(Password::as_bytes), Some(&b"s3cret"[..]));
    let lens = [0, 1, 80, 81].map(|len| Password::new(vec![b'x'; len]).is_some());
    assert_eq!(lens, [false, true, true, false]);
}

#[test]
fn what_a_session_was_made_with_cannot_be_changed_under_it() {
    type Change = fn(&mut PeerConfig);
    let changes: [(&str, Change); 7] = [
        ("local address", |peer| peer.transport.local_address = Some([192, 0, 2, 1].into())),
        ("hops", |peer| peer.transport.hops = Hops::Security(1)),
        ("password", |peer| peer.transport.password = Password::new("secret")),
        ("AS", |peer| peer.asn = RemoteAsn::External),
        ("families", |peer| peer.families = AfiSafi::ALL.to_vec()),
        ("hold time", |peer| peer.hold_time = 30),
        ("extended nexthop", |peer| peer.extended_nexthop = false),
    ];
    for (what, change) in changes {
        let mut bench = Bench::new();
        bench.established(None);
        let mut changed = peer();
        change(&mut changed);
        let effects = bench.handle(Input::SetPeers(vec![changed]));
        assert!(effects.contains(&Effect::Close { conn: CONN }), "{what}");
        let cease = Notification::cease(CeaseReason::OtherConfigurationChange, None).encode();
        assert!(effects.contains(&Effect::Send { conn: CONN, bytes: cease }), "{what}");
    }
    let mut bench = Bench::new();
    bench.established(None);
    let renamed = PeerConfig { name: "leaf".to_owned(), max_prefixes: 7, ..peer() };
    bench.handle(Input::SetPeers(vec![renamed]));
    assert_eq!(bench.speaker.peers(bench.now)[0].state, StateKind::Established);
}
