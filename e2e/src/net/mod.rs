//! Traffic, as the proof of every claim: echo servers, probes, steady flows, and what passed on the wire.
//!
//! Everything runs on threads inside a [`Namespace`], so a lab's packets never touch the machine's own network.

mod echo;
mod flow;
mod namespace;
mod probe;
mod sniff;

pub use echo::{EchoServer, serve};
pub use flow::{Flow, FlowReport};
pub use namespace::Namespace;
pub use probe::{Proto, Verdict, probe, probe_here, until_closed, until_open, until_verdict};
pub use sniff::{Packet, Sniffer};
