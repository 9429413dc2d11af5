//! The only writer of table `inet weft`, and of the conntrack mark of revoked flows.
//!
//! In: the world of a snapshot, and the pods that the CNI wires. Out: an acknowledged ruleset; [`PolicyGate::admit`](crate::gate::PolicyGate::admit)
//! returns when the pod's policy is in force. Nothing is written before the datastore has been listed once and the
//! pods of a former agent are known. While a commit is under way further events gather and make one next commit.
//!
//! Established flows are judged after each commit that may have changed what is allowed, and once by an agent that
//! adopts a table: its forerunner may have died before it had judged them. That is [`flows`]' work, on another thread, and
//! looks at every flow of the machine. Where only pods came and went elsewhere it waits for more of them.

mod core;
mod flows;
mod handle;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{Instrument as _, debug, info, warn};
use weft_api::control::PolicyStatus;
use weft_api::control::Problem;
use weft_intent::Snapshot;
use weft_pods::attachment::AttachmentId;
use weft_policy::compile::{Options, room_for};
use weft_policy::model::{LocalPod, World};

use self::core::{Core, Judgement};
use self::flows::{Job, Scene};
use self::handle::Command;
pub use self::handle::{AdmitError, PolicyHandle, PolicyState};
use crate::kernel::conntrack::Conntrack;
use crate::kernel::nft::NftMonitor;
use crate::plan::policy::local_pod;
use crate::supervise::Supervisor;
use crate::watch::SnapshotReceiver;

/// The table is compared with what we want every so often, whoever did or did not report a change.
const AUDIT_INTERVAL: Duration = Duration::from_secs(600);
/// After a failed commit.
const RETRY: Duration = Duration::from_secs(1);
/// Flows with pods that are gone: nobody talks there, until another pod is given the address.
const JUDGED_WITHIN: Duration = Duration::from_secs(10);
/// Requests that wait for the task; senders wait beyond.
const MAILBOX: usize = 256;

/// Starts the task in the current network namespace, on a thread of its own: compiling and committing block it.
pub fn spawn(tasks: &Supervisor, snapshots: SnapshotReceiver) -> io::Result<PolicyHandle> {
    let state = Arc::new(watch::Sender::new(PolicyState::default()));
    let flows = flows::spawn(tasks, Arc::clone(&state), Options::default().revoked_mark, Conntrack::open)?;
    spawn_beside(tasks, flows, snapshots, state)
}

fn spawn_beside(
    tasks: &Supervisor,
    flows: SyncSender<Job>,
    snapshots: SnapshotReceiver,
    state: Arc<watch::Sender<PolicyState>>,
) -> io::Result<PolicyHandle> {
    let (commands, mailbox) = mpsc::channel(MAILBOX);
    let (local_sender, local) = watch::channel(Arc::default());
    let handle = PolicyHandle { commands, state: state.subscribe(), local };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = start(snapshots, mailbox, flows, state, local_sender).instrument(super::span("policy"));
    let work = move || runtime.block_on(work);
    tasks.thread("policy", work)?;
    Ok(handle)
}

/// Claims the table after the datastore has been listed, then works.
async fn start(
    mut snapshots: SnapshotReceiver,
    mailbox: mpsc::Receiver<Command>,
    flows: SyncSender<Job>,
    state: Arc<watch::Sender<PolicyState>>,
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
                warn!(error = reason, "nftables table not claimed");
                let problem = Problem { object: "table inet weft".to_owned(), reason };
                state.send_modify(|state| state.problems = [problem].into());
                sleep(RETRY).await;
            }
        }
    };
    let now = Instant::now();
    let task = Task {
        core,
        flows,
        snapshots,
        local: None,
        listed: None,
        waiting: Vec::new(),
        committing: Vec::new(),
        releasing: Vec::new(),
        freed: BTreeSet::new(),
        dirty: true,
        unjudged: Unjudged::Always,
        judge_at: None,
        audit: false,
        not_before: now,
        next_audit: now + AUDIT_INTERVAL,
        state,
        local_watch,
    };
    task.run(mailbox, monitor).await;
}

