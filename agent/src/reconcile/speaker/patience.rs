//! What ends established sessions waits for the node's turn, so that an edit that all nodes hear of at once does not
//! end all sessions at once.
//!
//! Pure. What does not wait: whatever costs no session, peers that come or go, sessions that are not up, and what both ends
//! must change at the same moment: passwords, hops, addresses. Of peers that go those wait that leave the mesh for another AS:
//! until routers have told all nodes of their routes, nobody else has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;
use weft_bgp::speaker::{PeerConfig, PeerKey, Transport};
use weft_intent::plan::SpeakerPlan;
use weft_intent::plan::peers::MESH;

/// For the last of a round to have told its routers, and these all others.
const TELLING: Duration = Duration::from_secs(30);

/// What a speaker is told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) speaker: SpeakerPlan,
    pub(super) peers: BTreeMap<PeerKey, PeerConfig>,
}

impl Told {
    pub(super) fn new(speaker: SpeakerPlan, peers: impl IntoIterator<Item = PeerConfig>) -> Self {
        Self { speaker, peers: peers.into_iter().map(|peer| (peer.key, peer)).collect() }
    }

    /// Peers whose session, where there is one, ends when the speaker is told this.
    pub(super) fn ended_by(&self, plan: &Self) -> BTreeSet<PeerKey> {
        let replaced = self.speaker.identity() != plan.speaker.identity();
        let ends = |(key, peer): &(&PeerKey, &PeerConfig)| {
            replaced || plan.peers.get(key).is_some_and(|planned| !planned.has_terms_of(peer))
        };
        self.peers.iter().filter(ends).map(|(key, _)| *key).collect()
    }

    /// As much of the plan as these sessions survive.
    pub(super) fn spare(&self, sessions: &BTreeSet<PeerKey>, plan: Self) -> Self {
        let (asn, router_id) = self.speaker.identity();
        let spared = |planned: PeerConfig| match self.peers.get(&planned.key) {
            Some(running) if sessions.contains(&planned.key) => as_running(planned, running),
            Some(_) | None => planned,
        };
        Self::new(SpeakerPlan { asn, router_id, ..plan.speaker }, plan.peers.into_values().map(spared))
    }
}

/// On the terms of the session that is up. Whether it runs from an address of our choice follows from who both ends are;
/// another address does not.
fn as_running(planned: PeerConfig, running: &PeerConfig) -> PeerConfig {
    let (before, after) = (running.transport.local_address, planned.transport.local_address);
    let transport = Transport { local_address: before.and(after.or(before)), ..planned.transport.clone() };
    PeerConfig { transport, ..planned.with_terms_of(running) }
}

/// Nodes that have left the mesh, and until when they stay peers all the same.
#[derive(Debug, Default)]
pub(super) struct Partings(BTreeMap<PeerKey, Instant>);

impl Partings {
    /// Adds them to the plan as they are. Says when the first of them goes.
    pub(super) fn keep(
        &mut self,
        told: &Told,
        plan: &mut Told,
        (parted, round): (&BTreeSet<IpAddr>, Duration),
        now: Instant,
    ) -> Option<Instant> {
        let has_parted = |(key, peer): &(&PeerKey, &PeerConfig)| {
            parted.contains(&key.address) && peer.name.starts_with(MESH) && !plan.peers.contains_key(key)
        };
        let until = |key| self.0.get(key).copied().unwrap_or(now + round + TELLING);
        let parting = told.peers.iter().filter(has_parted).map(|(key, _)| (*key, until(key)));
        self.0 = parting.filter(|(_, until)| *until > now).collect();
        plan.peers.extend(self.0.keys().map(|key| (*key, told.peers[key].clone())));
        self.0.values().min().copied()
    }
}

/// When what would end sessions may do so.
#[derive(Debug, Default)]
pub(super) struct Turn {
    at: Option<Instant>,
}

impl Turn {
    pub(super) fn is_awaited(&self) -> bool {
        self.at.is_some()
    }

