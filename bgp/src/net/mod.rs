//! The tokio shell: sockets and a clock for one [`Speaker`](crate::speaker). One task owns it; everybody else holds
//! a [`Handle`].
//!
//! In: desired peers and prefixes. Out: the FIB's changes, as a [`FibStream`], and status values.
//!
//! | task | owns | is started by | ends | why it may be aborted |
//! |---|---|---|---|---|
//! | the speaker's (`shell`) | speaker, listeners, guards | [`spawn`] | shutdown, or the last [`Handle`] goes | never is |
//! | a dial (`dial`) | a socket that connects | the shell, for `Effect::Dial` | in connecting or an error | the speaker does not want it any more; nothing was sent |
//! | a reader (`connection`) | the receiving half | the shell, for each connection | end of TCP | what it has read and not reported is of a session that is over |
//! | a writer (`connection`) | the sending half, a queue | the same | its queue ends, after the last word | as the reader; the speaker chose `Abort`, or flushing took too long |
//!
//! Each speaks to the shell alone, through one bounded queue of reports; the shell awaits none of them. BFD has a thread of its
//! own ([`bfd`]), which the caller starts; it carries what that finds to here.

mod admission;
pub mod bfd;
mod connection;
mod dial;
mod gtsm;
mod listener;
mod shell;
mod sockopt;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::sync::{mpsc, oneshot};

use crate::rib::{AdvertisedRoute, RouteStatus};
use crate::speaker::{OriginConfig, PeerConfig, PeerKey, PeerStatus, RouteFilter, Shutdown, SpeakerConfig};
use crate::types::Change;

use listener::Listeners;
use shell::Shell;

/// Requests that wait for the speaker's task; senders wait beyond.
const COMMAND_QUEUE: usize = 64;
/// Things that happened on connections and wait for the speaker's task; readers and writers wait beyond, each for
/// itself. Each may be 64 KiB that were read, so this is memory too: a sender faster than we are fills it.
const REPORT_QUEUE: usize = 32;
/// Batches of FIB changes that wait for the agent. Beyond, changes gather in the RIB, one per prefix.
const FIB_QUEUE: usize = 4;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub port: u16,
    /// Empty: all of the node's, both families.
    pub addresses: Vec<IpAddr>,
}

/// What the agent's FIB must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FibEvent {
    /// The new nexthops of some prefixes; at most one entry per prefix, at most [`FibStream::BATCH`] of them.
    Changes(Vec<Change>),
    /// Once per speaker: peers that are up have been heard out, the others have had some seconds. All routes that this
    /// speaker knows have been in `Changes` before this.
    Settled,
    /// Once per speaker, after `Settled`: every configured peer has been heard out, or had the time in which a router
    /// restarts. What else the FIB holds of ours is stale.
    Converged,
}

/// The FIB's changes. Bounded: while nobody reads, the RIB keeps one pending change per prefix, the latest.
#[derive(Debug)]
pub struct FibStream {
    events: mpsc::Receiver<FibEvent>,
}

impl FibStream {
    /// Changes in one event, at most.
    pub const BATCH: usize = 1024;

    /// Of events that somebody else makes up, for tests of what consumes them.
    pub fn new(events: mpsc::Receiver<FibEvent>) -> Self {
        Self { events }
    }

    /// `None` when the speaker has ended.
    pub async fn next(&mut self) -> Option<FibEvent> {
        self.events.recv().await
    }
}

/// The speaker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the BGP speaker has ended")]
pub struct Ended;

/// Speaks to the speaker's task. Cheap to clone; when the last handle goes, the speaker restarts (closes without
/// Cease).
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
}

#[derive(Debug)]
enum Command {
    SetPeers(Vec<PeerConfig>, oneshot::Sender<()>),
    SetOrigin(OriginConfig, oneshot::Sender<()>),
    SetMaxPaths(usize, oneshot::Sender<()>),
    SetRestartTime(Option<u16>, oneshot::Sender<()>),
    Listen(Listen, oneshot::Sender<io::Result<()>>),
    Peers(oneshot::Sender<Vec<PeerStatus>>),
    Routes(RouteFilter, oneshot::Sender<Vec<RouteStatus<String>>>),
    Advertised(PeerKey, oneshot::Sender<Option<Vec<AdvertisedRoute>>>),
    Unreachable(PeerKey, oneshot::Sender<()>),
    PathLost(bfd::Lost, oneshot::Sender<()>),
    Refused(oneshot::Sender<u64>),
    Listening(oneshot::Sender<Vec<SocketAddr>>),
    Shutdown(Shutdown, oneshot::Sender<()>),
}

