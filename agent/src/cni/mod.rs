//! The CNI server: wires pods for runtimes that execute `weft-cni`, and owns the node's pod addresses.
//!
//! In: requests on `cni.sock`, link events, the node's pools. Out: pod links, addresses, neighbours, routes; one
//! [`PolicyGate::admit`] per pod before its first packet can pass. The host side of a pod's link is the lease of its
//! addresses: an address is free again only after its link is gone. Implements the CNI specification 1.1.0.
//!
//! The path of an ADD:
//!
//! ```text
//!  runtime          weft-cni                       the agent
//!     |  exec, stdin   |                               |
//!     +--------------->| opens the pod's namespace     |
//!     |                | and a socket inside           |
//!     |                +------- cni.sock ------------->| server: who asks, a Call, a Sandbox
//!     |                |    call + two descriptors     | service::add
//!     |                |                               |   hold      nobody else works on this id
//!     |                |                               |   reserve   addresses, ports, a name -> journal
//!     |                |                               |   wire      PolicyGate::admit ----------> policy: nft commit
//!     |                |                               |             link, pod's side up               |
//!     |                |                               |             <-------------- acknowledged -----+
//!     |                |                               |             host side up, routes, neighbours
//!     |                |                               |   commit    -> journal
//!     |<---------------+<------------------------------+ the result, as the call's version writes it
//! ```

mod arrival;
pub mod conflist;
mod events;
mod journal;
mod recovery;
mod server;
mod service;
mod state;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use tokio::net::UnixListener;
use tokio::runtime::Builder;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use weft_api::SERVED_MARK;

use self::journal::Journal;
pub use self::server::decode;
use self::service::Service;
use self::state::Shared;
use crate::gate::PolicyGate;
use crate::kernel::link::netns_id;
use crate::kernel::pod_links::PodLinks;
use crate::kernel::rtnl::RtnlError;
use crate::kernel::shared::SharedRtnl;
use crate::kernel::sysctl::LinkSysctls;
use crate::supervise::Supervisor;

/// What the server needs to know about its node.
#[derive(Clone, Debug)]
pub struct CniConfig {
    /// Holds the socket, the journal and the client's markers.
    pub run_dir: PathBuf,
    /// The node's name, for messages.
    pub node: String,
    /// Of pod links, at first: that of the node's uplinks, as there is no encapsulation. 68-65535.
    pub mtu: u32,
    /// The directory with the node's sysctls of the network: `/proc/sys/net`, or where a container has it.
    pub proc_sys_net: PathBuf,
}

/// Talks to the running server, which stops with the last handle. Clones talk to the same one.
#[derive(Clone, Debug)]
pub struct CniHandle {
    shared: Arc<Shared>,
    served: PathBuf,
    ready: watch::Sender<Result<(), String>>,
    mtu: watch::Sender<u32>,
    audit: Arc<Notify>,
    _stop: Arc<DropGuard>,
}

impl CniHandle {
    /// The node's pod CIDRs. Without one ADD fails. Pods keep their addresses when a pool goes.
    pub fn set_pools(&self, pools: &[IpNetwork]) {
        self.shared.set_pools(pools);
    }

    /// Whether pods can be wired, or why not yet: the answer to STATUS, and of an ADD that has waited for it.
    pub fn set_ready(&self, ready: Result<(), String>) {
        if ready.is_ok()
            && let Err(error) = std::fs::write(&self.served, "")
        {
            tracing::warn!(path = %self.served.display(), %error, "not noted that pods can be added");
        }
        drop(self.ready.send_replace(ready));
    }

    /// Of links still to be made.
    pub fn set_mtu(&self, mtu: u32) {
        self.mtu.send_replace(mtu);
    }

    /// Pools and allocations, for `GET /v1/ipam`.
    pub fn ipam(&self) -> weft_api::control::Ipam {
        self.shared.ipam()
    }

    /// Has all pod links looked at soon, and repaired: for who sees a route or neighbour of a pod disappear.
    pub fn audit(&self) {
        self.audit.notify_one();
    }
}

