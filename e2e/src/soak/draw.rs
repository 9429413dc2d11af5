//! Steps out of a seed: the same seed and ground draw the same story, whatever the machine's speed.
//!
//! What is broken is mended again after some steps, because a fabric in which everything is broken proves nothing. Between
//! two quiet moments the objects change once at most, so that no order of events makes two outcomes; faults come as they like.

mod policy;

use super::dice::Dice;
use super::model::Model;
use super::steps::Step;
use super::topology::Cable;
use super::world::Labels;

/// Kubernetes namespaces that the pods are in.
pub const NAMESPACES: [&str; 2] = ["blue", "red"];
const APPS: [&str; 3] = ["cache", "db", "web"];
const TIERS: [&str; 2] = ["back", "front"];
const TEAMS: [&str; 2] = ["x", "y"];
const FEWEST_PODS: usize = 3;
/// Each is probed with each.
const MOST_PODS: usize = 8;
const MOST_POLICIES: usize = 6;
/// Names are used again, sometimes at once.
const POD_NAMES: usize = 12;
/// Things broken at once.
const MOST_FAULTS: usize = 3;
/// Steps that something may be broken for, before all is mended.
const PATIENCE: usize = 12;
/// Of a hundred: a step that is followed by another at once.
const HASTE: u64 = 25;
/// Draws for a step that is possible. The kinds that always are make more than half of them.
const DRAWS: usize = 1000;

/// What the ground can do beyond objects, pods and agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Routers, cables, disks; no API server.
    Lab,
    /// The API server; the rest is left alone.
    Cluster,
}

/// An endless story.
#[derive(Clone, Debug)]
pub struct Draw {
    dice: Dice,
    ground: Ground,
    model: Model,
    /// Steps since nothing was broken.
    broken_for: usize,
    changed: bool,
    /// Mending to be done, last first.
    agenda: Vec<Step>,
}

impl Draw {
    pub fn new(seed: u64, ground: Ground, model: Model) -> Self {
        Self { dice: Dice::new(seed), ground, model, broken_for: 0, changed: false, agenda: Vec::new() }
    }

    fn draw(&mut self) -> Step {
        while let Some(step) = self.agenda.pop() {
            // Mending one thing may have mended another.
            if self.model.is_possible(&step) {
                return step;
            }
        }
        let repairs = self.model.repairs();
        self.broken_for = if repairs.is_empty() { 0 } else { self.broken_for + 1 };
        if self.broken_for > PATIENCE {
            self.agenda = repairs.into_iter().rev().flat_map(|step| [Step::Quiet, step]).collect();
            return self.draw();
        }
        for _ in 0..DRAWS {
            let step = self.propose(repairs.len());
            if let Some(step) = step.filter(|step| self.is_sensible(step, repairs.len())) {
                let hasty = !matters_alone(&step) && self.dice.of_hundred(HASTE);
                self.agenda.extend((!hasty).then_some(Step::Quiet));
                if let (Ground::Cluster, Step::KillAgent { node }) = (self.ground, &step) {
                    // Its kubelet does not ask whether it shall.
                    self.agenda.push(Step::StartAgent { node: node.clone() });
                }
                return step;
            }
        }
        Step::Quiet
    }

    fn is_sensible(&self, step: &Step, faults: usize) -> bool {
        let breaks = {
            let mut after = self.model.clone();
            after.apply(step);
            after.repairs().len() > faults
        };
        self.model.is_possible(step)
            && !(breaks && faults >= MOST_FAULTS)
            && !(self.changed && changes_objects(step))
    }

    fn propose(&mut self, faults: usize) -> Option<Step> {
        let pods = self.model.world.pods.len();
        if pods < FEWEST_PODS {
            return self.start_pod();
        }
        if faults > 0 && self.dice.of_hundred(20) {
            let repairs = self.model.repairs();
            return self.dice.pick(repairs);
        }
        match self.dice.below(100) {
            0..12 if pods < MOST_PODS => self.start_pod(),
            0..20 => {
                let pods: Vec<_> = self.model.world.pods.keys().cloned().collect();
                self.dice.pick(pods).map(|pod| Step::EndPod { pod })
            }
            20..28 => self.label_pod(),
            28..33 => self.label_namespace(),
            33..50 => self.apply_policy(),
            50..57 => {
                let policies: Vec<_> = self.model.world.policies.keys().cloned().collect();
                self.dice.pick(policies).map(|policy| Step::DeletePolicy { policy })
            }
            57..75 => self.trouble_an_agent(),
            75..80 => self.node().map(|node| Step::FlushRoutes { node }),
            80..85 => self.node().map(|node| Step::FlushRules { node }),
            _ => match self.ground {
                Ground::Lab => self.trouble_the_fabric(),
                Ground::Cluster => Some(Step::StopApi),
            },
        }
    }

    fn node(&mut self) -> Option<String> {
        let nodes: Vec<_> = self.model.topology.nodes.keys().cloned().collect();
        self.dice.pick(nodes)
    }

    fn start_pod(&mut self) -> Option<Step> {
        let namespace = self.dice.pick(NAMESPACES)?;
        let pod = format!("{namespace}/p{}", 1 + self.dice.below(POD_NAMES as u64));
        let node = self.node()?;
        let labels = self.pod_labels();
        Some(Step::StartPod { pod, node, labels })
    }

    fn label_pod(&mut self) -> Option<Step> {
        let pods: Vec<_> = self.model.world.pods.keys().cloned().collect();
        let pod = self.dice.pick(pods)?;
        Some(Step::LabelPod { pod, labels: self.pod_labels() })
    }