impl Handle {
    /// Makes these the peers, and no others. Peers whose configuration is unchanged keep their session.
    pub async fn set_peers(&self, peers: Vec<PeerConfig>) -> Result<(), Ended> {
        self.ask(|reply| Command::SetPeers(peers, reply)).await
    }

    /// Makes these the prefixes that we announce, and no others.
    pub async fn set_origin(&self, origin: OriginConfig) -> Result<(), Ended> {
        self.ask(|reply| Command::SetOrigin(origin, reply)).await
    }

    /// As [`SpeakerConfig::max_paths`].
    pub async fn set_max_paths(&self, max_paths: usize) -> Result<(), Ended> {
        self.ask(|reply| Command::SetMaxPaths(max_paths, reply)).await
    }

    /// As [`SpeakerConfig::restart_time`]. Counts for each session from its next OPEN on.
    pub async fn set_restart_time(&self, restart_time: Option<u16>) -> Result<(), Ended> {
        self.ask(|reply| Command::SetRestartTime(restart_time, reply)).await
    }

    /// Listens here, and nowhere else; sessions stay. Where it cannot, it listens on where it did.
    pub async fn listen(&self, listen: Listen) -> Result<io::Result<()>, Ended> {
        self.ask(|reply| Command::Listen(listen, reply)).await
    }

    /// Every configured peer, in order of name.
    pub async fn peers(&self) -> Result<Vec<PeerStatus>, Ended> {
        self.ask(Command::Peers).await
    }

    /// In order of prefix. Peers by name.
    pub async fn routes(&self, filter: RouteFilter) -> Result<Vec<RouteStatus<String>>, Ended> {
        self.ask(|reply| Command::Routes(filter, reply)).await
    }

    /// What this peer has been told; `None` when there is no such peer.
    pub async fn advertised(&self, peer: PeerKey) -> Result<Option<Vec<AdvertisedRoute>>, Ended> {
        self.ask(|reply| Command::Advertised(peer, reply)).await
    }

    /// Connections refused since the start: from strangers, or not as a peer's configuration wants them.
    pub async fn refused(&self) -> Result<u64, Ended> {
        self.ask(Command::Refused).await
    }

    /// Where the speaker listens.
    pub async fn listening(&self) -> Result<Vec<SocketAddr>, Ended> {
        self.ask(Command::Listening).await
    }

    /// The link to this peer is gone: close its session at once rather than when the hold timer expires.
    pub async fn unreachable(&self, peer: PeerKey) -> Result<(), Ended> {
        self.ask(|reply| Command::Unreachable(peer, reply)).await
    }

    /// BFD has lost this peer: close its session with Cease/10 (RFC 9384), and forget its routes.
    pub async fn path_lost(&self, lost: bfd::Lost) -> Result<(), Ended> {
        self.ask(|reply| Command::PathLost(lost, reply)).await
    }

    /// Ends the speaker. Returns when every connection has been flushed and closed, at most some seconds later.
    pub async fn shutdown(&self, how: Shutdown) -> Result<(), Ended> {
        self.ask(|reply| Command::Shutdown(how, reply)).await
    }

    /// Waits for the speaker's end, whoever or whatever ended it.
    pub async fn ended(&self) {
        self.commands.closed().await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Ended> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }
}

/// Starts a speaker in the current network namespace and tokio runtime.
///
/// Fails when a listening socket cannot be bound. Peers are set by [`Handle::set_peers`].
pub fn spawn(config: SpeakerConfig, listen: &Listen) -> io::Result<(Handle, FibStream)> {
    let (commands, requests) = mpsc::channel(COMMAND_QUEUE);
    let (reports, inbox) = mpsc::channel(REPORT_QUEUE);
    let (fib, changes) = mpsc::channel(FIB_QUEUE);
    let listeners = Listeners::bind(listen)?;
    tokio::spawn(Shell::new(config, listeners, reports, fib).run(requests, inbox));
    Ok((Handle { commands }, FibStream { events: changes }))
}

/// Puts what we tried before what the kernel said.
fn explain(tried: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{tried}: {error}"))
}