/// The server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot {action} in {run_dir}")]
    RunDir { action: &'static str, run_dir: PathBuf, source: io::Error },
    #[error("cannot talk to the kernel about links")]
    Netlink(#[from] RtnlError),
    #[error("cannot receive link events")]
    Events(#[source] io::Error),
    #[error("cannot start the server's thread")]
    Thread(#[source] io::Error),
}

/// The server itself.
#[derive(Debug)]
pub struct CniService;

impl CniService {
    /// Recovers what a former agent left, tells the gate, then serves until the last handle is dropped and the last call
    /// answered. In the caller's network namespace, which must be the node's, and on a thread of its own: talking to the
    /// kernel about links blocks it.
    pub async fn spawn<G: PolicyGate>(
        tasks: &Supervisor,
        config: CniConfig,
        gate: G,
    ) -> Result<CniHandle, StartError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let (started, outcome) = oneshot::channel();
        let work = move || {
            runtime.block_on(async {
                match start(config, gate).await {
                    Ok((handle, server)) => {
                        // A caller that has gone has dropped the handle, which ends the server.
                        drop(started.send(Ok(handle)));
                        server.run().await;
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            });
        };
        tasks.thread("cni", work).map_err(StartError::Thread)?;
        outcome.await.map_err(|_| StartError::Thread(io::Error::other("it has ended")))?
    }
}

async fn start<G: PolicyGate>(config: CniConfig, gate: G) -> Result<(CniHandle, Server<G>), StartError> {
    let CniConfig { run_dir, node, mtu, proc_sys_net } = config;
    let in_run_dir = |action| {
        let run_dir = run_dir.clone();
        move |source| StartError::RunDir { action, run_dir, source }
    };
    let (journal, replay) = Journal::open(&run_dir).map_err(in_run_dir("open the journal"))?;
    if replay.damaged {
        tracing::error!(run_dir = %run_dir.display(), "journal damaged; believing links");
    }
    let served = run_dir.join(SERVED_MARK);
    let shared = Arc::new(Shared::new(replay.ledger, journal));
    let ready = watch::Sender::new(Err("starting".to_owned()));
    let mtu = watch::Sender::new(mtu);
    let audit = Arc::new(Notify::new());
    let links = PodLinks::watch().map_err(StartError::Events)?;
    let own_netns = File::open("/proc/thread-self/ns/net").map_err(StartError::Events)?;
    let service = Arc::new(Service {
        shared: Arc::clone(&shared),
        gate,
        ready: ready.subscribe(),
        mtu: mtu.subscribe(),
        sysctls: LinkSysctls::new(proc_sys_net),
        node,
        served: served.clone(),
        own_netns: netns_id(own_netns.as_fd()).map_err(RtnlError::from)?,
        rtnl: SharedRtnl::open()?,
        reaper: Arc::new(SharedRtnl::open()?),
        reap: Notify::new(),
        audit: Arc::clone(&audit),
        freed: Notify::new(),
    });
    let recovered = recovery::recover(&service, &run_dir, replay.damaged)?;
    service.gate.recovered(recovered).await;
    let listener = server::bind(&run_dir).map_err(in_run_dir("listen on the socket"))?;
    audit.notify_one();
    let stop = CancellationToken::new();
    let handle = CniHandle { shared, served, ready, mtu, audit, _stop: Arc::new(stop.clone().drop_guard()) };
    Ok((handle, Server { service, links, listener, run_dir, stop }))
}

/// All that is to run.
struct Server<G> {
    service: Arc<Service<G>>,
    links: PodLinks,
    listener: UnixListener,
    run_dir: PathBuf,
    stop: CancellationToken,
}

impl<G: PolicyGate> Server<G> {
    async fn run(self) {
        let Self { service, links, listener, run_dir, stop } = self;
        let upkeep = async {
            tokio::join!(
                events::listen(Arc::clone(&service), links),
                recovery::audit_forever(Arc::clone(&service), run_dir),
                service.reap_forever(),
            )
        };
        // One task, so that a panic in any of them is one of the thread.
        tokio::select! {
            _ = upkeep => {}
            () = server::serve(Arc::clone(&service), listener, stop) => {}
        }
    }
}
