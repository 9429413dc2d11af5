//! A BGP-4 speaker (RFC 4271) for a node of a cluster: minimal, safe by default, and able to say why.
//!
//! [`wire`] turns bytes into messages and back, [`session`] is the FSM, [`rib`] decides, and [`speaker`] joins them
//! into one pure object: inputs and a time go in, effects come out. [`bfd`] stands beside it and watches the paths to peers.
//! [`net`] gives both sockets and a clock.

pub mod bfd;
pub mod random;
pub mod rib;
pub mod session;
pub mod speaker;
pub mod types;
pub mod wire;

#[cfg(feature = "net")]
pub mod net;
