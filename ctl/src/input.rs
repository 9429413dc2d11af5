//! What `-f` names: files, folders of files, standard input; their documents, and what is wrong with them.
//!
//! In: paths. Out: the objects in order, each with its place, judged one by one as the agent reads them. A file is read
//! whole or not at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;
use weft_intent::documents::{self, Document, Place};
use weft_intent::files::{MAX_FILE_BYTES, is_read};
use weft_intent::object::{self, Refusal};
use weft_intent::{Object, ObjectKey};

use crate::fault::{Fault, Source};
use crate::written::{Written, as_written, is_ours};

/// Which agents write.
const WEFT_NODE: &str = "weft.dev/v1alpha1 WeftNode";
const STDIN: &str = "-";
/// How messages name it.
const STDIN_NAME: &str = "standard input";

#[derive(Args, Debug)]
pub(crate) struct Files {
    /// Read objects from this file, from all files (*.yaml, *.yml, *.json) of this directory, or from standard input (`-`).
    /// May be given several times.
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIRECTORY|-", required = true)]
    pub(crate) filenames: Vec<PathBuf>,
}

/// Objects of kinds that the agent reads, each well-formed and there once, in order; and the rest.
#[derive(Debug, Default)]
pub(crate) struct Input {
    pub(crate) objects: Vec<(Written, ObjectKey, Object)>,
    pub(crate) faults: Vec<Fault>,
    /// Of kinds that the agent does not read, by name.
    pub(crate) others: Vec<(Written, String)>,
}

impl Input {
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Self> {
        let (objects, faults) = read(paths)?;
        let (mut input, mut seen) = (Self { faults, ..Self::default() }, BTreeMap::new());
        objects.into_iter().for_each(|object| input.add(object, &mut seen));
        Ok(input)
    }

    fn add(&mut self, written: Written, seen: &mut BTreeMap<ObjectKey, Source>) {
        match object::unknown_kind(&written.value) {
            // Of our group, but none that there is.
            Some(kind) if is_ours(&written.value) && kind != WEFT_NODE => {
                self.faults.push(Fault::new(&written.source, None, format!("kind: there is no {kind}")));
            }
            Some(kind) => self.others.push((written, kind)),
            None => self.judge(written, seen),
        }
    }

    fn judge(&mut self, written: Written, seen: &mut BTreeMap<ObjectKey, Source>) {
        match object::parse(&written.value) {
            Ok((key, object)) => match seen.get(&key) {
                Some(first) => {
                    let reason = format!("stands at {first} too");
                    self.faults.push(Fault::new(&written.source, Some(&key), reason));
                }
                None => {
                    seen.insert(key.clone(), written.source.clone());
                    self.objects.push((written, key, object));
                }
            },
            Err(Refusal { key, reason, closed: _ }) => {
                self.faults.push(Fault::new(&written.source, key.as_ref(), reason));
            }
        }
    }
}

/// Every object, of whatever kind, and the documents that are no YAML.
pub(crate) fn read(paths: &[PathBuf]) -> Result<(Vec<Written>, Vec<Fault>)> {
    let (mut objects, mut faults) = (Vec::new(), Vec::new());
    for (name, text) in texts(paths)? {
        for document in documents::split(&text) {
            match written(&name, &document) {
                Ok(found) => objects.extend(found),
                Err(fault) => faults.push(fault),
            }
        }
    }
    Ok((objects, faults))
}

/// The objects of a document, or why it has none.
fn written(file: &str, document: &Document<'_>) -> Result<Vec<Written>, Fault> {
    let objects =
        document.objects().map_err(|reason| Fault::new(&Source::new(file, document.place), None, reason))?;
    // Of a file that begins with a byte order mark.
    let text = document.text.trim_start_matches('\u{feff}');
    let object = |(place, value): (Place, Value)| {
        let text = place.item.is_none().then(|| text.to_owned());
        let value = if is_ours(&value) { as_written(&value) } else { value };
        Written { source: Source::new(file, place), value, text }
    };
    Ok(objects.into_iter().map(object).collect())
}

/// Each file with its name, those of a folder by name.
fn texts(paths: &[PathBuf]) -> Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for path in paths {
        if path.as_os_str() == STDIN {
            texts.push((STDIN_NAME.to_owned(), text(std::io::stdin().lock()).context(STDIN_NAME)?));
        } else if path.is_dir() {
            for path in files_of(path).with_context(|| path.display().to_string())? {
                is_regular(&path).with_context(|| path.display().to_string())?;
                texts.push((path.display().to_string(), text_of(&path)?));
            }
        } else {
            texts.push((path.display().to_string(), text_of(path)?));
        }
    }
    Ok(texts)
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let paths: Result<Vec<_>, _> = folder.read_dir()?.map(|entry| entry.map(|entry| entry.path())).collect();
    let is_named = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(is_read);
    let mut paths: Vec<_> = paths?.into_iter().filter(|path| is_named(path) && !path.is_dir()).collect();
    if paths.is_empty() {
        bail!("no files *.yaml, *.yml or *.json");
    }
    paths.sort();
    Ok(paths)
}

/// Nobody meant a pipe that lies among files, and to read it would be to wait for its writer.
fn is_regular(path: &Path) -> Result<()> {
    if path.metadata()?.is_file() { Ok(()) } else { bail!("not a regular file") }
}

fn text_of(path: &Path) -> Result<String> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    text(file).with_context(|| path.display().to_string())
}

/// Whole, unless it is more than any file of objects.
pub(crate) fn text(from: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    from.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        bail!("larger than {MAX_FILE_BYTES} bytes");
    }
    String::from_utf8(bytes).ok().context("not UTF-8")
}
