//! The chart by helm, without a cluster: every value acts and wrong ones are refused, the package is the folder, and a
//! release of the chart alone replaces no agent.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod helm;
mod release;
mod schema;
mod values;
