//! The CNI server: wires pods for runtimes that execute `weft-cni`, and owns the node's pod addresses.
//!
//! In: requests on `cni.sock`, link events, the node's pools. Out: pod links, addresses, neighbours, routes; one
//! [`PolicyGate::admit`] per pod before its first packet can pass. The host side of a pod's link is the lease of its
//! addresses: an address is free again only after its link is gone. Implements the CNI specification 1.1.0.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use tokio::sync::watch;
use weft_cni::attachment::{Attachment, AttachmentId};

/// Who must agree before a pod can speak: the owner of the node's network policy.
pub trait PolicyGate: Send + Sync + 'static {
    type Error: std::fmt::Display + Send;

    /// Returns after the kernel has acknowledged the policy of this pod. Its host side is still down.
    fn admit(&self, attachment: &Attachment) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// The link is gone; so may be what was admitted for it. Also called for what was admitted and then failed.
    fn release(&self, id: &AttachmentId) -> impl Future<Output = ()> + Send;
    /// Once, at start, before any other call: pods that a former agent wired and that live on.
    fn recovered(&self, attachments: Vec<Attachment>) -> impl Future<Output = ()> + Send;
}

/// What the server needs to know about its node.
#[derive(Clone, Debug)]
pub struct CniConfig {
    /// Holds the socket, the journal and the client's markers.
    pub run_dir: PathBuf,
    /// The node's name, for messages.
    pub node: String,
    /// Of pod links: that of the node's uplink, as there is no encapsulation. 68-65535.
    pub mtu: u32,
}

/// All attachments that are in use, by id.
pub type Attachments = Arc<BTreeMap<AttachmentId, Attachment>>;

/// Talks to the running server. Clones talk to the same one.
#[derive(Clone, Debug)]
pub struct CniHandle {
    pools: watch::Sender<Vec<IpNetwork>>,
    ready: watch::Sender<Result<(), String>>,
    attachments: watch::Receiver<Attachments>,
}

impl CniHandle {
    /// The node's pod CIDRs. Without one ADD fails. Pods keep their addresses when a pool goes.
    pub fn set_pools(&self, pools: Vec<IpNetwork>) {
        self.pools.send_replace(pools);
    }

    /// Whether pods can be wired, or why not yet: the answer to STATUS, and of an ADD that has waited for it.
    pub fn set_ready(&self, ready: Result<(), String>) {
        drop(self.ready.send_replace(ready));
    }

    /// What is attached, and wakes when that changes.
    pub fn attachments(&self) -> watch::Receiver<Attachments> {
        self.attachments.clone()
    }

    /// Pools and allocations, for `GET /v1/ipam`.
    pub fn ipam(&self) -> weft_api::control::Ipam {
        weft_api::control::Ipam { pools: Vec::new(), allocations: Vec::new() }
    }
}

/// The server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot use {path}")]
    Io { path: PathBuf, source: std::io::Error },
}

/// The server itself.
#[derive(Debug)]
pub struct CniService;

impl CniService {
    /// Recovers what a former agent left, tells the gate, then serves until the last handle is dropped.
    pub async fn spawn<G: PolicyGate>(config: CniConfig, gate: G) -> Result<CniHandle, StartError> {
        std::fs::create_dir_all(&config.run_dir)
            .map_err(|source| StartError::Io { path: config.run_dir.clone(), source })?;
        gate.recovered(Vec::new()).await;
        Ok(CniHandle {
            pools: watch::Sender::new(Vec::new()),
            ready: watch::Sender::new(Err("starting".to_owned())),
            attachments: watch::channel(Attachments::default()).1,
        })
    }
}
