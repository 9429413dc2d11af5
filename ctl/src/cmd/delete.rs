//! `weftctl delete`

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use weft_intent::{Kind, ObjectKey, object};

use super::{DryRun, Outcome, left_out, not_ours, told};
use crate::Output;
use crate::failure::Usage;
use crate::fault::Fault;
use crate::input;
use crate::resource::{Resource, Selection, select};
use crate::store::{How, Named, Report};
use crate::whom::{ObjectsIn, Where};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Name a kind and objects of it, or give KIND/NAME as often as you like.
    #[arg(value_name = "KIND NAME", required_unless_present = "filenames", conflicts_with = "filenames")]
    what: Vec<String>,
    /// Delete the objects that stand in this file, in the files of this directory, or in standard input (`-`).
    /// May be given several times.
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIRECTORY|-")]
    filenames: Vec<PathBuf>,
    #[command(flatten)]
    place: ObjectsIn,
    #[command(flatten)]
    dry_run: DryRun,
    /// Take it as success when an object is not there.
    #[arg(long)]
    ignore_not_found: bool,
}

pub(crate) async fn run(options: &Options, place: &Where, output: Output) -> Result<Outcome> {
    let (named, faults) = match options.filenames.as_slice() {
        [] => (by_name(&options.what)?, Vec::new()),
        paths => in_files(paths)?,
    };
    let how = How { dry_run: options.dry_run.is_meant(), force_conflicts: false };
    if !faults.is_empty() {
        return told(&Report { faults, ..Report::default() }, how, output);
    }
    if named.is_empty() {
        bail!("there is nothing to delete");
    }
    let report = place.store(&options.place).await?.delete(&named, how, options.ignore_not_found).await?;
    told(&report, how, output)
}

fn by_name(words: &[String]) -> Result<Vec<Named>> {
    let mut named = Vec::new();
    for Selection { resource, names } in select(words)? {
        if names.is_empty() {
            return Err(Usage(format!("which {}? Names are missing", resource.kind())).into());
        }
        let kind = Kind::OURS.into_iter().find(|kind| kind.to_string() == resource.kind());
        let Some(kind) = kind else { bail!("{}: agents write these, and people read them", resource.kind()) };
        named.extend(names.iter().map(|name| Named { key: ObjectKey::cluster(kind, name), resource }));
    }
    Ok(named)
}

/// Whatever else is in them, each once.
fn in_files(paths: &[PathBuf]) -> Result<(Vec<Named>, Vec<Fault>)> {
    let (objects, mut faults) = input::read(paths)?;
    let mut named = BTreeMap::new();
    for written in &objects {
        match (object::unknown_kind(&written.value), object::identity(&written.value)) {
            (Some(kind), _) => faults.extend(left_out(written, &kind)),
            (None, Err(reason)) => faults.push(Fault::new(&written.source, None, reason)),
            (None, Ok(key)) => match Resource::of_kind(&key.kind.to_string()) {
                None => faults.push(not_ours(&written.source, &key.to_string())),
                Some(resource) => drop(named.insert(key, resource)),
            },
        }
    }
    Ok((named.into_iter().map(|(key, resource)| Named { key, resource }).collect(), faults))
}
