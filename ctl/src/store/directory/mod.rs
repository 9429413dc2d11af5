//! Objects in a directory of YAML, which agents watch. Each change replaces a file as a whole, and of that file only the
//! document that is meant.
//!
//! The directory is read as the agent reads it, so that what is shown as in force is what an agent would say.

mod edit;
mod read;
mod replace;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weft_intent::ObjectKey;
use weft_intent::shown::{ACCEPTED, Accepted};

use self::edit::{Edit, Format, edited};
use self::read::{Shelf, Spot};
use self::replace::Locked;
use super::{Change, Done, Given, How, Named, Report};
use crate::fault::Fault;
use crate::resource::Selection;
use crate::written::as_written;

#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

/// What is to become of the files, by name.
#[derive(Debug, Default)]
struct Edits {
    /// By number of document.
    documents: BTreeMap<String, BTreeMap<usize, Edit>>,
    new: BTreeMap<String, String>,
}

impl Directory {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Complains about what cannot be read, as any object may be in it.
    pub(super) fn get(&self, selection: &Selection) -> Result<Vec<Value>> {
        let shelf = self.shelf()?;
        for fault in shelf.unread() {
            eprintln!("weftctl: {fault}");
        }
        let verdicts = shelf.verdicts();
        let is_meant = |key: &ObjectKey| {
            let is_named = selection.names.is_empty() || selection.names.contains(&key.name);
            is_named && key.kind.to_string() == selection.resource.kind()
        };
        let found = shelf.objects().filter(|(key, _)| is_meant(key));
        Ok(found.map(|(key, spot)| with_condition(spot, verdicts.get(key))).collect())
    }

    pub(super) fn apply(&self, given: &[Given], how: How) -> Result<Report> {
        self.change(how, |shelf, edits| {
            let mut report = Report::default();
            for object in given {
                match edits.put(shelf, object) {
                    Ok(change) => report.done.push(Done::new(&object.key, change)),
                    Err(reason) => report.faults.push(Fault::new(&object.source, Some(&object.key), reason)),
                }
            }
            report
        })
    }

    pub(super) fn delete(&self, named: &[Named], how: How, ignore_missing: bool) -> Result<Report> {
        self.change(how, |shelf, edits| {
            let mut report = Report::default();
            for Named { key, resource: _ } in named {
                match edits.take(shelf, key) {
                    Ok(true) => report.done.push(Done::new(key, Change::Deleted)),
                    Ok(false) if ignore_missing => {}
                    Ok(false) => report.faults.push(Fault::of_object(key, "not found")),
                    Err(reason) => report.faults.push(Fault::of_object(key, reason)),
                }
            }
            report
        })
    }

    /// What `plan` makes of the directory, unless it refuses a part of it.
    fn change(&self, how: How, plan: impl FnOnce(&Shelf, &mut Edits) -> Report) -> Result<Report> {
        let locked = Locked::new(&self.path).with_context(|| self.name())?;
        let (shelf, mut edits) = (self.shelf()?, Edits::default());
        let mut report = plan(&shelf, &mut edits);
        if !report.faults.is_empty() {
            report.done.clear();
        } else if !how.dry_run {
            edits.write(&locked, &shelf).with_context(|| self.name())?;
        }
        Ok(report)
    }

    fn shelf(&self) -> Result<Shelf> {
        Shelf::read(&self.path).with_context(|| self.name())
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

impl Edits {
    /// The object in its document, else in a file of its own.
    fn put(&mut self, shelf: &Shelf, given: &Given) -> Result<Change, String> {
        match shelf.spots(&given.key) {
            [] => self.create(shelf, given).map(|()| Change::Created),
            [spot] if as_written(&spot.value) == given.value => Ok(Change::Unchanged),
            [spot] => self.set(shelf, spot, Some(given)).map(|()| Change::Configured),
            [first, second, ..] => Err(format!(
                "stands twice, at {} {} and at {} {}: take one out",
                first.file, first.place, second.file, second.place
            )),
        }
    }

    fn create(&mut self, shelf: &Shelf, given: &Given) -> Result<(), String> {
        if let Some(fault) = shelf.unread().first() {
            return Err(format!("it may be there already, in what cannot be read: {fault}"));
        }
        let file = format!("{}-{}.yaml", given.key.kind, given.key.name).to_lowercase();
        if shelf.has(&file) {
            return Err(format!("{file} is there and holds something else"));
        }
        self.new.insert(file, body(given, Format::Yaml));
        Ok(())
    }

    /// Wherever it stands: what remained would be in force.
    fn take(&mut self, shelf: &Shelf, key: &ObjectKey) -> Result<bool, String> {
        let spots = shelf.spots(key);
        spots.iter().try_for_each(|spot| self.set(shelf, spot, None))?;
        Ok(!spots.is_empty())
    }

    fn set(&mut self, shelf: &Shelf, spot: &Spot, given: Option<&Given>) -> Result<(), String> {
        shelf.text(&spot.file).map_err(|error| format!("{}: {error}", spot.file))?;
        let documents = self.documents.entry(spot.file.clone()).or_default();
        let Some(item) = spot.place.item else {
            let edit = given.map(|given| Edit::Replace(body(given, Format::of(&spot.file))));
            documents.insert(spot.place.document, edit.unwrap_or(Edit::Remove));
            return Ok(());
        };
        let edit = documents.entry(spot.place.document).or_insert_with(|| Edit::Items(BTreeMap::new()));
        if let Edit::Items(items) = edit {
            items.insert(item, given.map(|given| given.value.clone()));
        }
        Ok(())
    }

    /// Nothing before everything is ready.
    fn write(self, locked: &Locked<'_>, shelf: &Shelf) -> Result<()> {
        let mut ready = Vec::new();
        for (file, documents) in &self.documents {
            let before = shelf.text(file).with_context(|| file.clone())?;
            let after = edited(before, documents, Format::of(file));
            let prepared = locked.prepare(file, Some(before), after.as_deref());
            ready.push((file, prepared.with_context(|| file.clone())?));
        }
        for (file, text) in &self.new {
            let prepared = locked.prepare(file, None, Some(text));
            ready.push((file, prepared.with_context(|| file.clone())?));
        }
        for (done, (file, change)) in ready.into_iter().enumerate() {
            let told = || format!("{file} (files changed before it: {done})");
            locked.carry_out(change).with_context(told)?;
        }
        Ok(())
    }
}

/// As its user wrote it, where that can be.
fn body(given: &Given, format: Format) -> String {
    match (&given.text, format) {
        (Some(text), Format::Yaml) => text.trim_start_matches(['\n', '\r']).to_owned(),
        (_, format) => format.render(&given.value),
    }
}

/// With what an agent would say of it, since the file is as it is.
fn with_condition(spot: &Spot, verdict: Option<&Option<String>>) -> Value {
    let mut shown = spot.value.clone();
    if let Some(refusal) = verdict {
        let Accepted { status, reason, message, .. } = Accepted::new(refusal.as_deref());
        let condition = json!({
            "type": ACCEPTED, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": spot.since.to_string(),
        });
        shown["status"] = json!({ "conditions": [condition] });
    }
    shown
}

#[cfg(test)]
mod tests;
