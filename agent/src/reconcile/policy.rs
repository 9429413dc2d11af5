//! The only writer of table `inet weft`, and of the conntrack mark of revoked flows.
//!
//! In: the world of a snapshot, and the pods that the CNI wires. Out: an acknowledged ruleset; [`PolicyGate::admit`]
//! returns when the pod's policy is in force. Nothing is written before the datastore has been listed once and the
//! pods of a former agent are known. While a commit is under way further events gather and make one next commit.

mod core;
mod revoke;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};
use weft_api::control::PolicyStatus;
use weft_cni::attachment::{Attachment, AttachmentId};
use weft_policy::model::{LocalPod, World};

use self::core::Core;
use crate::cni::PolicyGate;
use crate::kernel::nft::{NftError, NftMonitor};
use crate::plan::policy::local_pod;
use crate::watch::{Problem, Snapshot, SnapshotReceiver};

/// How long ADD waits for the datastore to show its pod: watches lag, files are written late.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);
/// The table is compared with what we want every so often, whoever did or did not report a change.
const AUDIT_INTERVAL: Duration = Duration::from_secs(600);
/// After a failed commit.
const RETRY: Duration = Duration::from_secs(1);
/// Requests that wait for the task; senders wait beyond.
const MAILBOX: usize = 256;

/// Why a pod is not admitted. The runtime tries again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    #[error("pod {0} is not in the datastore yet")]
    Unknown(String),
    #[error("the datastore has not been read yet")]
    NoSnapshot,
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
    pub last_commit: Duration,
    pub problems: BTreeSet<Problem>,
}

enum Command {
    Admit(AttachmentId, LocalPod, Instant, oneshot::Sender<Result<(), AdmitError>>),
    Release(AttachmentId, oneshot::Sender<()>),
    Recovered(Vec<Attachment>, oneshot::Sender<()>),
}

