//! The verbs, over what they share: [`add`], [`check`], DEL and GC in [`end`], STATUS here.

mod add;
mod check;
mod end;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use weft_pods::attachment::{AttachmentId, NetnsId, PortMapping};
use weft_pods::cni::{CniError, Sandboxed};
use weft_pods::ipam::IpamError;
use weft_pods::ledger::LedgerError;
use weft_pods::steps::Step;

use super::arrival::Sandbox;
use super::state::{RecordError, Shared};
use crate::gate::PolicyGate;
use crate::kernel::link;
use crate::kernel::rtnl::RtnlError;
use crate::kernel::shared::SharedRtnl;
use crate::kernel::sysctl::LinkSysctls;

/// An agent that has just started is ready within this; else the runtime tries again.
const READY_DEADLINE: Duration = Duration::from_secs(5);
/// For the link of a former attachment with the same id to go.
const GONE_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Service<G> {
    pub(super) shared: Arc<Shared>,
    pub(super) gate: G,
    pub(super) ready: watch::Receiver<Result<(), String>>,
    pub(super) mtu: watch::Receiver<u32>,
    pub(super) sysctls: LinkSysctls,
    pub(super) node: String,
    pub(super) served: PathBuf,
    /// The namespace of the node, which is nobody's sandbox.
    pub(super) own_netns: NetnsId,
    pub(super) rtnl: SharedRtnl,
    /// Apart, because a deletion holds RTNL for tens of milliseconds.
    pub(super) reaper: Arc<SharedRtnl>,
    pub(super) reap: Notify,
    pub(super) audit: Arc<Notify>,
    /// Something was freed.
    pub(super) freed: Notify,
}

impl<G: PolicyGate> Service<G> {
    /// A full pool is no reason, nor is an agent that has just started: see [`weft_api::SERVED_MARK`].
    pub(super) fn status(&self) -> Result<(), CniError> {
        if let Err(reason) = &*self.ready.borrow() {
            return if self.served.exists() { Ok(()) } else { Err(CniError::NotReady(reason.clone())) };
        }
        if self.shared.read(|ledger| ledger.ipam().pools().next().is_none()) {
            return Err(CniError::NotReady(format!("node {} has no podCIDR", self.node)));
        }
        Ok(())
    }

    async fn wait_ready(&self) -> Result<(), CniError> {
        let mut ready = self.ready.clone();
        match timeout(READY_DEADLINE, ready.wait_for(Result::is_ok)).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let reason = self.ready.borrow().clone().err().unwrap_or_default();
                Err(CniError::TryAgain(format!("the agent is not ready: {reason}")))
            }
        }
    }

    fn port_taken(&self, port: PortMapping, owner: &AttachmentId) -> CniError {
        let pod = self.shared.entry(owner).and_then(|entry| entry.attachment.pod);
        let owner = pod.map_or_else(|| format!("container {owner}"), |pod| format!("pod {pod}"));
        CniError::PortTaken(format!("host port {port} is already taken on node {} by {owner}", self.node))
    }

    async fn wait_gone(&self, id: &AttachmentId) -> Result<(), CniError> {
        let gone = async {
            loop {
                let freed = self.freed.notified();
                if self.shared.entry(id).is_none() {
                    return;
                }
                freed.await;
            }
        };
        let late = |_| CniError::TryAgain(format!("the former link of {id} is still there"));
        timeout(GONE_DEADLINE, gone).await.map_err(late)
    }

    fn netns(&self, call: &Sandboxed, sandbox: &Sandbox) -> Result<NetnsId, CniError> {
        let refuse = |reason: String| CniError::Netns { path: call.netns.clone(), reason };
        let netns = link::netns_id(sandbox.netns.as_fd()).map_err(|error| refuse(error.to_string()))?;
        if netns == self.own_netns && !call.netns_override {
            return Err(refuse("it is the node's own".into()));
        }
        Ok(netns)
    }

    fn not_recorded(&self, error: RecordError) -> CniError {
        match error {
            RecordError::Ledger(LedgerError::Ipam(IpamError::NoPools)) => {
                CniError::TryAgain(format!("node {} has no podCIDR", self.node))
            }
            RecordError::Ledger(LedgerError::PortTaken { port, owner }) => self.port_taken(port, &owner),
            RecordError::Ledger(LedgerError::Ipam(error)) => CniError::TryAgain(error.to_string()),
            RecordError::Ledger(error) => CniError::Internal(error.to_string()),
            RecordError::Journal { path, error } => CniError::Io {
                action: format!("write the journal {}", path.display()),
                reason: error.to_string(),
            },
        }
    }
}

fn kernel(action: &'static str) -> impl FnOnce(RtnlError) -> CniError {
    move |error| CniError::Kernel { action: action.into(), reason: error.to_string() }
}

fn refused((step, error): (Step, RtnlError)) -> CniError {
    CniError::Kernel { action: format!("do {step:?}"), reason: error.to_string() }
}
