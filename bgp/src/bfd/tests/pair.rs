//! Two ends over a path that loses, delays and reorders, in virtual time; what it does is drawn from a seed.

use std::collections::BTreeMap;

use super::*;
use crate::random::SplitMix64;

/// A path, of both directions.
#[derive(Clone, Copy)]
struct Weather {
    /// Of 100 packets.
    lost: u64,
    /// The longest a packet is under way.
    delay: Duration,
}

const FINE: Weather = Weather { lost: 0, delay: Duration::from_millis(2) };

struct Pair {
    now: Instant,
    ends: [Session; 2],
    /// By arrival.
    under_way: BTreeMap<(Instant, u64), (usize, Packet)>,
    packets: u64,
    weather: Weather,
    /// Whether an end can be reached.
    reached: [bool; 2],
    random: SplitMix64,
    changes: Vec<(Instant, usize, Transition)>,
}

impl Pair {
    fn new(terms: [Terms; 2], weather: Weather, seed: u64) -> Self {
        let [left, right] = terms;
        let ends = [
            Session::new(discriminator(1), left, seed, at(0)),
            Session::new(discriminator(2), right, seed + 1, at(0)),
        ];
        Self {
            now: at(0),
            ends,
            under_way: BTreeMap::new(),
            packets: 0,
            weather,
            reached: [true; 2],
            random: SplitMix64::new(seed),
            changes: Vec::new(),
        }
    }

    fn up(terms: [Terms; 2], seed: u64) -> Self {
        let mut pair = Self::new(terms, FINE, seed);
        pair.advance(ms(3000));
        assert_eq!(pair.states(), [State::Up; 2]);
        assert!(pair.ends.iter().all(Session::is_agreed));
        pair.changes.clear();
        pair
    }

    fn states(&self) -> [State; 2] {
        [self.ends[0].state(), self.ends[1].state()]
    }

    fn failures(&self) -> usize {
        self.changes.iter().filter(|(_, _, change)| change.failure.is_some()).count()
    }

    fn handle(&mut self, end: usize, input: Input) {
        let mut outputs = Vec::new();
        self.ends[end].handle(self.now, input, &mut outputs);
        for output in outputs {
            match output {
                Output::Send(packet) => self.send(1 - end, &packet),
                Output::Changed(change) => self.changes.push((self.now, end, change)),
            }
        }
    }

    fn send(&mut self, to: usize, packet: &Packet) {
        let delay = u64::try_from(self.weather.delay.as_micros()).unwrap();
        let arrival = self.now + Duration::from_micros(1 + self.random.below(delay));
        let is_lost = self.random.below(100) < self.weather.lost;
        if self.reached[to] && !is_lost {
            self.packets += 1;
            // Through bytes, as on a wire.
            let packet = Packet::decode(&packet.encode()).unwrap();
            self.under_way.insert((arrival, self.packets), (to, packet));
        }
    }

    fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let arrival = self.under_way.keys().next().map(|(at, _)| *at);
            let deadlines = self.ends.iter().filter_map(Session::next_deadline);
            let Some(next) = deadlines.chain(arrival).min().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                let (_, (to, packet)) = self.under_way.pop_first().unwrap();
                self.handle(to, Input::Received(packet));
            } else {
                (0..2).for_each(|end| self.handle(end, Input::Tick));
            }
        }
        self.now = end;
    }
}

fn terms(interval: u64, detect_multiplier: u8) -> Terms {
    Terms { interval: ms(interval), detect_multiplier }
}

const SEEDS: std::ops::Range<u64> = 0..200;

#[test]
fn both_come_up_and_agree_whoever_asks_for_what() {
    for seed in SEEDS {
        let pair = Pair::up([terms(50 + seed * 7, 3), terms(300, 2 + u8::try_from(seed % 5).unwrap())], seed);
        let slower = ms(50 + seed * 7).max(ms(300));
        for (end, other) in [(0, 1), (1, 0)] {
            assert_eq!(pair.ends[end].transmit_interval(), Some(slower), "seed {seed}");
            assert_eq!(pair.ends[end].patience(), pair.ends[other].detection_time(), "seed {seed}");
        }
    }
}

