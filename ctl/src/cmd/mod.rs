//! One file per command. Each fetches one answer, prints it, and says how the program ends.

pub(crate) mod apply;
pub(crate) mod bgp;
pub(crate) mod check;
pub(crate) mod delete;
pub(crate) mod filter;
pub(crate) mod get;
pub(crate) mod ipam;
pub(crate) mod policy;
pub(crate) mod status;
pub(crate) mod validate;
pub(crate) mod version;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::fault::{Fault, Source};
use crate::store::{Done, How, Report};
use crate::terminal::{printable, tell, write};
use crate::written::Written;
use crate::{Output, render};

/// How a command that found its answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Yes,
    No,
    /// What was asked for cannot be; why not has been said.
    Refused,
}

impl Outcome {
    fn of(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

/// Prints `answer` as a program or a person wants it.
fn print<T: Serialize>(output: Output, answer: &T, table: impl FnOnce(&T) -> String) -> Result<()> {
    let text = match output {
        Output::Json => serde_json::to_string_pretty(answer)? + "\n",
        Output::Yaml => "---\n".to_owned() + &serde_saphyr::to_string(answer)?,
        Output::Table | Output::Wide => printable(&table(answer)),
    };
    write(text.as_bytes())
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct DryRun {
    /// Try everything and write nothing.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "server", value_name = "server")]
    dry_run: Option<Trial>,
}

/// As kubectl calls it: whoever keeps the objects says what would become of them.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Trial {
    Server,
}

impl DryRun {
    fn is_meant(self) -> bool {
        self.dry_run.is_some()
    }
}

fn not_ours(source: &Source, object: &str) -> Fault {
    Fault {
        object: Some(object.to_owned()),
        ..Fault::new(source, None, "is none of weft.dev: kubectl writes these")
    }
}

/// Why an object of a kind that agents do not read cannot be written. What they write themselves is in `get all` and is
/// left out.
fn left_out(written: &Written, kind: &str) -> Option<Fault> {
    if kind.ends_with(" WeftNode") {
        tell(format!("note: {}: a WeftNode is written by its agent, left out", written.source));
        return None;
    }
    Some(not_ours(&written.source, kind))
}

/// Says what became of each object.
fn told(report: &Report, how: How, output: Output) -> Result<Outcome> {
    print(output, &report.done, |done| render::done(done, how.dry_run))?;
    for Done { kind, name, warning, .. } in &report.done {
        warning.iter().for_each(|warning| tell(format!("warning: {kind} {name}: {warning}")));
    }
    report.warnings.iter().for_each(|warning| tell(format!("warning: {warning}")));
    report.faults.iter().for_each(tell);
    Ok(if report.faults.is_empty() { Outcome::Yes } else { Outcome::Refused })
}
