//! A whole speaker with two peers: one says and does what the input tells it, the other keeps to the rules.
//!
//! The input is a script: an octet names a step, the next ones are its argument. Properties: nothing panics; a step has
//! a bounded number of effects; the honest peer's session and its route stay, whatever the other does.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use ipnetwork::IpNetwork;
use weft_bgp::session::StateKind;
use weft_bgp::speaker::{Effect, Input, PeerConfig, PeerKey, RemoteAsn, RouteFilter, Speaker, SpeakerConfig};
use weft_bgp::types::{AfiSafi, Asn, ConnId, Instant, RouterId};
use weft_bgp::wire::{
    Capabilities, HEADER_LEN, Open, encode_end_of_rib, encode_keepalive, encode_route_refresh,
};

const HOSTILE: PeerKey = PeerKey { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), interface: None };
const HONEST: PeerKey = PeerKey { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), interface: None };
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
const HONEST_CONN: ConnId = ConnId::Accepted(0);
const HONEST_ROUTE: &str = "10.9.0.0/24";
/// Of one input: a dial, an answer, a close and some messages, for each peer.
const MOST_EFFECTS: usize = 64;
const MOST_STEPS: usize = 400;

pub fn run(data: &[u8]) {
    let mut world = World::new();
    let mut script = Script(data);
    for _ in 0..MOST_STEPS {
        let Some(step) = script.octet() else { break };
        world.step(step, &mut script);
    }
    world.honest_peer_is_unharmed();
}

struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn octets(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

struct World {
    speaker: Speaker,
    now: Instant,
    accepted: u64,
    /// The hostile peer's latest connection.
    conn: Option<ConnId>,
}

impl World {
    fn new() -> Self {
        let config = SpeakerConfig::new(Asn(64512), RouterId(Ipv4Addr::new(192, 0, 2, 100)), 1);
        let mut world = Self {
            speaker: Speaker::new(config),
            now: Instant(Duration::from_secs(100)),
            accepted: 0,
            conn: None,
        };
        let peer = |key: PeerKey, name: &str, accept: &str| PeerConfig {
            passive: key == HONEST,
            accept: vec![accept.parse::<IpNetwork>().expect("a literal")].into(),
            max_prefixes: 50,
            ..PeerConfig::new(name, key.address, RemoteAsn::External)
        };
        world.input(Input::SetPeers(vec![
            peer(HOSTILE, "hostile", "10.8.0.0/16"),
            peer(HONEST, "honest", "10.9.0.0/16"),
        ]));
        world.input(Input::Connected { conn: HONEST_CONN, local: LOCAL, remote: HONEST });
        for message in [open(65002, 2), encode_keepalive(), update(9), end_of_rib()] {
            world.input(Input::Received { conn: HONEST_CONN, bytes: message });
        }
        world.honest_peer_is_unharmed();
        world
    }

    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        let len = |script: &mut Script<'_>| script.octet().map_or(0, usize::from);
        match step % 9 {
            0 => {
                self.accepted += 1;
                let conn = ConnId::Accepted(self.accepted);
                self.conn = Some(conn);
                self.input(Input::Connected { conn, local: LOCAL, remote: HOSTILE });
            }
            1 => {
                let len = len(script);
                self.receive(Bytes::copy_from_slice(script.octets(len)));
            }
            2 => {
                let (kind, len) = (script.octet().unwrap_or_default(), len(script) * 4);
                self.receive(framed(kind, script.octets(len)));
            }
            3 => {
                if let Some(conn) = self.conn.take() {
                    self.input(Input::Closed { conn });
                }
            }
            4 => self.wait(Duration::from_millis(u64::from(script.octet().unwrap_or_default()) * 100)),
            5 => self.input(Input::Unreachable(HOSTILE)),
            6 => self.receive(open(65001, 1)),
            7 => self.receive(encode_keepalive()),
            _ => self.receive(update(script.octet().unwrap_or_default())),
        }
    }

    fn receive(&mut self, bytes: Bytes) {
        if let Some(conn) = self.conn {
            self.input(Input::Received { conn, bytes });
        }
    }

    /// The honest peer never falls silent.
    fn wait(&mut self, span: Duration) {
        self.now = self.now + span;
        self.input(Input::Received { conn: HONEST_CONN, bytes: encode_keepalive() });
        self.input(Input::Tick);
    }

    fn input(&mut self, input: Input) {
        self.speaker.handle(self.now, input);
        let mut count = 0;
        while let Some(effect) = self.speaker.poll_effect() {
            count += 1;
            assert!(count <= MOST_EFFECTS, "one input has more than {MOST_EFFECTS} effects");
            self.carry_out(&effect);
        }
        while self.speaker.poll_change().is_some() {}
    }

    /// Whom we dial, we reach: so that the script can speak on both kinds of connection.
    fn carry_out(&mut self, effect: &Effect) {
        match effect {
            Effect::Dial { conn, key, .. } if *key == HOSTILE => {
                self.conn = Some(*conn);
                self.speaker
                    .handle(self.now, Input::Connected { conn: *conn, local: LOCAL, remote: HOSTILE });
            }
            Effect::Send { conn, bytes } => {
                self.speaker.handle(self.now, Input::Sent { conn: *conn, len: bytes.len() });
            }
            Effect::Close { conn } | Effect::Abort { conn } => {
                assert_ne!(*conn, HONEST_CONN, "the honest peer's connection is closed");
                if self.conn == Some(*conn) {
                    self.conn = None;
                }
            }
            _ => {}
        }
    }

    fn honest_peer_is_unharmed(&self) {
        let peers = self.speaker.peers(self.now);
        let honest = peers.iter().find(|peer| peer.key == HONEST).expect("it is configured");
        assert_eq!(honest.state, StateKind::Established);
        let routes = self.speaker.routes(RouteFilter::Prefix(HONEST_ROUTE.parse().expect("a literal")));
        assert!(
            routes.iter().flat_map(|route| &route.paths).any(|path| path.standing.is_best()),
            "its route is gone"
        );
        let hostile = peers.iter().find(|peer| peer.key == HOSTILE).expect("it is configured");
        let held: u32 = hostile.families.iter().map(|(_, counts)| counts.accepted + counts.rejected).sum();
        assert!(held <= 100, "more routes than its limit: {held}");
    }
}

