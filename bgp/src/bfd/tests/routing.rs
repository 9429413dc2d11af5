//! Whose a datagram is, who is told what, and whose turn it is.

use std::collections::BTreeMap;

use super::*;
use crate::types::PeerKey;

const FAR: Path = Path::Multihop { least_ttl: 250 };

fn peer(last: u8) -> PeerKey {
    PeerKey { address: [192, 0, 2, last].into(), interface: None }
}

fn config(path: Path) -> Config {
    Config { terms: FAST, path }
}

struct Node {
    sessions: Sessions,
    wanted: BTreeMap<PeerKey, Config>,
}

impl Node {
    fn new(wanted: impl IntoIterator<Item = (PeerKey, Config)>) -> Self {
        let mut node = Self { sessions: Sessions::new(1, Vec::new()), wanted: BTreeMap::new() };
        node.set(0, wanted);
        node
    }

    fn set(&mut self, millis: u64, wanted: impl IntoIterator<Item = (PeerKey, Config)>) {
        self.wanted = wanted.into_iter().collect();
        self.sessions.set(at(millis), &self.wanted);
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.sessions.poll_effect()).collect()
    }

    fn sent(&mut self) -> Vec<(PeerKey, Packet)> {
        let sent = |effect| match effect {
            Effect::Send { key, packet, .. } => Some((key, Packet::decode(&packet).unwrap())),
            Effect::Changed { .. } | Effect::Ended { .. } => None,
        };
        self.effects().into_iter().filter_map(sent).collect()
    }

    fn status(&self, key: PeerKey) -> Status {
        self.sessions.statuses(at(0)).into_iter().find(|status| status.key == key).unwrap()
    }

    /// From a peer that is in this state and knows our session.
    fn hear(&mut self, millis: u64, key: PeerKey, state: State) {
        let yours = self.status(key).discriminator;
        let packet = Packet { your_discriminator: Some(yours), ..from_peer(state) };
        let Config { path, .. } = self.wanted[&key];
        self.sessions.received(at(millis), key, path.port(), 255, &packet.encode());
    }

    fn up(&mut self, millis: u64, key: PeerKey) {
        self.hear(millis, key, State::Down);
        self.hear(millis, key, State::Up);
        assert_eq!(self.status(key).state, State::Up);
    }
}

#[test]
fn sessions_begin_at_once_under_discriminators_of_their_own() {
    let mut node = Node::new((0..100).map(|last| (peer(last), config(Path::SingleHop))));
    let sent = node.sent();
    let mut discriminators: Vec<_> = sent.iter().map(|(_, packet)| packet.my_discriminator).collect();
    discriminators.sort_unstable();
    discriminators.dedup();
    assert_eq!((sent.len(), discriminators.len()), (100, 100));
    let other = Sessions::new(2, Vec::new());
    assert_eq!(other.next_deadline(), None);
}

#[test]
fn what_does_not_belong_to_a_session_is_refused_and_counted() {
    let (near, far) = (peer(1), peer(2));
    let mut node = Node::new([(near, config(Path::SingleHop)), (far, config(FAR))]);
    let packet = |yours| Packet { your_discriminator: yours, ..from_peer(State::Down) }.encode();
    let wrong = Some(discriminator(u32::MAX));
    let mut authenticated = packet(None).to_vec();
    authenticated[1] |= 0x04;
    authenticated[3] = 28;
    authenticated.extend([1, 4, 1, 0]);
    let cases: [(PeerKey, u16, u8, Vec<u8>, DropReason); 7] = [
        (near, 3784, 254, packet(None).to_vec(), DropReason::Ttl),
        (far, 4784, 249, packet(None).to_vec(), DropReason::Ttl),
        (near, 4784, 255, packet(None).to_vec(), DropReason::Port),
        (far, 3784, 255, packet(None).to_vec(), DropReason::Port),
        (near, 3784, 255, packet(None)[..20].to_vec(), DropReason::Malformed),
        (near, 3784, 255, authenticated, DropReason::Authentication),
        (near, 3784, 255, packet(wrong).to_vec(), DropReason::Discriminator),
    ];
    for (key, port, ttl, octets, reason) in cases {
        let before = node.status(key).drops;
        node.sessions.received(at(1), key, port, ttl, &octets);
        let status = node.status(key);
        assert_eq!(status.drops.of(reason), before.of(reason) + 1, "{reason}");
        assert_eq!(
            status.drops.iter().map(|(_, count)| count).sum::<u64>(),
            before.iter().map(|(_, count)| count).sum::<u64>() + 1
        );
        assert_eq!((status.state, status.packets_in), (State::Down, 0), "{reason}");
    }
    node.sessions.received(at(1), peer(9), 3784, 255, &packet(None));
    assert_eq!(node.sessions.strangers(), 1);
    node.sessions.received(at(1), far, 4784, 250, &packet(None));
    assert_eq!(node.status(far).state, State::Init);
}

