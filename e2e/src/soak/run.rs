//! A whole run: from a seed for some time, or a story from a file; what fails is written down and made short.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::cluster_stage::ClusterStage;
use super::draw::{Draw, Ground, NAMESPACES};
use super::driver::{Counts, Driver};
use super::lab_stage::LabStage;
use super::model::Model;
use super::shrink::shrink;
use super::stage::Stage;
use super::steps::{Step, Story};
use super::topology::Topology;
use crate::cluster::{self, ClusterSpec};
use crate::lab::Programs;

/// A rack with a pair of routers, BIRD and FRR, and two nodes; a rack with a router and a node.
const RACKS: [&str; 2] = ["bird+frr:2", "bird:1"];

/// When a story that is drawn ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    After(Duration),
    Steps(usize),
}

/// Draws from `seed` on a lab. The story is written to `out`, each step before it is done.
pub fn from_seed(name: &str, seed: u64, end: End, out: Option<&Path>, programs: &Programs) -> Result<Counts> {
    let story = Story { racks: RACKS.map(str::to_owned).into(), seed, steps: Vec::new() };
    let log = out.map(|path| Log::create(path, &story)).transpose()?;
    let (driver, model) = raise(name, &story, programs)?;
    drawn(driver, Draw::new(seed, Ground::Lab, model), end, log).with_context(|| format!("seed {seed}"))
}

/// As [`from_seed`], on a real Kubernetes: three nodes in two racks.
pub fn on_a_cluster(
    name: &str,
    seed: u64,
    end: End,
    out: Option<&Path>,
    programs: &Programs,
) -> Result<Counts> {
    let spec = ClusterSpec::default();
    let story = Story { racks: vec!["bird:2".to_owned(), "frr:1".to_owned()], seed, steps: Vec::new() };
    let log = out.map(|path| Log::create(path, &story)).transpose()?;
    let outcome = ClusterStage::raise(name, &spec, programs, &NAMESPACES).and_then(|stage| {
        let model = Model::new(Topology::of(&spec.lab).with_pod_cidrs(stage.pod_cidrs()?), &NAMESPACES);
        let draw = Draw::new(seed, Ground::Cluster, model.clone());
        drawn(Driver::new(stage, model, seed), draw, end, log)
    });
    cluster::down(name)?;
    outcome.with_context(|| format!("seed {seed}"))
}

fn drawn<S: Stage>(mut driver: Driver<S>, draw: Draw, end: End, mut log: Option<Log>) -> Result<Counts> {
    let start = Instant::now();
    let enough = |steps: usize| match end {
        End::After(time) => start.elapsed() >= time,
        End::Steps(number) => steps >= number,
    };
    for (number, step) in draw.enumerate() {
        // Only where it is quiet, so that nothing is cut short.
        if enough(number) && step == Step::Quiet {
            break;
        }
        if let Some(log) = &mut log {
            log.note(&step, start)?;
        }
        driver.tell(&step).with_context(|| format!("step {number}"))?;
    }
    driver.finish().context("at the end")
}

/// Tells a story on a lab of its own.
pub fn story(name: &str, story: &Story, programs: &Programs) -> Result<Counts> {
    let (mut driver, _) = raise(name, story, programs)?;
    for (number, step) in story.steps.iter().enumerate() {
        driver.tell(step).with_context(|| format!("step {number}"))?;
    }
    driver.finish()
}

/// The shortest story found that still fails, within so many tellings.
pub fn shortest(name: &str, failed: &Story, tries: usize, programs: &Programs) -> Story {
    let mut tried = 0;
    let steps = shrink(&failed.steps, tries, |steps| {
        tried += 1;
        let shorter = Story { steps: steps.to_vec(), ..failed.clone() };
        let outcome = story(&format!("{name}-{tried}"), &shorter, programs);
        println!("try {tried} of {tries}: {} steps, {}", steps.len(), verdict(&outcome));
        outcome.is_err()
    });
    Story { steps, ..failed.clone() }
}

fn verdict(outcome: &Result<Counts>) -> String {
    match outcome {
        Ok(_) => "passes".to_owned(),
        Err(error) => format!("fails: {error:#}"),
    }
}

fn raise(name: &str, story: &Story, programs: &Programs) -> Result<(Driver<LabStage>, Model)> {
    let lab = story.lab()?;
    let model = Model::new(Topology::of(&lab), &NAMESPACES);
    let stage = LabStage::raise(name, &lab, programs, &NAMESPACES)?;
    Ok((Driver::new(stage, model.clone(), story.seed), model))
}

/// What was done so far, so that a run that is killed can be told again.
#[derive(Debug)]
struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    fn create(path: &Path, story: &Story) -> Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut file = File::create(path).with_context(|| path.display().to_string())?;
        write!(file, "{story}")?;
        Ok(Self { file, path: path.to_owned() })
    }

    fn note(&mut self, step: &Step, start: Instant) -> Result<()> {
        println!("{:7.1} s  {step}", start.elapsed().as_secs_f32());
        writeln!(self.file, "{step}").with_context(|| self.path.display().to_string())
    }
}
