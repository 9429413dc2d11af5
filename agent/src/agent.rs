//! The agent as its parts: handles and last words of the owners, for who shows or reports them.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use weft_api::control::Problem;
use weft_bgp::net::bfd::Handle;
use weft_intent::plan::Desired;

use crate::cni::CniHandle;
use crate::config::Config;
use crate::reconcile::mtu::MtuReceiver;
use crate::reconcile::policy::PolicyHandle;
use crate::reconcile::routes::RouteHandle;
use crate::reconcile::speaker::SpeakerWatch;
use crate::watch::SnapshotReceiver;
use crate::watch::kubernetes::client::Heard;

#[derive(Debug)]
pub struct Agent {
    pub config: Config,
    /// As the user named it.
    pub datastore: String,
    /// When the watches of an API server were last heard from.
    pub heard: Heard,
    /// Where what BGP begins with is from, when the datastore does not answer at the start.
    pub remembered: Option<String>,
    pub started: Instant,
    pub snapshots: SnapshotReceiver,
    pub desired: watch::Receiver<Option<Arc<Desired>>>,
    pub routes: RouteHandle,
    pub policy: PolicyHandle,
    pub bfd: Handle,
    pub speaker: SpeakerWatch,
    pub speaker_problem: watch::Receiver<Option<Problem>>,
    /// `None` before it listens, and when the agent is leaving.
    pub cni: watch::Receiver<Option<CniHandle>>,
    pub sysctl_problems: watch::Receiver<Vec<Problem>>,
    pub mtu: MtuReceiver,
    /// Takes the text of a Cease.
    pub stop: mpsc::Sender<String>,
}

impl Agent {
    /// BGP runs on what is remembered, and on what.
    pub fn runs_on(&self) -> Option<&str> {
        let unheard = self.snapshots.borrow().is_none() && self.desired.borrow().is_some();
        self.remembered.as_deref().filter(|_| unheard)
    }
}
