//! What the wiring of pods asks of the owner of network policy, so that neither needs to know the other.

use std::future::Future;

use weft_pods::attachment::{Attachment, AttachmentId};

/// Who must agree before a pod can speak: the owner of the node's network policy.
pub trait PolicyGate: Send + Sync + 'static {
    type Error: std::fmt::Display + Send;

    /// Returns after the kernel has acknowledged the policy of this pod. Its link is made meanwhile: it may not exist yet,
    /// has no ifindex, and its host side is down.
    fn admit(&self, attachment: &Attachment) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// The link is gone; so may be what was admitted for it. Also called for an id that was never admitted, because its
    /// ADD failed or another agent had it.
    fn release(&self, id: &AttachmentId) -> impl Future<Output = ()> + Send;
    /// Once, at start, before any other call: pods that a former agent wired. Those that have ended since are released as
    /// any other.
    fn recovered(&self, attachments: Vec<Attachment>) -> impl Future<Output = ()> + Send;
}
