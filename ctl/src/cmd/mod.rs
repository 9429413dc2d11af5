//! One file per command. Each fetches one answer, prints it, and says how the program ends.

pub(crate) mod bgp;
pub(crate) mod check;
pub(crate) mod ipam;
pub(crate) mod policy;
pub(crate) mod status;
pub(crate) mod version;

use anyhow::Result;
use serde::Serialize;

use crate::Output;

/// How a command that found its answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Yes,
    No,
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
