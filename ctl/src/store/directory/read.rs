//! A directory as it is at one moment: which object stands where, and which of them are in force.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde_json::Value;
use weft_intent::documents::{self, Place};
use weft_intent::files::is_read;
use weft_intent::object;
use weft_intent::plan::acceptance;
use weft_intent::shown::Shown;
use weft_intent::{Kind, ObjectKey, Problem, Snapshot};

use crate::fault::{Fault, Source};
use crate::input::text;
use crate::written::is_ours;

#[derive(Debug, Default)]
pub(super) struct Shelf {
    files: BTreeMap<String, Text>,
    /// Of each key by file name, then by place in the file.
    spots: BTreeMap<ObjectKey, Vec<Spot>>,
    /// What may hold any object.
    unread: Vec<Fault>,
}

#[derive(Debug)]
struct Text {
    text: String,
    since: Timestamp,
    /// Where it leads.
    link: Option<PathBuf>,
}

/// One object, and where it stands.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) file: String,
    pub(super) place: Place,
    pub(super) value: Value,
    /// When the file was written.
    pub(super) since: Timestamp,
}

impl Shelf {
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            names.extend(entry?.file_name().into_string().ok().filter(|name| is_read(name)));
        }
        names.sort();
        let mut shelf = Self::default();
        for name in names {
            match Text::read(&directory.join(&name)) {
                Ok(text) => shelf.add(name, text),
                Err(error) => {
                    shelf.unread.push(Fault::of_object(&name, format!("cannot be read: {error:#}")));
                }
            }
        }
        Ok(shelf)
    }

    fn add(&mut self, name: String, file: Text) {
        for document in documents::split(&file.text) {
            match document.objects() {
                Ok(objects) => objects
                    .into_iter()
                    .for_each(|(place, value)| self.add_object(&name, file.since, place, value)),
                Err(reason) => {
                    self.unread.push(Fault::new(&Source::new(&name, document.place), None, reason));
                }
            }
        }
        self.files.insert(name, file);
    }

    fn add_object(&mut self, file: &str, since: Timestamp, place: Place, value: Value) {
        match object::identity(&value) {
            Ok(key) => {
                let spot = Spot { file: file.to_owned(), place, value, since };
                self.spots.entry(key).or_default().push(spot);
            }
            // Whatever it is, it is none of ours.
            Err(_) if is_of_others(&value) => {}
            Err(reason) => self.unread.push(Fault::new(&Source::new(file, place), None, reason)),
        }
    }

    /// In order, each where it counts: where it is well-formed, else where it stands first.
    pub(super) fn objects(&self) -> impl Iterator<Item = (&ObjectKey, &Spot)> {
        let counts = |spots: &[Spot]| spots.iter().position(|spot| object::parse(&spot.value).is_ok());
        let in_force = move |spots: &Vec<Spot>| match spots.as_slice() {
            [_] => 0,
            spots => counts(spots).unwrap_or_default(),
        };
        self.spots.iter().filter_map(move |(key, spots)| Some((key, spots.get(in_force(spots))?)))
    }

    pub(super) fn spots(&self, key: &ObjectKey) -> &[Spot] {
        self.spots.get(key).map_or(&[], Vec::as_slice)
    }

    pub(super) fn unread(&self) -> &[Fault] {
        &self.unread
    }

    pub(super) fn has(&self, file: &str) -> bool {
        self.files.contains_key(file)
    }

    /// For a change: what the file holds.
    pub(super) fn text(&self, file: &str) -> Result<&str> {
        let Text { text, link, .. } = self.files.get(file).context("no such file")?;
        match link {
            None => Ok(text),
            Some(target) => bail!("it is a symbolic link to {}: change that", target.display()),
        }
    }

    /// For each object of ours `None` when it is in force, else why not.
    pub(super) fn verdicts(&self) -> BTreeMap<ObjectKey, Option<String>> {
        let (mut objects, mut problems) = (Vec::new(), Vec::new());
        for (key, spot) in self.objects() {
            match object::parse(&spot.value) {
                Ok(object) => objects.push(object),
                Err(refusal) => problems.push(Problem::of_object(key.clone(), refusal.reason)),
            }
        }
        let objects = objects.iter().map(|(key, object)| (key, object));
        let mut snapshot = Snapshot::new(objects, problems.into_iter().collect());
        let ours = self.spots.keys().filter(|key| Kind::OURS.contains(&key.kind));
        snapshot.shown = ours.map(|key| (key.clone(), Shown::default())).collect();
        acceptance::judge(&snapshot)
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.file, self.place)
    }
}

/// Of a group that is not ours.
fn is_of_others(object: &Value) -> bool {
    object["apiVersion"].is_string() && !is_ours(object)
}

impl Text {
    fn read(path: &Path) -> Result<Self> {
        let metadata = path.metadata()?;
        if !metadata.is_file() {
            bail!("not a regular file");
        }
        let since = Timestamp::from_second(metadata.mtime())?;
        let link = path.is_symlink().then(|| path.read_link()).transpose()?;
        Ok(Self { text: text(File::open(path)?)?, since, link })
    }
}
