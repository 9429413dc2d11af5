use proptest::prelude::*;
use weft_api::LINK_GROUP;

use super::*;
use crate::ledger::tests::attachment;
use crate::mark::alias;

const INDEX: u32 = 12;

fn ledger(records: &[Record]) -> Ledger {
    let mut ledger = Ledger::default();
    records.iter().for_each(|record| ledger.apply(record).unwrap());
    ledger
}

fn attached(attachment: &Attachment) -> Vec<Record> {
    let id = attachment.id.clone();
    vec![Record::Alloc { attachment: attachment.clone() }, Record::Commit { id, ifindex: INDEX }]
}

fn bare_link(attachment: &Attachment) -> ObservedLink {
    let name = attachment.link.clone();
    ObservedLink { name, ifindex: INDEX, mtu: 1500, group: LINK_GROUP, alias: None, names: Vec::new() }
}

fn link(attachment: &Attachment) -> ObservedLink {
    ObservedLink { alias: Some(alias(attachment)), ..bare_link(attachment) }
}

fn with_index(attachment: &Attachment) -> Attachment {
    Attachment { ifindex: INDEX, ..attachment.clone() }
}

fn nobody() -> BTreeSet<AttachmentId> {
    BTreeSet::new()
}

#[test]
fn a_pod_whose_record_and_link_agree_is_kept() {
    let a = attachment("a", [10, 0, 0, 1]);
    let actions = decide(&ledger(&attached(&a)), false, &[link(&a)], &nobody());
    assert_eq!(actions, [Action::Keep(with_index(&a))]);
}

#[test]
fn an_add_that_did_not_finish_is_undone_even_if_its_link_has_its_alias() {
    let a = attachment("a", [10, 0, 0, 1]);
    for link in [bare_link(&a), link(&a)] {
        let actions = decide(&ledger(&attached(&a)[..1]), false, &[link], &nobody());
        assert_eq!(actions, [Action::Delete { ifindex: INDEX, id: Some(a.id.clone()) }]);
    }
}

#[test]
fn with_a_damaged_journal_a_link_with_its_alias_is_believed() {
    let a = attachment("a", [10, 0, 0, 1]);
    let unfinished = ledger(&attached(&a)[..1]);
    assert_eq!(decide(&unfinished, true, &[link(&a)], &nobody()), [Action::Keep(with_index(&a))]);
    let bare = decide(&unfinished, true, &[bare_link(&a)], &nobody());
    assert_eq!(bare, [Action::Delete { ifindex: INDEX, id: Some(a.id.clone()) }]);
}

#[test]
fn a_record_without_link_is_freed() {
    let a = attachment("a", [10, 0, 0, 1]);
    for records in [attached(&a), attached(&a)[..1].to_vec()] {
        assert_eq!(decide(&ledger(&records), false, &[], &nobody()), [Action::Free(a.id.clone())]);
    }
}

#[test]
fn a_link_without_record_is_adopted_by_its_alias_or_deleted() {
    let a = attachment("a", [10, 0, 0, 1]);
    let empty = Ledger::default();
    assert_eq!(decide(&empty, false, &[link(&a)], &nobody()), [Action::Adopt(with_index(&a))]);
    let unreadable = [Action::Delete { ifindex: INDEX, id: None }];
    assert_eq!(decide(&empty, false, &[bare_link(&a)], &nobody()), unreadable);
}

#[test]
fn of_two_links_that_claim_one_address_one_is_adopted() {
    let (a, b) = (attachment("a", [10, 0, 0, 1]), attachment("b", [10, 0, 0, 1]));
    let actions = decide(&Ledger::default(), false, &[link(&a), link(&b)], &nobody());
    assert_eq!(actions.iter().filter(|action| matches!(action, Action::Adopt(_))).count(), 1);
    assert_eq!(actions.iter().filter(|action| matches!(action, Action::Delete { .. })).count(), 1);
}

#[test]
fn a_link_that_claims_a_recorded_address_is_deleted() {
    let (a, b) = (attachment("a", [10, 0, 0, 1]), attachment("b", [10, 0, 0, 1]));
    let actions = decide(&ledger(&attached(&a)), false, &[link(&a), link(&b)], &nobody());
    assert!(actions.contains(&Action::Keep(with_index(&a))));
    assert!(actions.contains(&Action::Delete { ifindex: INDEX, id: None }));
}

