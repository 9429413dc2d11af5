//! Kubernetes NetworkPolicy compiled to nftables.
//!
//! [`translate`] makes the [`model`] out of Kubernetes objects, [`compile()`] makes the typed [`ruleset`] out of the
//! model, and [`eval`] says naively what the ruleset must do. All of it is pure.

pub mod compile;
pub mod eval;
#[cfg(test)]
mod interpret;
pub mod model;
pub mod nft;
#[cfg(test)]
mod properties;
pub mod render;
pub mod ruleset;
pub mod selector;
#[cfg(test)]
mod testing;
pub mod translate;

pub use compile::{Compiled, Options, compile};
pub use eval::evaluate;
