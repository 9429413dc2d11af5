//! BFD's sockets, clock and thread. One thread owns the [`Sessions`](crate::bfd::Sessions), so that neither a long update of
//! the RIB nor a busy runtime makes a peer believe that we are gone; everybody else holds a [`Handle`].
//!
//! In: the peers to watch. Out: [`Lost`], for who speaks BGP with them, and values for people.

mod engine;
mod receivers;
mod senders;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::bfd::{Config, Failure, Resumed, Status};
use crate::speaker::{PeerKey, Shutdown};

pub use engine::Engine;

/// Requests that wait for the thread; senders wait beyond.
const COMMAND_QUEUE: usize = 16;
/// Peers that were lost, on their way; beyond, the thread keeps one word for each.
const LOST_QUEUE: usize = 64;

/// Who is to be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// For the log.
    pub name: String,
    pub key: PeerKey,
    /// Speak from here; `None`: the kernel's choice.
    pub source: Option<IpAddr>,
    pub config: Config,
}

/// The path to a peer is gone that was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    pub key: PeerKey,
    pub failure: Failure,
}

/// What the thread shows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In order of address.
    pub sessions: Vec<Shown>,
    /// Datagrams from addresses that nobody watches.
    pub strangers: u64,
    /// Why it does not listen where it should, in words.
    pub deaf: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub status: Status,
    /// Why the last packet could not be sent, or was sent back.
    pub error: Option<String>,
}

/// A session that waits for the next process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    pub session: Resumed,
    /// From which it was spoken: a session keeps its source port (RFC 5881 §4).
    pub port: Option<u16>,
}

/// The thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("BFD has ended")]
pub struct Ended;

/// Speaks to the thread. Cheap to clone; when the last handle goes, the thread ends without a word.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    wake: Arc<UnixStream>,
}

#[derive(Debug)]
enum Command {
    Watch(Vec<Watched>, oneshot::Sender<()>),
    Report(oneshot::Sender<Report>),
    Lengthen(oneshot::Sender<()>),
    Leave(Shutdown, oneshot::Sender<Vec<Left>>),
}

/// An engine to be run on a thread of its own, and what becomes of it. `seed` is another number for each process, which
/// peers cannot know.
pub fn new(seed: u64, left: Vec<Left>) -> io::Result<(Handle, Engine, mpsc::Receiver<Lost>)> {
    let (commands, requests) = mpsc::channel(COMMAND_QUEUE);
    let (lost, heard) = mpsc::channel(LOST_QUEUE);
    let (wake, woken) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    let engine = Engine::new(seed, left, requests, woken, lost);
    Ok((Handle { commands, wake: Arc::new(wake) }, engine, heard))
}

impl Handle {
    /// Watches these peers, and no others. Sessions whose path is the same are kept.
    pub async fn watch(&self, peers: Vec<Watched>) -> Result<(), Ended> {
        self.ask(|reply| Command::Watch(peers, reply)).await
    }

    pub async fn report(&self) -> Result<Report, Ended> {
        self.ask(Command::Report).await
    }

    /// Asks peers to bear half a minute of silence; returns when all have answered, or soon.
    pub async fn lengthen(&self) -> Result<(), Ended> {
        self.ask(Command::Lengthen).await
    }

    /// Ends the thread. On a restart sessions whose peer waits long enough are left to the next process; all others are
    /// taken down, which a peer does not take for a failure.
    pub async fn leave(&self, how: Shutdown) -> Result<Vec<Left>, Ended> {
        self.ask(|reply| Command::Leave(how, reply)).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Ended> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Ended)?;
        // Full: it is about to wake anyway. Closed: the answer will not come.
        let _ = (&*self.wake).write(&[0]);
        answer.await.map_err(|_| Ended)
    }
}

/// What a peer is asked to bear while we restart: the time in which a restart of a container is over, mostly.
const RESTART_PATIENCE: Duration = Duration::from_secs(30);
/// The least that a restart takes. A peer that does not wait for so long is told not to.
const RESTART: Duration = Duration::from_secs(2);
