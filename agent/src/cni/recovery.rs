//! Making ledger and kernel agree: once at start, and again whenever something may have been missed.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{sleep, timeout};
use weft_api::DELETED_DIR;
use weft_pods::attachment::{Attachment, AttachmentId, PodRef};
use weft_pods::ledger::Phase;
use weft_pods::record::Record;
use weft_pods::recover::{Action, ObservedLink, decide};
use weft_pods::steps::{self, Step};

use super::service::Service;
use super::state::since_boot;
use crate::gate::PolicyGate;
use crate::kernel::link::{self, Observed};
use crate::kernel::rtnl::{Rtnl, RtnlError};

/// Events say what changes; the audit finds what they have missed.
const AUDIT_INTERVAL: Duration = Duration::from_secs(30);
/// Changes come in flocks.
const AUDIT_DELAY: Duration = Duration::from_millis(100);

/// Takes over what a former agent left. Returns all that has an address; what has ended meanwhile has it until the
/// [`audit`] finds that its link is gone.
pub(super) fn recover<G: PolicyGate>(
    service: &Service<G>,
    run_dir: &Path,
    damaged: bool,
) -> Result<Vec<Attachment>, RtnlError> {
    let links = service.rtnl.run(link::observe)?;
    let links: Vec<ObservedLink> = links.into_iter().map(|observed| observed.link).collect();
    let notes = notes(run_dir);
    let deleted: BTreeSet<AttachmentId> = notes.iter().map(|(id, _)| id.clone()).collect();
    let actions = service.shared.read(|ledger| decide(ledger, damaged, &links, &deleted));
    for action in actions {
        carry_out(service, action);
    }
    service.shared.catch_up();
    notes.iter().for_each(forget);
    // The agent that made them may not have been able to.
    service.shared.attached().iter().for_each(|attachment| service.sysctls.harden(&attachment.link));
    Ok(service.shared.read(|ledger| ledger.entries().map(|entry| entry.attachment.clone()).collect()))
}

fn carry_out<G: PolicyGate>(service: &Service<G>, action: Action) {
    let shared = &service.shared;
    match action {
        Action::Keep(attachment) => {
            let id = attachment.id.clone();
            if shared.entry(&id).is_some_and(|entry| entry.phase == Phase::Wiring) {
                shared.record_fact(&Record::Commit { id, ifindex: attachment.ifindex });
            }
        }
        Action::Adopt(attachment) => {
            tracing::warn!(
                container_id = attachment.id.container_id,
                link = attachment.link,
                "pod adopted by its link"
            );
            if attachment.pod.as_ref().is_some_and(PodRef::is_unknown) {
                tracing::error!(
                    container_id = attachment.id.container_id,
                    link = attachment.link,
                    "the name of this container's pod is lost, and all its traffic dropped until it is started again"
                );
            }
            // The line that freed what it has may be one that is missing.
            for id in shared.read(|ledger| ledger.in_the_way_of(&attachment)) {
                shared.record_fact(&Record::Free { id, at: since_boot() });
            }
            let commit = Record::Commit { id: attachment.id.clone(), ifindex: attachment.ifindex };
            shared.record_fact(&Record::Alloc { attachment });
            shared.record_fact(&commit);
        }
        Action::Delete { ifindex, id } => {
            if let Some(id) = id {
                shared.record_fact(&Record::Release { id });
            }
            delete(service, ifindex);
        }
        Action::Free(id) => shared.record_fact(&Record::Release { id }),
    }
}

/// Marks a link as dying. The ledger learns of its end as of any other's.
fn delete<G: PolicyGate>(service: &Service<G>, ifindex: u32) {
    let steps = [Step::Group(steps::DYING_GROUP)];
    match service.rtnl.run(|rtnl| link::apply(rtnl, ifindex, &steps)) {
        Ok(()) => service.reap.notify_one(),
        Err((_, error)) => tracing::warn!(%error, ifindex, "link not deleted"),
    }
}

/// Deletions that clients noted for us.
fn notes(run_dir: &Path) -> Vec<(AttachmentId, PathBuf)> {
    let Ok(dir) = std::fs::read_dir(run_dir.join(DELETED_DIR)) else { return Vec::new() };
    let note = |entry: io::Result<std::fs::DirEntry>| {
        let path = entry.ok()?.path();
        let (container_id, ifname) = path.file_name()?.to_str()?.split_once('@')?;
        Some((AttachmentId { container_id: container_id.to_owned(), ifname: ifname.to_owned() }, path))
    };
    dir.filter_map(note).collect()
}

