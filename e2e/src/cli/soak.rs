//! `weft-e2e soak`

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use weft_e2e::lab::Programs;
use weft_e2e::soak::run::{self, End};
use weft_e2e::soak::steps::Story;

#[derive(Args, Debug)]
pub(crate) struct Soak {
    /// What is drawn from. Default: the clock; it is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// How long steps are drawn.
    #[arg(long, default_value_t = 10, conflicts_with = "steps")]
    minutes: u64,
    /// How many steps are drawn, instead.
    #[arg(long)]
    steps: Option<usize>,
    /// On a real Kubernetes: fewer faults of the fabric, and an API server that stops. Needs `make bin-static`.
    #[arg(long)]
    cluster: bool,
    /// Tell the story in this file instead, on a lab.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "cluster"])]
    story: Option<PathBuf>,
    /// Where stories are written.
    #[arg(long, value_name = "DIR", default_value = "target/soak")]
    out: PathBuf,
    /// Tellings that may be spent on making a story that failed on a lab short.
    #[arg(long, default_value_t = 20)]
    shrink: usize,
}

pub(crate) fn run(words: &Soak, programs: &Programs) -> Result<ExitCode> {
    let name = format!("soak-{}", std::process::id());
    let (file, outcome) = match &words.story {
        Some(file) => (file.clone(), run::story(&name, &read(file)?, programs)),
        None => {
            let seed = words.seed.map_or_else(seed_of_the_clock, Ok)?;
            println!("seed {seed}");
            let end = match words.steps {
                Some(steps) => End::Steps(steps),
                None => End::After(Duration::from_secs(60 * words.minutes)),
            };
            let file = words.out.join(format!("{seed}.story"));
            let outcome = match words.cluster {
                true => run::on_a_cluster(&name, seed, end, Some(&file), programs),
                false => run::from_seed(&name, seed, end, Some(&file), programs),
            };
            println!("seed {seed}: the story is in {}", file.display());
            (file, outcome)
        }
    };
    let error = match outcome {
        Ok(counts) => {
            println!("{counts}: all as the model says");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => error,
    };
    println!("FAILED: {error:#}");
    if words.shrink > 0 && !words.cluster {
        let short = run::shortest(&name, &read(&file)?, words.shrink, programs);
        let path = file.with_extension("short.story");
        fs::write(&path, short.to_string()).with_context(|| path.display().to_string())?;
        println!("made short in {}: {} steps", path.display(), short.steps.len());
    }
    Ok(ExitCode::FAILURE)
}

fn read(file: &Path) -> Result<Story> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    text.parse().with_context(|| file.display().to_string())
}

fn seed_of_the_clock() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}
