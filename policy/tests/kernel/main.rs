//! The real kernel judges the encoder: what `nft` prints, what a dump reads back, and which packets pass.
//!
//! Each test has network namespaces of its own, which end with its thread. Needs root, `nft` and `ip`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod host_ports;
mod kernel_table;
mod listing;
mod netns;
mod truth;
mod worlds;