fn forget((id, path): &(AttachmentId, PathBuf)) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(%error, container_id = id.container_id, "note of a deletion not removed");
    }
}

/// Audits now and then, and soon after somebody asks.
pub(super) async fn audit_forever<G: PolicyGate>(service: Arc<Service<G>>, run_dir: PathBuf) {
    loop {
        if timeout(AUDIT_INTERVAL, service.audit.notified()).await.is_ok() {
            sleep(AUDIT_DELAY).await;
        }
        if let Err(error) = audit(&service, &run_dir).await {
            tracing::warn!(%error, "audit of pod links failed");
        }
    }
}

pub(super) async fn audit<G: PolicyGate>(service: &Service<G>, run_dir: &Path) -> Result<(), RtnlError> {
    service.shared.catch_up();
    for note in notes(run_dir) {
        let _lock = service.shared.lock(&note.0).await;
        match service.detach(&note.0).await {
            Ok(()) => forget(&note),
            Err(error) => tracing::warn!(%error, container_id = note.0.container_id, "noted deletion failed"),
        }
    }
    // First the ledger, then the kernel, then the ledger: an attachment is judged by what is there all the time.
    let before: Vec<_> = service.shared.read(|ledger| ledger.entries().cloned().collect());
    let links = service.rtnl.run(link::observe)?;
    let mut gone = Vec::new();
    for entry in before {
        let attachment = entry.attachment;
        match (find(&links, &attachment), entry.phase) {
            (_, Phase::Wiring) => {}
            (None, _) => gone.push(attachment.link),
            (Some(_), Phase::Attached) => repair(service, &attachment.id).await?,
            // Whatever kept it from being marked when its end began.
            (Some(observed), Phase::Dying { .. }) => delete(service, observed.link.ifindex),
        }
    }
    for observed in links {
        let name = &observed.link.name;
        if !service.shared.read(|ledger| ledger.entries().any(|entry| entry.attachment.link == *name)) {
            delete(service, observed.link.ifindex);
        }
    }
    // Last, and at once: each waits for a commit of the policy.
    join_all(gone.iter().map(|link| service.link_gone(link))).await;
    Ok(())
}

fn find<'a>(links: &'a [Observed], attachment: &Attachment) -> Option<&'a Observed> {
    links.iter().find(|observed| observed.link.name == attachment.link)
}

/// Puts back what the host side of a live pod has lost.
async fn repair<G: PolicyGate>(service: &Service<G>, id: &AttachmentId) -> Result<(), RtnlError> {
    let _lock = service.shared.lock(id).await;
    let Some(entry) = service.shared.entry(id).filter(|entry| entry.phase == Phase::Attached) else {
        return Ok(());
    };
    let link = &entry.attachment.link;
    let repaired = service.rtnl.run(|rtnl| {
        let steps = missing(rtnl, &entry.attachment)?;
        link::apply(rtnl, entry.attachment.ifindex, &steps).map_err(|(_, error)| error)?;
        Ok::<_, RtnlError>(steps)
    });
    match repaired {
        Ok(steps) if steps.is_empty() => {}
        Ok(steps) => tracing::warn!(link, ?steps, "pod link repaired"),
        // Its end is an event of its own.
        Err(error) => tracing::warn!(%error, link, "pod link not repaired"),
    }
    Ok(())
}

fn missing(rtnl: &mut Rtnl, attachment: &Attachment) -> Result<Vec<Step>, RtnlError> {
    let up = link::by_name(rtnl, &attachment.link)?.is_some_and(|observed| observed.up);
    let neighbours = link::permanent_neighbours(rtnl, attachment.ifindex)?;
    let mut missing = Vec::new();
    for step in steps::repair(attachment) {
        let there = match &step {
            Step::Up => up,
            Step::Neighbour { address, .. } => up && neighbours.contains(address),
            Step::HostRoute { address, .. } => {
                up && link::has_host_route(rtnl, attachment.ifindex, *address)?
            }
            Step::LoopbackUp
            | Step::NoLinkLocal
            | Step::Alias(_)
            | Step::AlternativeNames(_)
            | Step::Group(_)
            | Step::Address(_)
            | Step::DefaultRoute { .. }
            | Step::RemoveHostRoute { .. } => true,
        };
        if !there {
            missing.push(step);
        }
    }
    Ok(missing)
}
