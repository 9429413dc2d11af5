//! The node agent. Wiring: [`watch`] gives snapshots, [`plan`] turns them into what we want, reconcilers make it so.

pub mod cni;
pub mod kernel;
pub mod plan;
pub mod watch;
