//! Who has which addresses and link: the state behind the journal.
//!
//! In: [`Record`]s, which the caller has written to the journal first. Out: addresses for a new attachment, and the
//! records that bring a fresh ledger to the same state. Running and recovering share [`Ledger::apply`].

use std::collections::BTreeMap;
use std::time::Duration;

use crate::attachment::{Attachment, AttachmentId, PortMapping};
use crate::ipam::{Ipam, IpamError};
use crate::record::Record;

/// How far an attachment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Allocated; its link may exist; nobody has been told.
    Wiring,
    Attached,
    /// Its link is being deleted. `was_attached`: it may have carried traffic.
    Dying {
        was_attached: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub attachment: Attachment,
    pub phase: Phase,
}

/// A record that does not fit the state: only a damaged journal has such.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    #[error("there is no attachment {0}")]
    Unknown(AttachmentId),
    #[error("{0} exists already")]
    Exists(AttachmentId),
    #[error("attachment {0} is in another phase")]
    Phase(AttachmentId),
    #[error("host port {port} is taken by {owner}")]
    PortTaken { port: PortMapping, owner: AttachmentId },
    #[error(transparent)]
    Ipam(#[from] IpamError),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    entries: BTreeMap<AttachmentId, Entry>,
    ipam: Ipam,
}

impl Ledger {
    pub fn entry(&self, id: &AttachmentId) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// In order of their ids.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.values()
    }

    pub fn ipam(&self) -> &Ipam {
        &self.ipam
    }

    /// Pools are not in the journal: they are the cluster's.
    pub fn ipam_mut(&mut self) -> &mut Ipam {
        &mut self.ipam
    }

    /// Takes one step of an attachment's life; leaves everything as it was when the record does not fit.
    pub fn apply(&mut self, record: &Record) -> Result<(), LedgerError> {
        match record {
            Record::Alloc { attachment } => {
                if self.entries.contains_key(&attachment.id) {
                    return Err(LedgerError::Exists(attachment.id.clone()));
                }
                self.check_ports(&attachment.ports)?;
                self.ipam.take(&attachment.addresses)?;
                let entry = Entry { attachment: attachment.clone(), phase: Phase::Wiring };
                self.entries.insert(attachment.id.clone(), entry);
            }
            Record::Commit { id, ifindex } => {
                let entry = self.entry_mut(id)?;
                if entry.phase != Phase::Wiring {
                    return Err(LedgerError::Phase(id.clone()));
                }
                entry.attachment.ifindex = *ifindex;
                entry.phase = Phase::Attached;
            }
            Record::Release { id } => {
                let entry = self.entry_mut(id)?;
                entry.phase = match entry.phase {
                    Phase::Wiring => Phase::Dying { was_attached: false },
                    Phase::Attached => Phase::Dying { was_attached: true },
                    dying @ Phase::Dying { .. } => dying,
                };
            }
            Record::Free { id, at } => {
                let entry = self.entries.remove(id).ok_or_else(|| LedgerError::Unknown(id.clone()))?;
                let idle = matches!(entry.phase, Phase::Wiring | Phase::Dying { was_attached: false });
                self.ipam.release(&entry.attachment.addresses, (!idle).then_some(*at));
            }
            Record::Cool { address, at } => self.ipam.cool(*address, *at),
        }
        Ok(())
    }

    /// As [`Ledger::apply`], for a journal some of whose lines may be lost: a later line is truer than what it contradicts.
    /// Whether it contradicts nothing.
    pub fn apply_after_loss(&mut self, record: &Record) -> bool {
        if self.apply(record).is_ok() {
            return true;
        }
        match record {
            Record::Alloc { attachment } => {
                self.end_those_in_the_way(attachment);
                self.apply(record).expect("nothing is in the way");
            }
            // Its id was allocated again.
            Record::Commit { id, ifindex } => {
                if let Ok(entry) = self.entry_mut(id) {
                    entry.attachment.ifindex = *ifindex;
                    entry.phase = Phase::Attached;
                }
            }
            Record::Release { .. } | Record::Free { .. } | Record::Cool { .. } => {}
        }
        false
    }

    /// Nothing was ever allocated that was not free.
    fn end_those_in_the_way(&mut self, of: &Attachment) {
        for id in self.in_the_way_of(of) {
            if let Some(ended) = self.entries.remove(&id) {
                self.ipam.release(&ended.attachment.addresses, Some(Duration::ZERO));
            }
        }
    }

    /// Attachments that have something of what this one has: they ended before it began.
    pub fn in_the_way_of(&self, new: &Attachment) -> Vec<AttachmentId> {
        let in_the_way = |entry: &&Entry| {
            let Attachment { id, link, addresses, ports, .. } = &entry.attachment;
            *id == new.id
                || *link == new.link
                || addresses.iter().any(|address| new.addresses.iter().any(|other| other == address))
                || ports.iter().any(|port| new.ports.iter().any(|other| other.collides_with(port)))
        };
        self.entries().filter(in_the_way).map(|entry| entry.attachment.id.clone()).collect()
    }

    /// Whether nobody has these host ports. A dying attachment has its own until its link is gone.
    pub fn check_ports(&self, ports: &[PortMapping]) -> Result<(), LedgerError> {
        for entry in self.entries.values() {
            let taken =
                ports.iter().find(|port| entry.attachment.ports.iter().any(|own| own.collides_with(port)));
            if let Some(port) = taken {
                return Err(LedgerError::PortTaken { port: *port, owner: entry.attachment.id.clone() });
            }
        }
        Ok(())
    }

    fn entry_mut(&mut self, id: &AttachmentId) -> Result<&mut Entry, LedgerError> {
        self.entries.get_mut(id).ok_or_else(|| LedgerError::Unknown(id.clone()))
    }

    /// The fewest records that lead here.
    pub fn snapshot(&self) -> Vec<Record> {
        let cooling = self.ipam.cooling().into_iter().map(|(address, at)| Record::Cool { address, at });
        cooling.chain(self.entries.values().flat_map(Entry::snapshot)).collect()
    }

    /// An address of each family, for an attachment that is still to be recorded.
    pub fn pick(&mut self, now: Duration) -> Result<crate::attachment::Addresses, IpamError> {
        self.ipam.pick(now)
    }
}

impl Entry {
    fn snapshot(&self) -> Vec<Record> {
        let Attachment { id, ifindex, .. } = &self.attachment;
        let alloc = Record::Alloc { attachment: self.attachment.clone() };
        let commit = Record::Commit { id: id.clone(), ifindex: *ifindex };
        let release = Record::Release { id: id.clone() };
        match self.phase {
            Phase::Wiring => vec![alloc],
            Phase::Attached => vec![alloc, commit],
            Phase::Dying { was_attached: true } => vec![alloc, commit, release],
            Phase::Dying { was_attached: false } => vec![alloc, release],
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
