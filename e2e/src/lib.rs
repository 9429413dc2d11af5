//! The lab: clusters out of network namespaces, with real routers; the traffic that proves what they do; scenarios.
//!
//! [`lab`] builds and removes clusters, [`net`] sends and watches packets inside them, [`demo`] tells a story with both.

pub mod bench;
pub mod cluster;
pub mod demo;
pub mod lab;
pub mod net;
pub mod wait;
