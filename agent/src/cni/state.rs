//! What the server's tasks share: the ledger with its journal, one lock per attachment, and who was deleted when.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnetwork::IpNetwork;
use nix::time::{ClockId, clock_gettime};
use weft_api::control::{Allocation, Ipam, Pool};
use weft_pods::attachment::{Attachment, AttachmentId};
use weft_pods::ledger::{Entry, Ledger, LedgerError, Phase};
use weft_pods::record::Record;

use super::journal::Journal;

/// Deletions that are remembered, to refuse ADDs that they have overtaken: such an ADD waits in the accept queue, which
/// is shorter.
const MAX_TOMBSTONES: usize = 8192;

/// Why an event could not be recorded; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error("cannot write the journal {}: {error}", .path.display())]
    Journal { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    journal: Journal,
}

/// The ledger, and who works on what.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    locks: Mutex<BTreeMap<AttachmentId, Arc<tokio::sync::Mutex<()>>>>,
    tombstones: Mutex<Tombstones>,
}

impl Shared {
    pub(super) fn new(ledger: Ledger, journal: Journal) -> Self {
        Self {
            state: Mutex::new(State { ledger, journal }),
            locks: Mutex::default(),
            tombstones: Mutex::default(),
        }
    }

    /// A panic elsewhere leaves the ledger whole: its changes are single calls.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&Ledger) -> T) -> T {
        read(&self.state().ledger)
    }

    pub(super) fn entry(&self, id: &AttachmentId) -> Option<Entry> {
        self.read(|ledger| ledger.entry(id).cloned())
    }

    pub(super) fn set_pools(&self, pools: &[IpNetwork]) {
        self.state().ledger.ipam_mut().set_pools(pools, &[]);
    }

    /// Gives `attachment` its addresses, and writes it down, unless somebody has one of its host ports.
    pub(super) fn allocate(&self, mut attachment: Attachment) -> Result<Attachment, RecordError> {
        let mut state = self.state();
        state.ledger.check_ports(&attachment.ports)?;
        attachment.addresses = state.ledger.pick(since_boot()).map_err(LedgerError::from)?;
        attachment.mac = weft_pods::attachment::Mac::of_pod(&attachment.addresses);
        state.record(&Record::Alloc { attachment: attachment.clone() })?;
        Ok(attachment)
    }

    /// Writes an event down, then lets it happen.
    pub(super) fn record(&self, record: &Record) -> Result<(), RecordError> {
        self.state().record(record)
    }

    /// For what has happened already: without its line, the next start finds it out from the missing link. Nothing is
    /// allocated before the journal has caught up.
    pub(super) fn record_fact(&self, record: &Record) {
        let mut state = self.state();
        let written = state.journal.append(record);
        let applied = state.ledger.apply(record);
        drop(state);
        if let Err(error) = written {
            tracing::error!(%error, "journal not written; no pod is added until it is");
        }
        if let Err(error) = applied {
            tracing::error!(%error, ?record, "ledger refused a fact");
        }
    }

    /// Writes the lines that the journal lacks, if any.
    pub(super) fn catch_up(&self) {
        if let Err(error) = self.state().catch_up() {
            tracing::error!(%error, "no pod is added");
        }
    }

    /// All that are in use.
    pub(super) fn attached(&self) -> Vec<Attachment> {
        self.read(|ledger| {
            let attached = ledger.entries().filter(|entry| entry.phase == Phase::Attached);
            attached.map(|entry| entry.attachment.clone()).collect()
        })
    }

    /// Waits until nobody else works on this attachment.
    pub(super) async fn lock(&self, id: &AttachmentId) -> Lock<'_> {
        let mutex = Arc::clone(self.locks().entry(id.clone()).or_default());
        let held = Arc::clone(&mutex).lock_owned().await;
        Lock { shared: self, id: id.clone(), mutex, held: Some(held) }
    }

    fn locks(&self) -> MutexGuard<'_, BTreeMap<AttachmentId, Arc<tokio::sync::Mutex<()>>>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that `id` was deleted by a client that started at `started` (milliseconds since boot).
    pub(super) fn bury(&self, id: &AttachmentId, started: u64) {
        self.tombstones.lock().unwrap_or_else(PoisonError::into_inner).bury(id, started);
    }

    /// Whether an ADD that started at `started` has been deleted since.
    pub(super) fn is_buried(&self, id: &AttachmentId, started: u64) -> bool {
        self.tombstones.lock().unwrap_or_else(PoisonError::into_inner).covers(id, started)
    }

    pub(super) fn ipam(&self) -> Ipam {
        self.read(|ledger| Ipam {
            pools: ledger.ipam().pools().map(|(cidr, counts)| pool(cidr, counts)).collect(),
            allocations: ledger.entries().map(|entry| allocation(&entry.attachment)).collect(),
        })
    }
}

