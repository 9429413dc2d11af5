//! From the typed [`Ruleset`](crate::ruleset::Ruleset) to nf_tables netlink messages, and back from the kernel's dumps.
//!
//! ```text
//! want, have --Transaction::diff--> Transaction --batches--> bytes --(socket)--> kernel
//! kernel --(socket)--> bytes --Dump::absorb--> Dump --recognise(want)--> have
//! ```
//!
//! Pure: no socket, no clock. The vocabulary is closed (that of [`crate::ruleset`]), so this is an encoder of exactly
//! what we use, byte for byte as `nft` would encode it; the tests in `tests/` hold it against `nft` and the kernel.
//!
//! Invariant: after a commit of `diff(want, have)`, a dump recognised against `want` equals `want`.

mod batch;
mod consts;
mod dump;
mod expr;
mod key;
mod object;
mod transaction;
pub mod wire;

pub use batch::{Batch, TableFlags, create_table, delete_table};
pub use dump::{Dump, TableState, names_our_table, parse_commit};
pub use object::RuleDigest;
pub use transaction::{Change, Transaction};

/// Our only table, of family `inet`.
pub const TABLE: &str = "weft";
