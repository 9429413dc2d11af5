//! The task that owns the speaker: everything that happens becomes an input, every effect becomes a deed.
//!
//! It never waits for a peer, nor for the reader of the FIB's changes: queues are tried, not awaited.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant as Clock, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::admission::{Admission, key_of};
use super::bfd::Lost;
use super::connection::{ConnHandle, Report};
use super::dial::dial;
use super::listener::Listeners;
use super::{Command, FibEvent, FibStream, Listen};
use crate::speaker::{Effect, Input, PeerConfig, PeerKey, Shutdown, Speaker, SpeakerConfig};
use crate::types::{Change, ConnId, Instant};

/// What the kernel lacked to guard a peer, descriptors or memory, may be there again after this time.
const GUARDS_RETRY: Duration = Duration::from_secs(2);
/// What a shutdown waits for connections to take our last word.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Shell {
    speaker: Speaker,
    started: Clock,
    admission: Admission,
    /// As they were set last.
    peers: Vec<PeerConfig>,
    /// When peers that could not be guarded are tried again.
    guards_due: Option<Clock>,
    connections: BTreeMap<ConnId, ConnHandle>,
    dials: BTreeMap<ConnId, AbortHandle>,
    closing: Vec<JoinHandle<()>>,
    accepted: u64,
    reports: mpsc::Sender<Report>,
    fib: mpsc::Sender<FibEvent>,
    /// On their way to the FIB; more changes are taken when they have gone, or when a mark is to come after them.
    fib_events: VecDeque<FibEvent>,
}