impl State {
    fn catch_up(&mut self) -> Result<(), RecordError> {
        self.journal.catch_up(&self.ledger).map_err(|error| self.not_written(error))
    }

    fn not_written(&self, error: io::Error) -> RecordError {
        RecordError::Journal { path: self.journal.path().to_owned(), error }
    }

    fn record(&mut self, record: &Record) -> Result<(), RecordError> {
        self.catch_up()?;
        self.journal.append(record).map_err(|error| self.not_written(error))?;
        self.ledger.apply(record)?;
        if let Err(error) = self.journal.tidy(&self.ledger) {
            tracing::warn!(%error, "journal not compacted");
        }
        Ok(())
    }
}

fn pool(cidr: IpNetwork, counts: weft_pods::ipam::Counts) -> Pool {
    Pool {
        cidr: cidr.to_string(),
        size: counts.size.into(),
        used: counts.used.into(),
        free: counts.free.into(),
        cooling: counts.cooling.into(),
        reserved: counts.reserved.into(),
    }
}

fn allocation(attachment: &Attachment) -> Allocation {
    Allocation {
        pod: attachment.pod.as_ref().map(ToString::to_string).unwrap_or_default(),
        container_id: attachment.id.container_id.clone(),
        ifname: attachment.id.ifname.clone(),
        link: attachment.link.clone(),
        addresses: attachment.addresses.iter().collect(),
    }
}

/// The clock of journal and cool-down: counts on in suspend.
pub(super) fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// While it lives, nobody else works on the attachment.
#[derive(Debug)]
pub(super) struct Lock<'a> {
    shared: &'a Shared,
    id: AttachmentId,
    mutex: Arc<tokio::sync::Mutex<()>>,
    held: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        let mut locks = self.shared.locks();
        drop(self.held.take());
        // The map's and ours: nobody waits.
        if Arc::strong_count(&self.mutex) == 2 {
            locks.remove(&self.id);
        }
    }
}

#[derive(Debug, Default)]
struct Tombstones {
    deleted: BTreeMap<AttachmentId, u64>,
    order: VecDeque<AttachmentId>,
}

impl Tombstones {
    fn bury(&mut self, id: &AttachmentId, started: u64) {
        if self.deleted.insert(id.clone(), started).is_none() {
            self.order.push_back(id.clone());
        }
        if self.order.len() > MAX_TOMBSTONES
            && let Some(oldest) = self.order.pop_front()
        {
            self.deleted.remove(&oldest);
        }
    }

    fn covers(&self, id: &AttachmentId, started: u64) -> bool {
        self.deleted.get(id).is_some_and(|deleted| started < *deleted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> AttachmentId {
        AttachmentId { container_id: format!("c{n}"), ifname: "eth0".to_owned() }
    }

    #[test]
    fn only_an_add_that_began_before_its_del_is_refused() {
        let mut tombstones = Tombstones::default();
        tombstones.bury(&id(1), 100);
        assert!(tombstones.covers(&id(1), 99));
        assert!(!tombstones.covers(&id(1), 101));
        assert!(!tombstones.covers(&id(2), 99));
    }

    #[test]
    fn the_oldest_deletion_is_forgotten_first() {
        let mut tombstones = Tombstones::default();
        (0..=MAX_TOMBSTONES).for_each(|n| tombstones.bury(&id(n), 100));
        assert!(!tombstones.covers(&id(0), 1));
        assert!(tombstones.covers(&id(1), 1) && tombstones.covers(&id(MAX_TOMBSTONES), 1));
        assert_eq!(tombstones.deleted.len(), MAX_TOMBSTONES);
    }
}
