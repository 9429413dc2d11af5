//! Makes the BGP speaker what the plan says: its identity, its peers, what it announces.
//!
//! In: [`Desired`], nexthops whose link went down, and peers that BFD has lost. Out: a running speaker, whose choices go to the route
//! reconciler, and what hinders it. Another AS or router ID needs another speaker, which begins as after a restart of the agent: with what
//! its forerunner left in the kernel, and with peers that have been asked to wait. What ends sessions has its turn ([`patience`]).

mod patience;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument as _, info, warn};
use weft_api::control::Problem;
use weft_bgp::net::{self, Ended, Handle, Listen, bfd};
use weft_bgp::session::StateKind;
use weft_bgp::speaker::{OriginConfig, PeerKey, Shutdown, SpeakerConfig};
use weft_bgp::types::AfiSafi;
use weft_intent::plan::{Desired, SpeakerPlan};

use self::patience::{Partings, Told, Turn};
use super::bfd::watched;
use super::routes::RouteHandle;
use crate::supervise::Supervisor;

/// A port that is taken is tried again after so long.
const RETRY: Duration = Duration::from_secs(1);

/// What the task is given.
#[derive(Debug)]
pub struct Inputs {
    pub desired: watch::Receiver<Option<Arc<Desired>>>,
    /// Nexthops whose link went down: sessions with them end at once.
    pub lost: mpsc::Receiver<IpAddr>,
    /// Watches those of the peers that are to be watched.
    pub bfd: bfd::Handle,
    /// Peers that it has lost: sessions with them end at once.
    pub paths: mpsc::Receiver<bfd::Lost>,
    pub routes: RouteHandle,
    /// An earlier agent left routes: peers are told that forwarding went on.
    pub restarting: bool,
    /// Of jitter and hash tables: a number that nobody else can know.
    pub seed: u64,
}

/// Whoever wants to ask the running speaker; `None` before the first, and between two.
pub type SpeakerWatch = watch::Receiver<Option<Handle>>;

/// The running speaker, and why it is not as planned.
pub fn spawn(tasks: &Supervisor, inputs: Inputs) -> (SpeakerWatch, watch::Receiver<Option<Problem>>) {
    let (publish, speaker) = watch::channel(None);
    let (hindered, problem) = watch::channel(None);
    let task =
        Task { inputs, told: None, turn: Turn::default(), partings: Partings::default(), publish, hindered };
    tasks.task("bgp", task.run().instrument(super::span("speaker")));
    (speaker, problem)
}

struct Task {
    inputs: Inputs,
    /// The published speaker, by what it was told last.
    told: Option<Told>,
    turn: Turn,
    partings: Partings,
    publish: watch::Sender<Option<Handle>>,
    hindered: watch::Sender<Option<Problem>>,
}