    /// `None`: now. An edit of what waits already does not wait anew.
    pub(super) fn of(&mut self, ends_sessions: bool, delay: Duration, now: Instant) -> Option<Instant> {
        if !ends_sessions {
            self.at = None;
            return None;
        }
        let at = *self.at.get_or_insert(now + delay);
        if at <= now {
            self.at = None;
        }
        self.at
    }
}

#[cfg(test)]
mod tests {
    use weft_bgp::speaker::{Hops, Password, RemoteAsn};
    use weft_bgp::types::{Asn, RouterId};

    use super::*;

    fn peer(last: u8) -> PeerConfig {
        PeerConfig::new(format!("tor{last}"), [192, 0, 2, last].into(), RemoteAsn::External)
    }

    fn speaker(asn: u32) -> SpeakerPlan {
        SpeakerPlan {
            asn: Asn(asn),
            router_id: RouterId([192, 0, 2, 1].into()),
            max_paths: 8,
            restart_time: Some(120),
            listen_port: 179,
        }
    }

    fn told(peers: impl IntoIterator<Item = PeerConfig>, speaker: SpeakerPlan) -> Told {
        Told::new(speaker, peers)
    }

    fn running() -> Told {
        told([peer(2), peer(3)], speaker(65000))
    }

    fn all() -> BTreeSet<PeerKey> {
        [peer(2).key, peer(3).key].into()
    }

    #[test]
    fn only_what_sessions_were_negotiated_with_ends_them() {
        type Change = fn(&mut PeerConfig);
        let changes: [(Change, bool); 6] = [
            (|peer| peer.hold_time = 30, true),
            (|peer| peer.families.truncate(1), true),
            (|peer| peer.asn = RemoteAsn::Number(Asn(65001)), true),
            (|peer| peer.max_prefixes = 5, false),
            // What both ends must change at once does not wait.
            (|peer| peer.transport.password = Password::new("secret"), false),
            (|peer| peer.transport.hops = Hops::Security(1), false),
        ];
        for (index, (change, ends)) in changes.into_iter().enumerate() {
            let mut plan = running();
            change(plan.peers.get_mut(&peer(3).key).unwrap());
            let ended = if ends { [peer(3).key].into() } else { BTreeSet::new() };
            assert_eq!(running().ended_by(&plan), ended, "change {index}");
        }
        // One that goes is not one that changes.
        assert_eq!(running().ended_by(&told([peer(2)], speaker(65000))), BTreeSet::new());
    }

    #[test]
    fn who_we_are_ends_all_sessions_and_how_we_choose_or_listen_none() {
        let retuned = SpeakerPlan { max_paths: 1, restart_time: None, listen_port: 1790, ..speaker(65000) };
        let moved = SpeakerPlan { router_id: RouterId([192, 0, 2, 9].into()), ..speaker(65000) };
        for (speaker, ended) in [(retuned, BTreeSet::new()), (moved, all()), (speaker(65009), all())] {
            assert_eq!(running().ended_by(&told(running().peers.into_values(), speaker)), ended);
        }
    }

    #[test]
    fn sessions_are_spared_and_all_else_is_as_planned() {
        let planned = |last| PeerConfig { hold_time: 30, max_prefixes: 5, ..peer(last) };
        let tuned = SpeakerPlan { max_paths: 1, ..speaker(65000) };
        let plan = told([planned(2), planned(3), planned(4)], tuned.clone());
        let spared = running().spare(&[peer(2).key].into(), plan);
        // The second has no session, the third is new.
        let first = PeerConfig { hold_time: 90, ..planned(2) };
        assert_eq!(spared, told([first, planned(3), planned(4)], tuned));
    }

    #[test]
    fn while_its_turn_has_not_come_a_speaker_stays_who_it_is_and_where_it_speaks_from() {
        let mut moved = peer(2);
        moved.transport.local_address = Some([192, 0, 2, 1].into());
        let tuned = |asn| SpeakerPlan { listen_port: 1790, ..speaker(asn) };
        let spared = running().spare(&all(), told([moved], tuned(65009)));
        assert_eq!(spared, told([peer(2)], tuned(65000)));
    }

