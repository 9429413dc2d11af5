//! The verbs: what ADD, DEL, CHECK, GC and STATUS do, in which order, and what undoes them.
//!
//! ADD: allocate, journal, link and pod side beside the policy, host side, journal, answer. Whatever fails, the link goes first and
//! the addresses after it. DEL answers when the pod is unreachable; its link is reaped soon after, with others.

mod damage;
mod end;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::maybe_done;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use weft_pods::attachment::{Addresses, Attachment, AttachmentId, Mac, NetnsId, PortMapping};
use weft_pods::cni::CniError;
use weft_pods::cni::Sandboxed;
use weft_pods::ledger::{LedgerError, Phase};
use weft_pods::mark::{MAX_SALT, name};
use weft_pods::record::Record;
use weft_pods::steps::{self, Step};

use super::arrival::{Arrival, Sandbox};
use super::state::{RecordError, Shared};
use crate::gate::PolicyGate;
use crate::kernel::link;
use crate::kernel::rtnl::{Rtnl, RtnlError};
use crate::kernel::shared::SharedRtnl;
use crate::kernel::sysctl::LinkSysctls;

/// An agent that has just started is ready within this; else the runtime tries again.
const READY_DEADLINE: Duration = Duration::from_secs(5);
/// One policy commit takes milliseconds, a full one of a large cluster a second.
const POLICY_DEADLINE: Duration = Duration::from_secs(30);
/// For the link of a former attachment with the same id to go.
const GONE_DEADLINE: Duration = Duration::from_secs(10);

/// Where the time of an ADD went. `policy` is how long it made the ADD wait when the pod's side was done.
struct Phases {
    pod_side: Duration,
    policy: Duration,
    host_side: Duration,
}

/// Why a pod is not wired.
enum NotWired {
    /// Somebody else has a link of that name; nothing was made.
    NameTaken(Sandbox),
    Failed(CniError),
}

