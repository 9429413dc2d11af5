//! Tells a story on a stage, step by step, and holds it against the model at every quiet moment.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::model::{Model, Verdict};
use super::probe::{Attempt, attempt_all};
use super::rules::Traffic;
use super::stage::{PORT, Stage};
use super::steps::Step;
use super::talk::Talks;
use super::world::End;
use crate::net::Proto;
use crate::wait;

/// For routers to notice a silent peer (hold time 9 s) and to give its routes up (RFC 8538: after the restart time), for
/// sessions to come back, and for a machine busy with other work.
const SETTLED: Duration = Duration::from_secs(180);
/// How long others surely keep the routes of an agent that died: well within [`super::stage::RESTART_SECONDS`].
const KEPT: Duration = Duration::from_secs(20);
/// Disagreements that are named.
const NAMED: usize = 8;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub steps: u64,
    pub kills: u64,
    pub quiet: u64,
    pub probes: u64,
    pub records: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps, kills, quiet, probes, records } = self;
        write!(out, "{steps} steps, {kills} kills, {quiet} quiet moments, {probes} probes, {records} records")
    }
}

#[derive(Debug)]
pub struct Driver<S> {
    stage: S,
    model: Model,
    talks: Talks,
    seed: u64,
    counts: Counts,
    /// When agents that are gone died.
    died: BTreeMap<String, Instant>,
}

impl<S: Stage> Driver<S> {
    /// The seed chooses who talks; the steps come from elsewhere.
    pub fn new(stage: S, model: Model, seed: u64) -> Self {
        let (talks, counts, died) = Default::default();
        Self { stage, model, talks, seed, counts, died }
    }

    pub fn counts(&self) -> Counts {
        Counts { records: self.talks.records, ..self.counts }
    }

    /// One step; an error says what was not as the model says. A step that makes no sense here is left out.
    pub fn tell(&mut self, step: &Step) -> Result<()> {
        if !self.model.is_possible(step) {
            return Ok(());
        }
        self.outlive();
        let mut after = self.model.clone();
        after.apply(step);
        self.talks.before(step, &self.model, &after).with_context(|| format!("before {step}"))?;
        self.model = after;
        self.stage.act(step, &self.model).with_context(|| step.to_string())?;
        match step {
            Step::KillAgent { node } => drop(self.died.insert(node.clone(), Instant::now())),
            Step::StartAgent { node } => drop(self.died.remove(node)),
            _ => {}
        }
        self.counts.steps += 1;
        self.counts.kills += u64::from(step.kills());
        if *step == Step::Quiet {
            self.settle()?;
        }
        Ok(())
    }

    /// Mends everything, ends every pod and policy, and makes sure that nothing of them is left.
    pub fn finish(mut self) -> Result<Counts> {
        for step in self.model.repairs() {
            self.tell(&step)?;
        }
        self.tell(&Step::Quiet)?;
        self.talks.end()?;
        let pods = self.model.world.pods.clone().into_keys().map(|pod| Step::EndPod { pod });
        let policies = self.model.world.policies.clone().into_keys();
        let policies = policies.map(|policy| Step::DeletePolicy { policy });
        for step in pods.chain(policies).chain([Step::Quiet]) {
            self.tell(&step)?;
        }
        self.talks.end()?;
        Ok(self.counts())
    }

    fn settle(&mut self) -> Result<()> {
        wait::until("agreement with the model", SETTLED, || {
            self.outlive();
            let flaws = self.stage.flaws(&self.model)?;
            ensure!(flaws.is_empty(), "{}", flaws.join("; "));
            // One attempt alone may be bad luck.
            for _ in 0..2 {
                let wrong = self.disagreements()?;
                ensure!(
                    wrong.is_empty(),
                    "{} pairs: {}",
                    wrong.len(),
                    wrong[..wrong.len().min(NAMED)].join("; ")
                );
            }
            Ok(Some(()))
        })?;
        self.counts.quiet += 1;
        self.talks.check(&self.model)?;
        self.talks.refill(&self.stage, &self.model, self.seed)
    }

    fn outlive(&mut self) {
        for (node, _) in self.died.iter().filter(|(_, died)| died.elapsed() > KEPT) {
            self.model.outlive(node);
        }
        self.talks.forget(&self.model);
    }

    /// Every pair, by every protocol, over every family.
    fn disagreements(&mut self) -> Result<Vec<String>> {
        let mut asked: Vec<(End, End, Traffic)> = Vec::new();
        for (from, to) in self.model.pairs() {
            for (proto, v6) in Proto::ALL.into_iter().flat_map(|proto| [(proto, false), (proto, true)]) {
                asked.push((from.clone(), to.clone(), Traffic { proto, port: PORT, v6 }));
            }
        }
        asked.retain(|(from, to, traffic)| self.model.verdict(from, to, *traffic) != Verdict::Unknown);
        let attempt = |(from, to, traffic): &(End, End, Traffic)| {
            let to = (self.stage.address(to, traffic.v6)?, traffic.port).into();
            Ok(Attempt { from: self.stage.namespace(from)?, to, proto: traffic.proto })
        };
        let attempts: Vec<Attempt> = asked.iter().map(attempt).collect::<Result<_>>()?;
        let answers = attempt_all(&attempts)?;
        self.counts.probes += answers.len() as u64;
        let mut wrong = Vec::new();
        for ((from, to, traffic), answered) in asked.iter().zip(answers) {
            let want = self.model.verdict(from, to, *traffic);
            if answered != (want == Verdict::Open) {
                let family = if traffic.v6 { "IPv6" } else { "IPv4" };
                let is = if answered { "open" } else { "closed" };
                wrong.push(format!("{from} to {to} by {} over {family} is {is}", traffic.proto));
            }
        }
        Ok(wrong)
    }
}
