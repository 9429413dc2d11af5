//! Mutations of an input, drawn from a seed: a failure is repeated by its number.

use weft_bgp::random::SplitMix64;

#[derive(Clone, Debug)]
pub struct Random(SplitMix64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    pub fn number(&mut self) -> u64 {
        self.0.draw()
    }

    /// `limit` is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.number() % u64::try_from(limit).expect("usize has at most 64 bits"))
            .expect("below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.number().to_le_bytes()[0]
    }
}

/// Where lengths, counts and numbers are most often forgotten.
const EDGES: [u8; 12] = [0, 1, 2, 3, 4, 16, 0x20, 0x7f, 0x80, 0xc0, 0xfe, 0xff];
/// Inputs do not grow beyond this: what is slow is not found faster by more of it.
const MAX_LEN: usize = 64 * 1024;
const MOST_STEPS: usize = 6;

/// A child of `seeds`: one of them, changed in a few places.
pub fn child(random: &mut Random, seeds: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(MOST_STEPS) {
        step(random, &mut bytes, seeds, words);
        bytes.truncate(MAX_LEN);
    }
    bytes
}

fn step(random: &mut Random, bytes: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str]) {
    let at = random.below(bytes.len() + 1);
    let span = at..(at + random.below(16)).min(bytes.len());
    match random.below(9) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(span)),
        2 => bytes.splice(at..at, bytes[span].to_vec()).for_each(drop),
        3 => bytes.insert(at, random.byte()),
        4 => bytes.insert(at, EDGES[random.below(EDGES.len())]),
        5 | 6 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = if random.below(2) == 0 {
                    *byte ^ 1 << random.below(8)
                } else {
                    EDGES[random.below(EDGES.len())]
                };
            }
        }
        7 => {
            let other = &seeds[random.below(seeds.len())];
            bytes.splice(at.., other[random.below(other.len() + 1)..].iter().copied()).for_each(drop);
        }
        _ => {
            if let Some(word) = words.get(random.below(words.len().max(1))) {
                bytes.splice(span, word.bytes()).for_each(drop);
            }
        }
    }
}