#[test]
fn a_deletion_that_a_client_noted_is_carried_out() {
    let a = attachment("a", [10, 0, 0, 1]);
    let noted = BTreeSet::from([a.id.clone()]);
    let recorded = decide(&ledger(&attached(&a)), false, &[link(&a)], &noted);
    assert_eq!(recorded, [Action::Delete { ifindex: INDEX, id: Some(a.id.clone()) }]);
    let unrecorded = decide(&Ledger::default(), false, &[link(&a)], &noted);
    assert_eq!(unrecorded, [Action::Delete { ifindex: INDEX, id: None }]);
}

#[test]
fn a_deletion_that_was_begun_is_finished() {
    let a = attachment("a", [10, 0, 0, 1]);
    let mut released = attached(&a);
    released.push(Record::Release { id: a.id.clone() });
    let dying = ObservedLink { group: DYING_GROUP, ..link(&a) };
    for (records, link) in [(released, link(&a)), (attached(&a), dying.clone())] {
        let actions = decide(&ledger(&records), false, &[link], &nobody());
        assert_eq!(actions, [Action::Delete { ifindex: INDEX, id: Some(a.id.clone()) }]);
    }
    let unrecorded = decide(&Ledger::default(), false, &[dying], &nobody());
    assert_eq!(unrecorded, [Action::Delete { ifindex: INDEX, id: None }]);
}

/// The journal of these records, without the lines that `lost` chooses.
fn replayed(records: &[Record], lost: impl Fn(&Record) -> bool) -> crate::journal::Replay {
    let mut bytes = crate::journal::compact(&Ledger::default(), "boot");
    records
        .iter()
        .filter(|record| !lost(record))
        .for_each(|record| bytes.extend(crate::journal::encode(record)));
    crate::journal::replay(&bytes, "boot")
}

#[test]
fn a_lost_free_does_not_cost_the_next_owner_of_the_address_its_link() {
    let (old, new) = (attachment("old", [10, 0, 0, 1]), attachment("new", [10, 0, 0, 1]));
    let mut records = attached(&old);
    records.push(Record::Free { id: old.id.clone(), at: Duration::ZERO });
    records.extend(attached(&new));
    let is_free = |record: &Record| matches!(record, Record::Free { .. });
    let is_of_new =
        |record: &Record| matches!(record, Record::Alloc { attachment } if attachment.id == new.id);
    let replay = replayed(&records, |record| is_free(record) || is_of_new(record));
    let actions = decide(&replay.ledger, replay.damaged, &[link(&new)], &nobody());
    assert_eq!(actions, [Action::Free(old.id.clone()), Action::Adopt(with_index(&new))]);
    // The line that gave the address to the next owner says that the former one had lost it.
    let replay = replayed(&records, is_free);
    let actions = decide(&replay.ledger, replay.damaged, &[link(&new)], &nobody());
    assert_eq!(actions, [Action::Keep(with_index(&new))]);
}

#[test]
fn a_lost_free_does_not_cost_an_id_that_is_attached_again_its_link() {
    let (first, second) = (attachment("a", [10, 0, 0, 1]), attachment("a", [10, 0, 0, 2]));
    let mut records = attached(&first);
    records.push(Record::Release { id: first.id.clone() });
    let ended = records.clone();
    records.extend(attached(&second));
    for (records, expected) in [
        (&records, vec![Action::Keep(with_index(&second))]),
        (&ended, vec![Action::Free(first.id.clone()), Action::Adopt(with_index(&second))]),
    ] {
        let replay = replayed(records, |_| false);
        assert_eq!(decide(&replay.ledger, true, &[link(&second)], &nobody()), expected);
    }
}

#[test]
fn what_has_been_freed_leaves_nothing_to_decide() {
    let a = attachment("a", [10, 0, 0, 1]);
    let mut records = attached(&a);
    records.push(Record::Free { id: a.id.clone(), at: Duration::ZERO });
    assert_eq!(decide(&ledger(&records), false, &[], &nobody()), []);
}

/// An agent that is killed after some steps, with a journal that loses some lines.
#[derive(Default)]
struct Life {
    steps_left: usize,
    ledger: Ledger,
    journal: Vec<Vec<u8>>,
    links: BTreeMap<String, ObservedLink>,
    /// The runtime was told of these, and has not asked for their end.
    live: BTreeMap<AttachmentId, Attachment>,
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Add { id: u8, address: u8 },
    Del { id: u8 },
}

impl Life {
    fn alive(&mut self) -> bool {
        let alive = self.steps_left > 0;
        self.steps_left = self.steps_left.saturating_sub(1);
        alive
    }

    /// Whether the agent got so far.
    fn record(&mut self, record: &Record) -> bool {
        let written = self.alive() && self.ledger.apply(record).is_ok();
        if written {
            self.journal.push(crate::journal::encode(record));
        }
        written
    }

