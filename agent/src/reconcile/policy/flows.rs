//! Established flows, on a thread of their own: those that policy no longer allows are cut, those that it allows again go
//! on, and those of an address that is given away are forgotten.
//!
//! In: [`Job`]s, each sent when the kernel has acknowledged the rules that it follows. Out: the mark bit, and in
//! [`PolicyState`] what was done. The judge is the evaluator that reads the raw policies, not the compiled rules.
//!
//! The policy task never waits for this thread, so ADD does not either. What fails stays to be done and is tried again. A
//! newer world takes the place of one that waits to be judged by, but a scan is not given up for it: in a busy cluster it
//! would never come to its end.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tracing::{debug, info, warn};
use weft_api::control::Problem;
use weft_intent::Snapshot;
use weft_policy::eval::{Flow as Question, Judge};
use weft_policy::model::LocalPod;

use super::{PolicyState, in_words};
use crate::kernel::address;
use crate::kernel::conntrack::{Conntrack, ConntrackError, Flow};
use crate::supervise::Supervisor;

/// Jobs that wait; they are taken between two parts of a scan, so the policy task hardly ever waits to leave one.
const JOBS: usize = 256;
/// How far this thread steps back for those that pods wait for, where there is too little CPU for all.
const NICE: i32 = 10;
/// Between two parts of a scan: a thread that never sleeps makes each RCU grace period as long as some ticks, and every
/// change of a link waits for one or more.
const PAUSE: Duration = Duration::from_micros(100);
/// After a failure, doubled by each further one up to the longest.
const SHORTEST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

pub(super) enum Job {
    /// Forget the flows of addresses whose pods are gone, then tell those who wait to give them away.
    Forget(BTreeSet<IpAddr>, Vec<oneshot::Sender<()>>),
    /// UDP ports of the node lead to a pod from now on; the unspecified address stands for all of its family.
    Opened(BTreeSet<SocketAddr>),
    Judge(Scene),
}

/// The policy in force, at one moment.
#[derive(Clone)]
pub(super) struct Scene {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) local: Arc<Vec<LocalPod>>,
}

/// Starts the thread, in the caller's network namespace. It ends when the sender is dropped.
pub(super) fn spawn(
    tasks: &Supervisor,
    state: Arc<watch::Sender<PolicyState>>,
    mark: u32,
    open: impl FnMut() -> io::Result<Conntrack> + Send + 'static,
) -> io::Result<SyncSender<Job>> {
    let (sender, jobs) = sync_channel(JOBS);
    let open = Box::new(open);
    let worker = Worker {
        jobs,
        state,
        mark,
        open,
        sockets: None,
        undone: Undone::default(),
        outdated: BTreeSet::new(),
    };
    let span = crate::reconcile::span("flows");
    tasks.thread("flows", move || span.in_scope(|| worker.run()))?;
    Ok(sender)
}

/// What is still to be done.
#[derive(Default)]
struct Undone {
    freed: BTreeSet<IpAddr>,
    releasing: Vec<oneshot::Sender<()>>,
    opened: BTreeSet<SocketAddr>,
    scene: Option<Scene>,
    /// Addresses given away since the scene: whose they are it does not know.
    outdated: BTreeSet<IpAddr>,
}

impl Undone {
    fn is_empty(&self) -> bool {
        self.releasing.is_empty() && self.freed.is_empty() && self.opened.is_empty() && self.scene.is_none()
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Forget(freed, releasing) => {
                self.outdated.extend(&freed);
                self.freed.extend(freed);
                self.releasing.extend(releasing);
            }
            Job::Opened(ports) => self.opened.extend(ports),
            Job::Judge(scene) => {
                self.scene = Some(scene);
                self.outdated.clear();
            }
        }
    }
}

/// One reads while the other changes what was read.
struct Sockets {
    scan: Conntrack,
    change: Conntrack,
}

struct Worker {
    jobs: Receiver<Job>,
    state: Arc<watch::Sender<PolicyState>>,
    mark: u32,
    open: Box<dyn FnMut() -> io::Result<Conntrack> + Send>,
    sockets: Option<Sockets>,
    undone: Undone,
    /// As [`Undone::outdated`], of the scene that is being judged by.
    outdated: BTreeSet<IpAddr>,
}

impl Worker {
    fn run(mut self) {
        // Of this thread alone, as Linux has it.
        if let Err(error) = rustix::process::nice(NICE) {
            warn!(%error, "flows are judged at full priority");
        }
        let mut retry = SHORTEST_RETRY;
        while self.wait(retry) {
            retry = match self.work() {
                Ok(()) => SHORTEST_RETRY,
                Err(error) => {
                    self.report(Some(in_words(&error)));
                    self.sockets = None;
                    (retry * 2).min(LONGEST_RETRY)
                }
            };
        }
    }