impl From<CniError> for NotWired {
    fn from(error: CniError) -> Self {
        Self::Failed(error)
    }
}

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
    pub(super) async fn add(
        &self,
        call: &Sandboxed,
        sandbox: Sandbox,
        arrival: &Arrival<'_>,
    ) -> Result<Attachment, CniError> {
        self.wait_ready().await?;
        let netns = self.netns(call, &sandbox)?;
        let _lock = loop {
            let lock = self.shared.lock(&call.id).await;
            let Some(entry) = self.shared.entry(&call.id) else { break lock };
            match entry.phase {
                // The runtime has lost our answer.
                Phase::Attached if entry.attachment.netns == netns => return Ok(entry.attachment),
                Phase::Attached => {
                    let reason = format!("{} is attached already, in another namespace", call.id);
                    return Err(CniError::Environment { variable: "CNI_CONTAINERID", reason });
                }
                Phase::Wiring | Phase::Dying { .. } => {
                    drop(lock);
                    self.wait_gone(&call.id).await?;
                }
            }
        };
        if arrival.is_abandoned() || self.shared.is_buried(&call.id, arrival.started) {
            return Err(CniError::TryAgain("the runtime has given this attachment up".into()));
        }
        let start = Instant::now();
        self.wait_ports(&call.ports).await?;
        let mut sandbox = sandbox;
        for salt in 0..MAX_SALT {
            let link = name(&call.id, salt);
            if self.shared.read(|ledger| ledger.entries().any(|entry| entry.attachment.link == link)) {
                continue;
            }
            let attachment = self.shared.allocate(Attachment {
                id: call.id.clone(),
                link,
                ifindex: 0,
                pod: call.pod.clone(),
                addresses: Addresses::default(),
                mac: Mac::HOST,
                netns,
                mtu: *self.mtu.borrow(),
                ports: call.ports.clone(),
            });
            let mut attachment = attachment.map_err(|error| self.not_recorded(error))?;
            match self.wire(&mut attachment, sandbox, arrival).await {
                Ok(phases) => {
                    log_attached(&attachment, start.elapsed(), &phases);
                    return Ok(attachment);
                }
                Err(NotWired::NameTaken(back)) => {
                    self.free(&call.id).await;
                    sandbox = back;
                }
                Err(NotWired::Failed(error)) => {
                    self.undo(&attachment).await;
                    return Err(error);
                }
            }
        }
        Err(CniError::Internal(format!("no name is left for the link of {}", call.id)))
    }

    /// From the link to the commit. The policy, which somebody else commits, and the pod's side need not wait for each
    /// other: the host side is down.
    async fn wire(
        &self,
        attachment: &mut Attachment,
        sandbox: Sandbox,
        arrival: &Arrival<'_>,
    ) -> Result<Phases, NotWired> {
        let start = Instant::now();
        let wanted = attachment.clone();
        let mut admission = pin!(maybe_done(timeout(POLICY_DEADLINE, self.gate.admit(&wanted))));
        // Only asks: the answer is awaited below.
        let _ = futures::poll!(admission.as_mut());
        attachment.ifindex = self.wire_pod_side(attachment, sandbox)?;
        let pod_side = start.elapsed();
        admission.as_mut().await;
        match admission.take_output() {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => {
                return Err(CniError::TryAgain(format!("no policy for the pod: {error}")).into());
            }
            Some(Err(_)) | None => {
                return Err(CniError::TryAgain("the pod's policy takes too long".into()).into());
            }
        }
        if arrival.is_abandoned() {
            return Err(CniError::TryAgain("the runtime has given this attachment up".into()).into());
        }
        let policy = start.elapsed() - pod_side;
        let steps = steps::host_side(attachment);
        let host = self.rtnl.run(|rtnl| {
            self.sysctls.harden(&attachment.link);
            link::apply(rtnl, attachment.ifindex, &steps)
        });
        host.map_err(refused)?;
        let commit = Record::Commit { id: attachment.id.clone(), ifindex: attachment.ifindex };
        self.shared.record(&commit).map_err(|error| self.not_recorded(error))?;
        Ok(Phases { pod_side, policy, host_side: start.elapsed() - pod_side - policy })
    }

    /// The pair and all inside the pod, in one turn. Closes the descriptors: they keep the namespace alive.
    fn wire_pod_side(&self, attachment: &Attachment, sandbox: Sandbox) -> Result<u32, NotWired> {
        use std::os::fd::AsFd;
        self.rtnl.run(|rtnl| {
            match link::create(rtnl, &steps::create(attachment), sandbox.netns.as_fd()) {
                Ok(pair) => {
                    let pod = Rtnl::from_socket(sandbox.socket).map_err(|error| (Step::LoopbackUp, error));
                    let pod_side =
                        pod.and_then(|mut pod| link::apply(&mut pod, pair.pod, &steps::pod_side(attachment)));
                    pod_side.map(|()| pair.host).map_err(|error| refused(error).into())
                }
                Err(error) if error.errno() == Some(nix::errno::Errno::EEXIST) => {
                    // One of the two names; the kernel does not say which.
                    match link::by_name(rtnl, &attachment.link).map_err(kernel("look for a link"))? {
                        Some(_) => Err(NotWired::NameTaken(sandbox)),
                        None => {
                            let reason = format!("{} exists already in the namespace", attachment.id.ifname);
                            Err(CniError::Environment { variable: "CNI_IFNAME", reason }.into())
                        }
                    }
                }
                Err(error) => {
                    let action =
                        format!("make {} and {} of {}", attachment.link, attachment.id.ifname, attachment.id);
                    Err(CniError::Kernel { action, reason: error.to_string() }.into())
                }
            }
        })
    }

    pub(super) async fn del(&self, id: &AttachmentId, started: u64) -> Result<(), CniError> {
        self.shared.bury(id, started);
        let _lock = self.shared.lock(id).await;
        self.detach(id).await
    }

    /// Makes the pod unreachable and its link dying. Its caller holds the lock.
    pub(super) async fn detach(&self, id: &AttachmentId) -> Result<(), CniError> {
        let Some(entry) = self.shared.entry(id) else { return Ok(()) };
        let attachment = entry.attachment;
        if entry.phase != Phase::Attached {
            self.undo(&attachment).await;
            return Ok(());
        }
        self.shared.record_fact(&Record::Release { id: id.clone() });
        let steps = steps::detach(&attachment);
        self.rtnl.run(|rtnl| link::apply(rtnl, attachment.ifindex, &steps)).map_err(refused)?;
        self.reap.notify_one();
        tracing::info!(
            container_id = id.container_id,
            pod = attachment.pod.as_ref().map(tracing::field::display),
            link = attachment.link,
            "pod detached"
        );
        Ok(())
    }

    pub(super) async fn gc(&self, valid: Option<BTreeSet<AttachmentId>>) -> Result<(), CniError> {
        // No list is not an empty list.
        let Some(valid) = valid else { return Ok(()) };
        let attached = self.shared.read(|ledger| {
            let attached = ledger.entries().filter(|entry| entry.phase == Phase::Attached);
            attached.map(|entry| entry.attachment.id.clone()).collect::<Vec<_>>()
        });
        let mut failed = None;
        for id in attached.into_iter().filter(|id| !valid.contains(id)) {
            let _lock = self.shared.lock(&id).await;
            if let Err(error) = self.detach(&id).await {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    pub(super) async fn check(&self, call: &Sandboxed, sandbox: Sandbox) -> Result<(), CniError> {
        let netns = self.netns(call, &sandbox)?;
        let _lock = self.shared.lock(&call.id).await;
        let entry = self.shared.entry(&call.id).filter(|entry| entry.phase == Phase::Attached);
        let attachment = entry.ok_or_else(|| CniError::UnknownContainer(call.id.to_string()))?.attachment;
        if attachment.netns != netns {
            return Err(CniError::Damaged("it was made in another namespace".into()));
        }
        if let Some(missing) = attachment.addresses.iter().find(|address| !call.previous.contains(address)) {
            return Err(CniError::Damaged(format!("prevResult lacks {missing}")));
        }
        let looked = self.rtnl.run(|rtnl| {
            let mut found = damage::of_host_side(rtnl, &attachment)?;
            if found.is_none() {
                let mut pod = Rtnl::from_socket(sandbox.socket)?;
                let pod_side = link::observe_pod(&mut pod, &attachment.id.ifname)?;
                found = damage::of_pod_side(pod_side.as_ref(), &attachment);
            }
            Ok(found)
        });
        match looked.map_err(kernel("show the pod's link"))? {
            Some(damage) => Err(CniError::Damaged(damage)),
            None => Ok(()),
        }
    }

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

    /// Until the pods that had these host ports and are being deleted are gone.
    async fn wait_ports(&self, ports: &[PortMapping]) -> Result<(), CniError> {
        while let Err(LedgerError::PortTaken { port, owner }) =
            self.shared.read(|ledger| ledger.check_ports(ports))
        {
            match self.shared.entry(&owner).map(|entry| entry.phase) {
                Some(Phase::Dying { .. }) => self.wait_gone(&owner).await?,
                Some(Phase::Wiring | Phase::Attached) => return Err(self.port_taken(port, &owner)),
                None => {}
            }
        }
        Ok(())
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
        use std::os::fd::AsFd;
        let refuse = |reason: String| CniError::Netns { path: call.netns.clone(), reason };
        let netns = link::netns_id(sandbox.netns.as_fd()).map_err(|error| refuse(error.to_string()))?;
        if netns == self.own_netns && !call.netns_override {
            return Err(refuse("it is the node's own".into()));
        }
        Ok(netns)
    }

    fn not_recorded(&self, error: RecordError) -> CniError {
        match error {
            RecordError::Ledger(LedgerError::Ipam(weft_pods::ipam::IpamError::NoPools)) => {
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

fn log_attached(attachment: &Attachment, took: Duration, phases: &Phases) {
    tracing::info!(
        container_id = attachment.id.container_id,
        pod = attachment.pod.as_ref().map(tracing::field::display),
        link = attachment.link,
        addresses = ?attachment.addresses.iter().collect::<Vec<_>>(),
        microseconds = took.as_micros(),
        pod_side = phases.pod_side.as_micros(),
        policy = phases.policy.as_micros(),
        host_side = phases.host_side.as_micros(),
        "pod attached"
    );
}

fn kernel(action: &'static str) -> impl FnOnce(RtnlError) -> CniError {
    move |error| CniError::Kernel { action: action.into(), reason: error.to_string() }
}

fn refused((step, error): (Step, RtnlError)) -> CniError {
    CniError::Kernel { action: format!("do {step:?}"), reason: error.to_string() }
}
