//! Kubernetes NetworkPolicy compiled to nftables.

pub mod ruleset;
