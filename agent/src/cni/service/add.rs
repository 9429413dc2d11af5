//! ADD: [`Service::reserve`], [`Service::wire`], [`Service::commit`]. Whatever fails, the link goes first and the
//! addresses after it.
//!
//! We may be killed between any two lines. What the next agent finds, and does ([`weft_pods::recover`]):
//!
//! | killed | in the journal | in the kernel | so |
//! |---|---|---|---|
//! | before `reserve` | nothing | nothing | nothing |
//! | before `wire` | Alloc | nothing | it is freed |
//! | before `commit` | Alloc | perhaps a link, perhaps a whole pod | the link goes, then it is freed |
//! | before the answer | Alloc, Commit | a pod that works | it stays; a runtime that asks again is given the same |
//!
//! In each of them the runtime has no answer, and deletes the pod or makes another. A pod cannot speak before its policy is
//! in force: the host side of its link is down until then.

use std::ops::Range;
use std::os::fd::AsFd;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::future::maybe_done;
use nix::errno::Errno;
use tokio::time::timeout;
use weft_pods::attachment::{Addresses, Attachment, AttachmentId, Mac, NetnsId, PortMapping};
use weft_pods::cni::{CniError, Sandboxed};
use weft_pods::ledger::{LedgerError, Phase};
use weft_pods::mark::{MAX_SALT, name};
use weft_pods::record::Record;
use weft_pods::steps::{self, Step};

use super::{Service, kernel, refused};
use crate::cni::arrival::{Arrival, Sandbox};
use crate::cni::state::Lock;
use crate::gate::PolicyGate;
use crate::kernel::link;
use crate::kernel::rtnl::Rtnl;

/// One policy commit takes milliseconds, a full one of a large cluster a second.
const POLICY_DEADLINE: Duration = Duration::from_secs(30);

/// Who has the id of a call.
enum Holder<'a> {
    /// The attachment that is asked for: the runtime has lost our answer.
    Itself(Attachment),
    /// This call, as long as it has the lock.
    Us(Lock<'a>),
}

/// A pod whose link is up.
struct Wired {
    /// Of the host side.
    ifindex: u32,
    phases: Phases,
}

/// Where the time went. `policy` is how long it made the ADD wait when the pod's side was done.
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

impl<G: PolicyGate> Service<G> {
    pub(in crate::cni) async fn add(
        &self,
        call: &Sandboxed,
        mut sandbox: Sandbox,
        arrival: &Arrival<'_>,
    ) -> Result<Attachment, CniError> {
        self.wait_ready().await?;
        let netns = self.netns(call, &sandbox)?;
        let _lock = match self.hold(&call.id, netns).await? {
            Holder::Itself(attachment) => return Ok(attachment),
            Holder::Us(lock) => lock,
        };
        if arrival.is_abandoned() || self.shared.is_buried(&call.id, arrival.started) {
            return Err(given_up());
        }
        let start = Instant::now();
        self.wait_ports(&call.ports).await?;
        let mut salts = 0..MAX_SALT;
        loop {
            let reserved = self.reserve(call, netns, &mut salts)?;
            let done = match self.wire(&reserved, sandbox, arrival).await {
                Ok(wired) => self.commit(&reserved, wired.ifindex).map(|()| wired).map_err(NotWired::Failed),
                Err(not_wired) => Err(not_wired),
            };
            match done {
                Ok(Wired { ifindex, phases }) => {
                    log_attached(&reserved, start.elapsed(), &phases);
                    return Ok(Attachment { ifindex, ..reserved });
                }
                Err(NotWired::NameTaken(back)) => {
                    self.free(&call.id).await;
                    sandbox = back;
                }
                Err(NotWired::Failed(error)) => {
                    self.undo(&reserved).await;
                    return Err(error);
                }
            }
        }
    }