impl Task {
    /// Ends with the plans, and with a speaker that ends by itself: its next one would begin without what it knew.
    async fn run(mut self) {
        let mut wake: Option<Instant> = None;
        loop {
            let speaker = self.publish.borrow().clone();
            tokio::select! {
                () = ended(speaker) => return,
                changed = self.inputs.desired.changed() => match changed {
                    Ok(()) => {}
                    Err(_) => return,
                },
                Some(address) = self.inputs.lost.recv() => {
                    self.end_session(address).await;
                    continue;
                }
                Some(lost) = self.inputs.paths.recv() => {
                    self.path_lost(lost).await;
                    continue;
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            let Some(desired) = self.inputs.desired.borrow_and_update().clone() else { continue };
            let result = self.apply(&desired).await;
            self.show(desired.speaker.listen_port, result.as_ref().err());
            wake = result.unwrap_or_else(|_| Some(Instant::now() + RETRY));
        }
    }

    /// When to come back, where something waits.
    async fn apply(&mut self, desired: &Desired) -> io::Result<Option<Instant>> {
        let mut plan = Told::new(desired.speaker.clone(), desired.peers.iter().cloned());
        let parted = (&desired.parted, desired.round);
        let parting =
            self.told.as_ref().and_then(|told| self.partings.keep(told, &mut plan, parted, Instant::now()));
        let (mut plan, turn) = self.in_turn(plan, desired.turn).await;
        // First: a speaker that could not listen must not take the place of one that does.
        let listening = self.move_to(&mut plan.speaker.listen_port).await;
        self.ensure(&plan.speaker).await?;
        self.tell(plan, desired.origin.clone()).await;
        listening.map(|()| turn.into_iter().chain(parting).min())
    }

    /// What of the plan may be told by now, and when the rest.
    async fn in_turn(&mut self, plan: Told, delay: Duration) -> (Told, Option<Instant>) {
        let Some((told, handle)) = self.told.as_ref().zip(self.publish.borrow().clone()) else {
            return (plan, None);
        };
        let ended = told.ended_by(&plan);
        let sessions = if ended.is_empty() { ended } else { established(&handle, &ended).await };
        let waited = self.turn.is_awaited();
        match self.turn.of(!sessions.is_empty(), delay, Instant::now()) {
            None => (plan, None),
            Some(at) => {
                if !waited {
                    info!(sessions = sessions.len(), ?delay, "sessions end in turn");
                }
                (told.spare(&sessions, plan), Some(at))
            }
        }
    }

    /// A speaker that is this one.
    async fn ensure(&mut self, plan: &SpeakerPlan) -> io::Result<()> {
        if let Some(before) = self.told.take_if(|told| told.speaker.identity() != plan.identity()) {
            // Peers keep our routes until the next one is up, if they were asked to and will be.
            let graceful = before.speaker.restart_time.is_some() && plan.restart_time.is_some();
            let text = "the node's BGP configuration has changed".to_owned();
            let how = if graceful { Shutdown::Restart } else { Shutdown::Stop { text } };
            if let Some(handle) = self.publish.send_replace(None) {
                // It may have ended already.
                let _ = handle.shutdown(how).await;
            }
            self.inputs.restarting = graceful;
        }
        if self.told.is_none() {
            self.start(plan).await?;
        }
        Ok(())
    }

    /// To listen at another port. Where it cannot, the planned one is that at which it listens.
    async fn move_to(&mut self, planned: &mut u16) -> io::Result<()> {
        let Some((told, handle)) = self.told.as_mut().zip(self.publish.borrow().clone()) else {
            return Ok(());
        };
        let port = &mut told.speaker.listen_port;
        if port == planned {
            return Ok(());
        }
        match handle.listen(listen(*planned)).await {
            Ok(Ok(())) => *port = *planned,
            Ok(Err(error)) => {
                *planned = *port;
                return Err(error);
            }
            Err(Ended) => {} // Seen by who waits for it.
        }
        Ok(())
    }

    /// Costs no session but those of peers that change.
    async fn tell(&mut self, plan: Told, origin: OriginConfig) {
        let Some((told, handle)) = self.told.as_mut().zip(self.publish.borrow().clone()) else {
            return;
        };
        let telling = async {
            handle.set_max_paths(plan.speaker.max_paths).await?;
            handle.set_restart_time(plan.speaker.restart_time).await?;
            handle.set_origin(origin).await?;
            handle.set_peers(plan.peers.values().cloned().collect()).await
        };
        // An end is seen by who waits for it.
        if let Ok::<_, Ended>(()) = telling.await {
            // As is that of BFD.
            let _ = self.inputs.bfd.watch(watched(plan.peers.values())).await;
            *told = plan;
        }
    }

    async fn start(&mut self, plan: &SpeakerPlan) -> io::Result<()> {
        let restarting = self.inputs.restarting;
        let config = SpeakerConfig {
            max_paths: plan.max_paths,
            restart_time: plan.restart_time,
            restarting: restarting.then(|| AfiSafi::ALL.to_vec()),
            ..SpeakerConfig::new(plan.asn, plan.router_id, self.inputs.seed)
        };
        let (handle, fib) = net::spawn(config, &listen(plan.listen_port))?;
        info!(
            asn = %plan.asn, router_id = %plan.router_id, port = plan.listen_port, restarting,
            "bgp started"
        );
        self.inputs.routes.follow(fib).await;
        self.told = Some(Told::new(plan.clone(), []));
        self.publish.send_replace(Some(handle));
        Ok(())
    }

    fn show(&self, port: u16, error: Option<&io::Error>) {
        let problem = error.map(|error| Problem {
            object: "BGPConfiguration default".to_owned(),
            reason: format!("spec.listenPort: {port}: {error}"),
        });
        self.hindered.send_if_modified(|current| {
            let changed = *current != problem;
            if let Some(problem) = problem.as_ref().filter(|_| changed) {
                warn!(object = problem.object, error = problem.reason, "bgp cannot listen");
            }
            *current = problem;
            changed
        });
    }

    async fn path_lost(&self, lost: bfd::Lost) {
        let handle = self.publish.borrow().clone();
        if let Some(handle) = handle {
            // No such peer, or no speaker: then there is no session to end.
            let _ = handle.path_lost(lost).await;
        }
    }

    async fn end_session(&self, address: IpAddr) {
        let handle = self.publish.borrow().clone();
        if let Some(handle) = handle {
            info!(peer = %address, "link down");
            // No such peer, or no speaker: then there is no session to end.
            let _ = handle.unreachable(PeerKey { address, interface: None }).await;
        }
    }
}

/// Everywhere.
fn listen(port: u16) -> Listen {
    Listen { port, addresses: Vec::new() }
}

/// Of these peers.
async fn established(speaker: &Handle, peers: &BTreeSet<PeerKey>) -> BTreeSet<PeerKey> {
    // None of a speaker that has ended.
    let all = speaker.peers().await.unwrap_or_default().into_iter();
    let up = all.filter(|peer| peer.state == StateKind::Established).map(|peer| peer.key);
    up.filter(|peer| peers.contains(peer)).collect()
}

async fn ended(speaker: Option<Handle>) {
    match speaker {
        Some(speaker) => speaker.ended().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
