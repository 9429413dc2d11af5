//! The node agent. Wiring: [`watch`] gives snapshots, [`plan`] turns them into what we want, [`reconcile`] makes it so,
//! [`cni`] wires pods; [`run`] joins them to an [`agent`], which [`server`] shows and [`report`] reports.

pub mod agent;
pub mod cleanup;
pub mod cni;
pub mod config;
pub mod fib;
mod file;
pub mod gate;
pub mod kernel;
pub mod lock;
pub mod plan;
pub mod readiness;
pub mod reconcile;
pub mod remember;
pub mod report;
pub mod run;
pub mod server;
pub mod supervise;
#[cfg(test)]
mod testing;
pub mod watch;
