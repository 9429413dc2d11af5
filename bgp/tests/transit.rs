//! A speaker that passes routes on does so in the same step in which it learns them.

use std::net::{IpAddr, Ipv4Addr};

use bytes::{Bytes, BytesMut};
use ipnetwork::Ipv4Network;
use weft_bgp::rib::ExportRoutes;
use weft_bgp::speaker::{Effect, Input, PeerConfig, PeerKey, Speaker, SpeakerConfig};
use weft_bgp::types::{AfiSafi, Asn, ConnId, Instant, Nexthop, PeerKind, RemoteAsn, RouterId};
use weft_bgp::wire::{
    AsPath, Capabilities, DecodeContext, EncodeContext, Framer, MAX_MESSAGE_LEN, Message, Nlri, Open,
    PathAttributes, Update, encode_keepalive, encode_reach, encode_unreach,
};

const FROM: u8 = 2;
const TO: u8 = 3;

fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, host)
}

fn asn(host: u8) -> Asn {
    Asn(65000 + u32::from(host))
}

fn conn(host: u8) -> ConnId {
    ConnId::Accepted(u64::from(host))
}

/// Our speaker is host 1 and passes on what host 2 says to host 3.
struct Net {
    speaker: Speaker,
}

impl Net {
    fn established() -> Self {
        let speaker = Speaker::new(SpeakerConfig::new(asn(1), RouterId(address(1)), 7));
        let mut net = Self { speaker };
        net.input(Input::SetPeers([FROM, TO].map(peer).into()));
        for host in [FROM, TO] {
            let remote = PeerKey { address: address(host).into(), interface: None };
            net.input(Input::Connected { conn: conn(host), local: address(1).into(), remote });
            net.receive(host, open(host));
            net.receive(host, encode_keepalive());
        }
        net
    }

    fn receive(&mut self, host: u8, bytes: Bytes) -> Vec<Effect> {
        self.input(Input::Received { conn: conn(host), bytes })
    }

    fn input(&mut self, input: Input) -> Vec<Effect> {
        self.speaker.handle(Instant::default(), input);
        std::iter::from_fn(|| self.speaker.poll_effect()).collect()
    }
}

fn peer(host: u8) -> PeerConfig {
    let remote = IpAddr::from(address(host));
    PeerConfig {
        passive: true,
        accept: vec!["0.0.0.0/0".parse().expect("a prefix")].into(),
        export: ExportRoutes::Transit,
        ..PeerConfig::new("peer", remote, RemoteAsn::Number(asn(host)))
    }
}

fn open(host: u8) -> Bytes {
    let capabilities = Capabilities {
        families: vec![AfiSafi::Ipv4Unicast],
        four_octet_asn: true,
        ..Capabilities::default()
    };
    Open { asn: asn(host), hold_time: 90, router_id: RouterId(address(host)), capabilities }.encode()
}

/// The UPDATEs among what was sent to `host`.
fn updates_to(host: u8, effects: &[Effect]) -> Vec<Update> {
    let context = DecodeContext {
        peer_kind: PeerKind::External,
        four_octet_asn: true,
        families: vec![AfiSafi::Ipv4Unicast],
        extended_nexthop: false,
    };
    let mut framer = Framer::default();
    for effect in effects {
        if let Effect::Send { conn: to, bytes } = effect
            && *to == conn(host)
        {
            framer.push(bytes);
        }
    }
    let messages = std::iter::from_fn(|| framer.next_frame().expect("the speaker sends whole messages"));
    messages
        .filter_map(|frame| match Message::decode(&frame, &context) {
            Ok(Message::Update(update)) => Some(*update),
            _ => None,
        })
        .collect()
}

const ENCODE: EncodeContext =
    EncodeContext { four_octet_asn: true, max_message_len: MAX_MESSAGE_LEN, extended_nexthop: false };

fn prefix() -> Ipv4Network {
    "192.0.2.0/24".parse().expect("a prefix")
}

fn announcement() -> Bytes {
    let as_path = AsPath::from_sequence([asn(FROM)]);
    let attributes = PathAttributes { as_path, ..PathAttributes::default() };
    let mut message = BytesMut::new();
    encode_reach(&attributes, Nexthop::V4(address(FROM)), &[prefix()], &ENCODE, &mut message);
    message.freeze()
}

#[test]
fn a_route_learned_from_one_peer_is_told_to_the_other_at_once_and_taken_back_at_once() {
    let mut net = Net::established();

    let effects = net.receive(FROM, announcement());
    let [update] = &updates_to(TO, &effects)[..] else { panic!("one UPDATE: {effects:?}") };
    assert_eq!(update.reach[0].nlri, Nlri::V4(vec![prefix()]));
    assert_eq!(update.reach[0].nexthop, Nexthop::V4(address(1)));
    assert_eq!(update.attributes.as_path.to_string(), "65001 65002");
    assert_eq!(updates_to(FROM, &effects), [], "not back to where it came from");

    let mut withdrawal = BytesMut::new();
    encode_unreach(&[prefix()], &ENCODE, &mut withdrawal);
    let effects = net.receive(FROM, withdrawal.freeze());
    let [update] = &updates_to(TO, &effects)[..] else { panic!("one UPDATE: {effects:?}") };
    assert_eq!(update.unreach[..], [Nlri::V4(vec![prefix()])]);
}

#[test]
fn routes_of_a_lost_peer_are_taken_back_as_they_are_swept() {
    let mut net = Net::established();
    net.receive(FROM, announcement());

    let mut effects = net.input(Input::Closed { conn: conn(FROM) });
    effects.extend(net.input(Input::Tick));
    let [update] = &updates_to(TO, &effects)[..] else { panic!("one UPDATE: {effects:?}") };
    assert_eq!(update.unreach[..], [Nlri::V4(vec![prefix()])]);
}
