//! What `weft-cni` and the agent say to each other: one request, one reply, per connection.
//!
//! A stream socket; each message is its length (4 bytes, big endian) and JSON. Not SOCK_SEQPACKET, as a request may be
//! larger than the socket's buffer. The client sends its environment and standard input as they are; the agent decides
//! everything. With the first byte of ADD and CHECK come two descriptors (SCM_RIGHTS), in this order: the pod's network
//! namespace, and a NETLINK_ROUTE socket that was opened inside it, so that the agent never enters it.

use serde::{Deserialize, Serialize};

/// Version of this protocol. An agent serves clients of its own, the previous and the next one: a version may add and drop
/// what the other side can do without, and changes no meaning.
pub const PROTOCOL: u32 = 1;

/// The largest request: a conflist plus pod annotations, which alone may be 256 KiB.
pub const MAX_REQUEST: usize = 512 * 1024;

/// The largest reply.
pub const MAX_REPLY: usize = 64 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub protocol: u32,
    /// When the client started, in milliseconds since boot (CLOCK_BOOTTIME). An ADD that its own DEL has overtaken in
    /// the agent's queue is told by this from one that comes after.
    pub started: u64,
    /// The `CNI_*` environment variables that were set.
    pub env: std::collections::BTreeMap<String, String>,
    /// Standard input, verbatim.
    pub stdin: String,
}

/// What the client prints and how it exits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub protocol: u32,
    pub exit_code: u8,
    /// Empty, or exactly one JSON document.
    pub stdout: String,
}
