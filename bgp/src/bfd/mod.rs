//! Bidirectional Forwarding Detection (RFC 5880-5883) beside the speaker: notices in less than a second that the path to a
//! peer is gone.
//!
//! [`packet`] turns bytes into control packets and back, [`session`] is the state machine with one peer, and [`sessions`]
//! joins them into one pure object: datagrams and a time go in, datagrams and changes of state come out.
//! [`net::bfd`](crate::net::bfd) gives it sockets, a clock and a thread.
//!
//! ```text
//!                              +--+
//!                              |  | AdminDown, timer
//!                              |  V
//!                      Down  +------+  Init
//!               +------------|      |------------+      Labels are what the peer says of itself; `timer` is a detection
//!               |            | Down |            |      time without a packet. Both ends begin in Down, and each goes
//!               |  +-------->|      |<--------+  |      up when it knows that the other hears it.
//!               |  |         +------+         |  |
//!               |  | AdminDown,    AdminDown, |  |      AdminDown is a state of ours alone: the peer learns that we
//!               |  | timer        Down, timer |  |      end the session on purpose, and that nothing is broken.
//!               V  |                          |  V
//!             +------+                      +------+
//!        +----|      |                      |      |----+
//!    Down|    | Init |--------------------->|  Up  |    |Init, Up
//!        +--->|      | Init, Up             |      |<---+
//!             +------+                      +------+
//! ```
//!
//! Left out: authentication (a packet that carries it is refused: the least TTL of a link keeps strangers out, and no two
//! vendors agree on more), the echo function, and demand mode of our own; a peer that asks for it is heeded.

mod config;
mod drops;
mod packet;
mod session;
mod sessions;
mod status;
mod timing;

#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

pub use config::{Config, Path};
pub use drops::{DropReason, Drops};
pub use packet::{Diagnostic, Malformed, Packet};
pub use session::{Failure, Input, Output, Resumable, Session, Transition};
pub use sessions::{Effect, Resumed, Sessions};
pub use status::{Remote, Status};
pub use timing::Terms;

/// Names a session at one of its ends: chosen there, unique there, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Discriminator(pub NonZeroU32);

impl Discriminator {
    /// `None` for 0, which in a packet stands for one that is not known.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }
}

impl fmt::Display for Discriminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// RFC 5880 §6.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// Held down on purpose: says nothing about the path.
    AdminDown,
    Down,
    /// The peer is heard, and does not hear us yet, as far as is known.
    Init,
    Up,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
