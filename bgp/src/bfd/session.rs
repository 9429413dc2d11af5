//! The session with one peer (RFC 5880 §6.8): its state, and when to send and when to give up.
//!
//! In: [`Input`]s and a time that never goes back. Out: [`Output`]s, to be carried out in order, and
//! [`Session::next_deadline`], at which the caller comes back with [`Input::Tick`]. Pure; jitter comes from a seed.
//!
//! Two pairs of intervals are kept apart: `told` is what our packets say, `in_force` what we go by. They differ during a Poll
//! Sequence alone: what would make the peer give us up, or us the peer, waits for its answer (§6.8.3).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::packet::{Diagnostic, Packet};
use super::timing::{Intervals, SLOW, Terms, jittered};
use super::{Discriminator, State};
use crate::random::SplitMix64;
use crate::types::Instant;

/// What happens to a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// It came from the peer, over a path that the peer may use, and is for this session or for none.
    Received(Packet),
    /// A deadline has passed.
    Tick,
    SetTerms(Terms),
    /// We are about to be silent: the peer is to bear so long an interval, until the terms are set anew.
    Lengthen(Duration),
    /// Hold the session down; the peer is told that nothing is broken.
    AdminDown,
    /// After [`Self::AdminDown`].
    Enable,
}

/// What a session wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    Send(Packet),
    Changed(Transition),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    pub from: State,
    pub to: State,
    pub diagnostic: Diagnostic,
    /// The path is gone that was there. `None` also where an end has taken the session down on purpose (RFC 5882 §3.2).
    pub failure: Option<Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Time since the peer was last heard in the session that failed.
    pub silent: Duration,
    /// As the peer said then: its BFD would have gone on without its control plane.
    pub control_plane_independent: bool,
}

/// What is known of the peer. Forgotten after a detection time without a packet (RFC 5880 §6.8.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// Its last packet.
    packet: Packet,
    heard_at: Instant,
}

/// A session that is up, so that whoever comes after us can go on with it before the peer notices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumable {
    discriminator: Discriminator,
    desired_min_tx: Duration,
    required_min_rx: Duration,
    /// The peer's last.
    packet: Packet,
    /// From our last packet on the peer waits so long.
    patience: Duration,
}

impl Resumable {
    /// Whether the peer waits still, when we have been silent for so long.
    pub fn is_awaited(&self, silent: Duration) -> bool {
        silent < self.patience
    }

    pub(super) fn discriminator(&self) -> Discriminator {
        self.discriminator
    }
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    discriminator: Discriminator,
    terms: Terms,
    lengthened: Option<Duration>,
    state: State,
    diagnostic: Diagnostic,
    known: Option<Known>,
    told: Intervals,
    in_force: Intervals,
    /// A Poll Sequence is under way.
    polling: bool,
    sent_at: Option<Instant>,
    send_at: Option<Instant>,
    /// Between packets, before jitter; `None`: the peer wants none. `send_at` is derived from it.
    interval: Option<Duration>,
    /// When the peer was last heard while we are up, and whether its BFD stands on its own. `None`: its silence says nothing.
    confirmed: Option<(Instant, bool)>,
    random: SplitMix64,
}

impl Session {
    /// Down, and about to say so at the first [`Input::Tick`].
    pub fn new(discriminator: Discriminator, terms: Terms, seed: u64, now: Instant) -> Self {
        let told = Intervals { desired_min_tx: terms.interval.max(SLOW), required_min_rx: terms.interval };
        Self {
            discriminator,
            terms,
            lengthened: None,
            state: State::Down,
            diagnostic: Diagnostic::None,
            known: None,
            told,
            in_force: told,
            polling: false,
            sent_at: None,
            send_at: Some(now),
            interval: Some(told.desired_min_tx),
            confirmed: None,
            random: SplitMix64::new(seed),
        }
    }

