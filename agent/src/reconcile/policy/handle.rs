//! How others speak to the policy task, and what they see of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use weft_api::control::PolicyStatus;
use weft_api::control::Problem;
use weft_pods::attachment::{Attachment, AttachmentId};
use weft_policy::compile::Full;
use weft_policy::model::LocalPod;

use crate::gate::PolicyGate;
use crate::plan::policy::local_pod;

/// How long ADD waits for the datastore to show its pod: watches lag, files are written late.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);

/// Why a pod is not admitted. The runtime tries again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    #[error("pod {0} is not in the datastore yet")]
    Unknown(String),
    #[error("the datastore has not been read yet")]
    NoSnapshot,
    #[error("pod {0}: {1}")]
    Full(String, Full),
    #[error("the kernel refused the policy: {0}")]
    Refused(String),
    #[error("the agent is stopping")]
    Stopping,
}

/// What is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyState {
    /// The kernel holds what the datastore says.
    pub settled: bool,
    pub counts: PolicyStatus,
    /// Times that somebody else changed our table.
    pub drift: u64,
    /// Flows cut because their permission was revoked.
    pub revoked: u64,
    /// Times that all flows were judged.
    pub judged: u64,
    /// Why flows are not as the rules in force want them, yet.
    pub flows: Option<Problem>,
    /// Attempts at that which failed.
    pub flow_failures: u64,
    pub last_commit: Duration,
    pub problems: BTreeSet<Problem>,
}

pub(super) enum Command {
    Admit(AttachmentId, LocalPod, Instant, oneshot::Sender<Result<(), AdmitError>>),
    Release(AttachmentId, oneshot::Sender<()>),
    Recovered(Vec<Attachment>, oneshot::Sender<()>),
}

/// Speaks to the task.
#[derive(Clone, Debug)]
pub struct PolicyHandle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) state: watch::Receiver<PolicyState>,
    pub(super) local: watch::Receiver<Arc<Vec<LocalPod>>>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Admit(id, ..) => write!(f, "Admit({id})"),
            Self::Release(id, _) => write!(f, "Release({id})"),
            Self::Recovered(attachments, _) => write!(f, "Recovered({})", attachments.len()),
        }
    }
}

impl PolicyState {
    pub fn status(&self) -> PolicyStatus {
        PolicyStatus { flow_scans: self.judged, ..self.counts.clone() }
    }

    /// All that is not as it should be.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().chain(&self.flows)
    }
}

impl PolicyHandle {
    pub fn state(&self) -> watch::Receiver<PolicyState> {
        self.state.clone()
    }

    /// The pods that are policed here.
    pub fn local(&self) -> Arc<Vec<LocalPod>> {
        Arc::clone(&self.local.borrow())
    }
}

impl PolicyGate for PolicyHandle {
    type Error = AdmitError;

    async fn admit(&self, attachment: &Attachment) -> Result<(), AdmitError> {
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + KNOWN_WITHIN;
        let command = Command::Admit(attachment.id.clone(), local_pod(attachment), deadline, reply);
        self.commands.send(command).await.map_err(|_| AdmitError::Stopping)?;
        answer.await.unwrap_or(Err(AdmitError::Stopping))
    }

    async fn release(&self, id: &AttachmentId) {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Release(id.clone(), reply)).await;
        // An error means that the agent is stopping; the rules stay, and the next agent knows better.
        let _ = answer.await;
    }

    async fn recovered(&self, attachments: Vec<Attachment>) {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Recovered(attachments, reply)).await;
        let _ = answer.await;
    }
}
