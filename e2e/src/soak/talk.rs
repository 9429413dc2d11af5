//! Conversations that go on while things happen: what the model says was never touched lost nothing, and what was closed
//! all along was never heard.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::dice::Dice;
use super::model::{Model, Verdict};
use super::rules::Traffic;
use super::stage::{PORT, Stage};
use super::steps::Step;
use super::world::{Direction, End};
use crate::net::{Flow, Proto};
use crate::wait;

/// Records a second.
const RATE: u32 = 50;
const OPEN: usize = 6;
const CLOSED: usize = 3;
/// Records on their way at any moment, on a machine where a thread may wait for its turn.
const IN_FLIGHT: u64 = 2;
/// For what is on its way to arrive.
const ARRIVED: Duration = Duration::from_secs(5);
/// A conversation that this long has no echo is over.
const SILENCE: Duration = Duration::from_millis(500);
const SILENT: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct Talk {
    from: End,
    to: End,
    traffic: Traffic,
    flow: Flow,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Must lose nothing.
    Open,
    /// Must have been cut when it is quiet.
    Revoked,
    /// Must not be heard beyond these echoes.
    Closed { heard: u64 },
}

/// What becomes of a conversation by a step.
enum Fate {
    Stays,
    Revoked,
    /// Of what happens next nothing can be said.
    Ends,
}

#[derive(Debug, Default)]
pub struct Talks {
    talks: Vec<Talk>,
    /// Records sent in conversations that were over.
    pub records: u64,
}

impl Talks {
    /// Before a step: ends what it may harm, and makes sure that nothing was lost up to here.
    pub fn before(&mut self, step: &Step, before: &Model, after: &Model) -> Result<()> {
        let mut kept = Vec::new();
        for mut talk in std::mem::take(&mut self.talks) {
            match talk.fate(step, before, after) {
                Fate::Stays => kept.push(talk),
                Fate::Revoked => {
                    talk.lost_nothing()?;
                    talk.state = State::Revoked;
                    kept.push(talk);
                }
                Fate::Ends => self.records += talk.end()?,
            }
        }
        self.talks = kept;
        Ok(())
    }

    /// Ends those of which the model cannot say any more that they must go on.
    pub fn forget(&mut self, model: &Model) {
        let said = |talk: &Talk| model.verdict(&talk.from, &talk.to, talk.traffic) != Verdict::Unknown;
        self.talks.retain(|talk| talk.state != State::Open || said(talk));
    }

    /// At a quiet moment: everybody was heard as they must.
    pub fn check(&mut self, model: &Model) -> Result<()> {
        let mut kept = Vec::new();
        for talk in std::mem::take(&mut self.talks) {
            match talk.state {
                State::Open => talk.lost_nothing()?,
                State::Closed { heard } => talk.heard_only(heard)?,
                State::Revoked => match model.verdict(&talk.from, &talk.to, talk.traffic) {
                    // An agent died over it: the next one must do what it did not.
                    Verdict::Unknown => {}
                    verdict => {
                        if verdict == Verdict::Closed {
                            talk.is_cut()?;
                        }
                        self.records += talk.flow.sent();
                        continue;
                    }
                },
            }
            kept.push(talk);
        }
        self.talks = kept;
        Ok(())
    }

    /// Begins new ones in place of those that are over. Which, is a matter of the seed and of their ends alone, so that
    /// a story that lost steps to shrinking has the same conversations.
    pub fn refill(&mut self, stage: &impl Stage, model: &Model, seed: u64) -> Result<()> {
        for (state, number) in [(State::Open, OPEN), (State::Closed { heard: 0 }, CLOSED)] {
            let same = |talk: &&Talk| (talk.state == State::Open) == (state == State::Open);
            let there = self.talks.iter().filter(same).count();
            let mut possible = possible(model, state);
            possible.retain(|(from, to, traffic)| !self.talks.iter().any(|talk| talk.is(from, to, *traffic)));
            possible.sort_by_cached_key(|(from, to, traffic)| {
                Dice::for_name(seed, &name(from, to, *traffic)).below(u64::MAX)
            });
            for (from, to, traffic) in possible.into_iter().take(number.saturating_sub(there)) {
                self.talks.push(Talk::begin(stage, from, to, traffic, state)?);
            }
        }
        Ok(())
    }

    /// Ends all.
    pub fn end(&mut self) -> Result<()> {
        std::mem::take(&mut self.talks).into_iter().try_for_each(|talk| {
            self.records += talk.end()?;
            Ok(())
        })
    }
}

