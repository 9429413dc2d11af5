//! What `weft-cni` and the agent say to each other: one JSON request, one JSON reply, per connection.
//!
//! The client sends its environment and standard input as they are; the agent decides everything. With ADD and CHECK
//! come two descriptors (SCM_RIGHTS), in this order: the pod's network namespace, and a NETLINK_ROUTE socket that was
//! opened inside it, so that the agent never enters it. DEL carries them when the namespace still exists.

use serde::{Deserialize, Serialize};

/// Version of this protocol. An agent serves its own and the previous one.
pub const PROTOCOL: u32 = 1;

/// The largest request: a conflist plus pod annotations, which alone may be 256 KiB.
pub const MAX_REQUEST: usize = 512 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub protocol: u32,
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