#[test]
fn each_path_has_its_port() {
    let mut node = Node::new([(peer(1), config(Path::SingleHop)), (peer(2), config(FAR))]);
    let ports = node.effects().into_iter().map(|effect| match effect {
        Effect::Send { path, .. } => path.port(),
        Effect::Changed { .. } | Effect::Ended { .. } => 0,
    });
    assert_eq!(ports.collect::<Vec<_>>(), [3784, 4784]);
}

#[test]
fn a_silent_peer_is_noticed_among_those_that_speak() {
    let mut node = Node::new((1..=50).map(|last| (peer(last), config(Path::SingleHop))));
    (1..=50).for_each(|last| node.up(0, peer(last)));
    node.effects();
    for millis in (100..=2000).step_by(100) {
        for last in (1..=50).filter(|last| *last != 7) {
            node.hear(millis, peer(last), State::Up);
        }
        while node.sessions.next_deadline().is_some_and(|next| next <= at(millis)) {
            node.sessions.tick(at(millis));
        }
    }
    let failed: Vec<_> = node
        .effects()
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Changed { key, transition } if transition.failure.is_some() => Some(key),
            Effect::Changed { .. } | Effect::Send { .. } | Effect::Ended { .. } => None,
        })
        .collect();
    assert_eq!(failed, [peer(7)]);
    let status = node.status(peer(7));
    assert_eq!((status.up_count, status.failed_count), (1, 1));
    assert_eq!(status.last_down.unwrap().0, Diagnostic::ControlDetectionTimeExpired);
}

#[test]
fn the_next_turn_is_the_earliest_of_all() {
    let mut node = Node::new((1..=20).map(|last| (peer(last), config(Path::SingleHop))));
    let mut now = at(0);
    for _ in 0..500 {
        let next = node.sessions.next_deadline().unwrap();
        assert!(next > now, "it does not turn on the spot");
        now = next;
        node.sessions.tick(now);
    }
    // 25 a second at the least, 20 at most.
    assert!((at(18_000)..at(26_000)).contains(&now), "{now:?}");
    assert!(node.sessions.deadlines.len() <= 40, "what is filed does not pile up");
}

#[test]
fn a_peer_that_nobody_wants_watched_is_told_for_a_while() {
    let mut node = Node::new([(peer(1), config(Path::SingleHop))]);
    node.up(0, peer(1));
    node.effects();
    node.set(10, []);
    assert!(node.sessions.statuses(at(10)).is_empty());
    let (mut told, mut ended) = (0, None);
    for millis in 10..5000 {
        for effect in node.effects() {
            match effect {
                Effect::Send { packet, .. } => {
                    told += 1;
                    assert_eq!(Packet::decode(&packet).unwrap().state, State::AdminDown);
                }
                Effect::Changed { transition, .. } => assert!(transition.failure.is_none()),
                Effect::Ended { .. } => ended = Some(millis),
            }
        }
        node.sessions.tick(at(millis));
    }
    assert!(told >= 3 && ended == Some(3011), "{told} {ended:?}");
    assert_eq!(node.sessions.next_deadline(), None);
}