/// Speaks to the task.
#[derive(Clone, Debug)]
pub struct PolicyHandle {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<PolicyState>,
    local: watch::Receiver<Arc<Vec<LocalPod>>>,
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

/// Starts the task in the current network namespace, on a thread of its own: compiling and committing block it.
pub fn spawn(snapshots: SnapshotReceiver) -> io::Result<PolicyHandle> {
    let (commands, mailbox) = mpsc::channel(MAILBOX);
    let (state_sender, state) = watch::channel(PolicyState::default());
    let (local_sender, local) = watch::channel(Arc::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = move || runtime.block_on(start(snapshots, mailbox, state_sender, local_sender));
    std::thread::Builder::new().name("weft-policy".to_owned()).spawn(work)?;
    Ok(PolicyHandle { commands, state, local })
}

/// Claims the table after the datastore has been listed, then works.
async fn start(
    mut snapshots: SnapshotReceiver,
    mailbox: mpsc::Receiver<Command>,
    state: watch::Sender<PolicyState>,
    local_watch: watch::Sender<Arc<Vec<LocalPod>>>,
) {
    if snapshots.wait_for(Option::is_some).await.is_err() {
        return;
    }
    let (core, monitor) = loop {
        match Core::open().and_then(|core| Ok((core.monitor()?, core))) {
            Ok((monitor, core)) => break (core, monitor),
            // Perhaps our forerunner, who is about to end.
            Err(error) => {
                let reason = in_words(&error);
                warn!(reconciler = "policy", error = reason, "nftables table not claimed");
                let problem = Problem { object: "table inet weft".to_owned(), reason };
                state.send_modify(|state| state.problems = [problem].into());
                sleep(RETRY).await;
            }
        }
    };
    let now = Instant::now();
    let task = Task {
        core,
        snapshots,
        local: None,
        waiting: Vec::new(),
        committing: Vec::new(),
        releasing: Vec::new(),
        freed: BTreeSet::new(),
        dirty: true,
        world_changed: true,
        audit: false,
        not_before: now,
        next_audit: now + AUDIT_INTERVAL,
        state,
        local_watch,
    };
    task.run(mailbox, monitor).await;
}

/// With its cause.
fn in_words(error: &NftError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// An ADD that waits for the datastore to show its pod.
struct Waiting {
    id: AttachmentId,
    pod: LocalPod,
    deadline: Instant,
    reply: oneshot::Sender<Result<(), AdmitError>>,
}

struct Task {
    core: Core,
    snapshots: SnapshotReceiver,
    /// `None` until the CNI server has said what a former agent left.
    local: Option<BTreeMap<AttachmentId, LocalPod>>,
    waiting: Vec<Waiting>,
    /// In `local`; to be answered after the next commit.
    committing: Vec<(AttachmentId, oneshot::Sender<Result<(), AdmitError>>)>,
    releasing: Vec<oneshot::Sender<()>>,
    /// Addresses whose flows are to be forgotten.
    freed: BTreeSet<IpAddr>,
    dirty: bool,
    /// Established flows must be judged anew; a pod that comes or goes has none.
    world_changed: bool,
    audit: bool,
    not_before: Instant,
    next_audit: Instant,
    state: watch::Sender<PolicyState>,
    local_watch: watch::Sender<Arc<Vec<LocalPod>>>,
}

impl Task {
    async fn run(mut self, mut mailbox: mpsc::Receiver<Command>, mut monitor: NftMonitor) {
        loop {
            let wake = self.wake();
            tokio::select! {
                command = mailbox.recv() => match command {
                    Some(command) => self.handle(command),
                    None => return,
                },
                changed = self.snapshots.changed() => match changed {
                    Ok(()) => (self.dirty, self.world_changed) = (true, true),
                    Err(_) => return,
                },
                change = monitor.foreign_change() => match change {
                    Ok(change) => {
                        warn!(reconciler = "policy", ?change, "somebody else changed our table");
                        self.state.send_modify(|state| state.drift += 1);
                        self.audit = true;
                    }
                    Err(error) => return warn!(reconciler = "policy", %error, "nftables notifications ended"),
                },
                () = sleep_until(wake) => self.audit |= Instant::now() >= self.next_audit,
            }
            // What has gathered meanwhile goes into the same commit.
            while let Ok(command) = mailbox.try_recv() {
                self.handle(command);
            }
            self.step();
        }
    }

    fn wake(&self) -> Instant {
        let deadline = self.waiting.iter().map(|waiting| waiting.deadline).min();
        let retry = (self.local.is_some() && (self.dirty || self.audit)).then_some(self.not_before);
        deadline.into_iter().chain(retry).chain([self.next_audit]).min().unwrap_or(self.next_audit)
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Admit(id, pod, deadline, reply) => {
                self.waiting.push(Waiting { id, pod, deadline, reply });
            }
            Command::Release(id, reply) => {
                // Its ADD may have failed for another reason meanwhile.
                self.waiting.retain(|waiting| waiting.id != id);
                let removed = self.local.as_mut().and_then(|local| local.remove(&id));
                self.dirty |= removed.is_some();
                self.freed.extend(removed.into_iter().flat_map(|pod| pod.ips));
                self.releasing.push(reply);
            }
            Command::Recovered(attachments, reply) => {
                let pods =
                    attachments.iter().map(|attachment| (attachment.id.clone(), local_pod(attachment)));
                self.local = Some(pods.collect());
                self.dirty = true;
                // The first commit comes with the first snapshot; until then the former agent's rules are in force.
                let _ = reply.send(());
            }
        }
    }

    fn step(&mut self) {
        let snapshot = self.snapshots.borrow_and_update().clone();
        self.sort_waiting(snapshot.as_deref());
        let (Some(snapshot), Some(local)) = (snapshot, &self.local) else { return self.answer(Ok(())) };
        if (self.dirty || self.audit) && (Instant::now() >= self.not_before || !self.committing.is_empty()) {
            let local: Arc<Vec<LocalPod>> = Arc::new(local.values().cloned().collect());
            let result = self.commit(&snapshot, &local);
            self.local_watch.send_replace(local);
            self.answer(result);
        }
        if !self.dirty {
            self.answer(Ok(()));
        }
    }

    /// Lets in those whose pod the datastore shows, and turns away those who waited too long.
    fn sort_waiting(&mut self, snapshot: Option<&Snapshot>) {
        for Waiting { id, pod, deadline, reply } in std::mem::take(&mut self.waiting) {
            let is_known = snapshot.is_some_and(|snapshot| is_known(&snapshot.world, &pod));
            match (&mut self.local, is_known) {
                (Some(local), true) => {
                    local.insert(id.clone(), pod);
                    self.committing.push((id, reply));
                    self.dirty = true;
                }
                _ if Instant::now() < deadline => self.waiting.push(Waiting { id, pod, deadline, reply }),
                (_, _) => {
                    let error = match snapshot {
                        None => AdmitError::NoSnapshot,
                        Some(_) => AdmitError::Unknown(pod.key.to_string()),
                    };
                    // The runtime may have given up.
                    let _ = reply.send(Err(error));
                }
            }
        }
    }

    fn commit(&mut self, snapshot: &Snapshot, local: &[LocalPod]) -> Result<(), String> {
        let (audit, judge) = (std::mem::take(&mut self.audit), std::mem::take(&mut self.world_changed));
        let freed = std::mem::take(&mut self.freed);
        let done = self.core.commit(&snapshot.world, local, audit, judge, &freed);
        if audit {
            self.next_audit = Instant::now() + AUDIT_INTERVAL;
        }
        match done {
            Ok(done) => {
                self.dirty = false;
                self.publish(snapshot, &done);
                Ok(())
            }
            Err(error) => {
                let reason = in_words(&error);
                warn!(reconciler = "policy", error = reason, "policy not committed");
                (self.dirty, self.audit, self.world_changed) = (true, true, true);
                self.not_before = Instant::now() + RETRY;
                self.state.send_modify(|state| {
                    state.settled = false;
                    state.problems =
                        [Problem { object: "table inet weft".to_owned(), reason: reason.clone() }].into();
                });
                Err(reason)
            }
        }
    }

    fn publish(&self, snapshot: &Snapshot, done: &core::Committed) {
        self.state.send_modify(|state| {
            let revision = state.counts.revision + u64::from(done.changes > 0);
            state.settled = true;
            state.revoked += done.revoked;
            state.counts = PolicyStatus {
                revision,
                policies: u32::try_from(snapshot.world.policies.len()).unwrap_or(u32::MAX),
                ..done.counts.clone()
            };
            if done.changes > 0 {
                state.last_commit = done.took;
            }
            state.problems = done.problems.clone();
        });
        if done.changes > 0 || done.revoked > 0 {
            let took = u64::try_from(done.took.as_micros()).unwrap_or(u64::MAX);
            info!(
                reconciler = "policy",
                changes = done.changes,
                revoked = done.revoked,
                took_us = took,
                "policy committed"
            );
        }
    }

    fn answer(&mut self, result: Result<(), String>) {
        if let (Err(_), Some(local)) = (&result, &mut self.local) {
            for (id, _) in &self.committing {
                local.remove(id);
            }
        }
        let result = result.map_err(AdmitError::Refused);
        for (_, reply) in self.committing.drain(..) {
            let _ = reply.send(result.clone());
        }
        for reply in self.releasing.drain(..) {
            let _ = reply.send(());
        }
    }
}

/// An attachment without a Kubernetes pod is in no namespace, and nobody can select it.
fn is_known(world: &World, pod: &LocalPod) -> bool {
    pod.key.namespace.is_empty() || world.pods.get(&pod.key).is_some_and(|object| pod.is(object))
}

#[cfg(test)]
mod tests;