/// With its cause.
fn in_words(error: &dyn std::error::Error) -> String {
    match error.source() {
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

/// Whether established flows must be judged anew after the next commit; a pod that comes or goes has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unjudged {
    No,
    /// If the rules change by it.
    IfChanged,
    Always,
}

struct Task {
    core: Core,
    flows: SyncSender<Job>,
    snapshots: SnapshotReceiver,
    /// `None` until the CNI server has said what a former agent left.
    local: Option<BTreeMap<AttachmentId, LocalPod>>,
    /// The same as a list, which is made anew when it changes.
    listed: Option<Arc<Vec<LocalPod>>>,
    waiting: Vec<Waiting>,
    /// In `local`; to be answered after the next commit.
    committing: Vec<(AttachmentId, oneshot::Sender<Result<(), AdmitError>>)>,
    /// To be answered when the flows of what they free are forgotten.
    releasing: Vec<oneshot::Sender<()>>,
    /// Addresses whose flows are to be forgotten after the next commit.
    freed: BTreeSet<IpAddr>,
    dirty: bool,
    unjudged: Unjudged,
    /// When flows are judged at the latest.
    judge_at: Option<Instant>,
    audit: bool,
    not_before: Instant,
    next_audit: Instant,
    state: Arc<watch::Sender<PolicyState>>,
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
                    Ok(()) => self.snapshots.mark_changed(),
                    Err(_) => return,
                },
                change = monitor.foreign_change() => match change {
                    Ok(change) => {
                        warn!(?change, "somebody else changed our table");
                        self.state.send_modify(|state| state.drift += 1);
                        self.audit = true;
                    }
                    Err(error) => return warn!(%error, "nftables notifications ended"),
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
        let due = deadline.into_iter().chain(retry).chain(self.judge_at);
        due.min().unwrap_or(self.next_audit).min(self.next_audit)
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Admit(id, pod, deadline, reply) => {
                self.waiting.push(Waiting { id, pod, deadline, reply });
            }
            Command::Release(id, reply) => {
                // Its ADD may have failed for another reason meanwhile.
                self.waiting.retain(|waiting| waiting.id != id);
                let Some(pod) = self.local.as_mut().and_then(|local| local.remove(&id)) else {
                    let _ = reply.send(());
                    return;
                };
                (self.dirty, self.listed) = (true, None);
                self.freed.extend(pod.ips);
                self.releasing.push(reply);
            }
            Command::Recovered(attachments, reply) => {
                let pods =
                    attachments.iter().map(|attachment| (attachment.id.clone(), local_pod(attachment)));
                self.local = Some(pods.collect());
                (self.dirty, self.listed) = (true, None);
                // The first commit comes with the first snapshot; until then the former agent's rules are in force.
                let _ = reply.send(());
            }
        }
    }

    fn step(&mut self) {
        let snapshot = self.newest();
        self.sort_waiting(snapshot.as_deref());
        let (Some(snapshot), Some(local)) = (snapshot, &self.local) else { return };
        let list = || Arc::new(local.values().cloned().collect());
        let scene = Scene { snapshot, local: Arc::clone(self.listed.get_or_insert_with(list)) };
        let now = Instant::now();
        if (self.dirty || self.audit) && (now >= self.not_before || !self.committing.is_empty()) {
            let result = self.commit(&scene);
            self.show_local(&scene.local);
            self.answer(result);
        }
        if self.judge_at.is_some_and(|at| at <= now) {
            self.judge(scene);
        }
    }

    fn show_local(&self, local: &Arc<Vec<LocalPod>>) {
        self.local_watch.send_if_modified(|shown| {
            let is_other = !Arc::ptr_eq(shown, local);
            if is_other {
                *shown = Arc::clone(local);
            }
            is_other
        });
    }

    /// Whatever the task woke for: here alone a snapshot is taken note of.
    fn newest(&mut self) -> Option<Arc<Snapshot>> {
        let newest = self.snapshots.borrow_and_update();
        if newest.has_changed() {
            self.dirty = true;
            self.unjudged = self.unjudged.max(Unjudged::IfChanged);
        }
        newest.clone()
    }

    /// Lets in those whose pod the datastore shows, and turns away those who waited too long.
    fn sort_waiting(&mut self, snapshot: Option<&Snapshot>) {
        for Waiting { id, pod, deadline, reply } in std::mem::take(&mut self.waiting) {
            let is_known = snapshot.is_some_and(|snapshot| is_known(&snapshot.world, &pod));
            match (&mut self.local, is_known) {
                (Some(local), true) => {
                    // Past what a set can hold the kernel refuses the commit, and so everybody.
                    if let Err(full) = room_for(local.values(), &pod) {
                        let _ = reply.send(Err(AdmitError::Full(pod.key.to_string(), full)));
                        continue;
                    }
                    local.insert(id.clone(), pod);
                    self.committing.push((id, reply));
                    (self.dirty, self.listed) = (true, None);
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

    fn commit(&mut self, scene: &Scene) -> Result<(), String> {
        let audit = std::mem::take(&mut self.audit);
        if audit {
            self.next_audit = Instant::now() + AUDIT_INTERVAL;
            // What got through while the table was not as wanted is judged when it is.
            self.unjudged = self.unjudged.max(Unjudged::IfChanged);
        }
        match self.core.commit(&scene.snapshot.world, &scene.local, audit) {
            Ok(done) => {
                self.dirty = false;
                self.publish(&scene.snapshot, &done);
                self.settle_flows(scene, done);
                Ok(())
            }
            Err(error) => {
                let reason = in_words(&error);
                warn!(error = reason, "policy not committed");
                (self.dirty, self.audit) = (true, true);
                self.unjudged = Unjudged::Always;
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

    /// After the rules: what they forbid must not live on in the fast path for established flows.
    fn settle_flows(&mut self, scene: &Scene, done: core::Committed) {
        let (freed, releasing) = (std::mem::take(&mut self.freed), std::mem::take(&mut self.releasing));
        let jobs = [
            (!releasing.is_empty()).then_some(Job::Forget(freed, releasing)),
            (!done.opened.is_empty()).then_some(Job::Opened(done.opened)),
        ];
        for job in jobs.into_iter().flatten() {
            // Its thread ends after this task.
            let _ = self.flows.send(job);
        }
        let judge = match std::mem::replace(&mut self.unjudged, Unjudged::No) {
            Unjudged::No => Judgement::None,
            Unjudged::IfChanged => done.judge,
            Unjudged::Always => Judgement::Now,
        };
        match judge {
            Judgement::None => {}
            Judgement::Later => self.judge_at = self.judge_at.or(Some(Instant::now() + JUDGED_WITHIN)),
            Judgement::Now => self.judge(scene.clone()),
        }
    }

    fn judge(&mut self, scene: Scene) {
        self.judge_at = None;
        if !scene.local.is_empty() {
            let _ = self.flows.send(Job::Judge(scene));
        }
    }

    fn publish(&self, snapshot: &Snapshot, done: &core::Committed) {
        self.state.send_if_modified(|state| {
            let before = state.clone();
            let revision = state.counts.revision + u64::from(done.changes > 0);
            state.settled = true;
            state.counts = PolicyStatus {
                revision,
                policies: u32::try_from(snapshot.world.policies.len()).unwrap_or(u32::MAX),
                ..done.counts.clone()
            };
            if done.changes > 0 {
                state.last_commit = done.took;
            }
            state.problems = done.problems.clone();
            *state != before
        });
        let took_us = u64::try_from(done.took.as_micros()).unwrap_or(u64::MAX);
        match done.judge {
            Judgement::None => {}
            // In a large cluster pods come and go all the time.
            Judgement::Later => debug!(changes = done.changes, took_us, "policy followed pods elsewhere"),
            Judgement::Now => info!(changes = done.changes, took_us, "policy committed"),
        }
    }

    fn answer(&mut self, result: Result<(), String>) {
        if let (Err(_), Some(local)) = (&result, &mut self.local) {
            for (id, _) in &self.committing {
                local.remove(id);
                self.listed = None;
            }
        }
        let result = result.map_err(AdmitError::Refused);
        for (_, reply) in self.committing.drain(..) {
            let _ = reply.send(result.clone());
        }
    }
}

/// An attachment without a Kubernetes pod waits for none.
fn is_known(world: &World, pod: &LocalPod) -> bool {
    pod.is_nameless() || world.pods.get(&pod.key).is_some_and(|object| pod.is(object))
}

#[cfg(test)]
mod tests;