#[test]
fn a_peer_that_is_wanted_again_keeps_its_session() {
    let mut node = Node::new([(peer(1), config(Path::SingleHop))]);
    let before = node.status(peer(1)).discriminator;
    node.set(10, []);
    node.set(20, [(peer(1), config(Path::SingleHop))]);
    let status = node.status(peer(1));
    assert_eq!((status.state, status.discriminator), (State::Down, before));
    node.sessions.tick(at(9000));
    assert_eq!(node.sessions.statuses(at(9000)).len(), 1);
}

#[test]
fn another_path_is_another_session() {
    let mut node = Node::new([(peer(1), config(Path::SingleHop))]);
    node.up(0, peer(1));
    let before = node.status(peer(1)).discriminator;
    node.effects();
    node.set(1, [(peer(1), config(FAR))]);
    let effects = node.effects();
    let Effect::Send { path: Path::SingleHop, packet, .. } = &effects[1] else { panic!("{effects:?}") };
    assert_eq!(Packet::decode(packet).unwrap().state, State::AdminDown);
    assert_eq!(effects[2], Effect::Ended { key: peer(1) });
    assert!(matches!(&effects[3], Effect::Send { path: FAR, .. }), "{effects:?}");
    assert_ne!(node.status(peer(1)).discriminator, before);
}

#[test]
fn other_terms_are_the_same_session() {
    let mut node = Node::new([(peer(1), config(Path::SingleHop))]);
    node.up(0, peer(1));
    let before = node.status(peer(1)).discriminator;
    node.effects();
    let terms = Terms { interval: ms(50), detect_multiplier: 5 };
    node.set(1, [(peer(1), Config { terms, path: Path::SingleHop })]);
    let status = node.status(peer(1));
    assert_eq!((status.state, status.discriminator), (State::Up, before));
}

#[test]
fn who_leaves_says_so_where_the_peer_would_not_wait() {
    let keys = [peer(1), peer(2), peer(3)];
    let slow = Config { terms: Terms { interval: ms(1000), detect_multiplier: 3 }, path: FAR };
    let mut node =
        Node::new([(keys[0], config(Path::SingleHop)), (keys[1], slow), (keys[2], config(Path::SingleHop))]);
    node.up(0, keys[0]);
    node.up(0, keys[1]);
    node.effects();
    let left = node.sessions.leave(at(1), Some(ms(2000)));
    assert_eq!(left.iter().map(|left| left.key).collect::<Vec<_>>(), [keys[1]]);
    let said: Vec<_> = node.sent().into_iter().map(|(key, packet)| (key, packet.state)).collect();
    assert_eq!(said, [(keys[0], State::AdminDown), (keys[2], State::AdminDown)]);

    // The next one goes on with what is wanted still, over the same path.
    for (path, state) in [(FAR, State::Up), (Path::SingleHop, State::Down)] {
        let mut next = Sessions::new(7, left.clone());
        next.set(at(0), &[(keys[1], Config { path, ..slow })].into());
        assert_eq!(next.statuses(at(0))[0].state, state);
    }
}

#[test]
fn who_goes_for_good_says_so_to_all() {
    let slow = Config { terms: Terms { interval: ms(1000), detect_multiplier: 3 }, path: FAR };
    let mut node = Node::new([(peer(1), slow)]);
    node.up(0, peer(1));
    node.effects();
    assert_eq!(node.sessions.leave(at(1), None), []);
    assert_eq!(node.sent()[0].1.state, State::AdminDown);
}

#[test]
fn peers_are_asked_to_wait_and_have_answered_when_all_have() {
    let keys = [peer(1), peer(2)];
    let mut node = Node::new(keys.map(|key| (key, config(Path::SingleHop))));
    node.up(0, keys[0]);
    let answer = |node: &mut Node, millis| {
        let yours = node.status(keys[0]).discriminator;
        let packet = Packet { is_final: true, your_discriminator: Some(yours), ..from_peer(State::Up) };
        node.sessions.received(at(millis), keys[0], 3784, 255, &packet.encode());
    };
    answer(&mut node, 1);
    assert!(node.sessions.is_agreed());
    node.sessions.lengthen(at(2), ms(30_000));
    assert!(!node.sessions.is_agreed());
    assert_eq!(node.sessions.leave(at(2), Some(ms(2000))), [], "it has not answered");
}
