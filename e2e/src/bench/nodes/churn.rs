//! What a cluster's pods and kubelets say all day: pods that are replaced, at a steady rate, and Nodes that are renewed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::super::api::{Request, send};
use super::super::paper;
use super::stage::Stage;
use crate::lab::CONTROL;

/// Each lets pods live and die one after another: the requests of one are in order.
const WORKERS: usize = 8;
/// How often a kubelet renews the status of a Node that does not change.
const RENEWED: Duration = Duration::from_secs(300);

/// Replaces pods. Every request is an event of a pod for each agent: created, started, running, ready; and of the pod that it
/// replaces: to be deleted, deleted. Returns how many there were a second.
pub(super) fn churn(stage: &Stage) -> Result<f64> {
    let (begun, sent) = (Instant::now(), AtomicUsize::new(0));
    let length = Duration::from_secs(stage.sizes.events);
    let pace = Duration::from_secs(1) * u32::try_from(WORKERS)? / stage.sizes.rate;
    let worker = |number: usize| {
        let (sent, mut due) = (&sent, begun + pace * u32::try_from(number).unwrap_or(0) / 8);
        move || {
            let mut index = number;
            while begun.elapsed() < length {
                for (method, path, body) in &replace(stage, index) {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    due += pace;
                    send(method, path, body)?;
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                index += WORKERS;
            }
            Ok(())
        }
    };
    stage.api.work((0..WORKERS).map(worker).collect())?;
    Ok(sent.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
}

fn replace(stage: &Stage, index: usize) -> Vec<Request> {
    let (scale, pods) = (&stage.scale, stage.scale.pods);
    let ends = paper::pod_ends(index, scale);
    paper::pod_begins(pods + index, scale).into_iter().chain(ends).collect()
}

/// Renews all Nodes, one after another, until dropped.
pub(super) struct Heartbeats {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Heartbeats {
    pub(super) fn start(stage: &Stage) -> Result<Self> {
        let names: Vec<_> = stage.pod_cidrs().into_keys().collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let control = stage.cluster.lab().namespace(CONTROL)?;
        let thread = thread::spawn(move || control.enter(|| beat(&names, &stopping)));
        Ok(Self { stop, thread: Some(thread) })
    }
}

fn beat(names: &[String], stop: &AtomicBool) -> Result<()> {
    let pace = RENEWED / u32::try_from(names.len())?;
    let mut due = Instant::now();
    for (number, name) in names.iter().cycle().enumerate() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (method, path, body) = paper::heartbeat(name, number / names.len());
        send(method, &path, &body)?;
        due += pace;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

impl Drop for Heartbeats {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => eprintln!("heartbeats of Nodes ended: {error:#}"),
            Some(Err(_)) => eprintln!("heartbeats of Nodes panicked"),
            Some(Ok(Ok(()))) | None => {}
        }
    }
}
