//! How an attachment ends: its link goes first, whoever removes it, and its addresses after it. DEL answers when the pod is
//! unreachable; its link is reaped soon after, with others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use weft_pods::attachment::{Attachment, AttachmentId};
use weft_pods::cni::CniError;
use weft_pods::ledger::Phase;
use weft_pods::record::Record;
use weft_pods::steps::{self, Step};

use super::{Service, refused};
use crate::cni::state::since_boot;
use crate::gate::PolicyGate;
use crate::kernel::link;

/// How long dying links wait for company: deleting one takes as long as deleting fifty.
const REAP_DELAY: Duration = Duration::from_millis(50);

impl<G: PolicyGate> Service<G> {
    pub(in crate::cni) async fn del(&self, id: &AttachmentId, started: u64) -> Result<(), CniError> {
        self.shared.bury(id, started);
        let _lock = self.shared.lock(id).await;
        self.detach(id).await
    }

    /// Makes the pod unreachable and its link dying. Its caller holds the lock.
    pub(in crate::cni) async fn detach(&self, id: &AttachmentId) -> Result<(), CniError> {
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

    pub(in crate::cni) async fn gc(&self, valid: Option<BTreeSet<AttachmentId>>) -> Result<(), CniError> {
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

    /// Releases what an ADD has made that did not finish. Its caller holds the lock.
    pub(super) async fn undo(&self, attachment: &Attachment) {
        let id = &attachment.id;
        self.shared.record_fact(&Record::Release { id: id.clone() });
        let gone = self.rtnl.run(|rtnl| {
            let found = link::by_name(rtnl, &attachment.link)?.filter(link::Observed::is_ours);
            let Some(found) = found else { return Ok(true) };
            let outcome = link::apply(rtnl, found.link.ifindex, &[Step::Group(steps::DYING_GROUP)]);
            outcome.map(|()| false).map_err(|(_, error)| error)
        });
        match gone {
            Ok(true) => self.free(id).await,
            Ok(false) => self.reap.notify_one(),
            Err(error) => {
                tracing::warn!(%error, link = attachment.link, "failed link stays until the next audit");
            }
        }
    }

    /// The link of `id` is gone: so is its claim to the addresses. Its caller holds the lock.
    pub(in crate::cni) async fn free(&self, id: &AttachmentId) {
        self.gate.release(id).await;
        self.shared.record_fact(&Record::Free { id: id.clone(), at: since_boot() });
        self.freed.notify_waiters();
    }

    /// A link has gone, or is said to have. Of a pod that nobody deleted, too: its namespace was destroyed.
    pub(in crate::cni) async fn link_gone(&self, name: &str) {
        let Some(id) = self.id_of_link(name) else { return };
        let _lock = self.shared.lock(&id).await;
        let Some(entry) = self.shared.entry(&id).filter(|entry| entry.attachment.link == name) else {
            return;
        };
        match self.rtnl.run(|rtnl| link::by_name(rtnl, name)) {
            Ok(None) => {
                if entry.phase == Phase::Attached {
                    tracing::info!(container_id = id.container_id, link = name, "pod gone without DEL");
                }
                self.free(&id).await;
            }
            Ok(Some(_)) => {}
            Err(error) => tracing::warn!(%error, link = name, "link not looked up"),
        }
    }

    fn id_of_link(&self, name: &str) -> Option<AttachmentId> {
        self.shared.read(|ledger| {
            let entry = ledger.entries().find(|entry| entry.attachment.link == name)?;
            Some(entry.attachment.id.clone())
        })
    }

    pub(in crate::cni) fn phase_of_link(&self, name: &str) -> Option<Phase> {
        self.shared.read(|ledger| Some(ledger.entries().find(|entry| entry.attachment.link == name)?.phase))
    }

    /// Deletes dying links, in groups, for ever. What a deletion leaves undone is done by the next.
    pub(in crate::cni) async fn reap_forever(&self) {
        loop {
            self.reap.notified().await;
            sleep(REAP_DELAY).await;
            let reaper = Arc::clone(&self.reaper);
            let reaped = spawn_blocking(move || reaper.run(link::reap)).await;
            if let Ok(Err(error)) = reaped {
                tracing::warn!(%error, "dying links not deleted");
                self.reap.notify_one();
            }
        }
    }
}
