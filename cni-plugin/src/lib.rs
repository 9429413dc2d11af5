//! Weft's CNI plugin as a library: everything that decides, nothing that acts.
//!
//! The agent carries out what these modules decide; the `weft-cni` binary only forwards its environment to the agent.
//! Implements the CNI specification 1.1.0, and answers 0.3.0 to 1.0.0 in their own formats.

pub mod attachment;
