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

use super::connection::{Connection, Event, dial, explain};
use super::listener::Listeners;
use super::sockopt;
use super::{Command, FibEvent, FibStream};
use crate::speaker::{Effect, Input, PeerConfig, PeerKey, Shutdown, Speaker, SpeakerConfig, Transport};
use crate::types::{Asn, Change, ConnId, Instant, PeerKind};

use std::os::fd::AsFd;

/// What a shutdown waits for connections to take our last word.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Shell {
    speaker: Speaker,
    asn: Asn,
    started: Clock,
    listeners: Listeners,
    peers: BTreeMap<PeerKey, PeerTransport>,
    connections: BTreeMap<ConnId, Connection>,
    dials: BTreeMap<ConnId, AbortHandle>,
    closing: Vec<JoinHandle<()>>,
    accepted: u64,
    refused: u64,
    events: mpsc::Sender<Event>,
    fib: mpsc::Sender<FibEvent>,
    /// Changes on their way to the FIB; refilled when they have gone.
    batch: Vec<Change>,
    /// What comes after them.
    marks: VecDeque<FibEvent>,
}

/// How to reach a peer and whom to accept.
struct PeerTransport {
    transport: Transport,
    kind: PeerKind,
    /// The kernel does not take its key: no connection either way.
    blocked: Option<String>,
}