    fn link(&mut self, name: &str, change: impl FnOnce(&mut ObservedLink)) -> bool {
        let alive = self.alive();
        if alive && let Some(link) = self.links.get_mut(name) {
            change(link);
        }
        alive
    }

    fn add(&mut self, attachment: &Attachment) -> Option<()> {
        let (id, name) = (attachment.id.clone(), attachment.link.clone());
        self.record(&Record::Alloc { attachment: attachment.clone() }).then_some(())?;
        let ifindex = INDEX + u32::from(attachment.id.container_id.as_bytes()[1]);
        let link = ObservedLink { ifindex, ..bare_link(attachment) };
        self.alive().then(|| self.links.insert(name.clone(), link))?;
        self.link(&name, |link| link.alias = Some(alias(attachment))).then_some(())?;
        self.record(&Record::Commit { id: id.clone(), ifindex: INDEX }).then_some(())?;
        self.live.insert(id, attachment.clone());
        Some(())
    }

    fn del(&mut self, id: &AttachmentId) -> Option<()> {
        let name = self.ledger.entry(id)?.attachment.link.clone();
        self.live.remove(id);
        self.record(&Record::Release { id: id.clone() }).then_some(())?;
        self.link(&name, |link| link.group = DYING_GROUP).then_some(())?;
        self.alive().then(|| self.links.remove(&name))?;
        self.record(&Record::Free { id: id.clone(), at: Duration::ZERO }).then_some(())
    }

    fn run(calls: &[Call], steps: usize) -> Self {
        let mut life = Self { steps_left: steps, ..Self::default() };
        for call in calls {
            let _ = match call {
                Call::Add { id, address } => life.add(&attachment(&format!("c{id}"), [10, 0, 0, *address])),
                Call::Del { id } => life.del(&attachment(&format!("c{id}"), [0; 4]).id),
            };
        }
        life
    }

    /// What the next agent makes of it: its ledger, and the links that it leaves alone.
    fn recover(&self, bytes: &[u8]) -> (Ledger, Vec<&ObservedLink>) {
        let crate::journal::Replay { mut ledger, damaged } = crate::journal::replay(bytes, "boot");
        let links: Vec<_> = self.links.values().cloned().collect();
        let mut left: Vec<_> = self.links.values().collect();
        for action in decide(&ledger, damaged, &links, &nobody()) {
            for record in records_of(&action, &ledger) {
                ledger.apply(&record).expect("a decision fits the ledger");
            }
            if let Action::Delete { ifindex, .. } = action {
                left.retain(|link| link.ifindex != ifindex);
            }
        }
        (ledger, left)
    }
}

/// As the agent carries it out.
fn records_of(action: &Action, ledger: &Ledger) -> Vec<Record> {
    match action {
        Action::Keep(kept) => match ledger.entry(&kept.id).map(|entry| entry.phase) {
            Some(Phase::Wiring) => vec![Record::Commit { id: kept.id.clone(), ifindex: INDEX }],
            _ => Vec::new(),
        },
        Action::Adopt(attachment) => attached(attachment),
        Action::Delete { id, .. } => id.iter().map(|id| Record::Release { id: id.clone() }).collect(),
        Action::Free(id) => vec![Record::Free { id: id.clone(), at: Duration::ZERO }],
    }
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        2 => (0..4_u8, 1..4_u8).prop_map(|(id, address)| Call::Add { id, address }),
        1 => (0..4_u8).prop_map(|id| Call::Del { id }),
    ];
    prop::collection::vec(call, 0..12)
}

proptest! {
    #[test]
    fn whenever_an_agent_is_killed_and_whatever_lines_are_lost_who_lives_lives_on(
        calls in calls(),
        steps in 0..80_usize,
        bits in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        torn in 0..40_usize,
    ) {
        let life = Life::run(&calls, steps);
        let mut bytes = crate::journal::compact(&Ledger::default(), "boot");
        bytes.extend(life.journal.concat());
        for bit in bits {
            // Without its newline the last line is a torn one.
            let bit = bit.index((bytes.len() - 1) * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        bytes.extend(vec![b'7'; torn]);
        let (ledger, left) = life.recover(&bytes);
        for (id, attachment) in &life.live {
            let entry = ledger.entry(id).map(|entry| (entry.phase, entry.attachment.addresses));
            prop_assert_eq!(entry, Some((Phase::Attached, attachment.addresses)), "{}", id);
            prop_assert!(left.iter().any(|link| link.name == attachment.link), "the link of {} is deleted", id);
        }
        for link in left {
            let known = ledger.entries().any(|entry| entry.attachment.link == link.name);
            prop_assert!(known, "{} is left without a record", link.name);
        }
    }
}
