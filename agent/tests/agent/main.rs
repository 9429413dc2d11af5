//! The agent's program in a network namespace of its own. Needs root.

mod bounds;
mod machine;
mod memory;
