//! Scenarios: what Weft promises, shown on a lab of real routers and the real kernel. One story per file.
//!
//! A claim about packets is proved by packets, by TCP and UDP, never by what an agent says about itself. Each scenario
//! raises its own lab, so they may run side by side; they need root, BIRD and FRR, and the programs (`make bin`).

#![expect(clippy::unwrap_used, reason = "in a scenario it is an assertion")]

mod add_while_the_agent_is_down;
mod agent_killed_under_traffic;
mod bad_yaml;
mod bfd;
mod configuration_edited;
mod demo;
mod drift_is_repaired;
mod ecmp;
mod filters;
mod first_packet;
mod guarded_sessions;
mod labs_go_away;
mod mesh_and_tor;
mod pods_reach_each_other;
mod policy;
mod real_stop;
mod routers_alone;
mod soak;
mod story;
mod tor_lost;
mod traffic_tools;
