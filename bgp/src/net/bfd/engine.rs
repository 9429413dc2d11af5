//! The thread: what has come is heard, then what is due is done, then it sleeps until something is.
//!
//! In this order: a peer is judged only after everything that it has said so far was heard, however long the thread could
//! not run. It waits for nobody: requests are looked for, and who is to hear of a lost peer is tried.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant as Clock};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, warn};

use super::receivers::Receivers;
use super::senders::Senders;
use super::{Command, Left, Lost, RESTART, RESTART_PATIENCE, Report, Shown, Watched};
use crate::bfd::{Effect, Sessions, State, Transition};
use crate::speaker::{PeerKey, Shutdown};
use crate::types::Instant;

/// Datagrams of one socket that are heard at a time: a flood must not keep us from sending.
const AT_A_TIME: usize = 1024;
/// A port that is taken is tried again after so long; and so is who should have heard of a lost peer, a little sooner.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_LOST: Duration = Duration::from_millis(10);
/// What peers get to answer that they will wait: some round trips.
const ANSWERS: Duration = Duration::from_millis(500);
/// The last word is said so often, as nobody is there to repeat it.
const LAST_WORDS: usize = 3;
const BETWEEN_LAST_WORDS: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Debug)]
pub struct Engine {
    sessions: Sessions,
    watched: BTreeMap<PeerKey, Watched>,
    receivers: Receivers,
    senders: Senders,
    commands: mpsc::Receiver<Command>,
    woken: UnixStream,
    lost: mpsc::Sender<Lost>,
    /// On their way there, one word for each.
    unheard: BTreeMap<PeerKey, Lost>,
    /// When ports that are taken are tried again.
    retry_at: Option<Instant>,
    /// Who waits until peers will wait, and for how long.
    lengthening: Option<(oneshot::Sender<()>, Instant)>,
    started: Clock,
}

impl Engine {
    #[expect(clippy::disallowed_methods, reason = "the shell owns the clock")]
    pub(super) fn new(
        seed: u64,
        left: Vec<Left>,
        commands: mpsc::Receiver<Command>,
        woken: UnixStream,
        lost: mpsc::Sender<Lost>,
    ) -> Self {
        let ports = left.iter().filter_map(|left| Some((left.session.key, left.port?))).collect();
        let resumed = left.into_iter().map(|left| left.session).collect();
        Self {
            sessions: Sessions::new(seed, resumed),
            watched: BTreeMap::new(),
            receivers: Receivers::default(),
            senders: Senders::new(seed, ports),
            commands,
            woken,
            lost,
            unheard: BTreeMap::new(),
            retry_at: None,
            lengthening: None,
            started: Clock::now(),
        }
    }

    /// Until it is told to leave, or nobody is left to tell it anything.
    pub fn run(mut self) {
        loop {
            self.sleep();
            self.hear();
            self.sessions.tick(self.now());
            self.carry_out();
            if self.retry_at.is_some_and(|at| at <= self.now()) {
                self.listen();
            }
            self.answer_lengthened();
            loop {
                match self.commands.try_recv() {
                    Ok(Command::Leave(how, left)) => return drop(left.send(self.leave(&how))),
                    Ok(command) => self.command(command),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                }
            }
        }
    }

    /// Until a datagram, a request or a deadline.
    fn sleep(&mut self) {
        let timeout = self.next_deadline().map(|at| at.since(self.now()));
        let woken = self.woken.as_fd();
        let mut sources: Vec<_> =
            self.receivers.sockets().chain([woken]).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // Interrupted: what is due is looked at either way.
        let _ = poll(&mut sources, timeout.map_or(PollTimeout::NONE, in_millis));
        // All requests are looked at; of each there is an octet here.
        let mut octets = [0; 64];
        while self.woken.read(&mut octets).is_ok_and(|read| read == octets.len()) {}
    }

    fn next_deadline(&self) -> Option<Instant> {
        let unheard = (!self.unheard.is_empty()).then(|| self.now() + RETRY_LOST);
        let lengthening = self.lengthening.as_ref().map(|(_, at)| *at);
        let own = self.retry_at.into_iter().chain(unheard).chain(lengthening);
        self.sessions.next_deadline().into_iter().chain(own).min()
    }

