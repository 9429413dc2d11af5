//! How often a peer is told everything once more because it asks (ROUTE-REFRESH, RFC 2918). To ask costs it 23 octets, and
//! us the whole table; a router asks when somebody has changed what it lets in.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::{AfiSafi, Instant};

/// Between two answers to one peer for one family. What it asks for meanwhile is one answer at the end of it: that holds
/// all that it would have been told before.
const REST: Duration = Duration::from_secs(10);

/// What one session has asked for.
#[derive(Debug, Default)]
pub(super) struct Refreshes(BTreeMap<AfiSafi, Refresh>);

#[derive(Debug)]
struct Refresh {
    rests_until: Instant,
    is_wanted: bool,
}

impl Refreshes {
    /// Whether to answer at once; else [`Self::poll`] gives the family when it is time.
    pub(super) fn ask(&mut self, family: AfiSafi, now: Instant) -> bool {
        let refresh = self.0.entry(family).or_insert(Refresh { rests_until: now, is_wanted: false });
        refresh.is_wanted = true;
        refresh.grant(now)
    }

    /// A family whose answer has waited for long enough.
    pub(super) fn poll(&mut self, now: Instant) -> Option<AfiSafi> {
        self.0.iter_mut().find_map(|(family, refresh)| refresh.grant(now).then_some(*family))
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.0.values().filter(|refresh| refresh.is_wanted).map(|refresh| refresh.rests_until).min()
    }
}

impl Refresh {
    fn grant(&mut self, now: Instant) -> bool {
        let granted = self.is_wanted && self.rests_until <= now;
        if granted {
            *self = Self { rests_until: now + REST, is_wanted: false };
        }
        granted
    }
}
