//! `weftctl`: what a node's agent knows and why, for people (tables) and for programs (`-o json`).
//!
//! Exit codes: 0 the answer is yes, or there is one; 1 we could not find out; 2 wrong usage; 3 the answer is no
//! (not ready, denied, no such route).

mod client;
mod cmd;
mod render;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::client::Client;
use crate::cmd::Outcome;

/// Shows what the Weft agent of a node knows, and explains it.
#[derive(Debug, Parser)]
#[command(name = "weftctl", disable_version_flag = true)]
struct Args {
    /// The agent's control socket.
    #[arg(long, global = true, env = "WEFT_SOCKET", default_value = "/run/weft/agent.sock")]
    socket: PathBuf,

    /// How to print the answer.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The node at a glance: readiness, peers, routes, pods, policy, and what is wrong.
    Status,
    /// Peers and routes.
    #[command(subcommand)]
    Bgp(cmd::bgp::Command),
    /// Pod addresses.
    #[command(subcommand)]
    Ipam(cmd::ipam::Command),
    /// Network policies, and whether they allow a connection.
    #[command(subcommand)]
    Policy(cmd::policy::Command),
    /// Versions of this program and of the agent.
    Version,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let client = Client::new(args.socket);
    let outcome = match args.command {
        Command::Status => cmd::status::run(&client, args.output).await,
        Command::Bgp(command) => cmd::bgp::run(command, &client, args.output).await,
        Command::Ipam(command) => cmd::ipam::run(&command, &client, args.output).await,
        Command::Policy(command) => cmd::policy::run(command, &client, args.output).await,
        Command::Version => cmd::version::run(&client, args.output).await,
    };
    match outcome {
        Ok(Outcome::Yes) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(3),
        Err(error) => {
            eprintln!("weftctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}
