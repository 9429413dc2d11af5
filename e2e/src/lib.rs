//! The lab: clusters out of network namespaces, with real routers; the traffic that proves what they do; scenarios.
//!
//! [`lab`] builds and removes clusters, [`net`] sends and watches packets inside them, [`demo`] tells a story with both;
//! [`cluster`] puts a real Kubernetes on the lab, and [`conformance`] upstream's suites on that.

pub mod bench;
pub mod cluster;
pub mod conformance;
pub mod demo;
pub mod lab;
pub mod net;
pub mod wait;
