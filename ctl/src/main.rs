//! `weftctl`: what Weft's agents know and why, for people (tables) and for programs (`-o json`).
//!
//! On a node it asks that node's agent. Anywhere else it needs a kubeconfig, as kubectl does, and answers for all nodes
//! or, with `--node`, for one. Installed as `kubectl-weft` it is `kubectl weft`.
//!
//! Exit codes: 0 the answer is yes, or there is one; 1 we could not find out; 2 wrong usage; 3 the answer is no
//! (not ready, denied, no such route).

mod answer;
mod client;
mod cluster;
mod cmd;
mod failure;
mod fault;
mod input;
mod render;
mod resource;
mod store;
mod terminal;
mod whom;
mod written;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::client::NotFound;
use crate::cmd::Outcome;
use crate::failure::{ReaderGone, Usage};
use crate::terminal::tell;
use crate::whom::Where;

/// How often `--watch` asks.
const WATCH: Duration = Duration::from_secs(2);
/// Home, and clear what is below.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows what Weft knows of a node or of all, and explains it.
#[derive(Debug, Parser)]
#[command(name = "weftctl", disable_version_flag = true)]
struct Args {
    #[command(flatten)]
    place: Where,

    /// Print the answer in this form.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,

    /// Ask again every 2 seconds until interrupted.
    #[arg(short, long, global = true)]
    watch: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Columns for people.
    Table,
    /// More columns.
    Wide,
    /// For programs.
    Json,
    /// For programs, and to be edited.
    Yaml,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a node at a glance, or all of them: readiness, peers, routes, pods, policy, and what is wrong.
    Status,
    /// Show objects of Weft: BGPConfiguration, BGPPeer, BGPPeerProfile, BGPNodeOverride, BGPFilter, BGPAdvertisement,
    /// WeftNode.
    Get(cmd::get::Options),
    /// Create or change objects of Weft as files say. Nothing is written when one of them is refused.
    Apply(cmd::apply::Options),
    /// Delete objects of Weft, by name or as they stand in files.
    Delete(cmd::delete::Options),
    /// Say what is wrong with objects, as an agent would, without an agent and without a cluster.
    Validate(cmd::validate::Options),
    /// Show peers and routes.
    #[command(subcommand)]
    Bgp(cmd::bgp::Command),
    /// Show pools and the addresses of pods.
    #[command(subcommand)]
    Ipam(cmd::ipam::Command),
    /// Show network policies, and say whether they allow a connection.
    #[command(subcommand)]
    Policy(cmd::policy::Command),
    /// Say what this machine lacks before Weft is installed on it. Run it there, as root.
    Check(cmd::check::Options),
    /// Show the versions of this program and of the agents.
    Version,
    /// Print a script by which your shell completes words: `source <(weftctl completion bash)`.
    Completion {
        /// Write it for this shell.
        shell: clap_complete::Shell,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = parse();
    loop {
        if args.watch && std::io::stdout().is_terminal() {
            print!("{CLEAR}");
        }
        let outcome = run(&args).await;
        let is_last = !args.watch || !args.command.can_be_repeated() || is_gone(&outcome);
        let code = code(outcome);
        if is_last {
            return code;
        }
        tokio::time::sleep(WATCH).await;
    }
}

/// Help and errors say how we were called.
fn parse() -> Args {
    let program = std::env::args().next().unwrap_or_default();
    let command = Args::command();
    let command = match program.rsplit('/').next() {
        Some("kubectl-weft") => command.bin_name("kubectl weft"),
        _ => command,
    };
    Args::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

async fn run(args: &Args) -> anyhow::Result<Outcome> {
    let (place, output) = (&args.place, args.output);
    if args.watch && !args.command.can_be_repeated() {
        return Err(Usage("--watch is for what is shown".to_owned()).into());
    }
    match &args.command {
        Command::Status => cmd::status::run(&place.resolve().await?, output).await,
        Command::Get(options) => cmd::get::run(options, place, output).await,
        Command::Apply(options) => cmd::apply::run(options, place, output).await,
        Command::Delete(options) => cmd::delete::run(options, place, output).await,
        Command::Validate(options) => cmd::validate::run(options, output),
        // Asks nobody.
        Command::Bgp(cmd::bgp::Command::Filter(command)) => cmd::filter::run(command, output),
        Command::Bgp(command) => cmd::bgp::run(command, &place.resolve().await?, output).await,
        Command::Ipam(command) => cmd::ipam::run(command, &place.resolve().await?, output).await,
        Command::Policy(command) => cmd::policy::run(command, &place.resolve().await?, output).await,
        Command::Check(options) => cmd::check::run(options, output),
        Command::Version => cmd::version::run(&place.resolve().await?, output).await,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "weftctl", &mut script);
            terminal::write(&script).map(|()| Outcome::Yes)
        }
    }
}

impl Command {
    /// What changes nothing, and may answer otherwise in two seconds.
    fn can_be_repeated(&self) -> bool {
        match self {
            Self::Status
            | Self::Get(_)
            | Self::Bgp(_)
            | Self::Ipam(_)
            | Self::Policy(_)
            | Self::Check(_)
            | Self::Version => true,
            Self::Apply(_) | Self::Delete(_) | Self::Validate(_) | Self::Completion { .. } => false,
        }
    }
}

fn is_gone(outcome: &anyhow::Result<Outcome>) -> bool {
    outcome.as_ref().is_err_and(anyhow::Error::is::<ReaderGone>)
}

fn code(outcome: anyhow::Result<Outcome>) -> ExitCode {
    match outcome {
        Ok(Outcome::Yes) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(3),
        Ok(Outcome::Refused) => ExitCode::FAILURE,
        Err(error) if error.is::<ReaderGone>() => ExitCode::SUCCESS,
        Err(error) => {
            tell(format!("{error:#}"));
            if error.is::<NotFound>() {
                ExitCode::from(3)
            } else if error.is::<Usage>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