fn framed(kind: u8, body: &[u8]) -> Bytes {
    let len = u16::try_from(HEADER_LEN + body.len()).expect("bodies have at most 1020 octets");
    [&[0xff; 16][..], &len.to_be_bytes(), &[kind], body].concat().into()
}

fn open(asn: u32, host: u8) -> Bytes {
    let capabilities = Capabilities {
        families: AfiSafi::ALL.to_vec(),
        route_refresh: true,
        extended_nexthop: vec![AfiSafi::Ipv4Unicast],
        graceful_restart: Some(weft_bgp::wire::GracefulRestart {
            restarting: false,
            notification: true,
            restart_time: 120,
            families: AfiSafi::ALL.map(|family| (family, true)).to_vec(),
        }),
        four_octet_asn: true,
        unknown: Vec::new(),
    };
    let router_id = RouterId(Ipv4Addr::new(192, 0, 2, host));
    Open { asn: Asn(asn), hold_time: 90, router_id, capabilities }.encode()
}

/// 10.`third`.0.0/24 from AS 65001 or, for 9, from AS 65002.
fn update(third: u8) -> Bytes {
    let (asn, host) = if third == 9 { (65002_u32, 2) } else { (65001, 1) };
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 1];
    attributes.extend(asn.to_be_bytes());
    attributes.extend([0x40, 3, 4, 192, 0, 2, host]);
    let mut body = vec![0, 0, 0, u8::try_from(attributes.len()).expect("some 20 octets")];
    body.extend(attributes);
    body.extend([24, 10, third, 0]);
    framed(2, &body)
}

