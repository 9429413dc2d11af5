//! What to do with what a former agent left: the journal says one thing, the kernel's links say another.
//!
//! In: the replayed [`Ledger`], the links that carry our mark, the deletions that clients noted while no agent ran. Out:
//! one [`Action`] per attachment or link. Pure. The link is the lease: no link, no attachment. A pod whose ADD did not
//! finish goes, because its runtime has not been told; except when the journal is damaged, as the record that is missing
//! may be that very one: a link that has its alias, which is set after the pod's policy, is then believed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::attachment::{Attachment, AttachmentId};
use crate::ledger::{Entry, Ledger, Phase};
use crate::mark;
use crate::record::Record;
use crate::steps::DYING_GROUP;

/// A link whose name and group are ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedLink {
    pub name: String,
    pub ifindex: u32,
    pub mtu: u32,
    pub group: u32,
    pub alias: Option<String>,
    /// Alternative names.
    pub names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Record and link agree. Host side to be repaired where somebody changed it.
    Keep(Attachment),
    /// A link without record: record it.
    Adopt(Attachment),
    /// Delete the link; then free the attachment, if there is one.
    Delete { ifindex: u32, id: Option<AttachmentId> },
    /// A record without link: free it.
    Free(AttachmentId),
}

/// Decides for each record and each link once. `deleted` are the clients' markers.
pub fn decide(
    ledger: &Ledger,
    damaged: bool,
    links: &[ObservedLink],
    deleted: &BTreeSet<AttachmentId>,
) -> Vec<Action> {
    let mut by_name: BTreeMap<&str, &ObservedLink> =
        links.iter().map(|link| (link.name.as_str(), link)).collect();
    let mut actions = Vec::new();
    for entry in ledger.entries() {
        let id = &entry.attachment.id;
        let link = by_name.get(entry.attachment.link.as_str()).copied();
        let Some(link) = link.filter(|link| link.identity().is_none_or(|found| is_of(entry, &found))) else {
            actions.push(Action::Free(id.clone()));
            continue;
        };
        by_name.remove(link.name.as_str());
        actions.push(if is_finished(entry, link, damaged) && !deleted.contains(id) {
            Action::Keep(Attachment { ifindex: link.ifindex, ..entry.attachment.clone() })
        } else {
            Action::Delete { ifindex: link.ifindex, id: Some(id.clone()) }
        });
    }
    // A copy, in which each adopted link takes what it claims: of two links that claim the same, one is adopted. What has
    // no link claims nothing: the line that freed it may be the one that is missing.
    let mut claims = ledger.clone();
    for action in &actions {
        if let Action::Free(id) = action {
            let freed = claims.apply(&Record::Free { id: id.clone(), at: Duration::ZERO });
            freed.expect("each entry is decided once");
        }
    }
    for link in by_name.into_values() {
        let adopted = link.identity().filter(|found| {
            link.group != DYING_GROUP
                && !deleted.contains(&found.id)
                && claims.apply(&Record::Alloc { attachment: found.clone() }).is_ok()
        });
        actions.push(match adopted {
            Some(attachment) => Action::Adopt(attachment),
            None => Action::Delete { ifindex: link.ifindex, id: None },
        });
    }
    actions
}

/// Whether the alias of a link says what the record does. The same id with other addresses is a later attachment.
fn is_of(entry: &Entry, found: &Attachment) -> bool {
    found.id == entry.attachment.id && found.addresses == entry.attachment.addresses
}

/// Whether its ADD had come to an end, as far as can be known, and no DEL had begun.
fn is_finished(entry: &Entry, link: &ObservedLink, damaged: bool) -> bool {
    let answered = match entry.phase {
        Phase::Attached => true,
        Phase::Wiring => damaged && link.identity().is_some(),
        Phase::Dying { .. } => false,
    };
    answered && link.group != DYING_GROUP
}

impl ObservedLink {
    fn identity(&self) -> Option<Attachment> {
        mark::attachment_of(&self.name, self.ifindex, self.mtu, self.alias.as_deref()?, &self.names)
    }
}

#[cfg(test)]
mod tests;
