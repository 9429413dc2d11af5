//! `weft-e2e`: the lab's command line.

#[path = "cli/cluster.rs"]
mod cluster;
#[path = "cli/conformance.rs"]
mod conformance;
#[path = "cli/soak.rs"]
mod soak;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use weft_e2e::bench;
use weft_e2e::lab::{self, Lab, LabSpec, Programs, RackSpec};
use weft_e2e::net::{Flow, Namespace, Proto, probe_here, serve};

#[derive(Debug, Parser)]
#[command(version, about = "Weft's lab: clusters out of network namespaces, with real routers")]
struct Args {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build, look at and remove labs.
    #[command(subcommand)]
    Lab(LabVerb),
    /// A real Kubernetes in a lab: build, use and remove it.
    #[command(subcommand)]
    Cluster(cluster::Verb),
    /// Run Kubernetes' own network suites on a cluster with Weft; fails when a spec fails.
    Conformance(conformance::Conformance),
    /// Raise a lab and tell the story of Weft in it, with proof at each step; `lab down` removes it.
    Demo {
        #[arg(long, default_value = "demo")]
        name: String,
        /// Remove the lab at the end.
        #[arg(long)]
        remove: bool,
    },
    /// Do to a lab whatever can happen, drawn from a seed, and hold it against a reference model.
    Soak(soak::Soak),
    /// Send traffic from here: inside a machine or pod, by `lab exec`.
    #[command(subcommand)]
    Net(NetVerb),
    /// Measure, beside what people run instead.
    #[command(subcommand)]
    Bench(BenchVerb),
    /// What a machine of a lab begins with.
    #[command(subcommand, hide = true)]
    Machine(MachineVerb),
}

