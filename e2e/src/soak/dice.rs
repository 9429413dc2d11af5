//! Chance out of a seed.

/// splitmix64 (Steele, Lea, Flood 2014): enough to draw with.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The same for the same name, whatever else was drawn.
    pub fn for_name(seed: u64, name: &str) -> Self {
        name.bytes().fold(Self(seed), |mut dice, byte| Self(dice.below(u64::MAX) ^ u64::from(byte)))
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
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