    #[test]
    fn what_both_ends_change_at_once_does_not_wait_for_another_as() {
        let mut planned = peer(2);
        planned.transport.password = Password::new("secret");
        planned.transport.hops = Hops::Security(1);
        for asn in [65000, 65009] {
            let plan = told([PeerConfig { hold_time: 30, ..planned.clone() }], speaker(asn));
            assert_eq!(running().spare(&all(), plan), told([planned.clone()], speaker(65000)), "{asn}");
        }
    }

    /// It is spoken to from the node's own address when it is internal.
    #[test]
    fn a_peer_whose_as_is_edited_is_spoken_to_from_where_it_was_until_then() {
        let from = |last: Option<u8>, asn| {
            let mut peer = PeerConfig { asn, ..peer(2) };
            peer.transport.local_address = last.map(|last| [192, 0, 2, last].into());
            peer
        };
        let (external, internal) = (RemoteAsn::External, RemoteAsn::Internal);
        for (running, planned, spared) in [
            (from(None, external), from(Some(1), internal), from(None, external)),
            (from(Some(1), internal), from(None, external), from(Some(1), internal)),
            // The node has another address; the old one may be gone.
            (from(Some(1), internal), from(Some(7), external), from(Some(7), internal)),
        ] {
            let plan = told([planned], speaker(65000));
            let running = told([running], speaker(65000));
            assert_eq!(running.spare(&all(), plan), told([spared], speaker(65000)));
        }
    }

    #[test]
    fn who_leaves_the_mesh_for_another_as_stays_until_all_had_their_turn() {
        let named = |last, name: &str| PeerConfig { name: name.to_owned(), ..peer(last) };
        let running = || told([peer(2), named(3, "mesh/n3"), named(4, "mesh/n4")], speaker(65000));
        let parted: BTreeSet<IpAddr> = [peer(2), peer(3)].map(|peer| peer.key.address).into();
        let (round, begun) = (Duration::from_secs(60), Instant::now());
        let mut partings = Partings::default();
        let mut left = |told_last: Told, seconds| {
            let mut plan = told([], speaker(65000));
            let now = begun + Duration::from_secs(seconds);
            let at = partings.keep(&told_last, &mut plan, (&parted, round), now);
            (plan, at.map(|at| at.duration_since(begun).as_secs()))
        };
        // A router at the address of a node, and a node that is gone, are no such peers.
        let kept = told([named(3, "mesh/n3")], speaker(65000));
        assert_eq!(left(running(), 0), (kept.clone(), Some(90)));
        assert_eq!(left(kept.clone(), 50), (kept.clone(), Some(90)), "it does not wait anew");
        assert_eq!(left(kept.clone(), 90), (told([], speaker(65000)), None));
        assert_eq!(left(told([], speaker(65000)), 91), (told([], speaker(65000)), None));
        assert_eq!(left(kept.clone(), 100), (kept, Some(190)), "the next");
        // Back before its time: it is as planned.
        let planned = told([PeerConfig { max_prefixes: 5, ..named(3, "mesh/n3") }], speaker(65000));
        let mut plan = planned.clone();
        assert_eq!(Partings::default().keep(&running(), &mut plan, (&parted, round), begun), None);
        assert_eq!(plan, planned);
    }

    #[test]
    fn a_turn_comes_once_for_each_edit() {
        let (mut turn, now, delay) = (Turn::default(), Instant::now(), Duration::from_secs(4));
        let then = now + delay;
        assert_eq!(turn.of(false, delay, now), None);
        assert_eq!(turn.of(true, delay, now), Some(then));
        assert_eq!(turn.of(true, delay, now + delay / 2), Some(then), "an edit of what waits");
        assert_eq!(turn.of(true, delay, then), None, "it has come");
        assert_eq!(turn.of(true, delay, then), Some(then + delay), "the next");
        assert_eq!(turn.of(false, delay, then), None, "taken back");
        assert_eq!(turn.of(true, delay, then + delay), Some(then + 2 * delay));
        assert_eq!(Turn::default().of(true, Duration::ZERO, now), None, "the first of all nodes");
    }
}