impl Shell {
    pub(super) fn new(
        config: SpeakerConfig,
        listeners: Listeners,
        reports: mpsc::Sender<Report>,
        fib: mpsc::Sender<FibEvent>,
    ) -> Self {
        Self {
            admission: Admission::new(config.asn, listeners),
            speaker: Speaker::new(config),
            started: Clock::now(),
            peers: Vec::new(),
            guards_due: None,
            connections: BTreeMap::new(),
            dials: BTreeMap::new(),
            closing: Vec::new(),
            accepted: 0,
            reports,
            fib,
            fib_events: VecDeque::new(),
        }
    }

    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut inbox: mpsc::Receiver<Report>,
    ) {
        loop {
            let fib_waits = self.has_fib_event();
            let deadline = self.speaker.next_deadline();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Shutdown(how, done)) => return self.shutdown(how, Some(done), inbox).await,
                    Some(command) => self.command(command),
                    None => return self.shutdown(Shutdown::Restart, None, inbox).await,
                },
                (stream, remote) = self.admission.listeners.accept() => self.accepted(stream, remote),
                Some(report) = inbox.recv() => self.report(report),
                () = sleep_until(self.started + deadline.unwrap_or_default().0), if deadline.is_some() => {
                    self.handle(Input::Tick);
                }
                () = sleep_until(self.guards_due.unwrap_or(self.started)), if self.guards_due.is_some() => {
                    self.set_peers(self.peers.clone());
                }
                permit = self.fib.clone().reserve_owned(), if fib_waits => match permit {
                    Ok(permit) => drop(self.fib_events.pop_front().map(|event| permit.send(event))),
                    Err(_) => debug!("nobody reads the changes of the FIB"),
                },
            }
        }
    }

    fn command(&mut self, command: Command) {
        // Whoever asked may have stopped waiting: that is their affair.
        match command {
            Command::SetPeers(peers, done) => {
                self.set_peers(peers);
                let _ = done.send(());
            }
            Command::SetOrigin(origin, done) => {
                self.handle(Input::SetOrigin(origin));
                let _ = done.send(());
            }
            Command::SetMaxPaths(max_paths, done) => {
                self.handle(Input::SetMaxPaths(max_paths));
                let _ = done.send(());
            }
            Command::SetRestartTime(restart_time, done) => {
                self.handle(Input::SetRestartTime(restart_time));
                let _ = done.send(());
            }
            Command::Listen(listen, done) => drop(done.send(self.listen(&listen))),
            Command::Unreachable(key, done) => {
                self.handle(Input::Unreachable(key));
                let _ = done.send(());
            }
            Command::PathLost(Lost { key, failure }, done) => {
                self.handle(Input::PathLost { key, failure });
                let _ = done.send(());
            }
            Command::Peers(reply) => drop(reply.send(self.speaker.peers(self.now()))),
            Command::Routes(filter, reply) => drop(reply.send(self.speaker.routes(filter))),
            Command::Advertised(key, reply) => drop(reply.send(self.speaker.advertised(key))),
            Command::Refused(reply) => drop(reply.send(self.admission.refused())),
            Command::Listening(reply) => drop(reply.send(self.admission.listeners.local_addresses())),
            Command::Shutdown(_, _) => {} // Taken by `run`.
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Input(Input::Closed { conn }) => {
                self.connections.remove(&conn);
                self.handle(Input::Closed { conn });
            }
            Report::Input(input) => self.handle(input),
            Report::Dialed { conn, result } => self.dialed(conn, result),
        }
    }

    fn handle(&mut self, input: Input) {
        self.speaker.handle(self.now(), input);
        while let Some(effect) = self.speaker.poll_effect() {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Dial { conn, key } => self.dial(conn, key),
            Effect::Send { conn, bytes } => self.send(conn, bytes),
            Effect::Close { conn } => {
                self.closing.retain(|task| !task.is_finished());
                self.closing.extend(self.connections.remove(&conn).map(ConnHandle::close));
            }
            Effect::Abort { conn } => {
                if let Some(dial) = self.dials.remove(&conn) {
                    dial.abort();
                }
                if let Some(connection) = self.connections.remove(&conn) {
                    connection.abort();
                }
            }
            Effect::PeerStateChanged { key, name, from, to, reason, log } => {
                let reason = reason.unwrap_or_default();
                if log {
                    info!(peer = %name, address = %key, %from, %to, reason, "session state changed");
                } else {
                    debug!(peer = %name, address = %key, %from, %to, reason, "session state changed");
                }
            }
            Effect::AttributeErrors { key, worst, others } => {
                warn!(peer = %key, action = ?worst.action, error = %worst, others, "malformed attribute");
            }
            Effect::Settled => self.mark(FibEvent::Settled),
            Effect::Converged => self.mark(FibEvent::Converged),
        }
    }

    /// Guards first: nobody is let in who connected before they were there.
    fn set_peers(&mut self, peers: Vec<PeerConfig>) {
        let waiting = self.admission.set_peers(&peers);
        self.guards_due = self.admission.is_any_blocked().then(|| Clock::now() + GUARDS_RETRY);
        self.peers.clone_from(&peers);
        self.handle(Input::SetPeers(peers));
        for (stream, remote) in waiting {
            self.accepted(stream, remote);
        }
    }

    fn listen(&mut self, listen: &Listen) -> io::Result<()> {
        self.admission.replace_listeners(Listeners::bind(listen)?);
        self.set_peers(self.peers.clone());
        Ok(())
    }

    fn dial(&mut self, conn: ConnId, key: PeerKey) {
        let peer = self.admission.peer(&key).cloned();
        let reports = self.reports.clone();
        let task = tokio::spawn(async move {
            let result = match peer {
                Some(peer) => dial(key, peer).await,
                None => Err(io::Error::other("not a peer")),
            };
            // The speaker may have ended.
            let _ = reports.send(Report::Dialed { conn, result }).await;
        });
        self.dials.insert(conn, task.abort_handle());
    }

    fn dialed(&mut self, conn: ConnId, result: io::Result<TcpStream>) {
        if self.dials.remove(&conn).is_none() {
            return; // Aborted when it had just succeeded.
        }
        match result.and_then(|stream| Ok((stream.local_addr()?, stream.peer_addr()?, stream))) {
            Ok((local, remote, stream)) => self.connected(conn, stream, local, key_of(remote)),
            Err(error) => self.handle(Input::DialFailed { conn, error: error.to_string() }),
        }
    }

    fn accepted(&mut self, stream: TcpStream, remote: SocketAddr) {
        if let Some(local) = self.admission.admit(&stream, remote) {
            self.accepted += 1;
            self.connected(ConnId::Accepted(self.accepted), stream, local, key_of(remote));
        }
    }

    fn connected(&mut self, conn: ConnId, stream: TcpStream, local: SocketAddr, remote: PeerKey) {
        self.connections.insert(conn, ConnHandle::start(conn, stream, self.reports.clone()));
        self.handle(Input::Connected { conn, local: local.ip(), remote });
    }

    fn send(&mut self, conn: ConnId, bytes: Bytes) {
        let Some(connection) = self.connections.get(&conn) else {
            return; // Its end is on the way to the speaker.
        };
        if !connection.send(bytes)
            && let Some(connection) = self.connections.remove(&conn)
        {
            debug!(?conn, "peer reads too slowly, connection closed");
            connection.abort();
            self.speaker.handle(self.now(), Input::Closed { conn });
        }
    }

    /// Whether there is something for the FIB.
    fn has_fib_event(&mut self) -> bool {
        if self.fib_events.is_empty() && !self.fib.is_closed() {
            self.take_changes();
        }
        !self.fib_events.is_empty() && !self.fib.is_closed()
    }

    /// A batch of changes, if there are any.
    fn take_changes(&mut self) -> bool {
        let changes = std::iter::from_fn(|| self.speaker.poll_change());
        let batch: Vec<Change> = changes.take(FibStream::BATCH).collect();
        let any = !batch.is_empty();
        self.fib_events.extend(any.then_some(FibEvent::Changes(batch)));
        any
    }

    /// All that is known is taken before it, so that what is learned later does not hold it up.
    fn mark(&mut self, mark: FibEvent) {
        while self.take_changes() {}
        self.fib_events.push_back(mark);
    }

    async fn shutdown(
        mut self,
        how: Shutdown,
        done: Option<oneshot::Sender<()>>,
        mut inbox: mpsc::Receiver<Report>,
    ) {
        self.handle(Input::Shutdown(how));
        // Connections that nobody hears would wait for room rather than write.
        tokio::spawn(async move { while inbox.recv().await.is_some() {} });
        let flushed = async {
            for task in std::mem::take(&mut self.closing) {
                // An aborted task has nothing left to flush.
                let _ = task.await;
            }
        };
        if timeout(SHUTDOWN_TIMEOUT, flushed).await.is_err() {
            warn!("some peers did not take our last word");
        }
        // The next speaker may want the port.
        drop(self.admission);
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    fn now(&self) -> Instant {
        Instant(self.started.elapsed())
    }
}

#[cfg(test)]
mod tests;