    /// For a job, or for the next attempt. `false` at the end.
    fn wait(&mut self, retry: Duration) -> bool {
        let job = if self.undone.is_empty() {
            self.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            self.jobs.recv_timeout(retry)
        };
        match job {
            Ok(job) => self.undone.take(job),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    fn work(&mut self) -> Result<(), ConntrackError> {
        let mut sockets = match self.sockets.take() {
            Some(sockets) => sockets,
            None => Sockets { scan: (self.open)()?, change: (self.open)()? },
        };
        self.do_urgent(&mut sockets.change)?;
        if let Some(scene) = self.undone.scene.take() {
            let judged = self.judge(&mut sockets, &scene);
            if judged.is_err() && self.undone.scene.is_none() {
                self.undone.scene = Some(scene);
                self.undone.outdated.append(&mut self.outdated);
            }
            judged?;
        }
        self.sockets = Some(sockets);
        self.report(None);
        Ok(())
    }

    /// What somebody waits for.
    fn do_urgent(&mut self, conntrack: &mut Conntrack) -> Result<(), ConntrackError> {
        while let Ok(job) = self.jobs.try_recv() {
            if let Job::Forget(freed, _) = &job {
                self.outdated.extend(freed);
            }
            self.undone.take(job);
        }
        if !self.undone.freed.is_empty() {
            conntrack.delete_flows_of(&self.undone.freed)?;
            self.undone.freed.clear();
        }
        for waiting in self.undone.releasing.drain(..) {
            // Gone if the agent is stopping.
            let _ = waiting.send(());
        }
        if !self.undone.opened.is_empty() {
            conntrack.delete_untranslated_udp(&self.undone.opened, &address::own()?)?;
            self.undone.opened.clear();
        }
        Ok(())
    }

    /// A flow that cannot be marked must not keep the others from being marked: the error comes at the end.
    fn judge(&mut self, sockets: &mut Sockets, scene: &Scene) -> Result<(), ConntrackError> {
        self.outdated = std::mem::take(&mut self.undone.outdated);
        let (begun, own) = (Instant::now(), address::own()?);
        let judge = Judge::new(&scene.snapshot.world, &scene.local);
        let (mut seen, mut cut, mut failed) = (0_usize, 0_u64, None);
        let mut scan = sockets.scan.scan()?;
        while let Some(flows) = scan.next_part()? {
            seen += flows.len();
            for flow in flows.into_iter().filter(|flow| !flow.touches(&self.outdated)) {
                let Some(forbidden) = is_forbidden(&judge, &own, &flow) else { continue };
                if forbidden == (flow.mark & self.mark != 0) {
                    continue;
                }
                match sockets.change.set_mark_bit(&flow, self.mark, forbidden) {
                    Ok(()) => cut += u64::from(forbidden),
                    Err(error) => failed = Some(error),
                }
                let (source, destination) = (flow.original.source, flow.reply.source);
                debug!(%source, %destination, protocol = flow.protocol, forbidden, "flow judged anew");
            }
            self.do_urgent(&mut sockets.change)?;
            thread::sleep(PAUSE);
        }
        if cut > 0 {
            info!(flows = seen, cut, took_us = begun.elapsed().as_micros(), "flows judged");
        }
        self.state.send_modify(|state| state.revoked += cut);
        failed.map_or(Ok(()), Err)?;
        self.state.send_modify(|state| state.judged += 1);
        Ok(())
    }

    fn report(&self, failure: Option<String>) {
        let problem = failure.map(|reason| Problem { object: "conntrack".to_owned(), reason });
        self.state.send_if_modified(|state| {
            let is_new = state.flows != problem;
            if let Some(Problem { reason, .. }) = problem.as_ref().filter(|_| is_new) {
                warn!(error = reason, "established flows not settled, retrying");
            }
            state.flow_failures += u64::from(problem.is_some());
            state.flows = problem;
            is_new || state.flows.is_some()
        });
    }
}

/// By a half of the policy that this node enforces; `None` if the flow is of no pod here. The forward hook sees a flow
/// between translation of its destination and that of its source: the original source, and the source of the answers.
/// What begins or ends at the node itself never gets there.
fn is_forbidden(judge: &Judge<'_>, own: &BTreeSet<IpAddr>, flow: &Flow) -> Option<bool> {
    const WITH_PORTS: [u8; 3] = [6, 17, 132];
    let (source, destination) = (flow.original.source, flow.reply.source);
    let stopped = judge.stops(&Question {
        source,
        destination,
        protocol: flow.protocol,
        port: WITH_PORTS.contains(&flow.protocol).then_some(flow.reply.source_port),
    })?;
    let of_node = |ip: IpAddr| ip.is_loopback() || own.contains(&ip);
    Some(stopped && !of_node(source) && !of_node(destination))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_does_not_know_whose_an_address_is_that_was_given_away_after_it() {
        let forget = |address: &str| Job::Forget([address.parse().unwrap()].into(), Vec::new());
        let scene = || Job::Judge(Scene { snapshot: Arc::default(), local: Arc::default() });
        let mut undone = Undone::default();
        [forget("10.1.0.2"), scene(), forget("10.1.0.3")].into_iter().for_each(|job| undone.take(job));
        assert_eq!(undone.outdated, ["10.1.0.3".parse().unwrap()].into());
        undone.take(scene());
        assert!(undone.outdated.is_empty() && undone.freed.len() == 2);
    }
}