/// What the verdict allows to be in this state. By UDP where nothing may come back: TCP would not even begin.
fn possible(model: &Model, state: State) -> Vec<(End, End, Traffic)> {
    let mut possible = Vec::new();
    for (from, to) in model.pairs().into_iter().filter(|(from, _)| !matches!(from, End::Node(_))) {
        for (proto, v6) in Proto::ALL.into_iter().flat_map(|proto| [(proto, false), (proto, true)]) {
            possible.push((from.clone(), to.clone(), Traffic { proto, port: PORT, v6 }));
        }
    }
    possible.retain(|(from, to, traffic)| match state {
        State::Open => model.verdict(from, to, *traffic) == Verdict::Open,
        _ => traffic.proto == Proto::Udp && closing_halves(model, from, to, *traffic).contains(&true),
    });
    possible
}

fn name(from: &End, to: &End, traffic: Traffic) -> String {
    let family = if traffic.v6 { "IPv6" } else { "IPv4" };
    format!("the conversation of {from} with {to} by {} over {family}", traffic.proto)
}

/// Which policies of the two close it: those of the sender, those of the receiver.
fn closing_halves(model: &Model, from: &End, to: &End, traffic: Traffic) -> [bool; 2] {
    [(Direction::Egress, from, to), (Direction::Ingress, to, from)]
        .map(|(direction, own, other)| model.half(direction, own, other, traffic) == Verdict::Closed)
}

impl Talk {
    fn begin(stage: &impl Stage, from: End, to: End, traffic: Traffic, state: State) -> Result<Self> {
        let target = (stage.address(&to, traffic.v6)?, PORT).into();
        let flow = Flow::start(&stage.namespace(&from)?, traffic.proto, target, RATE)
            .with_context(|| format!("{from} to {to} by {}", traffic.proto))?;
        Ok(Self { from, to, traffic, flow, state })
    }

    fn name(&self) -> String {
        name(&self.from, &self.to, self.traffic)
    }

    fn is(&self, from: &End, to: &End, traffic: Traffic) -> bool {
        (&self.from, &self.to, self.traffic) == (from, to, traffic)
    }

    fn fate(&self, step: &Step, before: &Model, after: &Model) -> Fate {
        let (from, to, traffic) = (&self.from, &self.to, self.traffic);
        let there = |end: &End| match end {
            End::Pod(key) => after.world.pods.contains_key(key),
            _ => true,
        };
        if !there(from) || !there(to) {
            return Fate::Ends;
        }
        match self.state {
            State::Revoked => Fate::Stays,
            State::Open if before.disturbs(step, from, to, traffic.v6) => Fate::Ends,
            State::Open => match after.verdict(from, to, traffic) {
                Verdict::Open => Fate::Stays,
                Verdict::Closed => Fate::Revoked,
                Verdict::Unknown => Fate::Ends,
            },
            State::Closed { .. } => {
                let (one, other) =
                    (closing_halves(before, from, to, traffic), closing_halves(after, from, to, traffic));
                // One after the other, the two halves may both be open for a moment.
                let closed = (one[0] && other[0]) || (one[1] && other[1]);
                let bare = matches!(step, Step::FlushRules { .. });
                if closed && !bare { Fate::Stays } else { Fate::Ends }
            }
        }
    }

    fn lost_nothing(&self) -> Result<()> {
        let Self { flow, .. } = self;
        wait::until(&format!("every echo of {}", self.name()), ARRIVED, || {
            let missing = flow.sent().saturating_sub(flow.echoed());
            ensure!(missing <= IN_FLIGHT, "{missing} of {} are lost", flow.sent());
            Ok(Some(()))
        })
    }

    fn is_cut(&self) -> Result<()> {
        let silent = self.flow.until_silent(SILENCE, SILENT).map(drop);
        silent.with_context(|| format!("{}, which was revoked, goes on", self.name()))
    }

    fn heard_only(&self, heard: u64) -> Result<()> {
        let echoed = self.flow.echoed();
        ensure!(echoed == heard, "{}, which was closed all along, was heard {echoed} times", self.name());
        Ok(())
    }

    /// The number of records.
    fn end(self) -> Result<u64> {
        let name = self.name();
        match self.state {
            State::Open => {
                let report = self.flow.stop()?;
                ensure!(report.lost() == 0 && report.broken.is_none(), "{name}: {report}");
                Ok(report.sent)
            }
            State::Revoked => Ok(self.flow.sent()),
            State::Closed { heard } => {
                self.heard_only(heard)?;
                Ok(self.flow.sent())
            }
        }
    }
}