    fn hear(&mut self) {
        let (sessions, started) = (&mut self.sessions, self.started);
        self.receivers.hear(AT_A_TIME, |port, heard| {
            sessions.received(Instant(started.elapsed()), heard.from, port, heard.ttl, heard.payload);
        });
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.sessions.poll_effect() {
            match effect {
                Effect::Send { key, path, packet } => {
                    let source = self.watched.get(&key).and_then(|watched| watched.source);
                    self.senders.send(key, source, path, &packet);
                }
                Effect::Changed { key, transition } => self.changed(key, &transition),
                Effect::Ended { key } => self.senders.close(key),
            }
        }
        while let Some((key, lost)) = self.unheard.pop_first() {
            if let Err(mpsc::error::TrySendError::Full(lost)) = self.lost.try_send(lost) {
                self.unheard.insert(key, lost);
                break;
            }
        }
    }

    fn changed(&mut self, key: PeerKey, transition: &Transition) {
        let Transition { from, to, diagnostic: reason, failure } = transition;
        let name = self.watched.get(&key).map_or("-", |watched| &watched.name);
        if failure.is_some() {
            warn!(peer = name, address = %key, %from, %to, %reason, "bfd lost the peer");
        } else if [from, to].contains(&&State::Up) {
            info!(peer = name, address = %key, %from, %to, %reason, "bfd state changed");
        } else {
            debug!(peer = name, address = %key, %from, %to, %reason, "bfd state changed");
        }
        self.unheard.extend(failure.map(|failure| (key, Lost { key, failure })));
    }

    fn command(&mut self, command: Command) {
        // Whoever asked may have stopped waiting: that is their affair.
        match command {
            Command::Watch(peers, done) => {
                self.watch(peers);
                let _ = done.send(());
            }
            Command::Report(reply) => drop(reply.send(self.report())),
            Command::Lengthen(done) => {
                self.sessions.lengthen(self.now(), RESTART_PATIENCE);
                self.lengthening = Some((done, self.now() + ANSWERS));
                self.carry_out();
                self.answer_lengthened();
            }
            Command::Leave(_, _) => {} // Taken by `run`.
        }
    }

    fn watch(&mut self, peers: Vec<Watched>) {
        // Of two with the same key the first counts.
        let mut watched = BTreeMap::new();
        for peer in peers {
            watched.entry(peer.key).or_insert(peer);
        }
        self.watched = watched;
        self.listen();
        let wanted = self.watched.values().map(|peer| (peer.key, peer.config)).collect();
        self.sessions.set(self.now(), &wanted);
        self.carry_out();
    }

    fn listen(&mut self) {
        let place = |peer: &Watched| (peer.key.address.is_ipv6(), peer.config.path.port());
        let before: Vec<_> = self.receivers.failures().cloned().collect();
        self.receivers.listen(&self.watched.values().map(place).collect::<BTreeSet<_>>());
        for error in self.receivers.failures().filter(|error| !before.contains(error)) {
            warn!(error, "bfd cannot listen, retrying");
        }
        let any = self.receivers.failures().next().is_some();
        self.retry_at = any.then(|| self.now() + RETRY);
    }

    fn report(&self) -> Report {
        let shown =
            |status: crate::bfd::Status| Shown { error: self.senders.error(status.key).cloned(), status };
        Report {
            sessions: self.sessions.statuses(self.now()).into_iter().map(shown).collect(),
            strangers: self.sessions.strangers(),
            deaf: self.receivers.failures().cloned().collect(),
        }
    }

    fn answer_lengthened(&mut self) {
        let now = self.now();
        let over = |at: Instant| at <= now || self.sessions.is_agreed();
        if let Some((done, _)) = self.lengthening.take_if(|(_, at)| over(*at)) {
            let _ = done.send(());
        }
    }

    fn leave(&mut self, how: &Shutdown) -> Vec<Left> {
        let silent = match how {
            Shutdown::Restart => Some(RESTART),
            Shutdown::Stop { .. } => None,
        };
        let left = self.sessions.leave(self.now(), silent);
        let words: Vec<_> = std::iter::from_fn(|| self.sessions.poll_effect()).collect();
        for _ in 0..LAST_WORDS {
            for effect in &words {
                if let Effect::Send { key, path, packet } = effect {
                    let source = self.watched.get(key).and_then(|watched| watched.source);
                    self.senders.send(*key, source, *path, packet);
                }
            }
            std::thread::sleep(BETWEEN_LAST_WORDS);
        }
        left.into_iter().map(|session| Left { port: self.senders.port(session.key), session }).collect()
    }

    fn now(&self) -> Instant {
        Instant(self.started.elapsed())
    }
}

/// Rounded up: a moment too early would be slept once more.
fn in_millis(timeout: Duration) -> PollTimeout {
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}
