//! Plans of what a snapshot alone does not decide; [`weft_intent::plan`] has those of what it does. Pure.
//!
//! [`routes`] come from what the speaker chose, [`policy`] from the pods that are wired, the [`mtu`] of pods from the uplinks,
//! and what peers are told as nexthop from the [`links`] that they are on.

pub mod changes;
pub mod links;
pub mod mtu;
pub mod policy;
pub mod routes;