impl Shell {
    pub(super) fn new(
        config: SpeakerConfig,
        listeners: Listeners,
        events: mpsc::Sender<Event>,
        fib: mpsc::Sender<FibEvent>,
    ) -> Self {
        Self {
            asn: config.asn,
            speaker: Speaker::new(config),
            started: Clock::now(),
            listeners,
            peers: BTreeMap::new(),
            connections: BTreeMap::new(),
            dials: BTreeMap::new(),
            closing: Vec::new(),
            accepted: 0,
            refused: 0,
            events,
            fib,
            batch: Vec::new(),
            marks: VecDeque::new(),
        }
    }

    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut inbox: mpsc::Receiver<Event>,
    ) {
        loop {
            let fib_waits = self.fill_batch();
            let deadline = self.speaker.next_deadline();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Shutdown(how, done)) => return self.shutdown(how, Some(done), inbox).await,
                    Some(command) => self.command(command),
                    None => return self.shutdown(Shutdown::Restart, None, inbox).await,
                },
                Some(event) = inbox.recv() => self.event(event),
                () = sleep_until(self.started + deadline.unwrap_or_default().0), if deadline.is_some() => {
                    self.handle(Input::Tick);
                }
                permit = self.fib.clone().reserve_owned(), if fib_waits => match permit {
                    Ok(permit) => drop(permit.send(self.next_fib_event())),
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
            Command::Unreachable(key, done) => {
                self.handle(Input::Unreachable(key));
                let _ = done.send(());
            }
            Command::Peers(reply) => drop(reply.send(self.speaker.peers(self.now()))),
            Command::Routes(filter, reply) => drop(reply.send(self.speaker.routes(filter))),
            Command::Advertised(key, reply) => drop(reply.send(self.speaker.advertised(key))),
            Command::Refused(reply) => drop(reply.send(self.refused)),
            Command::Listening(reply) => drop(reply.send(self.listeners.local_addresses())),
            Command::Shutdown(_, _) => {} // Taken by `run`.
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Input(Input::Closed { conn }) => {
                self.connections.remove(&conn);
                self.handle(Input::Closed { conn });
            }
            Event::Input(input) => self.handle(input),
            Event::Dialed { conn, result } => self.dialed(conn, result),
            Event::Accepted { stream, remote } => self.accepted(stream, remote),
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
            Effect::Dial { conn, key, transport } => self.dial(conn, key, transport),
            Effect::Send { conn, bytes } => self.send(conn, bytes),
            Effect::Close { conn } => {
                self.closing.retain(|task| !task.is_finished());
                self.closing.extend(self.connections.remove(&conn).map(Connection::close));
            }
            Effect::Abort { conn } => {
                if let Some(dial) = self.dials.remove(&conn) {
                    dial.abort();
                }
                if let Some(connection) = self.connections.remove(&conn) {
                    connection.abort();
                }
            }
            Effect::PeerStateChanged { key, name, from, to, reason, tell } => {
                let reason = reason.unwrap_or_default();
                if tell {
                    info!(peer = %name, address = %key, %from, %to, reason, "session state changed");
                } else {
                    debug!(peer = %name, address = %key, %from, %to, reason, "session state changed");
                }
            }
            Effect::AttributeErrors { key, worst, others } => {
                warn!(peer = %key, action = ?worst.action, error = %worst, others, "malformed attribute");
            }
            Effect::Settled => self.marks.push_back(FibEvent::Settled),
            Effect::Converged => self.marks.push_back(FibEvent::Converged),
        }
    }

    /// Keys first: no connection of a new peer may be accepted before its key is in place.
    fn set_peers(&mut self, peers: Vec<PeerConfig>) {
        let mut before = std::mem::take(&mut self.peers);
        for config in &peers {
            let kind = config.asn.kind(self.asn);
            let old = before.remove(&config.key);
            let in_place = old.as_ref().is_none_or(|old| old.blocked.is_none());
            let blocked =
                if in_place && old.and_then(|old| old.transport.password) == config.transport.password {
                    None
                } else {
                    self.listeners.set_key(config.key.address, config.transport.password.as_ref()).err()
                };
            if let Some(error) = &blocked {
                warn!(peer = %config.name, %error, "peer is refused");
            }
            let blocked = blocked.map(|error| error.to_string());
            let transport = config.transport.clone();
            self.peers.insert(config.key, PeerTransport { transport, kind, blocked });
        }
        for (key, gone) in before.iter().filter(|(_, gone)| gone.transport.password.is_some()) {
            if let Err(error) = self.listeners.set_key(key.address, None) {
                debug!(peer = %key, %error, had_key = gone.blocked.is_none(), "key not removed");
            }
        }
        self.handle(Input::SetPeers(peers));
    }

    fn dial(&mut self, conn: ConnId, key: PeerKey, transport: Transport) {
        let peer = self.peers.get(&key);
        let kind = peer.map_or(PeerKind::External, |peer| peer.kind);
        let blocked = peer.and_then(|peer| peer.blocked.clone());
        let events = self.events.clone();
        let task = tokio::spawn(async move {
            let result = match blocked {
                Some(reason) => Err(io::Error::other(reason)),
                None => dial(key, transport, kind).await,
            };
            // The speaker may have ended.
            let _ = events.send(Event::Dialed { conn, result }).await;
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
        let key = key_of(remote);
        match self.admit(&stream, key) {
            Ok(local) => {
                self.accepted += 1;
                self.connected(ConnId::Accepted(self.accepted), stream, local, key);
            }
            Err(reason) => {
                self.refused += 1;
                debug!(%remote, %reason, "connection refused");
            }
        }
    }

    /// Only configured peers, to the right address, with the socket set up as their configuration asks.
    fn admit(&self, stream: &TcpStream, key: PeerKey) -> io::Result<SocketAddr> {
        let peer = self.peers.get(&key).ok_or_else(|| io::Error::other("not a peer"))?;
        if let Some(reason) = &peer.blocked {
            return Err(io::Error::other(reason.clone()));
        }
        let local = stream.local_addr()?;
        if peer.transport.local_address.is_some_and(|expected| expected != local.ip()) {
            return Err(io::Error::other("not to the peer's local address"));
        }
        sockopt::set_hops(stream.as_fd(), key.address, peer.transport.hops, peer.kind)
            .map_err(|error| explain("TTL", &error))?;
        stream.set_nodelay(true)?;
        Ok(local)
    }

    fn connected(&mut self, conn: ConnId, stream: TcpStream, local: SocketAddr, remote: PeerKey) {
        self.connections.insert(conn, Connection::start(conn, stream, self.events.clone()));
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
    fn fill_batch(&mut self) -> bool {
        if self.batch.is_empty() && !self.fib.is_closed() {
            let speaker = &mut self.speaker;
            self.batch.extend(std::iter::from_fn(|| speaker.poll_change()).take(FibStream::BATCH));
        }
        !(self.marks.is_empty() && self.batch.is_empty()) && !self.fib.is_closed()
    }

    fn next_fib_event(&mut self) -> FibEvent {
        let mark = if self.batch.is_empty() { self.marks.pop_front() } else { None };
        mark.unwrap_or_else(|| FibEvent::Changes(std::mem::take(&mut self.batch)))
    }

    async fn shutdown(
        mut self,
        how: Shutdown,
        done: Option<oneshot::Sender<()>>,
        mut inbox: mpsc::Receiver<Event>,
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
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    fn now(&self) -> Instant {
        Instant(self.started.elapsed())
    }
}

/// Link-local addresses come with their interface.
fn key_of(remote: SocketAddr) -> PeerKey {
    let interface = match remote {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => Some(v6.scope_id()),
        SocketAddr::V6(_) | SocketAddr::V4(_) => None,
    };
    PeerKey { address: remote.ip(), interface }
}