fn end_of_rib() -> Bytes {
    encode_end_of_rib(AfiSafi::Ipv4Unicast)
}

/// Whole messages of every type; also seeds for whoever decodes them.
pub(super) fn messages() -> Vec<Vec<u8>> {
    let rich = [
        // ORIGIN, AS_PATH with a set, NEXT_HOP, MED, LOCAL_PREF, ATOMIC_AGGREGATE, AGGREGATOR, communities of all kinds.
        &[0x40, 1, 1, 2, 0x40, 2, 14, 2, 2, 0, 0, 0xfd, 0xe9, 0, 0, 0xfd, 0xea, 1, 1, 0, 0, 0xfd, 0xeb][..],
        &[0x40, 3, 4, 192, 0, 2, 1, 0x80, 4, 4, 0, 0, 0, 1, 0x40, 5, 4, 0, 0, 0, 100, 0x40, 6, 0],
        &[0xc0, 7, 8, 0, 0, 0xfd, 0xe9, 192, 0, 2, 1, 0xc0, 8, 4, 0xff, 0xff, 0xff, 1],
        &[0xc0, 16, 8, 0, 2, 0xfd, 0xe9, 0, 0, 0, 1, 0xc0, 32, 12, 0, 0, 0xfd, 0xe9, 0, 0, 0, 1, 0, 0, 0, 2],
        // MP_REACH_NLRI: IPv6, one next hop, one prefix; MP_UNREACH_NLRI; ORIGINATOR_ID, CLUSTER_LIST; one unknown.
        &[0x80, 14, 30, 0, 2, 1, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        &[64, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 0x80, 15, 3, 0, 2, 1],
        &[0x80, 9, 4, 192, 0, 2, 9, 0x80, 10, 4, 192, 0, 2, 8, 0xc0, 99, 2, 1, 2],
    ]
    .concat();
    let len = u16::try_from(rich.len()).expect("some 200 octets").to_be_bytes();
    let body = [&[0, 4, 24, 10, 8, 7][..], &len, &rich, &[24, 10, 8, 1, 16, 10, 8]].concat();
    [
        open(65001, 1),
        encode_keepalive(),
        update(8),
        framed(2, &body),
        end_of_rib(),
        encode_end_of_rib(AfiSafi::Ipv6Unicast),
        encode_route_refresh(AfiSafi::Ipv4Unicast),
        framed(3, &[6, 2, 4, b'b', b'y', b'e', b'!']),
        // An OPEN with lengths of two octets (RFC 9072).
        framed(1, &[4, 0xfd, 0xe9, 0, 90, 192, 0, 2, 1, 255, 255, 0, 9, 2, 0, 6, 65, 4, 0, 0, 0xfd, 0xe9]),
    ]
    .map(|message| message.to_vec())
    .to_vec()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let up = [0, 6, 7];
    let mut seeds = vec![
        // Up, a route, away, back with another, silent for the restart time.
        [&up[..], &[8, 8, 8, 3, 3, 4, 50, 0, 6, 7, 8, 1, 3, 4, 255, 4, 255, 4, 255, 4, 255, 4, 255]].concat(),
        // Up; the link goes before TCP does, and after.
        [&up[..], &[8, 8, 5, 3, 0, 6, 7, 3, 5, 4, 200]].concat(),
        // Two connections at once, and silence in each state.
        vec![0, 0, 6, 7, 4, 255, 4, 255, 0, 4, 255, 4, 255],
        // More routes than the limit.
        [up.to_vec(), (0..60).flat_map(|third| [8, third]).collect()].concat(),
    ];
    for message in messages() {
        let body = &message[HEADER_LEN..];
        let quarter = u8::try_from(body.len().div_ceil(4)).expect("below 1020 octets");
        let padded = [body, &[0; 3]].concat();
        let step = [&up[..], &[2, message[18], quarter], &padded[..usize::from(quarter) * 4]].concat();
        seeds.push([step, vec![4, 20, 8, 8]].concat());
    }
    seeds
}
