//! Making the kernel, and the BGP speaker, match what we want. One owner each; nobody else writes those objects.
//!
//! [`routes`] owns the routes of our protocol, [`policy`] the nftables table and the revocation of flows, [`speaker`]
//! the BGP speaker; [`mtu`] only looks. Each is a task with a mailbox; each says through a `watch` channel how far it is.

pub mod mtu;
pub mod policy;
pub mod routes;
pub mod speaker;

use std::future::Future;

/// Makes one kind of kernel object match what we want. Nobody else writes that kind.
pub(crate) trait Reconciler {
    type Want;
    type Have;
    type Change;
    type Refused;
    type Error;

    /// Reads back what carries our mark, and what is in its way.
    fn observe(&mut self) -> impl Future<Output = Result<Self::Have, Self::Error>> + Send;
    /// Ordered steps from `have` to `want`. Pure; empty when equal.
    fn plan(want: &Self::Want, have: &Self::Have) -> Vec<Self::Change>;
    /// Applies what the kernel accepts. What it refuses is returned, and shows up again in the next plan.
    fn apply(
        &mut self,
        changes: &[Self::Change],
    ) -> impl Future<Output = Result<Vec<Self::Refused>, Self::Error>> + Send;
}
