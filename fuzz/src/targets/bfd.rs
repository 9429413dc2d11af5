//! Datagrams of BFD, and when they come, against a node that watches two peers.
//!
//! Properties: nothing panics; what is understood is written as it was read; a datagram is worth three at most, so that
//! nobody makes us a flood; there is always a next turn, and never at once again; nobody is up who was not heard, or who
//! must be given up.

use std::time::Duration;

use weft_bgp::bfd::{Config, Effect, Packet, Path, Sessions, State, Terms};
use weft_bgp::speaker::PeerKey;
use weft_bgp::types::Instant;

/// Before a datagram: whose it is and over which path, its TTL, and the time since the one before, in 10 ms.
const HEAD: usize = 3;
const DATAGRAM: usize = HEAD + 24;

fn peer(last: u8) -> PeerKey {
    PeerKey { address: [192, 0, 2, last].into(), interface: None }
}

pub fn run(data: &[u8]) {
    let mut sessions = Sessions::new(1, Vec::new());
    let paths = [Path::SingleHop, Path::Multihop { least_ttl: 200 }];
    let wanted =
        [0, 1].map(|last| (peer(last), Config { terms: Terms::DEFAULT, path: paths[usize::from(last)] }));
    let mut now = Instant::default();
    sessions.set(now, &wanted.into());
    drain(&mut sessions);
    for datagram in data.chunks(DATAGRAM) {
        let Some(([whose, ttl, wait], payload)) = datagram.split_first_chunk::<HEAD>() else { return };
        let until = now + Duration::from_millis(u64::from(*wait) * 10);
        while let Some(next) = sessions.next_deadline().filter(|next| *next <= until) {
            assert!(next > now || now == Instant::default(), "it turns on the spot");
            now = next.max(now);
            sessions.tick(now);
            drain(&mut sessions);
        }
        now = until;
        assert!(sessions.next_deadline().is_some_and(|next| next > now), "nobody comes back");
        decode(payload);
        let port = paths[usize::from(whose >> 2 & 1)].port();
        let payload = known(payload, &sessions, peer(whose & 3));
        sessions.received(now, peer(whose & 3), port, *ttl, &payload);
        assert!(drain(&mut sessions) <= 3, "an amplifier");
        judge(&sessions, now);
    }
}

fn decode(payload: &[u8]) {
    if let Ok(packet) = Packet::decode(payload) {
        assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
    }
}

/// With our discriminator in the place of all that begin with 0xff: it cannot be guessed.
fn known(payload: &[u8], sessions: &Sessions, from: PeerKey) -> Vec<u8> {
    let mut payload = payload.to_vec();
    let ours = sessions.statuses(Instant::default()).into_iter().find(|status| status.key == from);
    if let Some((ours, place)) = ours.zip(payload.get_mut(8..12).filter(|place| place[0] == 0xff)) {
        place.copy_from_slice(&ours.discriminator.0.get().to_be_bytes());
    }
    payload
}

/// How many packets were sent.
fn drain(sessions: &mut Sessions) -> usize {
    let effects = std::iter::from_fn(|| sessions.poll_effect());
    let sent = effects.filter_map(|effect| match effect {
        Effect::Send { packet, .. } => Some(Packet::decode(&packet).expect("ours")),
        Effect::Changed { .. } | Effect::Ended { .. } => None,
    });
    sent.count()
}

fn judge(sessions: &Sessions, now: Instant) {
    for status in sessions.statuses(now) {
        if status.state >= State::Init {
            let remote = status.remote.expect("it was heard");
            assert!(remote.state != State::AdminDown);
            assert!(status.detection_time.is_some_and(|time| !time.is_zero()));
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let packet = |state: u8, flags: u8| {
        let mut packet = vec![0x20, state << 6 | flags, 3, 24, 0, 0, 0, 9, 0xff, 0, 0, 0];
        packet.extend([300_000_u32.to_be_bytes(), 300_000_u32.to_be_bytes(), [0; 4]].concat());
        packet
    };
    let datagram =
        |whose: u8, wait: u8, state: u8, flags: u8| [vec![whose, 255, wait], packet(state, flags)].concat();
    // Down, Init or Up with an answer, then what a life brings.
    let up = |whose: u8| [datagram(whose, 1, 1, 0), datagram(whose, 1, 2, 0x10)].concat();
    vec![
        [up(0), datagram(0, 20, 3, 0), datagram(0, 20, 3, 0x20), datagram(0, 100, 3, 0)].concat(),
        [up(5), datagram(5, 20, 3, 0x02), datagram(5, 20, 0, 0), datagram(5, 250, 1, 0)].concat(),
        [up(0), up(5), datagram(0, 10, 1, 0), datagram(2, 0, 3, 0), datagram(4, 0, 3, 0)].concat(),
    ]
}
