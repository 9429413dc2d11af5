//! The events of an attachment's life, which the ledger applies and the journal keeps.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::attachment::{Attachment, AttachmentId};

/// Times are since boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Record {
    /// It has addresses, and is about to have a link.
    Alloc { attachment: Attachment },
    /// The pod is wired; the runtime may have been told.
    Commit { id: AttachmentId, ifindex: u32 },
    /// Its link is to be deleted.
    Release { id: AttachmentId },
    /// Its link is gone.
    Free { id: AttachmentId, at: Duration },
    /// An address was released; written when the journal is compacted.
    Cool { address: IpAddr, at: Duration },
}