    /// Goes on where an earlier process was, under its discriminators; the first packet asks the peer for our terms.
    pub fn resume(from: Resumable, terms: Terms, seed: u64, now: Instant) -> Self {
        let Resumable { discriminator, desired_min_tx, required_min_rx, packet, .. } = from;
        let told = Intervals { desired_min_tx, required_min_rx };
        let mut session = Self {
            state: State::Up,
            known: Some(Known { packet, heard_at: now }),
            told,
            in_force: told,
            ..Self::new(discriminator, terms, seed, now)
        };
        session.interval = session.transmit_interval();
        session
    }

    /// `None` unless both ends are up.
    pub fn resumable(&self) -> Option<Resumable> {
        let known =
            self.known.as_ref().filter(|known| self.state == State::Up && known.packet.state == State::Up)?;
        Some(Resumable {
            discriminator: self.discriminator,
            desired_min_tx: self.told.desired_min_tx,
            required_min_rx: self.told.required_min_rx,
            packet: known.packet.clone(),
            patience: self.patience()?,
        })
    }

    /// Carries out `input`, and whatever is due.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) {
        let before = (self.state, self.told, self.terms.detect_multiplier);
        let polled =
            matches!(&input, Input::Received(packet) if packet.poll) && self.state != State::AdminDown;
        match input {
            Input::Received(packet) => self.received(packet, now, out),
            Input::Tick => {}
            Input::SetTerms(terms) => (self.terms, self.lengthened) = (terms, None),
            Input::Lengthen(interval) => self.lengthened = Some(interval),
            Input::AdminDown if self.state != State::AdminDown => {
                self.change(State::AdminDown, Diagnostic::AdministrativelyDown, None, out);
            }
            Input::Enable if self.state == State::AdminDown => {
                self.change(State::Down, Diagnostic::None, None, out);
            }
            Input::AdminDown | Input::Enable => {}
        }
        self.expire(now, out);
        self.retune();
        if polled {
            out.push(Output::Send(Packet { poll: false, is_final: true, ..self.packet() }));
        }
        let news = before != (self.state, self.told, self.terms.detect_multiplier);
        self.send(news, now, out);
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.send_at.into_iter().chain(self.detect_at()).min()
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn discriminator(&self) -> Discriminator {
        self.discriminator
    }

    /// Why the state changed last.
    pub fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// The peer's last packet, while it counts.
    pub fn heard(&self) -> Option<&Packet> {
        self.known.as_ref().map(|known| &known.packet)
    }

    /// Between our packets, before jitter; `None`: the peer wants none.
    pub fn transmit_interval(&self) -> Option<Duration> {
        let polling = self.polling;
        let Some(known) = &self.known else { return Some(self.in_force.desired_min_tx) };
        let packet = &known.packet;
        // §6.8.7. What asks for an answer is sent all the same.
        let demanded = packet.demand && self.state == State::Up && packet.state == State::Up && !polling;
        (!packet.required_min_rx.is_zero() && !demanded)
            .then(|| self.in_force.desired_min_tx.max(packet.required_min_rx))
    }

    /// §6.8.4: the peer is given up after so much silence. By its multiplier, and by what both of us want.
    pub fn detection_time(&self) -> Option<Duration> {
        let packet = self.heard()?;
        let interval = self.in_force.required_min_rx.max(packet.desired_min_tx);
        Some(interval * u32::from(packet.detect_multiplier))
    }

    /// The peer gives us up after so much silence.
    pub fn patience(&self) -> Option<Duration> {
        let interval = self.in_force.desired_min_tx.max(self.heard()?.required_min_rx);
        Some(interval * u32::from(self.terms.detect_multiplier))
    }

    /// The peer has answered for all that we want.
    pub fn is_agreed(&self) -> bool {
        !self.polling && self.told == self.wanted()
    }

    fn detect_at(&self) -> Option<Instant> {
        Some(self.known.as_ref()?.heard_at + self.detection_time()?)
    }

