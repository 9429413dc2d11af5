//! When the speaker has the last word about what an earlier agent left: it has converged, and it knew all peers.
//!
//! Pure. A speaker that began with what is remembered may lack peers; those that only the datastore knows get time.

use std::time::Duration;

use tokio::time::Instant;

/// For peers that only the datastore knew of, to come up and send their routes.
const NEW_PEERS: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Convergence {
    /// A speaker has started.
    running: bool,
    /// It has converged, and that has not counted yet.
    waits: bool,
    /// From when on it counts: the peers are those that the datastore has, and have been for long enough. `None`: they may
    /// not be.
    from: Option<Instant>,
}

impl Convergence {
    /// Another speaker starts; once there is a list, with all its peers.
    pub(super) fn restart(&mut self, now: Instant) {
        (self.running, self.waits) = (true, false);
        self.from = self.from.map(|from| from.min(now));
    }

    pub(super) fn set_listed(&mut self, now: Instant) {
        self.from = Some(if self.running { now + NEW_PEERS } else { now });
    }

    /// The speaker has converged; whether that counts at once.
    pub(super) fn converge(&mut self, now: Instant) -> bool {
        self.waits = true;
        self.take_due(now)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.from.filter(|_| self.waits)
    }

    /// Once: it counts from now on.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.deadline().is_some_and(|from| from <= now);
        self.waits &= !is_due;
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_at_once_when_all_peers_are_known() {
        let mut convergence = Convergence::default();
        let now = Instant::now();
        convergence.set_listed(now);
        convergence.restart(now);
        assert!(convergence.converge(now));
        assert_eq!(convergence.deadline(), None);
    }

    #[test]
    fn peers_that_come_with_the_list_have_their_time() {
        let (mut convergence, now) = (Convergence::default(), Instant::now());
        convergence.restart(now);
        assert!(!convergence.converge(now) && convergence.deadline().is_none());
        convergence.set_listed(now);
        assert_eq!(convergence.deadline(), Some(now + NEW_PEERS));
        assert!(!convergence.take_due(now + NEW_PEERS - Duration::from_millis(1)));
        assert!(convergence.take_due(now + NEW_PEERS));
        assert!(!convergence.take_due(now + 2 * NEW_PEERS), "once");
    }

    #[test]
    fn they_have_it_also_when_the_others_were_about_to_be_through() {
        let (mut convergence, now) = (Convergence::default(), Instant::now());
        convergence.restart(now);
        convergence.set_listed(now);
        assert_eq!(convergence.deadline(), None, "nothing to wait for");
        assert!(!convergence.converge(now + Duration::from_secs(2)));
        assert_eq!(convergence.deadline(), Some(now + NEW_PEERS));
        assert!(convergence.take_due(now + NEW_PEERS));
    }

    #[test]
    fn another_speaker_converges_anew() {
        let (mut convergence, now) = (Convergence::default(), Instant::now());
        convergence.restart(now);
        convergence.converge(now);
        convergence.set_listed(now);
        convergence.restart(now);
        assert!(!convergence.take_due(now + NEW_PEERS));
        assert!(convergence.converge(now), "it knew all peers from its start");
    }
}
