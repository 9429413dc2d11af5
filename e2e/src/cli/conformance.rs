//! `weft-e2e conformance`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use weft_e2e::cluster::{self, ClusterSpec};
use weft_e2e::conformance::{self, Kit, Options, Suite};
use weft_e2e::lab::Programs;

#[derive(Debug, Args)]
pub(crate) struct Conformance {
    #[arg(long, default_value = "conformance")]
    name: String,
    /// netpol and network are upstream's 45 specs each; subset is about 10 minutes of both.
    #[arg(long, default_value = "all")]
    suite: Suite,
    /// A regular expression on the names of specs, instead of the suite's choice.
    #[arg(long)]
    focus: Option<String>,
    /// Specs at a time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..))]
    procs: u8,
    /// Folder of junit.xml and report.json.
    #[arg(long, default_value = "target/conformance")]
    out: PathBuf,
    /// Leave the cluster up, to look at what failed; `cluster down` removes it.
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(conformance: Conformance, programs: &Programs) -> Result<ExitCode> {
    let Conformance { name, suite, focus, procs, out, keep } = conformance;
    let kit = Kit::build()?;
    let start = Instant::now();
    let cluster = conformance::raise(&name, &ClusterSpec::default(), &kit, programs)?;
    println!("{:5.1} s  a cluster with Weft and CoreDNS", start.elapsed().as_secs_f32());
    let report = kit.run(&cluster, &Options { suite, focus, procs, out: out.clone() });
    if keep {
        cluster.keep()?;
    } else {
        drop(cluster);
        cluster::down(&name)?;
    }
    let report = report?;
    print!("{report}");
    println!("{:5.1} min; {}", start.elapsed().as_secs_f32() / 60.0, out.join("junit.xml").display());
    Ok(if report.succeeded() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