    /// §6.8.6, from where a packet has found its session.
    fn received(&mut self, packet: Packet, now: Instant, out: &mut Vec<Output>) {
        let (heard, independent) = (packet.state, packet.control_plane_independent);
        if packet.is_final && self.polling {
            self.polling = false;
            self.in_force = self.told;
        }
        self.known = Some(Known { packet, heard_at: now });
        let next = match (self.state, heard) {
            (State::AdminDown, _) => State::AdminDown,
            (State::Down, State::Down) | (State::Init, State::Down) => State::Init,
            (State::Down, State::Init) | (State::Init | State::Up, State::Init | State::Up) => State::Up,
            (State::Down, State::Up | State::AdminDown)
            | (State::Init, State::AdminDown)
            | (State::Up, State::Down | State::AdminDown) => State::Down,
        };
        if next != self.state {
            let down = next == State::Down;
            let why = if down { Diagnostic::NeighborSignaledSessionDown } else { Diagnostic::None };
            self.change(next, why, (heard != State::AdminDown).then_some(now), out);
        }
        if self.state == State::Up {
            self.confirmed = Some((now, independent));
        }
    }

    /// §6.8.4, and §6.8.1 of the discriminator that is forgotten.
    fn expire(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.detect_at().is_none_or(|at| at > now) {
            return;
        }
        if matches!(self.state, State::Init | State::Up) {
            self.change(State::Down, Diagnostic::ControlDetectionTimeExpired, Some(now), out);
        }
        self.known = None;
    }

    /// `broken`: when it was noticed that something is; `None` where it is only taken down.
    fn change(&mut self, to: State, diagnostic: Diagnostic, broken: Option<Instant>, out: &mut Vec<Output>) {
        let from = std::mem::replace(&mut self.state, to);
        self.diagnostic = diagnostic;
        // A sequence is of a session that is up.
        self.polling = false;
        let confirmed = self.confirmed.take().filter(|_| from == State::Up && to == State::Down);
        let failure = confirmed.zip(broken).map(|((heard_at, control_plane_independent), now)| Failure {
            silent: now.since(heard_at),
            control_plane_independent,
        });
        out.push(Output::Changed(Transition { from, to, diagnostic, failure }));
    }

    fn wanted(&self) -> Intervals {
        let Terms { interval, .. } = self.terms;
        let least = if self.state == State::Up { self.lengthened.unwrap_or(interval) } else { SLOW };
        Intervals { desired_min_tx: interval.max(least), required_min_rx: interval }
    }

    /// One Poll Sequence at a time: its answer does not say what it answers (§6.5).
    fn retune(&mut self) {
        let wanted = self.wanted();
        if self.polling || self.told == wanted {
            return;
        }
        self.told = wanted;
        self.polling = self.state == State::Up;
        self.in_force = if self.polling { self.in_force.until_known(wanted) } else { wanted };
    }

    /// What is new is told at once; otherwise at its time, which moves with the interval.
    fn send(&mut self, news: bool, now: Instant, out: &mut Vec<Output>) {
        let interval = self.transmit_interval();
        let mut next = |from: Instant| {
            interval.map(|interval| from + jittered(interval, self.terms.detect_multiplier, &mut self.random))
        };
        if interval != self.interval {
            self.send_at = next(self.sent_at.unwrap_or(now));
            self.interval = interval;
        }
        if interval.is_some() && (news || self.send_at.is_some_and(|at| at <= now)) {
            self.send_at = next(now);
            self.sent_at = Some(now);
            out.push(Output::Send(self.packet()));
        }
    }

    fn packet(&self) -> Packet {
        Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: self.polling,
            is_final: false,
            // It ends with the agent.
            control_plane_independent: false,
            demand: false,
            detect_multiplier: self.terms.detect_multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.heard().map(|packet| packet.my_discriminator),
            desired_min_tx: self.told.desired_min_tx,
            required_min_rx: self.told.required_min_rx,
            required_min_echo_rx: Duration::ZERO,
        }
    }
}
