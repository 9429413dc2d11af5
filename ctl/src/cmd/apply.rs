//! `weftctl apply`

use anyhow::{Result, bail};
use clap::Args;

use super::{DryRun, Outcome, left_out, not_ours, told};
use crate::Output;
use crate::input::{Files, Input};
use crate::resource::Resource;
use crate::store::{Given, How, Report};
use crate::whom::{ObjectsIn, Where};

#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    place: ObjectsIn,
    #[command(flatten)]
    dry_run: DryRun,
    /// Take over fields that another manager has set otherwise, as `kubectl apply --server-side` does. Of no meaning for a
    /// directory.
    #[arg(long)]
    force_conflicts: bool,
}

pub(crate) async fn run(options: &Options, place: &Where, output: Output) -> Result<Outcome> {
    let Input { objects, mut faults, others } = Input::read(&options.files.filenames)?;
    let mut given = Vec::new();
    for (written, key, _) in objects {
        match Resource::of_kind(&key.kind.to_string()) {
            Some(resource) => given.push(Given::new(written, key, resource)),
            None => faults.push(not_ours(&written.source, &key.to_string())),
        }
    }
    faults.extend(others.iter().filter_map(|(written, kind)| left_out(written, kind)));
    let how = How { dry_run: options.dry_run.is_meant(), force_conflicts: options.force_conflicts };
    if !faults.is_empty() {
        return told(&Report { faults, ..Report::default() }, how, output);
    }
    if given.is_empty() {
        bail!("there is nothing to apply");
    }
    let report = place.store(&options.place).await?.apply(&given, how).await?;
    told(&report, how, output)
}
