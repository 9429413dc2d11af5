//! The node agent: watches, plans, reconciles, serves.

pub mod cni;
