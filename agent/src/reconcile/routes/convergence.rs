//! When the speaker has the last word about what an earlier agent left: it has converged, and it knew all peers.
//!
//! Pure. A speaker that began with what is remembered may lack peers; those that only the datastore knows get time.

use std::time::Duration;

use tokio::time::Instant;

/// For peers that only the datastore knew of, to come up and send their routes.
const NEW_PEERS: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Convergence {
    /// The peers are those that the datastore has.
    listed: bool,
    converged: bool,
    /// When convergence counts: it came before the list.
    due: Option<Instant>,
}

impl Convergence {
    /// Another speaker starts.
    pub(super) fn restart(&mut self) {
        (self.converged, self.due) = (false, None);
    }

    pub(super) fn set_listed(&mut self, now: Instant) {
        self.listed = true;
        self.due = self.converged.then(|| now + NEW_PEERS);
    }

    /// The speaker has converged; whether that counts at once.
    pub(super) fn converge(&mut self) -> bool {
        self.converged = true;
        self.listed
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Once: it counts from now on.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|at| *at <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_at_once_when_all_peers_are_known() {
        let mut convergence = Convergence::default();
        convergence.set_listed(Instant::now());
        assert!(convergence.converge());
        assert_eq!(convergence.deadline(), None);
    }

    #[test]
    fn peers_that_come_with_the_list_have_their_time() {
        let (mut convergence, now) = (Convergence::default(), Instant::now());
        assert!(!convergence.converge() && convergence.deadline().is_none());
        convergence.set_listed(now);
        assert_eq!(convergence.deadline(), Some(now + NEW_PEERS));
        assert!(!convergence.take_due(now + NEW_PEERS - Duration::from_millis(1)));
        assert!(convergence.take_due(now + NEW_PEERS));
        assert!(!convergence.take_due(now + 2 * NEW_PEERS), "once");
    }

    #[test]
    fn another_speaker_converges_anew() {
        let (mut convergence, now) = (Convergence::default(), Instant::now());
        convergence.converge();
        convergence.set_listed(now);
        convergence.restart();
        assert!(!convergence.take_due(now + NEW_PEERS));
        assert!(convergence.converge());
    }
}
