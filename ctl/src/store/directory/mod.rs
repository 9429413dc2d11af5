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
use weft_intent::documents;
use weft_intent::shown::{ACCEPTED, Accepted};

use self::edit::{Edit, Edited, Format, edited, loses_comments};
use self::read::{Shelf, Spot};
use self::replace::Locked;
use super::{Change, Done, Given, How, Named, Report};
use crate::fault::Fault;
use crate::resource::Selection;
use crate::terminal::tell;
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
    /// For who reads what is written.
    warnings: Vec<String>,
}

/// What a file holds and is to hold; `None` where there is none.
struct FileChange<'a> {
    name: &'a str,
    before: Option<&'a str>,
    after: Option<String>,
}

/// As much as file systems take.
const MAX_FILE_NAME: usize = 255;

impl Directory {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Complains about what cannot be read, as any object may be in it, and about what stands there more than once.
    pub(super) fn get(&self, selection: &Selection) -> Result<Vec<Value>> {
        let shelf = self.shelf()?;
        shelf.unread().iter().for_each(tell);
        let verdicts = shelf.verdicts();
        let of_kind = |key: &ObjectKey| key.kind.to_string() == selection.resource.kind();
        let all: BTreeMap<_, _> = shelf
            .objects()
            .filter(|(key, _)| of_kind(key))
            .map(|(key, spot)| (&key.name, (key, spot)))
            .collect();
        let meant: Vec<_> = match selection.names.as_slice() {
            [] => all.values().collect(),
            names => names.iter().filter_map(|name| all.get(name)).collect(),
        };
        for (key, spot) in &meant {
            if let [_, _, ..] = shelf.spots(key) {
                tell(format!("{key} stands there more than once; {spot} counts"));
            }
        }
        Ok(meant.into_iter().map(|(key, spot)| with_condition(spot, verdicts.get(*key))).collect())
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
        let mut locked = Locked::new(&self.path).with_context(|| self.name())?;
        let (shelf, mut edits) = (self.shelf()?, Edits::default());
        let mut report = plan(&shelf, &mut edits);
        if !report.faults.is_empty() {
            report.done.clear();
            return Ok(report);
        }
        let mut warnings = std::mem::take(&mut edits.warnings);
        let changes = edits.changes(&shelf, &mut warnings).with_context(|| self.name())?;
        if !how.dry_run {
            write(&mut locked, changes).with_context(|| self.name())?;
        }
        Ok(Report { warnings, ..report })
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
            [first, second, ..] => Err(format!("stands twice, at {first} and at {second}: take one out")),
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
        if file.len() > MAX_FILE_NAME {
            return Err("its name is too long for that of a file: put it into one by hand".to_owned());
        }
        let body = self.body(given, Format::Yaml);
        self.new.insert(file, body);
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
        let Some(item) = spot.place.item else {
            let edit = given.map(|given| Edit::Replace(self.body(given, Format::of(&spot.file))));
            let documents = self.documents.entry(spot.file.clone()).or_default();
            documents.insert(spot.place.document, edit.unwrap_or(Edit::Remove));
            return Ok(());
        };
        let documents = self.documents.entry(spot.file.clone()).or_default();
        let edit = documents.entry(spot.place.document).or_insert_with(|| Edit::Items(BTreeMap::new()));
        if let Edit::Items(items) = edit {
            items.insert(item, given.map(|given| given.value.clone()));
        }
        Ok(())
    }

    /// As its user wrote it, where that means the same behind a marker and other comments.
    fn body(&mut self, given: &Given, format: Format) -> String {
        let text = given.text.as_deref().unwrap_or_default().trim_start_matches(['\n', '\r']);
        if format == Format::Yaml && means(text, &given.value) {
            return text.to_owned();
        }
        let body = format.render(&given.value);
        if loses_comments(text, &body) {
            self.warnings.push(format!("{}: its comments are not kept", given.source));
        }
        body
    }

    fn changes<'a>(&'a self, shelf: &'a Shelf, warnings: &mut Vec<String>) -> Result<Vec<FileChange<'a>>> {
        let mut changes = Vec::new();
        for (name, documents) in &self.documents {
            let before = shelf.text(name).with_context(|| name.clone())?;
            let Edited { text: after, uncommented } = edited(before, documents, Format::of(name));
            warnings
                .extend(uncommented.iter().map(|place| format!("{name} {place}: its comments are not kept")));
            changes.push(FileChange { name, before: Some(before), after });
        }
        let new = self.new.iter();
        changes.extend(new.map(|(name, text)| FileChange { name, before: None, after: Some(text.clone()) }));
        Ok(changes)
    }
}

/// Nothing before everything is ready.
fn write(locked: &mut Locked<'_>, changes: Vec<FileChange<'_>>) -> Result<()> {
    locked.clear()?;
    let mut ready = Vec::new();
    for FileChange { name, before, after } in changes {
        let prepared = locked.prepare(name, before, after.as_deref());
        ready.push((name, prepared.with_context(|| name.to_owned())?));
    }
    for (done, (name, change)) in ready.into_iter().enumerate() {
        let told = || format!("{name} (files changed before it: {done})");
        locked.carry_out(change).with_context(told)?;
    }
    Ok(())
}

/// Whether a document of this text is this object and no other.
fn means(text: &str, object: &Value) -> bool {
    let document = format!("---\n{text}\n");
    match documents::split(&document).as_slice() {
        [one] => {
            one.objects().is_ok_and(|objects| matches!(objects.as_slice(), [(_, value)] if value == object))
        }
        _ => false,
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
