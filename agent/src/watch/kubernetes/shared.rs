//! Values that many objects have in common, each held once: the labels and ports of a Deployment's thousand pods.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Fewer are not worth a look at who still uses them.
const SWEEP_AT_LEAST: usize = 64;

#[derive(Debug)]
pub(super) struct Shared<T> {
    held: BTreeSet<Arc<T>>,
    /// How many may be held before those are dropped that nobody else has.
    sweep_at: usize,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { held: BTreeSet::new(), sweep_at: SWEEP_AT_LEAST }
    }
}

impl<T: Ord> Shared<T> {
    /// The one that is held and equal; else `value`, held from now on.
    pub(super) fn one(&mut self, value: &Arc<T>) -> Arc<T> {
        if let Some(same) = self.held.get(value) {
            return Arc::clone(same);
        }
        if self.held.len() >= self.sweep_at {
            self.held.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = SWEEP_AT_LEAST.max(self.held.len() * 2);
        }
        self.held.insert(Arc::clone(value));
        Arc::clone(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_become_one() {
        let mut shared = Shared::default();
        let (first, again) = (shared.one(&Arc::new(7)), shared.one(&Arc::new(7)));
        assert!(Arc::ptr_eq(&first, &again));
    }

    #[test]
    fn what_nobody_has_is_not_held_for_long_and_what_somebody_has_is() {
        let mut shared = Shared::default();
        let kept: Vec<_> = (0..10).map(|number| shared.one(&Arc::new(number))).collect();
        for number in 0..10_000 {
            shared.one(&Arc::new(1_000 + number));
        }
        assert!(shared.held.len() <= SWEEP_AT_LEAST, "{}", shared.held.len());
        assert!(kept.iter().all(|value| Arc::ptr_eq(&shared.one(value), value)));
    }
}
