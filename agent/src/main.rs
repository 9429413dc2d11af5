//! `weft-agent`: wiring only. `run` is the node agent; `stop` asks a running one to leave for good; `cleanup` removes what
//! it left.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use weft_agent::cleanup::{self, Cleanup};
use weft_agent::cni::conflist::{Install, install_client};
use weft_agent::config::{Config, RawConfig};

/// musl's allocator is several times slower. Without transparent huge pages, which this one asks for: most of a huge page
/// would be memory that nobody uses.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// BGP, routes, network policy and pod links of one node.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// What is logged: `warn`, `info`, `weft_bgp=debug,info`.
    #[arg(long, global = true, env = "WEFT_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// How.
    #[arg(long, global = true, env = "WEFT_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node agent. SIGTERM ends it for a restart: forwarding goes on, peers are not told (graceful restart).
    /// SIGINT ends it for good: peers get a Cease.
    Run(Box<RawConfig>),
    /// Copy weft-cni to where the runtime looks for plugins, and end: for an init container, so that the agent itself need
    /// not be able to write what the node executes.
    Install(Install),
    /// Stop the running agent for good: peers get a Cease with a text for their operators and withdraw our routes.
    Stop {
        /// At most 255 bytes (RFC 9003).
        #[arg(long, default_value = "stopped by an operator")]
        text: String,
        /// That of the agent.
        #[arg(long, env = weft_api::RUN_DIR_ENV, default_value = weft_api::RUN_DIR, value_name = "DIR")]
        run_dir: PathBuf,
    },
    /// Remove from this node all that carries Weft's mark: pod links, routes, the nftables table, conflist, plugin, run
    /// directory. Sysctls stay. For after an uninstall.
    Cleanup(Cleanup),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "agent failed");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Arguments) -> anyhow::Result<()> {
    log_to_stderr(&arguments)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build()?;
    let result = match arguments.command {
        Command::Run(raw) => {
            let config = Config::try_from(*raw)?;
            runtime.block_on(weft_agent::run::run(config))
        }
        Command::Install(Install { cni_binary, cni_bin_dir }) => install_client(&cni_binary, &cni_bin_dir)
            .with_context(|| format!("{} not installed in {}", cni_binary.display(), cni_bin_dir.display())),
        Command::Stop { text, run_dir } => runtime.block_on(weft_agent::server::stop_running(&run_dir, text)),
        Command::Cleanup(arguments) => runtime.block_on(clean_up(&arguments)),
    };
    // What still runs, or hangs, must not keep us here.
    runtime.shutdown_background();
    result
}

/// A thread for each core of a large machine would be memory for nothing: an agent rests most of the time.
fn workers() -> usize {
    const MOST: usize = 4;
    std::thread::available_parallelism().map_or(MOST, usize::from).min(MOST)
}

async fn clean_up(arguments: &Cleanup) -> anyhow::Result<()> {
    // A container's first process does not get signals that it has not asked for: one that comes meanwhile counts after it.
    let terminate = arguments.hold.then(|| signal(SignalKind::terminate())).transpose()?;
    let removed = cleanup::run(arguments).await?;
    for thing in &removed {
        println!("removed {thing}");
    }
    if removed.is_empty() {
        println!("nothing of Weft is here");
    }
    if let Some(mut terminate) = terminate {
        terminate.recv().await;
    }
    Ok(())
}

fn log_to_stderr(arguments: &Arguments) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&arguments.log).context("--log")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(false).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(thread, at, error = panic.payload_as_str().unwrap_or_default(), "panicked");
    }));
    Ok(())
}
