//! How pods are wired: everything that decides, nothing that acts. The agent carries out what these modules decide.
//!
//! ```text
//! call (environment, stdin) -> ledger (who has what) -> plan (netlink steps) -> result (per CNI version)
//!                                |   ^
//!                              ipam  journal, recover (after a restart)
//! ```
//!
//! `weft-cni` shares CNI's own types with it, and nothing else: the specification 1.1.0, with 0.3.0 to 1.0.0 answered in
//! their own formats.

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
