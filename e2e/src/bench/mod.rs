//! Benches: ours beside what people run instead, in one run on one machine. They print ratios and assert nothing.

pub mod bgp;
pub mod cni;
