//! The lab: clusters out of network namespaces, with real routers; the traffic that proves what they do; scenarios.
//!
//! [`lab`] builds and removes clusters, [`net`] sends and watches packets inside them, [`demo`] tells a story with both;
//! [`cluster`] puts a real Kubernetes on the lab, and [`conformance`] upstream's suites on that; [`soak`] does to either
//! whatever can happen, and compares with a model.

pub mod bench;
pub mod cluster;
pub mod conformance;
pub mod demo;
pub mod lab;
pub mod net;
pub mod soak;
pub mod wait;
