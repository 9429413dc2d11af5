//! Spans of time of a session: jitter, and the wait before the next attempt.
//!
//! In: a base span and what happened. Out: a span. RFC 4271 §8.1.1 (DampPeerOscillations) and §10.

use std::time::Duration;

use crate::random::SplitMix64;
use crate::types::Instant;

/// Waits for the peer's OPEN. RFC 4271 §8.2.2 suggests four minutes; a peer that has not said a word for one minute
/// will not, and a fresh attempt finds it sooner.
pub(super) const OPEN_WAIT: Duration = Duration::from_secs(60);
/// An attempt to connect is given up after this long: SYN retransmits at 1, 3 and 7 s have had their chance.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// The same while the link may come back at any moment: a fresh attempt sends its SYN sooner than TCP its third.
pub(super) const EAGER_DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// RFC 9687 §3: the send hold timer is the greater of this and twice the hold time.
const SEND_HOLD_MIN: Duration = Duration::from_secs(8 * 60);
/// The longest wait of a peer that flaps.
const MAX_WAIT: Duration = Duration::from_secs(120);
/// Sessions may go down this often in a row without being held back: an upgrade of the peer is not a flap.
const FREE_FLAPS: u32 = 3;
/// More are not counted: the longest wait has been reached, and a peer that failed all night earns its pardon no later.
const MAX_PENALTY: u32 = 12;
/// So much time up forgives one flap.
const FLAP_FORGIVEN: Duration = Duration::from_secs(60);

pub(super) fn send_hold(hold_time: u16) -> Duration {
    SEND_HOLD_MIN.max(Duration::from_secs(u64::from(hold_time) * 2))
}

/// A source of jitter, which must only not be in step with its neighbours.
#[derive(Clone, Debug)]
pub(crate) struct Jitter(SplitMix64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    /// Another source, for a peer.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.0.draw())
    }

    /// 75 to 100 % of `base` (RFC 4271 §10).
    pub(super) fn shorten(&mut self, base: Duration) -> Duration {
        let share = u32::try_from(self.0.below(256)).unwrap_or(0);
        base * (768 + share) / 1024
    }
}

/// The hold and keepalive timers of a confirmed session; neither runs when the hold time is 0 (RFC 4271 §4.2).
#[derive(Clone, Debug)]
pub(super) struct Liveness {
    hold_time: Duration,
    hold_at: Instant,
    keepalive_at: Instant,
    jitter: Jitter,
}

/// What [`Liveness::due`] calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    HoldExpired,
    Keepalive,
}

impl Liveness {
    /// `hold_time` in seconds, as negotiated. A KEEPALIVE has just been sent.
    pub(super) fn new(hold_time: u16, now: Instant, jitter: Jitter) -> Self {
        let hold_time = Duration::from_secs(u64::from(hold_time));
        let mut timers = Self { hold_time, hold_at: now + hold_time, keepalive_at: now, jitter };
        timers.keepalive_sent(now);
        timers
    }

    /// Any message restarts the hold timer.
    pub(super) fn heard(&mut self, now: Instant) {
        self.hold_at = now + self.hold_time;
    }

    /// The next one a third of the hold time later, jittered.
    pub(super) fn keepalive_sent(&mut self, now: Instant) {
        self.keepalive_at = now + self.jitter.shorten(self.hold_time / 3);
    }

    pub(super) fn due(&self, now: Instant) -> Option<Due> {
        if self.hold_time.is_zero() {
            None
        } else if self.hold_at <= now {
            Some(Due::HoldExpired)
        } else {
            (self.keepalive_at <= now).then_some(Due::Keepalive)
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        (!self.hold_time.is_zero()).then(|| self.hold_at.min(self.keepalive_at))
    }
}

/// Remembers how often a peer flapped. Only time spent up is forgotten, so that a session that comes up for a moment
/// every few seconds does not earn a clean record by coming up.
#[derive(Clone, Debug, Default)]
pub(super) struct Flaps {
    penalty: u32,
    up_since: Option<Instant>,
}

impl Flaps {
    pub(super) fn up(&mut self, now: Instant) {
        self.up_since = Some(now);
    }

