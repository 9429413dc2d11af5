//! One file per command. Each fetches one answer, prints it, and says how the program ends.

pub(crate) mod apply;
pub(crate) mod bgp;
pub(crate) mod check;
pub(crate) mod delete;
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
use crate::store::{How, Report};
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
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(answer)?),
        Output::Yaml => print!("---\n{}", serde_saphyr::to_string(answer)?),
        Output::Table | Output::Wide => print!("{}", table(answer)),
    }
    Ok(())
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

fn refused(faults: &[Fault]) -> Outcome {
    for fault in faults {
        eprintln!("weftctl: {fault}");
    }
    Outcome::Refused
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
        eprintln!("weftctl: note: {}: a WeftNode is written by its agent, left out", written.source);
        return None;
    }
    Some(not_ours(&written.source, kind))
}

/// Says what became of each object.
fn told(report: &Report, how: How, output: Output) -> Result<Outcome> {
    print(output, &report.done, |done| render::done(done, how.dry_run))?;
    for done in &report.done {
        done.warning
            .iter()
            .for_each(|warning| eprintln!("weftctl: warning: {} {}: {warning}", done.kind, done.name));
    }
    Ok(if report.faults.is_empty() { Outcome::Yes } else { refused(&report.faults) })
}