#[test]
fn a_path_that_loses_a_packet_now_and_then_does_not_flap() {
    for seed in SEEDS {
        let mut pair = Pair::up([terms(300, 5), terms(300, 5)], seed);
        // Five in a row are one in three million.
        pair.weather = Weather { lost: 5, delay: ms(40) };
        pair.advance(ms(60_000));
        assert_eq!((pair.states(), pair.failures()), ([State::Up; 2], 0), "seed {seed}");
    }
}

#[test]
fn a_path_that_is_cut_is_noticed_by_both_within_a_second() {
    for seed in SEEDS {
        let mut pair = Pair::up([FAST; 2], seed);
        let cut = pair.now;
        pair.reached = [false; 2];
        pair.advance(ms(1000));
        assert_eq!((pair.states(), pair.failures()), ([State::Down; 2], 2), "seed {seed}");
        let last = pair.changes.iter().map(|(at, _, _)| at.since(cut)).max().unwrap();
        assert!(last <= ms(903), "seed {seed}: {last:?}");
    }
}

#[test]
fn who_is_not_heard_is_told_so_by_the_other() {
    for seed in SEEDS {
        let mut pair = Pair::up([FAST; 2], seed);
        pair.reached[0] = false;
        pair.advance(ms(1000));
        let why: Vec<_> = pair
            .changes
            .iter()
            .map(|(_, end, change)| (*end, change.diagnostic, change.failure.is_some()))
            .collect();
        let expected = [
            (0, Diagnostic::ControlDetectionTimeExpired, true),
            (1, Diagnostic::NeighborSignaledSessionDown, true),
        ];
        assert_eq!(why, expected, "seed {seed}");
        // And neither comes up on half a path.
        pair.changes.clear();
        pair.advance(ms(20_000));
        assert!(pair.changes.iter().all(|(_, _, change)| change.to != State::Up), "seed {seed}");
    }
}

#[test]
fn after_any_weather_both_come_up_and_stay() {
    for seed in SEEDS {
        let mut pair = Pair::new([terms(50, 3), terms(300, 3)], Weather { lost: 60, delay: ms(900) }, seed);
        for _ in 0..20 {
            let reached = pair.random.below(4);
            pair.reached = [reached & 1 == 0, reached & 2 == 0];
            pair.advance(ms(500));
        }
        pair.weather = FINE;
        pair.reached = [true; 2];
        // What was under way arrives, what was believed is forgotten, and both send within a second.
        pair.advance(ms(6000));
        assert_eq!(pair.states(), [State::Up; 2], "seed {seed}");
        pair.changes.clear();
        pair.advance(ms(10_000));
        assert!(pair.changes.is_empty() && pair.ends.iter().all(Session::is_agreed), "seed {seed}");
    }
}

#[test]
fn new_terms_cost_no_session_even_when_packets_are_lost() {
    for seed in SEEDS {
        let mut pair = Pair::up([terms(300, 3), terms(300, 10)], seed);
        for interval in [1000, 50, 5000, 60, 300] {
            for end in [0, 1] {
                let multiplier = if end == 0 { 3 } else { 10 };
                // Of questions and answers alone: what else is lost would be a failure by itself.
                pair.handle(end, Input::SetTerms(terms(interval, multiplier)));
                let question = pair.under_way.last_key_value().map(|(at, _)| *at);
                if pair.random.below(2) == 0 {
                    pair.under_way.retain(|at, _| Some(*at) != question);
                }
                pair.advance(ms(37));
            }
            pair.advance(ms(20_000));
            assert!(pair.ends.iter().all(Session::is_agreed), "seed {seed}, {interval} ms");
        }
        assert!(pair.changes.is_empty(), "seed {seed}: {:?}", pair.changes);
    }
}

#[test]
fn an_end_that_is_held_down_is_not_missed() {
    for seed in SEEDS {
        let mut pair = Pair::up([FAST; 2], seed);
        pair.handle(0, Input::AdminDown);
        pair.advance(ms(5000));
        assert_eq!((pair.states(), pair.failures()), ([State::AdminDown, State::Down], 0), "seed {seed}");
        pair.handle(0, Input::Enable);
        pair.advance(ms(3000));
        assert_eq!(pair.states(), [State::Up; 2], "seed {seed}");
    }
}
