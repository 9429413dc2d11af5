//! TCP between the speakers of a [`World`], with latency, pieces of any size, drops, silence and refusals.
//!
//! It is kept as honest as the speakers can notice: order within a direction, bytes before the end, the two ends learning
//! of a connection at different times.

use std::time::Duration;

use bytes::Bytes;
use weft_bgp::speaker::Input;
use weft_bgp::types::{ConnId, Instant, PeerId};

use super::{Event, World, address, key};

/// One end of a connection.
pub(super) type End = (usize, u32, ConnId);

pub(super) struct Wire {
    other: End,
    /// Nothing that is sent later arrives earlier.
    last_at: Instant,
}

impl World {
    /// TCP breaks; both ends learn of it, each in its own time.
    pub(crate) fn drop_connection(&mut self, index: usize) {
        let ends = self.ends_of(index);
        if ends.is_empty() {
            return;
        }
        let end = ends[usize::try_from(self.random.below(ends.len() as u64)).unwrap()];
        let at = self.now + self.span_below(self.latency);
        self.schedule(at, Event::Input(end, Input::Closed { conn: end.2 }));
        self.hang_up(end);
    }

    /// What `from` sends is not heard by `to` for a while; TCP brings it later.
    pub(crate) fn silence(&mut self, from: usize, to: usize, span: Duration) {
        self.silence.insert((from, to), self.now + span);
    }

    /// Some message that `from` has sent lately arrives once more at each of its peers, with a few bits turned.
    pub(crate) fn mutate_from(&mut self, from: usize) {
        for end in self.ends_of(from) {
            let Some(mut bytes) = self.last_sent.get(&end).map(|bytes| bytes.to_vec()) else {
                continue;
            };
            for _ in 0..=self.random.below(3) {
                // The marker is left alone mostly: there is more to hit behind it.
                let skip = if self.random.below(8) == 0 { 0 } else { 16.min(bytes.len() - 1) };
                let at = skip + usize::try_from(self.random.below((bytes.len() - skip) as u64)).unwrap();
                bytes[at] ^= 1 << self.random.below(8);
            }
            self.send(end, &bytes.into());
        }
    }

    /// Of its connections.
    pub(super) fn ends_of(&self, index: usize) -> Vec<End> {
        let first = (index, 0, ConnId::Dialed { peer: PeerId(0), attempt: 0 });
        let ends = self.wires.range(first..).map(|(end, _)| *end);
        ends.take_while(|(node, ..)| *node == index).collect()
    }

    pub(super) fn dial_arrives(&mut self, from: End, to: usize) {
        let (index, _, conn) = from;
        let back = self.arrival(to, index);
        if self.nodes[to].speaker.is_none() {
            self.schedule(back, Event::Input(from, Input::DialFailed { conn, error: "refused".to_owned() }));
            return;
        }
        let node = &mut self.nodes[to];
        node.accepted += 1;
        let accepted = ConnId::Accepted(node.accepted);
        let other = (to, node.epoch, accepted);
        let seen = self.now + self.span_below(self.latency);
        // Neither end hears anything before it knows of the connection.
        self.wires.insert(from, Wire { other, last_at: seen });
        self.wires.insert(other, Wire { other: from, last_at: back });
        let (local, remote) = (address(to), key(index));
        self.schedule(seen, Event::Input(other, Input::Connected { conn: accepted, local, remote }));
        let (local, remote) = (address(index), key(to));
        self.schedule(back, Event::Input(from, Input::Connected { conn, local, remote }));
    }

    pub(super) fn send(&mut self, from: End, bytes: &Bytes) {
        let Some(other) = self.wires.get(&from).map(|wire| wire.other) else {
            return;
        };
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let size = usize::try_from(1 + self.random.below(self.piece)).unwrap().min(rest.len());
            let piece = rest.split_to(size);
            let at = self.in_order(from, other);
            self.schedule(at, Event::Input(other, Input::Received { conn: other.2, bytes: piece }));
        }
        let at = self.now + self.span_below(1000);
        self.schedule(at, Event::Input(from, Input::Sent { conn: from.2, len: bytes.len() }));
    }

    /// The other end learns of it after what was sent before.
    pub(super) fn hang_up(&mut self, end: End) {
        if let Some(other) = self.wires.get(&end).map(|wire| wire.other) {
            let at = self.in_order(end, other);
            self.wires.remove(&end);
            if self.wires.contains_key(&other) {
                self.schedule(at, Event::Input(other, Input::Closed { conn: other.2 }));
            }
        }
    }

    fn in_order(&mut self, from: End, to: End) -> Instant {
        let arrival = self.arrival(from.0, to.0);
        let wire = self.wires.get_mut(&from).expect("both ends exist");
        wire.last_at = wire.last_at.max(arrival) + Duration::from_micros(1);
        wire.last_at
    }

    pub(super) fn arrival(&mut self, from: usize, to: usize) -> Instant {
        let at = self.now + self.span_below(self.latency);
        self.silence.get(&(from, to)).map_or(at, |until| at.max(*until))
    }
}
