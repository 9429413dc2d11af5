//! Chance out of a seed.

use weft_bgp::random::SplitMix64;

#[derive(Clone, Debug)]
pub struct Dice(SplitMix64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    /// The same for the same name, whatever else was drawn.
    pub fn for_name(seed: u64, name: &str) -> Self {
        name.bytes().fold(Self::new(seed), |mut dice, byte| Self::new(dice.below(u64::MAX) ^ u64::from(byte)))
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0.below(limit)
    }

    pub fn of_hundred(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    /// One of them; `None` when there are none.
    pub fn pick<T: Clone>(&mut self, from: impl IntoIterator<Item = T>) -> Option<T> {
        let all: Vec<T> = from.into_iter().collect();
        let index = self.below(all.len() as u64);
        all.get(usize::try_from(index).ok()?).cloned()
    }
}