#[derive(Debug, Subcommand)]
enum LabVerb {
    /// Raise a lab with agents running; it stays until `lab down`.
    Up {
        #[arg(long, default_value = "demo")]
        name: String,
        /// Routers of a rack and its number of nodes: `bird:2`, `frr:1`, `bird+frr:2`. Repeat for more racks.
        #[arg(long = "rack", default_values = ["bird:2", "frr:1"])]
        racks: Vec<RackSpec>,
        /// Machines and routers only.
        #[arg(long)]
        no_agents: bool,
    },
    /// Remove a lab and all that belongs to it, also after a crash. Safe to repeat.
    Down {
        #[arg(long, default_value = "demo", conflicts_with = "all")]
        name: String,
        #[arg(long)]
        all: bool,
    },
    /// The machines, pods and sessions of a lab.
    Status {
        #[arg(long, default_value = "demo")]
        name: String,
    },
    /// Run a program on a machine (`node1`, `tor1`, `spine`, `outside`) or in a pod (`NAMESPACE/POD`).
    Exec {
        #[arg(long, default_value = "demo")]
        name: String,
        place: String,
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
enum NetVerb {
    /// Echo TCP and UDP on all addresses.
    Serve { port: u16 },
    /// One attempt: `tcp 10.244.1.2:8080`.
    Probe { proto: Proto, to: std::net::SocketAddr },
    /// A steady flow for some seconds, and what was lost.
    Flow {
        proto: Proto,
        to: std::net::SocketAddr,
        /// Records a second.
        #[arg(long, default_value_t = 100)]
        rate: u32,
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
}

#[derive(Debug, Subcommand)]
enum BenchVerb {
    /// A full table from one peer through a speaker to another: ours and BIRD 2.
    Bgp {
        /// Sizes of the table.
        #[arg(long, value_delimiter = ',', default_values_t = [100_000, 1_000_000])]
        prefixes: Vec<u32>,
        /// Medians of so many.
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
    /// A pod's ADD and DEL: ours, `ptp` with `host-local`, and the start of a program.
    Cni {
        #[arg(long, default_value_t = 100)]
        pods: usize,
    },
    /// A change of policy among established flows: until it is in force, until all are judged, and ADD meanwhile.
    Flows {
        /// Pods of the cluster.
        #[arg(long, default_value_t = 10_000)]
        pods: usize,
        /// Pods of the node.
        #[arg(long, default_value_t = 100)]
        local: usize,
        /// Conntrack entries.
        #[arg(long, default_value_t = 100_000)]
        flows: usize,
        #[arg(long, default_value_t = 20)]
        rounds: usize,
    },
    /// Deployments on a real cluster, beside the reference plugins, and the agents at rest. Needs `make bin-static`.
    Cluster {
        #[arg(long, default_value_t = 20)]
        pods: usize,
        #[arg(long, default_value_t = 3)]
        runs: usize,
        /// How long nothing happens, in seconds.
        #[arg(long, default_value_t = 120)]
        rest: u64,
    },
    /// Agents in a cluster of thousands of objects: rest, and policy latency, before and after. Needs `make bin-static`.
    ClusterAtScale {
        #[command(flatten)]
        scale: bench::Scale,
        /// How long nothing happens, in seconds.
        #[arg(long, default_value_t = 240)]
        rest: u64,
        /// Policies to time.
        #[arg(long, default_value_t = 50)]
        rounds: usize,
    },
    /// Hundreds of agents at once: what they ask of the API server, their CPU and memory, restarts in waves. Needs `make
    /// bin-static`.
    Nodes(bench::nodes::Sizes),
    /// From the API call for a NetworkPolicy to the first packet dropped, on the nodes of a cluster that is up.
    PolicyLatency {
        #[arg(long, default_value = "cluster")]
        name: String,
        #[arg(long, default_value_t = 100)]
        rounds: usize,
    },
    /// Our speaker, as `bench bgp` starts it.
    #[command(hide = true)]
    BgpSpeaker,
}

#[derive(Debug, Subcommand)]
enum MachineVerb {
    Launch { lab: PathBuf, name: String },
    Init { lab: PathBuf, name: String },
}

fn main() -> ExitCode {
    run(Args::parse().command).unwrap_or_else(|error| {
        eprintln!("weft-e2e: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Lab(verb) => lab(verb),
        Verb::Cluster(verb) => cluster::run(verb, &programs()?),
        Verb::Conformance(words) => conformance::run(words, &programs()?),
        Verb::Demo { name, remove } => {
            weft_e2e::demo::run(&name, remove, &programs()?).map(|()| ExitCode::SUCCESS)
        }
        Verb::Soak(words) => soak::run(&words, &programs()?),
        Verb::Net(verb) => net(&verb),
        Verb::Bench(BenchVerb::Bgp { prefixes, runs }) => {
            bench::bgp::run(&prefixes, runs).map(|()| ExitCode::SUCCESS)
        }
        Verb::Bench(BenchVerb::Cni { pods }) => {
            bench::cni::run(pods, &programs()?).map(|()| ExitCode::SUCCESS)
        }
        Verb::Bench(BenchVerb::Flows { pods, local, flows, rounds }) => {
            bench::flows::run(pods, local, flows, rounds, &programs()?).map(|()| ExitCode::SUCCESS)
        }
        Verb::Bench(BenchVerb::Cluster { pods, runs, rest }) => {
            bench::cluster::run(pods, runs, Duration::from_secs(rest), &programs()?)
                .map(|()| ExitCode::SUCCESS)
        }
        Verb::Bench(BenchVerb::ClusterAtScale { scale, rest, rounds }) => {
            bench::at_scale::run(&scale, Duration::from_secs(rest), rounds, &programs()?)
                .map(|()| ExitCode::SUCCESS)
        }
        Verb::Bench(BenchVerb::Nodes(sizes)) => {
            bench::nodes::run(&sizes, &programs()?).map(|()| ExitCode::SUCCESS)
        }
        Verb::Bench(BenchVerb::PolicyLatency { name, rounds }) => {
            let cluster = weft_e2e::cluster::Cluster::attach(&name, &programs()?)?;
            bench::policy_latency::run(&cluster, rounds).map(|()| ExitCode::SUCCESS)
        }
        Verb::Bench(BenchVerb::BgpSpeaker) => bench::bgp::run_weft().map(|()| ExitCode::SUCCESS),
        Verb::Machine(MachineVerb::Launch { lab, name }) => {
            lab::launch(&lab, &name).map(|()| ExitCode::SUCCESS)
        }
        Verb::Machine(MachineVerb::Init { lab, name }) => lab::init(&lab, &name).map(|()| ExitCode::SUCCESS),
    }
}

fn programs() -> Result<Programs> {
    Programs::beside(&std::env::current_exe()?)
}

fn lab(verb: LabVerb) -> Result<ExitCode> {
    match verb {
        LabVerb::Up { name, racks, no_agents } => {
            let lab = Lab::raise(&name, &LabSpec { racks, ..LabSpec::default() }, &programs()?)?;
            if !no_agents {
                lab.start_agents()?;
            }
            lab.keep()?;
            status(&name)?;
        }
        LabVerb::Down { all: true, .. } => {
            for name in Lab::names()? {
                Lab::down(&name)?;
                println!("lab {name} removed");
            }
        }
        LabVerb::Down { name, .. } => {
            let was = if Lab::down(&name)? { "removed" } else { "was not there" };
            println!("lab {name} {was}");
        }
        LabVerb::Status { name } => status(&name)?,
        LabVerb::Exec { name, place, command } => {
            let (program, arguments) = command.split_first().context("a command")?;
            let code =
                Lab::attach(&name, &programs()?)?.exec(&place, Command::new(program).args(arguments))?;
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn status(name: &str) -> Result<()> {
    let lab = Lab::attach(name, &programs()?)?;
    for machine in lab.machines() {
        let state = if machine.init.alive() { "up" } else { "down" };
        println!("{:10} {state:5} pid {:7} logs {}", machine.name, machine.init.pid, machine.dir.display());
    }
    for pod in lab.pods()? {
        let addresses: Vec<_> = pod.addresses().iter().map(ToString::to_string).collect();
        println!("{:20} on {} {}", pod.key(), pod.node(), addresses.join(" "));
    }
    Ok(())
}

fn net(verb: &NetVerb) -> Result<ExitCode> {
    match *verb {
        NetVerb::Serve { port } => serve(port)?,
        NetVerb::Probe { proto, to } => {
            let verdict = probe_here(proto, to, Duration::from_secs(1));
            println!("{proto} {to}: {verdict}");
            return Ok(if verdict.is_allowed() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        NetVerb::Flow { proto, to, rate, seconds } => {
            let here = Namespace::open("here", "/proc/self/ns/net".as_ref())?;
            let flow = Flow::start(&here, proto, to, rate)?;
            std::thread::sleep(Duration::from_secs(seconds));
            println!("{proto} {to}: {}", flow.stop()?);
        }
    }
    Ok(ExitCode::SUCCESS)
}
