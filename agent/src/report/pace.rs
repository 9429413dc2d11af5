//! When the WeftNode is written. Pure.
//!
//! In: what is to be said, and what was. Out: whether it is time. News (a condition, a peer that goes or comes, a
//! problem) is told within [`NEWS`], and less and less often while there is always something new; counts, which always
//! move, within [`COUNTS`]; and where nothing changes there is a word each [`HEARTBEAT`], so that readers can tell an old
//! status from a true one, and a deleted object comes back. A thousand nodes never write more than 17 times a second.

use std::time::Duration;

use tokio::time::Instant;
use weft_api::crd::WeftNodeStatus;

/// Between two writes, when something happens after some quiet.
const NEWS: Duration = Duration::from_secs(10);
/// Between two writes, when something always happens; and of counts alone.
const COUNTS: Duration = Duration::from_secs(60);
/// As often as a kubelet reports the status of a Node that does not change.
const HEARTBEAT: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Pace {
    /// What the server has, as far as we know.
    written: WeftNodeStatus,
    /// `None`: by an earlier agent.
    at: Option<Instant>,
    not_before: Option<Instant>,
    gap: Duration,
}

impl Pace {
    /// `shown`: what the server has.
    pub(super) fn new(shown: WeftNodeStatus) -> Self {
        Self { written: shown, at: None, not_before: None, gap: NEWS }
    }

    pub(super) fn is_due(&self, want: &WeftNodeStatus, now: Instant) -> bool {
        let Some(at) = self.at else { return self.may(now) };
        let wait = match &self.written {
            written if news(written) != news(want) => Duration::ZERO,
            written if lasting(written) != lasting(want) => COUNTS,
            _ => HEARTBEAT,
        };
        self.may(now) && now >= at + wait
    }

    fn may(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|not_before| now >= not_before)
    }

    pub(super) fn wrote(&mut self, status: WeftNodeStatus, now: Instant) {
        if news(&self.written) == news(&status) {
            self.gap = NEWS;
        }
        (self.written, self.at) = (status, Some(now));
        self.rest(now);
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.rest(now);
    }

    fn rest(&mut self, now: Instant) {
        self.not_before = Some(now + self.gap);
        self.gap = (self.gap * 2).min(COUNTS);
    }
}

/// Without what moves while all is well.
fn news(status: &WeftNodeStatus) -> WeftNodeStatus {
    let status = lasting(status);
    let mut news = WeftNodeStatus { routes: 0, pods: 0, policy: Default::default(), ..status };
    news.pools.iter_mut().for_each(|pool| pool.used = 0);
    news
}

/// Without what differs at every attempt of a peer.
fn lasting(status: &WeftNodeStatus) -> WeftNodeStatus {
    let mut status = WeftNodeStatus { observed_time: None, ..status.clone() };
    status.peers_down.iter_mut().for_each(|peer| peer.last_error = None);
    status
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::weft_node::{bounded, date, tests::node};
    use super::*;

    /// An hour, looked at as often as the agent does; how often it wrote, and when first.
    fn an_hour(
        mut what_is: impl FnMut(usize) -> WeftNodeStatus,
        works: impl Fn(usize) -> bool,
    ) -> Vec<usize> {
        let begun = Instant::now();
        let mut pace = Pace::new(WeftNodeStatus::default());
        let mut before = WeftNodeStatus::default();
        let mut tries = Vec::new();
        for step in 0..360 {
            let now = begun + NEWS * u32::try_from(step).unwrap();
            let mut status = what_is(step);
            date(&mut status, &before, Timestamp::from_second(10 * i64::try_from(step).unwrap()).unwrap());
            before = status.clone();
            let status = bounded(status);
            if pace.is_due(&status, now) {
                tries.push(step * 10);
                if works(step) { pace.wrote(status, now) } else { pace.failed(now) }
            }
        }
        tries
    }

    #[test]
    fn a_dead_peer_is_told_once_whatever_its_session_tries() {
        let tries = an_hour(|step| node(1_000, usize::from(step > 3), step), |_| true);
        assert_eq!(tries[..4], [0, 40, 340, 640], "at once, then heartbeats");
        assert_eq!(tries.len(), 13);
    }

    #[test]
    fn what_flaps_for_an_hour_writes_once_a_minute() {
        let tries = an_hour(|step| node(3, step % 2, 0), |_| true);
        assert_eq!(tries[..5], [0, 10, 30, 70, 130]);
        assert!(tries.len() <= 63, "{}", tries.len());
    }

    #[test]
    fn counts_that_always_move_are_written_once_a_minute_and_news_is_not_kept_waiting_by_them() {
        let moving = |step: usize| WeftNodeStatus { routes: u32::try_from(step).unwrap(), ..node(3, 0, 0) };
        assert_eq!(an_hour(moving, |_| true)[..3], [0, 60, 120]);
        let with_news = |step: usize| WeftNodeStatus { problem_count: u32::from(step > 7), ..moving(step) };
        assert_eq!(an_hour(with_news, |_| true)[..4], [0, 60, 80, 140]);
    }

    #[test]
    fn a_server_that_is_away_is_asked_less_and_less_often() {
        let tries = an_hour(|_| node(3, 0, 0), |step| step > 100);
        assert_eq!(tries[..5], [0, 10, 30, 70, 130]);
    }

    #[test]
    fn what_an_earlier_agent_wrote_is_confirmed_at_once() {
        let shown = bounded(node(3, 0, 0));
        assert!(Pace::new(shown.clone()).is_due(&shown, Instant::now()));
    }
}
