//! How pods are wired: everything that decides, nothing that acts. The agent carries out what these modules decide.
//!
//! ```text
//! cni::call (environment, stdin) -> ledger (who has what) -> steps (of netlink) -> cni::result
//!                                     |   ^
//!                                  ipam   record, journal, recover (after a restart)
//! ```
//!
//! [`attachment`] has the nouns, [`mark`] says how a link tells whose it is. `weft-cni` shares [`cni`] with the agent, and
//! nothing else of this.

pub mod attachment;
pub mod cni;
pub mod ipam;
pub mod journal;
pub mod ledger;
pub mod mark;
pub mod record;
pub mod recover;
pub mod steps;
