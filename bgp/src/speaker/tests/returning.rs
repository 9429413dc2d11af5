//! Peers that go beyond a limit, and peers that are lost and come back.

use std::time::Duration;

use super::super::*;
use super::crowd::{Crowd, EXTERNAL, INTERNAL, graceful, own, peer};
use crate::session::StateKind;
use crate::types::AfiSafi;
use crate::wire::{CeaseReason, Message, Notification, encode_end_of_rib};

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn is_dial(effect: &Effect) -> bool {
    matches!(effect, Effect::Dial { .. })
}

#[test]
fn a_peer_beyond_its_limit_is_closed_and_left_alone() {
    let active = PeerConfig { passive: false, max_prefixes: 2, ..peer(1, EXTERNAL) };
    let mut crowd = Crowd::new(&[active], None);
    crowd.up(1, EXTERNAL, graceful(120, true));
    crowd.announces(1, EXTERNAL, &[own(1), own(2)]);
    assert_eq!((crowd.state(1), crowd.changes()), (StateKind::Established, vec![(own(1), true)]));

    // RFC 4486: 6/1; with the N bit on both sides inside a Hard Reset (RFC 8538), so that nothing is kept.
    let effects = crowd.announces(1, EXTERNAL, &[own(3)]);
    let told = Notification::hard_reset(&Notification::maximum_prefixes(AfiSafi::Ipv4Unicast, 2));
    assert_eq!(crowd.messages(1, &effects), [Message::Notification(told)]);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Close { .. })));
    assert!(!crowd.run(secs(200)).iter().any(is_dial), "what it sends is hardly less at once");
    assert_eq!(crowd.changes(), [(own(1), false)]);
    assert!(matches!(crowd.connects(1)[..], [Effect::Abort { .. }]), "nor may it come to us");
    assert!(crowd.run(secs(100)).iter().any(is_dial));
}

/// A peer that has announced a route, and is gone.
fn lost(restart_time: u16) -> Crowd {
    let mut crowd = Crowd::new(&[peer(1, EXTERNAL)], None);
    crowd.up(1, EXTERNAL, graceful(restart_time, true));
    crowd.announces(1, EXTERNAL, &[own(1)]);
    crowd.hears(1, encode_end_of_rib(AfiSafi::Ipv4Unicast));
    assert_eq!(crowd.changes(), [(own(1), true)]);
    crowd.hangs_up(1);
    crowd
}

#[test]
fn routes_are_kept_for_the_restart_time_and_for_five_minutes_at_most() {
    for (restart_time, kept) in [(60, 60), (4000, 300)] {
        let mut crowd = lost(restart_time);
        crowd.run(secs(kept - 1));
        assert_eq!(crowd.changes(), []);
        crowd.run(secs(2));
        assert_eq!(crowd.changes(), [(own(1), false)]);
    }
}

#[test]
fn a_peer_that_is_back_without_having_forwarded_has_lost_its_routes() {
    // RFC 4724 §4.2: the F bit, and the family itself.
    for (returned, kept) in [(graceful(60, true), true), (graceful(60, false), false), (None, false)] {
        let mut crowd = lost(60);
        crowd.up(1, EXTERNAL, returned);
        crowd.run(secs(1));
        assert_eq!(crowd.changes().is_empty(), kept);
    }
}

#[test]
fn a_peer_that_is_back_and_never_done_keeps_its_old_routes_for_two_minutes() {
    let mut crowd = lost(60);
    crowd.up(1, EXTERNAL, graceful(60, true));
    crowd.run(secs(119));
    assert_eq!((crowd.changes(), crowd.status(1).families[0].1.stale), (vec![], 1));
    crowd.run(secs(2));
    assert_eq!(crowd.changes(), [(own(1), false)]);
    assert_eq!(crowd.state(1), StateKind::Established);
}

#[test]
fn a_peer_that_is_back_on_two_connections_keeps_its_routes_while_one_of_them_goes() {
    let collision = Notification::cease(CeaseReason::ConnectionCollision, None);
    for learned_anew in [true, false] {
        let mut crowd = lost(60);
        crowd.up(1, EXTERNAL, graceful(60, true));
        crowd.hears(1, collision.encode());
        assert_eq!((crowd.changes(), crowd.status(1).families[0].1.stale), (vec![], 1));
        crowd.up(1, EXTERNAL, graceful(60, true));
        if learned_anew {
            crowd.announces(1, EXTERNAL, &[own(1)]);
        }
        crowd.hears(1, encode_end_of_rib(AfiSafi::Ipv4Unicast));
        crowd.run(secs(1));
        assert_eq!(crowd.changes().is_empty(), learned_anew);
    }
}

#[test]
fn a_peer_whose_connections_collide_on_its_return_has_no_longer_time_to_be_done() {
    let mut crowd = lost(60);
    crowd.up(1, EXTERNAL, graceful(60, true));
    crowd.run(secs(100));
    crowd.hears(1, Notification::cease(CeaseReason::ConnectionCollision, None).encode());
    crowd.run(secs(19));
    assert_eq!(crowd.changes(), []);
    crowd.run(secs(2));
    assert_eq!(crowd.changes(), [(own(1), false)]);
}

#[test]
fn a_peer_that_has_gone_by_a_collision_is_not_waited_for_longer_than_by_a_restart() {
    let collision = Notification::cease(CeaseReason::ConnectionCollision, None);
    let mut crowd = Crowd::new(&[peer(1, EXTERNAL)], None);
    crowd.up(1, EXTERNAL, graceful(60, true));
    crowd.announces(1, EXTERNAL, &[own(1)]);
    crowd.hears(1, collision.encode());
    crowd.run(secs(59));
    assert_eq!(crowd.changes(), [(own(1), true)]);
    crowd.run(secs(2));
    assert_eq!(crowd.changes(), [(own(1), false)]);
}

#[test]
fn a_peer_that_is_not_configured_any_more_is_not_waited_for() {
    let peers = [peer(1, INTERNAL), peer(2, INTERNAL)];
    let mut crowd = Crowd::new(&peers, Some(vec![AfiSafi::Ipv4Unicast]));
    // It marks no end, so nobody waits for that.
    crowd.up(1, INTERNAL, None);
    crowd.announces(1, INTERNAL, &[own(1)]);
    assert_eq!(crowd.changes(), [], "peer 2 may know better");
    crowd.handle(Input::SetPeers(peers[..1].to_vec()));
    assert_eq!(crowd.changes(), [(own(1), true)]);
}
