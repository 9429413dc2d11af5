//! The reference model: after these steps, who may reach whom, by which way, and which of it may not be disturbed.
//!
//! In: [`Step`]s, one by one. Out: a [`Verdict`] for each pair of ends, the routes that each node must have, and whether a
//! step may harm a conversation. Pure, and as plain as can be: it knows the rules of the field, nothing of the product.
//!
//! An agent that is dead enforces what it knew, and forwards as it did. What it knew may be any world since the last quiet
//! moment; where those differ, and where the ways change under it, the model says [`Verdict::Unknown`].

use std::collections::{BTreeMap, BTreeSet};

use super::rules::Traffic;
use super::steps::Step;
use super::topology::{Cable, Damage, Session, Topology, Via};
use super::world::{Direction, End, Labels, Pod, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Open,
    Closed,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agent {
    Runs,
    /// Killed, or stopped for good.
    Gone {
        /// Worlds of which it enforces one.
        knew: Vec<World>,
        /// The kernel has the rules that follow from one of those.
        rules: bool,
        /// The routes to its own pods are there.
        local: bool,
        /// So are its routes to others, theirs to it, and the ways are as they were.
        ways: bool,
    },
}

#[derive(Clone, Debug)]
pub struct Model {
    pub topology: Topology,
    pub world: World,
    pub agents: BTreeMap<String, Agent>,
    pub damage: Damage,
    pub full: BTreeSet<String>,
    pub api_is_gone: bool,
    /// Worlds since the last quiet moment, the present one last.
    recent: Vec<World>,
    /// Ways have changed since the last quiet moment.
    moved: bool,
    /// Nodes whose rules, or routes, were flushed since the last quiet moment.
    flushed: BTreeSet<(String, Kind)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Rules,
    Routes,
}

impl Model {
    /// Everything runs; there are namespaces and nothing in them.
    pub fn new(topology: Topology, namespaces: &[&str]) -> Self {
        let labels = |name: &str| Labels::from([("kubernetes.io/metadata.name".to_owned(), name.to_owned())]);
        let namespaces = namespaces.iter().map(|name| ((*name).to_owned(), labels(name))).collect();
        let world = World { namespaces, ..World::default() };
        Self {
            agents: topology.nodes.keys().map(|node| (node.clone(), Agent::Runs)).collect(),
            recent: vec![world.clone()],
            world,
            topology,
            damage: Damage::default(),
            full: BTreeSet::new(),
            api_is_gone: false,
            moved: false,
            flushed: BTreeSet::new(),
        }
    }

    pub fn runs(&self, node: &str) -> bool {
        self.agents.get(node) == Some(&Agent::Runs)
    }

    fn can_start_pods(&self, node: &str) -> bool {
        self.runs(node) && !self.full.contains(node) && !self.api_is_gone
    }

    /// Whether the step makes sense: a story that lost steps to shrinking has some that do not, and they are left out.
    pub fn is_possible(&self, step: &Step) -> bool {
        let world = &self.world;
        match step {
            Step::StartPod { pod, node, .. } => !world.pods.contains_key(pod) && self.can_start_pods(node),
            Step::AttemptPod { pod, .. } => !world.pods.contains_key(pod) && !self.api_is_gone,
            Step::EndPod { pod } | Step::LabelPod { pod, .. } => {
                world.pods.contains_key(pod) && !self.api_is_gone
            }
            Step::LabelNamespace { .. } | Step::ApplyPolicy { .. } => !self.api_is_gone,
            Step::DeletePolicy { policy } => world.policies.contains_key(policy) && !self.api_is_gone,
            Step::KillAgent { node } | Step::StopAgent { node } => self.runs(node) && !self.api_is_gone,
            // One that starts needs room for its sockets.
            Step::UpgradeAgent { node } => self.can_start_pods(node),
            Step::StartAgent { node } => !self.runs(node) && !self.full.contains(node) && !self.api_is_gone,
            Step::Cut { cable } => !self.damage.cut.contains(cable) && !self.is_dark(cable),
            Step::Mend { cable } => self.damage.cut.contains(cable),
            // A router's power takes its cables with it.
            Step::PowerOff { tor } => {
                !self.damage.dark.contains(tor) && self.cables_of(tor).is_disjoint(&self.damage.cut)
            }
            Step::PowerOn { tor } => self.damage.dark.contains(tor),
            Step::RestartRouter { tor } => !self.damage.dark.contains(tor),
            Step::DisableSession(session) => {
                !self.damage.disabled.contains(session) && !self.damage.dark.contains(&session.tor)
            }
            Step::EnableSession(session) => self.damage.disabled.contains(session),
            Step::DeletePeer { tor, v6 } => {
                !self.damage.unpeered.contains(&(tor.clone(), *v6)) && !self.api_is_gone
            }
            Step::ApplyPeer { tor, v6 } => {
                self.damage.unpeered.contains(&(tor.clone(), *v6)) && !self.api_is_gone
            }
            Step::FillDisk { node } => !self.full.contains(node),
            Step::FreeDisk { node } => self.full.contains(node),
            Step::StopApi => !self.api_is_gone,
            Step::StartApi => self.api_is_gone,
            Step::FlushRoutes { .. } | Step::FlushRules { .. } | Step::Quiet => true,
        }
    }

    pub fn apply(&mut self, step: &Step) {
        self.change_world(step);
        self.change_agents(step);
        self.change_fabric(step);
        match step {
            Step::FlushRoutes { node } => self.flush(node, Kind::Routes),
            Step::FlushRules { node } => self.flush(node, Kind::Rules),
            Step::FillDisk { node } => drop(self.full.insert(node.clone())),
            Step::FreeDisk { node } => drop(self.full.remove(node)),
            Step::StopApi | Step::StartApi => self.api_is_gone = *step == Step::StopApi,
            Step::Quiet => {
                self.recent = vec![self.world.clone()];
                self.moved = false;
                self.flushed.clear();
            }
            _ => {}
        }
    }

    fn change_world(&mut self, step: &Step) {
        let world = &mut self.world;
        match step.clone() {
            Step::StartPod { pod, node, labels } => drop(world.pods.insert(pod, Pod { node, labels })),
            Step::EndPod { pod } => drop(world.pods.remove(&pod)),
            Step::LabelPod { pod, labels } => {
                world.pods.entry(pod).and_modify(|pod| pod.labels = labels);
            }
            Step::LabelNamespace { namespace, labels } => drop(world.namespaces.insert(namespace, labels)),
            Step::ApplyPolicy { policy, spec } => drop(world.policies.insert(policy, spec)),
            Step::DeletePolicy { policy } => drop(world.policies.remove(&policy)),
            _ => return,
        }
        self.recent.push(self.world.clone());
    }

    fn change_agents(&mut self, step: &Step) {
        match step {
            Step::KillAgent { node } | Step::StopAgent { node } => {
                let flushed = |kind| self.flushed.contains(&(node.clone(), kind));
                let local = !flushed(Kind::Routes);
                let (knew, rules) = (self.recent.clone(), !flushed(Kind::Rules));
                let gone = Agent::Gone { knew, rules, local, ways: local && !self.moved };
                self.agents.insert(node.clone(), gone);
            }
            Step::StartAgent { node } => drop(self.agents.insert(node.clone(), Agent::Runs)),
            _ => {}
        }
    }

    fn change_fabric(&mut self, step: &Step) {
        let damage = &mut self.damage;
        match step.clone() {
            Step::Cut { cable } => drop(damage.cut.insert(cable)),
            Step::Mend { cable } => drop(damage.cut.remove(&cable)),
            Step::PowerOff { tor } => drop(damage.dark.insert(tor)),
            // A router that starts has forgotten what its operator typed.
            Step::PowerOn { tor } | Step::RestartRouter { tor } => {
                damage.dark.remove(&tor);
                damage.disabled.retain(|session| session.tor != tor);
            }
            Step::DisableSession(session) => drop(damage.disabled.insert(session)),
            Step::EnableSession(session) => drop(damage.disabled.remove(&session)),
            Step::DeletePeer { tor, v6 } => drop(damage.unpeered.insert((tor, v6))),
            Step::ApplyPeer { tor, v6 } => drop(damage.unpeered.remove(&(tor, v6))),
            Step::StopAgent { node } => drop(damage.silent.insert(node)),
            Step::StartAgent { node } if damage.silent.remove(&node) => {}
            _ => return,
        }
        self.moved = true;
        for agent in self.agents.values_mut() {
            if let Agent::Gone { ways, .. } = agent {
                *ways = false;
            }
        }
    }

    /// The agent has been gone for so long that others may have given its routes up.
    pub fn outlive(&mut self, node: &str) {
        if let Some(Agent::Gone { ways, .. }) = self.agents.get_mut(node) {
            *ways = false;
        }
    }

    fn flush(&mut self, node: &str, what: Kind) {
        self.flushed.insert((node.to_owned(), what));
        if let Some(Agent::Gone { rules, local, ways, .. }) = self.agents.get_mut(node) {
            match what {
                Kind::Rules => *rules = false,
                Kind::Routes => (*local, *ways) = (false, false),
            }
        }
    }

    fn is_dark(&self, cable: &Cable) -> bool {
        let (Cable::Uplink { tor, .. } | Cable::Spine { tor }) = cable;
        self.damage.dark.contains(tor)
    }

    fn cables_of(&self, router: &str) -> BTreeSet<Cable> {
        let cables = self.topology.cables().into_iter();
        cables
            .filter(|cable| {
                let (Cable::Uplink { tor, .. } | Cable::Spine { tor }) = cable;
                tor == router
            })
            .collect()
    }

    /// All that are there, in order. A node is an end only towards its own pods.
    pub fn pairs(&self) -> Vec<(End, End)> {
        let pods = || self.world.pods.keys().map(|key| End::Pod(key.clone()));
        let mut pairs: Vec<_> = pods().flat_map(|from| pods().map(move |to| (from.clone(), to))).collect();
        pairs.retain(|(from, to)| from != to);
        for (key, pod) in &self.world.pods {
            let end = End::Pod(key.clone());
            pairs.push((End::Outside, end.clone()));
            pairs.push((end.clone(), End::Outside));
            pairs.push((End::Node(pod.node.clone()), end));
        }
        pairs
    }

    /// Of a new connection, once it is quiet. Where an end is not there, nothing is said.
    pub fn verdict(&self, from: &End, to: &End, traffic: Traffic) -> Verdict {
        let halves = self.half(Direction::Egress, from, to, traffic).and(self.half(
            Direction::Ingress,
            to,
            from,
            traffic,
        ));
        halves.and(self.way(from, to, traffic.v6))
    }

    /// What the node of `own` makes of it.
    pub fn half(&self, direction: Direction, own: &End, other: &End, traffic: Traffic) -> Verdict {
        let Some(node) = self.node(own) else { return Verdict::Open };
        let judge = |world: &World| {
            let known = [own, other].iter().all(|end| match end {
                End::Pod(key) => world.pods.contains_key(key),
                _ => true,
            });
            match known {
                false => Verdict::Unknown,
                true if world.lets(&self.topology, direction, own, other, traffic) => Verdict::Open,
                true => Verdict::Closed,
            }
        };
        match &self.agents[node] {
            Agent::Runs => judge(&self.world),
            Agent::Gone { rules: false, .. } => Verdict::Unknown,
            Agent::Gone { knew, .. } => {
                let first = judge(&knew[0]);
                if knew.iter().all(|world| judge(world) == first) { first } else { Verdict::Unknown }
            }
        }
    }

    fn way(&self, from: &End, to: &End, v6: bool) -> Verdict {
        let (here, there) = (self.node(from), self.node(to));
        let ends = || [here, there].into_iter().flatten();
        if here == there {
            let gone = ends().any(|node| matches!(self.agents[node], Agent::Gone { local: false, .. }));
            return if gone { Verdict::Unknown } else { Verdict::Open };
        }
        let leads = |from: Option<&str>, to: Option<&str>| {
            from.is_none_or(|from| !self.topology.ways(&self.damage, from, to, v6).is_empty())
        };
        // Who knew the way and has died since keeps it.
        let hears = |end: Option<&str>| end.is_none_or(|node| self.runs(node));
        let is_silent = |end: Option<&str>| end.is_some_and(|node| self.damage.silent.contains(node));
        if is_silent(here) && hears(there) || is_silent(there) && hears(here) {
            Verdict::Closed
        } else if !ends().all(|node| self.ways_are_sure(node)) {
            Verdict::Unknown
        } else if leads(here, there) && leads(there, here) {
            Verdict::Open
        } else {
            Verdict::Closed
        }
    }

    fn ways_are_sure(&self, node: &str) -> bool {
        !matches!(self.agents[node], Agent::Gone { ways: false, .. })
    }

    fn node<'a>(&'a self, end: &'a End) -> Option<&'a str> {
        match end {
            End::Pod(key) => self.world.pods.get(key).map(|pod| pod.node.as_str()),
            End::Node(node) => Some(node),
            End::Outside => None,
        }
    }

    /// What a node learns, by destination: a node's pods, or the outside. `None` where the model cannot say.
    pub fn learned(&self, node: &str, v6: bool) -> Option<BTreeMap<Option<String>, BTreeSet<Via>>> {
        let sure = self.topology.nodes.keys().all(|node| self.runs(node));
        let others =
            self.topology.nodes.keys().filter(|other| *other != node).map(|other| Some(other.clone()));
        let routes = others.chain([None]).map(|to| {
            let ways = self.topology.ways(&self.damage, node, to.as_deref(), v6);
            (to, ways)
        });
        sure.then(|| routes.filter(|(_, ways)| !ways.is_empty()).collect())
    }

    /// Sessions that a router has with its nodes, once it is quiet. `None` where the model cannot say.
    pub fn sessions(&self, router: &str) -> Option<Vec<Session>> {
        let mut sessions = self.topology.sessions();
        sessions.retain(|session| session.tor == router && self.damage.has_session(session));
        self.agents.values().all(|agent| *agent == Agent::Runs).then_some(sessions)
    }

    /// Whether a step may cost a conversation packets although it is allowed before and after.
    pub fn disturbs(&self, step: &Step, from: &End, to: &End, v6: bool) -> bool {
        let (here, there) = (self.node(from), self.node(to));
        let ends = || [here, there].into_iter().flatten();
        let at = |node: &String| ends().any(|end| end == node);
        let apart = here != there;
        let neighbours = match (here, there) {
            (Some(here), Some(there)) => self.topology.nodes[here].rack == self.topology.nodes[there].rack,
            _ => false,
        };
        let in_rack = |tor: &String| ends().any(|end| self.topology.nodes[end].tors.contains(tor));
        let switched_by =
            |tor: &String| neighbours && ends().any(|end| self.topology.nodes[end].tors[0] == *tor);
        let routed_by = |tor: &String| !neighbours && in_rack(tor);
        match step {
            Step::FlushRoutes { node } => at(node),
            _ if !apart => false,
            Step::StopAgent { node } => at(node),
            Step::StartAgent { node } => at(node) && !self.ways_are_sure(node),
            Step::Cut { cable: Cable::Uplink { node, tor } }
            | Step::Mend { cable: Cable::Uplink { node, tor } } => {
                at(node) && (switched_by(tor) || routed_by(tor))
            }
            Step::Cut { cable: Cable::Spine { tor } }
            | Step::Mend { cable: Cable::Spine { tor } }
            | Step::RestartRouter { tor } => routed_by(tor),
            Step::PowerOff { tor } | Step::PowerOn { tor } => switched_by(tor) || routed_by(tor),
            Step::DisableSession(session) | Step::EnableSession(session) => {
                at(&session.node) && session.v6 == v6 && routed_by(&session.tor)
            }
            Step::DeletePeer { tor, v6: family } | Step::ApplyPeer { tor, v6: family } => {
                *family == v6 && routed_by(tor)
            }
            _ => false,
        }
    }

    /// Steps after which everything runs, is plugged in and has room again.
    pub fn repairs(&self) -> Vec<Step> {
        let damage = self.damage.clone();
        let mut steps: Vec<Step> = Vec::new();
        steps.extend(self.api_is_gone.then_some(Step::StartApi));
        steps.extend(self.full.iter().map(|node| Step::FreeDisk { node: node.clone() }));
        let gone = self.agents.iter().filter(|(_, agent)| **agent != Agent::Runs);
        steps.extend(gone.map(|(node, _)| Step::StartAgent { node: node.clone() }));
        steps.extend(damage.cut.into_iter().map(|cable| Step::Mend { cable }));
        steps.extend(damage.dark.into_iter().map(|tor| Step::PowerOn { tor }));
        steps.extend(damage.disabled.into_iter().map(Step::EnableSession));
        steps.extend(damage.unpeered.into_iter().map(|(tor, v6)| Step::ApplyPeer { tor, v6 }));
        steps
    }
}

impl Verdict {
    /// Of two filters in a row: what one closes is closed.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Closed, _) | (_, Self::Closed) => Self::Closed,
            (Self::Open, Self::Open) => Self::Open,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
