//! Which prefixes are to be compared: some, and when much has changed all, slice by slice. Pure.
//!
//! A slice bounds what is copied out of tables that may hold a million routes.

use std::collections::BTreeSet;
use std::ops::Bound;

use ipnetwork::IpNetwork;

/// Prefixes in one slice: some thirty system calls' worth of routes.
const SLICE: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Dirty {
    some: BTreeSet<IpNetwork>,
    /// A sweep over all is under way, and goes on here.
    sweep: Option<Bound<IpNetwork>>,
}

impl Dirty {
    pub(super) fn is_empty(&self) -> bool {
        self.some.is_empty() && self.sweep.is_none()
    }

    pub(super) fn insert(&mut self, prefix: IpNetwork) {
        self.some.insert(prefix);
    }

    /// From the beginning: each prefix will be in a slice.
    pub(super) fn set_all(&mut self) {
        self.some.clear();
        self.sweep = Some(Bound::Unbounded);
    }

    /// The next slice. `after` gives what there is beyond a bound, at least the first so many.
    pub(super) fn take(
        &mut self,
        after: impl FnOnce(Bound<IpNetwork>, usize) -> BTreeSet<IpNetwork>,
    ) -> BTreeSet<IpNetwork> {
        let mut slice = BTreeSet::new();
        while slice.len() < SLICE
            && let Some(prefix) = self.some.pop_first()
        {
            slice.insert(prefix);
        }
        if let Some(from) = self.sweep.filter(|_| slice.len() < SLICE) {
            let next: Vec<_> = after(from, SLICE).into_iter().take(SLICE).collect();
            self.sweep = next.last().map(|last| Bound::Excluded(*last));
            slice.extend(next);
        }
        slice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(number: usize) -> IpNetwork {
        let address = std::net::Ipv4Addr::from_bits(u32::try_from(number).unwrap());
        IpNetwork::new(address.into(), 32).unwrap()
    }

    #[test]
    fn a_sweep_meets_every_prefix_of_every_source_once_and_ends() {
        let sources: [BTreeSet<_>; 2] =
            [(0..10_000).map(prefix).collect(), (9_000..20_000).step_by(7).map(prefix).collect()];
        let mut dirty = Dirty::default();
        dirty.set_all();
        dirty.insert(prefix(50_000));
        let mut met = Vec::new();
        while !dirty.is_empty() {
            let slice = dirty.take(|from, count| {
                let of = |source| BTreeSet::range(source, (from, Bound::Unbounded)).take(count).copied();
                sources.iter().flat_map(of).collect()
            });
            assert!(slice.len() < 2 * SLICE);
            met.extend(slice);
        }
        assert!(met[..=SLICE].contains(&prefix(50_000)), "what has just changed comes first");
        let all: BTreeSet<_> = sources.iter().flatten().copied().chain([prefix(50_000)]).collect();
        assert_eq!(met.len(), all.len());
        assert_eq!(met.into_iter().collect::<BTreeSet<_>>(), all);
    }
}
