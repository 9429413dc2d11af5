//! Makes the BGP speaker what the plan says: its identity, its peers, what it announces.
//!
//! In: [`Desired`], nexthops whose link went down, and that own addresses changed. Out: a running speaker, whose choices go to the route
//! reconciler. A new identity (AS, router id, port) needs a new speaker: the old one takes its leave with a Cease.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};
use weft_bgp::net::{self, Ended, Handle, Listen};
use weft_bgp::speaker::{PeerConfig, PeerKey, Shutdown, SpeakerConfig};
use weft_bgp::types::AfiSafi;

use super::routes::RouteHandle;
use crate::kernel::address;
use crate::plan::{Desired, SpeakerPlan};
use crate::supervise::Supervisor;

/// A port that is taken is tried again after so long.
const RETRY: Duration = Duration::from_secs(1);
/// Addresses come and go in flocks: what a link has is looked at after this time.
const SETTLE: Duration = Duration::from_millis(200);

/// What the task is given.
#[derive(Debug)]
pub struct Inputs {
    pub desired: watch::Receiver<Option<Arc<Desired>>>,
    /// Nexthops whose link went down: sessions with them end at once.
    pub lost: mpsc::Receiver<IpAddr>,
    /// Own addresses came or went: peers are to be told others as nexthops.
    pub addresses: Arc<Notify>,
    pub routes: RouteHandle,
    /// An earlier agent left routes: peers are told that forwarding went on.
    pub restarting: bool,
    /// Of jitter and hash tables: a number that nobody else can know.
    pub seed: u64,
}

/// Whoever wants to ask the running speaker; `None` before the first, and between two.
pub type SpeakerWatch = watch::Receiver<Option<Handle>>;

pub fn spawn(tasks: &Supervisor, inputs: Inputs) -> SpeakerWatch {
    let (publish, running) = watch::channel(None);
    tasks.task("bgp", Task { inputs, identity: None, publish }.run());
    running
}

struct Task {
    inputs: Inputs,
    identity: Option<SpeakerPlan>,
    publish: watch::Sender<Option<Handle>>,
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
                () = self.inputs.addresses.notified() => {
                    wake.get_or_insert_with(|| Instant::now() + SETTLE);
                    continue;
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            let Some(desired) = self.inputs.desired.borrow_and_update().clone() else { continue };
            let result = self.apply(&desired).await;
            wake = result.is_err().then(|| Instant::now() + RETRY);
            if let Err(error) = result {
                warn!(reconciler = "speaker", %error, port = desired.speaker.listen_port, "bgp cannot be started");
            }
        }
    }

    async fn apply(&mut self, desired: &Desired) -> io::Result<()> {
        if self.identity.as_ref() != Some(&desired.speaker) {
            self.replace(&desired.speaker).await?;
        }
        let Some(handle) = self.publish.borrow().clone() else { return Ok(()) };
        // An end is seen by who waits for it.
        let _ = self.configure(&handle, desired).await;
        Ok(())
    }

    async fn configure(&self, handle: &Handle, desired: &Desired) -> Result<(), Ended> {
        handle.set_origin(desired.origin.clone()).await?;
        handle.set_peers(with_nexthops_of_links(&desired.peers)).await
    }

    async fn replace(&mut self, identity: &SpeakerPlan) -> io::Result<()> {
        if let Some(handle) = self.publish.send_replace(None) {
            let text = "the node's BGP configuration has changed".to_owned();
            // It may have ended already.
            let _ = handle.shutdown(Shutdown::Stop { text }).await;
        }
        self.identity = None;
        let config = SpeakerConfig {
            max_paths: identity.max_paths,
            restart_time: identity.restart_time,
            restarting: self.inputs.restarting.then(|| AfiSafi::ALL.to_vec()),
            ..SpeakerConfig::new(identity.asn, identity.router_id, self.inputs.seed)
        };
        let (handle, fib) =
            net::spawn(config, &Listen { port: identity.listen_port, addresses: Vec::new() })?;
        info!(
            reconciler = "speaker", asn = %identity.asn, router_id = %identity.router_id, port = identity.listen_port,
            restarting = self.inputs.restarting, "bgp started"
        );
        self.inputs.restarting = false;
        self.inputs.routes.follow(fib).await;
        self.identity = Some(identity.clone());
        self.publish.send_replace(Some(handle));
        Ok(())
    }

    async fn end_session(&self, address: IpAddr) {
        let handle = self.publish.borrow().clone();
        if let Some(handle) = handle {
            info!(reconciler = "speaker", peer = %address, "link down");
            // No such peer, or no speaker: then there is no session to end.
            let _ = handle.unreachable(PeerKey { address, interface: None }).await;
        }
    }
}

async fn ended(speaker: Option<Handle>) {
    match speaker {
        Some(speaker) => speaker.ended().await,
        None => std::future::pending().await,
    }
}

/// A node with several uplinks has several addresses. Peers on a link of ours are told that link's, in the family that the
/// session does not run over; others the node's.
fn with_nexthops_of_links(peers: &[PeerConfig]) -> Vec<PeerConfig> {
    let addresses = address::list().unwrap_or_else(|error| {
        warn!(reconciler = "speaker", %error, "own addresses cannot be listed");
        Vec::new()
    });
    let told = |peer: &PeerConfig| {
        let mut peer = peer.clone();
        let v4 = peer.key.address.is_ipv4();
        let preferred = if v4 { peer.nexthop.v6.map(IpAddr::V6) } else { peer.nexthop.v4.map(IpAddr::V4) };
        match address::beside(peer.key.address, preferred, &addresses) {
            Some(IpAddr::V4(v4)) => peer.nexthop.v4 = Some(v4),
            Some(IpAddr::V6(v6)) => peer.nexthop.v6 = Some(v6),
            None => {}
        }
        peer
    };
    peers.iter().map(told).collect()
}

#[cfg(test)]
mod tests;
