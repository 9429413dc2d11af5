//! The node agent. Wiring: [`watch`] gives snapshots, plans turn them into what we want, reconcilers make it so.

pub mod cni;
pub mod kernel;
pub mod watch;
