//! Weft's CNI plugin as a library: everything that decides, nothing that acts.
//!
//! The agent carries out what these modules decide; the `weft-cni` binary only forwards its environment to the agent.
//! Implements the CNI specification 1.1.0, and answers 0.3.0 to 1.0.0 in their own formats.
//!
//! ```text
//! call (environment, stdin) -> ledger (who has what) -> plan (netlink steps) -> result (per CNI version)
//!                                |   ^
//!                              ipam  journal, recover (after a restart)
//! ```

pub mod attachment;
pub mod call;
pub mod error;
pub mod ipam;
pub mod journal;
pub mod ledger;
pub mod link;
pub mod plan;
pub mod recover;
pub mod result;
pub mod version;
