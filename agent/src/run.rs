//! The agent's life: what is started in which order, and how it ends.
//!
//! Nothing is written to the kernel before there is a plan: the datastore has been listed once and shows our Node, or it
//! does not answer and something is remembered. Then: sysctls, own routes, BGP, and the CNI server, which tells the policy
//! owner about pods of its forerunner. Policy waits for the list whatever is remembered, and pods for policy. A stop for a
//! restart leaves routes, rules, links and the conflist where they are; only the sockets go.
//!
//! # What runs
//!
//! Tasks on one runtime, and threads where something blocks. Each owns what it is named after, hears others through a mailbox or
//! a `watch` channel, and lasts until the process ends ([`supervise`](crate::supervise)): where one ends by itself, all do, and
//! a new agent begins. So each must be safe to cut off at any line; the last column says why it is.
//!
//! | part | owns | cut off at any line |
//! |---|---|---|
//! | `datastore`, `watch of KIND` | what users wrote, as far as it was heard | everything is listed again |
//! | `memory` | the file that BGP can begin with | it is replaced whole, or not |
//! | `planner` | the plan | a function of what is read again |
//! | `bgp` | the speaker: sessions, the RIB | TCP closes without a NOTIFICATION: peers keep our routes |
//! | thread `bfd` | which peers are heard | routers that watch miss us within a second: only a leave can tell them otherwise |
//! | `routes`, `route socket` | kernel routes with our mark | what is there is adopted, and swept when BGP has converged |
//! | `mtu` | nothing: it looks | |
//! | thread `policy` | `table inet weft` | one transaction changes it, or none; the table outlives its owner |
//! | thread `flows` | which established flows have lost their right | who adopts the table judges them all once |
//! | thread `cni` | links, addresses, the journal of pods | each step is written down first; a link without a record goes |
//! | `report` | what is said to the API server | it is compared with what is there, and said again |
//! | `control server`, `metrics server`, `operators server` | sockets | who asked asks again |
//!
//! Nothing runs beside these but work that ends by itself: a call of the CNI, an answer over HTTP.

mod parts;
mod planner;
mod pods;

use std::io;
use std::pin::pin;
use std::time::Duration;

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use weft_api::{AGENT_SOCKET, CNI_SOCKET};
use weft_bgp::speaker::Shutdown;

use self::parts::Parts;
use crate::config::Config;
use crate::lock::RunDirLock;
use crate::reconcile::bfd;
use crate::server;
use crate::supervise::{Ends, Supervisor, supervisor};

/// How long a forerunner may take to leave: as long as the chart lets it.
const FORERUNNER_LEAVES: Duration = Duration::from_secs(10);

/// Runs until a signal or a request to stop, or until a part of it has ended by itself.
pub async fn run(config: Config) -> anyhow::Result<()> {
    // Before anything else: a container's first process does not get signals that it has not asked for.
    let signalled = signals()?;
    let (tasks, ends) = supervisor();
    live(config, tasks, ends, signalled).await
}

async fn live(
    config: Config,
    tasks: Supervisor,
    ends: Ends,
    signalled: impl Future<Output = Shutdown>,
) -> anyhow::Result<()> {
    let mut signalled = pin!(signalled);
    info!(node = config.node, version = env!("CARGO_PKG_VERSION"), "agent starting");
    let _lock = tokio::select! {
        lock = RunDirLock::take(&config.run_dir, FORERUNNER_LEAVES) => lock?,
        how = &mut signalled => {
            info!(?how, "agent stops before it has begun");
            return Ok(());
        }
    };
    let mut parts = Parts::start(config, &tasks).await?;
    let how = wait(&mut parts, &tasks, ends, signalled).await?;
    info!(?how, "agent stopping");
    leave(parts, how).await;
    info!("agent stopped");
    Ok(())
}

/// Until somebody wants it to end. It works meanwhile; where it cannot go on, there is no leave to take.
async fn wait(
    parts: &mut Parts,
    tasks: &Supervisor,
    mut ends: Ends,
    signalled: impl Future<Output = Shutdown>,
) -> anyhow::Result<Shutdown> {
    tokio::select! {
        how = signalled => Ok(how),
        Some(text) = parts.stop_requests.recv() => Ok(Shutdown::Stop { text }),
        gone = ends.first() => bail!("the agent cannot go on: {gone}"),
        Err(error) = pods::wire(tasks, &parts.agent, &parts.cni, &parts.sysctl_problems) => Err(error),
    }
}

async fn leave(parts: Parts, how: Shutdown) {
    let run_dir = &parts.agent.config.run_dir;
    // The runtime must find nobody, rather than somebody who is leaving. This is the last handle: the server ends.
    drop(parts.cni.send_replace(None));
    server::remove_socket(run_dir, CNI_SOCKET);
    let bfd = &parts.agent.bfd;
    if how == Shutdown::Restart {
        // While routers hear us still.
        let _ = bfd.lengthen().await;
    }
    let running = parts.agent.speaker.borrow().clone();
    if let Some(speaker) = running {
        // It may have ended by itself.
        let _ = speaker.shutdown(how.clone()).await;
    }
    bfd::leave(bfd, how, run_dir).await;
    server::remove_socket(run_dir, AGENT_SOCKET);
    parts.cancel.cancel();
    // Who asked for the stop is told that it comes.
    parts.servers.wait().await;
}

/// SIGTERM: to be back soon. SIGINT: for good. Both are heard from the call on.
fn signals() -> io::Result<impl Future<Output = Shutdown>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => Shutdown::Restart,
            _ = interrupt.recv() => Shutdown::Stop { text: "stopped by an operator".to_owned() },
        }
    })
}

#[cfg(test)]
mod tests;
