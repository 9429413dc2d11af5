use std::time::Duration;

use weft_api::LINK_GROUP;

use super::*;
use crate::ledger::tests::attachment;
use crate::link::alias;

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

#[test]
fn what_has_been_freed_leaves_nothing_to_decide() {
    let a = attachment("a", [10, 0, 0, 1]);
    let mut records = attached(&a);
    records.push(Record::Free { id: a.id.clone(), at: Duration::ZERO });
    assert_eq!(decide(&ledger(&records), false, &[], &nobody()), []);
}