    fn label_namespace(&mut self) -> Option<Step> {
        let namespace = self.dice.pick(NAMESPACES)?.to_owned();
        let mut labels = Labels::from([("kubernetes.io/metadata.name".to_owned(), namespace.clone())]);
        if self.dice.of_hundred(80) {
            labels.insert("team".to_owned(), self.dice.pick(TEAMS)?.to_owned());
        }
        Some(Step::LabelNamespace { namespace, labels })
    }

    fn pod_labels(&mut self) -> Labels {
        let mut labels = Labels::new();
        for (key, values, share) in [("app", &APPS[..], 90), ("tier", &TIERS[..], 50)] {
            if self.dice.of_hundred(share) {
                labels.extend(self.dice.pick(values).map(|value| (key.to_owned(), (*value).to_owned())));
            }
        }
        labels
    }

    fn trouble_an_agent(&mut self) -> Option<Step> {
        let node = self.node()?;
        Some(match self.dice.below(10) {
            0..5 => Step::KillAgent { node },
            5..8 => Step::UpgradeAgent { node },
            8 if self.ground == Ground::Lab => Step::StopAgent { node },
            9 if self.ground == Ground::Lab => {
                let pod = format!("{}/attempt", self.dice.pick(NAMESPACES)?);
                Step::AttemptPod { pod, node }
            }
            _ => return None,
        })
    }

    fn trouble_the_fabric(&mut self) -> Option<Step> {
        let topology = &self.model.topology;
        let (tors, cables, sessions): (Vec<_>, Vec<Cable>, _) =
            (topology.tors.keys().cloned().collect(), topology.cables(), topology.sessions());
        let tor = self.dice.pick(tors)?;
        let v6 = self.dice.of_hundred(50);
        Some(match self.dice.below(15) {
            0..4 => Step::Cut { cable: self.dice.pick(cables)? },
            4..6 => Step::PowerOff { tor },
            6..8 => Step::RestartRouter { tor },
            8..10 => Step::DisableSession(self.dice.pick(sessions)?),
            10..12 => Step::DeletePeer { tor, v6 },
            _ => Step::FillDisk { node: self.node()? },
        })
    }

    fn apply_policy(&mut self) -> Option<Step> {
        let policies = &self.model.world.policies;
        let new = policies.len() < MOST_POLICIES;
        let namespace = self.dice.pick(NAMESPACES)?;
        let policy = if new {
            format!("{namespace}/n{}", 1 + self.dice.below(MOST_POLICIES as u64))
        } else {
            let names: Vec<_> = policies.keys().cloned().collect();
            self.dice.pick(names)?
        };
        Some(Step::ApplyPolicy { policy, spec: self.policy()? })
    }
}

impl Iterator for Draw {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let step = self.draw();
        match &step {
            Step::Quiet => self.changed = false,
            step => self.changed |= changes_objects(step),
        }
        self.model.apply(&step);
        Some(step)
    }
}

fn changes_objects(step: &Step) -> bool {
    matches!(
        step,
        Step::StartPod { .. }
            | Step::EndPod { .. }
            | Step::LabelPod { .. }
            | Step::LabelNamespace { .. }
            | Step::ApplyPolicy { .. }
            | Step::DeletePolicy { .. }
    )
}

/// Other people's routers are not asked to bear a second fault while they still work on this one.
fn matters_alone(step: &Step) -> bool {
    matches!(
        step,
        Step::StartAgent { .. }
            | Step::UpgradeAgent { .. }
            | Step::StopAgent { .. }
            | Step::AttemptPod { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::topology::Topology;
    use super::*;
    use crate::lab::LabSpec;

    fn model() -> Model {
        Model::new(Topology::of(&LabSpec::racks(["bird+frr:2", "bird:1"])), &NAMESPACES)
    }

    fn draw(seed: u64, ground: Ground, steps: usize) -> Vec<Step> {
        Draw::new(seed, ground, model()).take(steps).collect()
    }

    #[test]
    fn a_seed_draws_the_same_story_again_and_another_seed_another() {
        assert_eq!(draw(7, Ground::Lab, 300), draw(7, Ground::Lab, 300));
        assert_ne!(draw(7, Ground::Lab, 30), draw(8, Ground::Lab, 30));
    }

    #[test]
    fn every_step_is_possible_and_between_quiet_moments_objects_change_once() {
        for seed in 0..20 {
            let (mut model, mut changes) = (model(), 0);
            for step in draw(seed, Ground::Lab, 400) {
                assert!(model.is_possible(&step), "seed {seed}: {step}");
                model.apply(&step);
                changes = if step == Step::Quiet { 0 } else { changes + usize::from(changes_objects(&step)) };
                assert!(changes <= 1, "seed {seed}: {step}");
                assert!(model.repairs().len() <= MOST_FAULTS, "seed {seed}: {:?}", model.repairs());
            }
        }
    }

    #[test]
    fn every_kind_of_step_is_drawn_where_its_ground_has_it() {
        let kinds = |ground| {
            let lines = draw(1, ground, 3000).into_iter().map(|step| step.to_string());
            let kind = |line: String| line.split('"').nth(1).unwrap_or_default().to_owned();
            lines.map(kind).collect::<BTreeSet<_>>()
        };
        let (lab, cluster) = (kinds(Ground::Lab), kinds(Ground::Cluster));
        for kind in ["kill-agent", "upgrade-agent", "flush-rules", "apply-policy", "label-pod"] {
            assert!(lab.contains(kind) && cluster.contains(kind), "{kind}");
        }
        for kind in [
            "stop-agent",
            "cut",
            "mend",
            "power-off",
            "restart-router",
            "enable-session",
            "delete-peer",
            "fill-disk",
        ] {
            assert!(lab.contains(kind) && !cluster.contains(kind), "{kind}");
        }
        assert!(cluster.contains("stop-api") && !lab.contains("stop-api"));
    }
}
