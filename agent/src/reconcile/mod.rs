//! Making the kernel, and the BGP speaker, match what we want. One owner each; nobody else writes those objects.
//!
//! [`routes`] owns the routes of our protocol, [`policy`] the nftables table and the revocation of flows, [`speaker`]
//! the BGP speaker, beside which stands [`bfd`]; [`mtu`] only looks. Each is a task with a mailbox; each says through a `watch` channel how far it is.

pub mod bfd;
pub mod mtu;
pub mod policy;
pub mod routes;
pub mod speaker;

/// What an owner logs says whose it is.
fn span(reconciler: &'static str) -> tracing::Span {
    tracing::info_span!("reconcile", reconciler)
}