    /// Waits until nobody else works on this id, and until a former attachment that had it is gone.
    async fn hold(&self, id: &AttachmentId, netns: NetnsId) -> Result<Holder<'_>, CniError> {
        loop {
            let lock = self.shared.lock(id).await;
            let Some(entry) = self.shared.entry(id) else { return Ok(Holder::Us(lock)) };
            match entry.phase {
                Phase::Attached if entry.attachment.netns == netns => {
                    return Ok(Holder::Itself(entry.attachment));
                }
                Phase::Attached => {
                    let reason = format!("{id} is attached already, in another namespace");
                    return Err(CniError::Environment { variable: "CNI_CONTAINERID", reason });
                }
                Phase::Wiring | Phase::Dying { .. } => {
                    drop(lock);
                    self.wait_gone(id).await?;
                }
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

    /// Addresses, host ports and a name for the link: in the journal when it returns. `salts` are those still to be tried.
    fn reserve(
        &self,
        call: &Sandboxed,
        netns: NetnsId,
        salts: &mut Range<u8>,
    ) -> Result<Attachment, CniError> {
        let is_free = |link: &String| {
            self.shared.read(|ledger| ledger.entries().all(|entry| entry.attachment.link != *link))
        };
        let link = salts.map(|salt| name(&call.id, salt)).find(is_free);
        let link =
            link.ok_or_else(|| CniError::Internal(format!("no name is left for the link of {}", call.id)))?;
        let reserved = self.shared.allocate(Attachment {
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
        reserved.map_err(|error| self.not_recorded(error))
    }

    /// The link, both its sides, and the policy between them: the pod is reachable when it returns. The policy, which
    /// somebody else commits, and the pod's side need not wait for each other: the host side is down.
    async fn wire(
        &self,
        reserved: &Attachment,
        sandbox: Sandbox,
        arrival: &Arrival<'_>,
    ) -> Result<Wired, NotWired> {
        let start = Instant::now();
        let mut admission = pin!(maybe_done(timeout(POLICY_DEADLINE, self.gate.admit(reserved))));
        // Only asks: the answer is awaited below.
        let _ = futures::poll!(admission.as_mut());
        let ifindex = self.wire_pod_side(reserved, sandbox)?;
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
            return Err(given_up().into());
        }
        let policy = start.elapsed() - pod_side;
        self.wire_host_side(reserved, ifindex)?;
        let phases = Phases { pod_side, policy, host_side: start.elapsed() - pod_side - policy };
        Ok(Wired { ifindex, phases })
    }

    /// The pair and all inside the pod, in one turn. Closes the descriptors: they keep the namespace alive. The index of
    /// the host side.
    fn wire_pod_side(&self, attachment: &Attachment, sandbox: Sandbox) -> Result<u32, NotWired> {
        self.rtnl.run(|rtnl| match link::create(rtnl, &steps::create(attachment), sandbox.netns.as_fd()) {
            Ok(pair) => {
                let pod = Rtnl::from_socket(sandbox.socket).map_err(|error| (Step::LoopbackUp, error));
                let wired =
                    pod.and_then(|mut pod| link::apply(&mut pod, pair.pod, &steps::pod_side(attachment)));
                wired.map(|()| pair.host).map_err(|error| refused(error).into())
            }
            Err(error) if error.errno() == Some(Errno::EEXIST) => {
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
                let Attachment { id, link, .. } = attachment;
                let action = format!("make {link} and {} of {id}", id.ifname);
                Err(CniError::Kernel { action, reason: error.to_string() }.into())
            }
        })
    }

    fn wire_host_side(&self, attachment: &Attachment, ifindex: u32) -> Result<(), CniError> {
        let steps = steps::host_side(attachment);
        let wired = self.rtnl.run(|rtnl| {
            self.sysctls.harden(&attachment.link);
            link::apply(rtnl, ifindex, &steps)
        });
        wired.map_err(refused)
    }

    /// What an agent that is killed from here on leaves is a pod: the runtime may be told.
    fn commit(&self, reserved: &Attachment, ifindex: u32) -> Result<(), CniError> {
        let commit = Record::Commit { id: reserved.id.clone(), ifindex };
        self.shared.record(&commit).map_err(|error| self.not_recorded(error))
    }
}

fn given_up() -> CniError {
    CniError::TryAgain("the runtime has given this attachment up".into())
}

fn log_attached(attachment: &Attachment, took: Duration, phases: &Phases) {
    tracing::info!(
        link = attachment.link,
        addresses = ?attachment.addresses.iter().collect::<Vec<_>>(),
        microseconds = took.as_micros(),
        pod_side = phases.pod_side.as_micros(),
        policy = phases.policy.as_micros(),
        host_side = phases.host_side.as_micros(),
        "pod attached"
    );
}