    /// A session ended, whether it was Established or failed on its way.
    pub(super) fn down(&mut self, now: Instant) {
        let uptime = self.up_since.take().map_or(Duration::ZERO, |since| now.since(since));
        let forgiven = u32::try_from(uptime.as_secs() / FLAP_FORGIVEN.as_secs()).unwrap_or(u32::MAX);
        self.penalty = (self.penalty.saturating_sub(forgiven) + 1).min(MAX_PENALTY);
    }

    /// How long to leave the peer alone, both ways; `None`: not at all, the ordinary retry will do.
    pub(super) fn hold_down(&self, connect_retry: Duration) -> Option<Duration> {
        let doublings = self.penalty.checked_sub(FREE_FLAPS + 1)?;
        Some(connect_retry.saturating_mul(1 << doublings).min(MAX_WAIT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Duration = Duration::from_secs(5);

    fn at(secs: u64) -> Instant {
        Instant(Duration::from_secs(secs))
    }

    #[test]
    fn jitter_stays_between_three_quarters_and_the_whole() {
        let mut jitter = Jitter::new(7);
        let spans: Vec<_> = (0..1000).map(|_| jitter.shorten(Duration::from_secs(100))).collect();
        assert!(spans.iter().all(|span| (75..=100).contains(&span.as_secs())));
        assert!(spans.iter().min() < spans.iter().max());
    }

    #[test]
    fn a_peer_has_eight_minutes_to_read_or_twice_its_hold_time() {
        assert_eq!([0, 90, 240, 300].map(|hold_time| send_hold(hold_time).as_secs()), [480, 480, 480, 600]);
    }

    #[test]
    fn the_timers_of_a_session_are_due_at_their_time_and_not_before() {
        let (start, just) = (at(100), Duration::from_millis(1));
        let mut timers = Liveness::new(9, start, Jitter::new(1));
        let keepalive = timers.next_deadline().expect("a hold time has deadlines");
        let wait = keepalive.since(start);
        assert!((Duration::from_millis(2250)..=Duration::from_secs(3)).contains(&wait), "{wait:?}");
        assert_eq!(timers.due(start + (wait - just)), None);
        assert_eq!(timers.due(keepalive), Some(Due::Keepalive));

        timers.keepalive_sent(at(108));
        assert_eq!(timers.next_deadline(), Some(at(109)), "the peer has not said a word");
        assert_eq!(timers.due(at(109)), Some(Due::HoldExpired));
        timers.heard(at(108));
        assert_eq!(timers.due(at(109)), None);
    }

    #[test]
    fn a_peer_that_flaps_waits_longer_each_time_up_to_a_limit() {
        let mut flaps = Flaps::default();
        let waits: Vec<_> = (0..10)
            .map(|second| {
                flaps.up(at(second));
                flaps.down(at(second + 1));
                flaps.hold_down(RETRY).map_or(0, |wait| wait.as_secs())
            })
            .collect();
        assert_eq!(waits, [0, 0, 0, 5, 10, 20, 40, 80, 120, 120]);
    }

    #[test]
    fn only_time_spent_up_is_forgotten() {
        let mut flaps = Flaps { penalty: 8, up_since: None };
        flaps.up(at(0));
        flaps.down(at(59));
        assert_eq!(flaps.penalty, 9);
        flaps.up(at(100));
        flaps.down(at(100 + 600));
        assert_eq!(flaps.penalty, 1);
    }

    #[test]
    fn a_night_of_failures_is_forgiven_in_minutes() {
        let mut flaps = Flaps::default();
        (0..300).for_each(|minute| flaps.down(at(minute * 60)));
        assert_eq!(flaps.hold_down(RETRY), Some(MAX_WAIT));
        flaps.up(at(20_000));
        flaps.down(at(20_000 + 1200));
        assert_eq!(flaps.hold_down(RETRY), None);
    }
}
