//! The agent's program in a network namespace of its own. Needs root.

mod bounds;
#[expect(clippy::unwrap_used, reason = "a machine that cannot be set up has failed its test")]
mod machine;
mod memory;
