//! The compiler: a world and the pods of this node to the ruleset of table `inet weft`.
//!
//! Pure, and total: whatever cannot be understood or is not known yet compiles to less being allowed.
//!
//! [`owners`] settles who has which address and [`members`] which pods a peer means. For each local pod and direction
//! the policies that isolate it become an [`allowance`], which [`chains`] turns into a verdict of the dispatch map,
//! with [`ports`] cut into classes and [`blocks`] into matches. [`layout`] is what stands around them, and [`host_ports`]
//! what leads to pods from ports of the node. As pods come and go elsewhere, [`follow`] changes what was compiled.

mod address;
mod allowance;
mod blocks;
mod builder;
mod chains;
mod follow;
mod host_ports;
mod layout;
mod meaning;
mod members;
mod owners;
mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

use weft_api::control::Problem;

use crate::model::{self, LocalPod, NamedPort, Pod, PodKey, Policy, World};
use crate::ruleset::{Family, KeyField, Ruleset, Verdict};
use address::{address_field, family_of};
use allowance::{Allowance, Way};
use builder::Builder;
use chains::Chains;
pub use follow::Followed;
use follow::Sources;
use layout::Local;
use members::Members;
use owners::{Owner, Owners};

/// In a cluster of 50,000 pods that is twenty different unions of all of them, in both families; it takes some 200 ms, and
/// the kernel some 200 MB. Beyond it the pods of the policies that are left are closed, and no other namespace notices.
const NAMESPACE_BUDGET: usize = 1 << 21;

/// Elements that a set or map of local pods can hold.
pub const MAX_LOCAL: usize = layout::LOCAL_SIZE as usize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the host side of every pod's link is called at its beginning.
    pub link_prefix: String,
    /// The conntrack mark bit of flows that were established and are now forbidden.
    pub revoked_mark: u32,
    /// The NFLOG group that samples denied packets.
    pub log_group: u16,
    /// What the policies of one namespace may cost: each port, peer, pod looked at and element made counts one.
    pub namespace_budget: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    pub ruleset: Ruleset,
    /// Of all policies and of the local pods' addresses, sorted.
    pub problems: Vec<Problem>,
    /// What all namespaces have spent of their budgets.
    pub work: usize,
    sources: Sources,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            link_prefix: "weft".to_owned(),
            revoked_mark: 0x4000_0000,
            log_group: 100,
            namespace_budget: NAMESPACE_BUDGET,
        }
    }
}

/// Why a pod finds no room in the table: no set or map of local pods can hold more than [`MAX_LOCAL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error("with its addresses this node would have more than {MAX_LOCAL} in a family")]
    Addresses,
    #[error("with its links this node would have more than {MAX_LOCAL} pairs of links of one pod")]
    Links,
    #[error("with its host ports this node would have more than {MAX_LOCAL} in a family")]
    HostPorts,
}

/// Whether the table can hold `pod` beside `local`. More than it can hold is refused by the kernel as a whole.
pub fn room_for<'a>(local: impl Iterator<Item = &'a LocalPod>, pod: &'a LocalPod) -> Result<(), Full> {
    let all: Vec<_> = local.chain([pod]).collect();
    let mut addresses = [0; 2];
    all.iter().flat_map(|pod| &pod.ips).for_each(|ip| addresses[family_of(*ip) as usize] += 1);
    if addresses.into_iter().any(|of_family| of_family > MAX_LOCAL) {
        return Err(Full::Addresses);
    }
    let mut links: BTreeMap<&PodKey, usize> = BTreeMap::new();
    all.iter().for_each(|pod| *links.entry(&pod.key).or_default() += 1);
    if links.values().map(|links| links * links).sum::<usize>() > MAX_LOCAL {
        return Err(Full::Links);
    }
    if !pod.ports.is_empty() && host_ports::largest(&all) > MAX_LOCAL {
        return Err(Full::HostPorts);
    }
    Ok(())
}

/// The ruleset that makes this node enforce `world` for the pods wired to it. The order of `local` does not matter.
pub fn compile(world: &World, local: &[LocalPod], options: &Options) -> Compiled {
    let errors =
        world.policies.values().flat_map(|policy| policy.errors.iter().map(move |error| (policy, error)));
    let mut problems: Vec<_> = errors.map(|(policy, error)| problem(policy, error)).collect();
    let owners = Owners::new(world, local, &mut problems);
    let members = Members::new(&world.namespaces, &owners);
    let mut compiler = Compiler {
        builder: Builder::default(),
        members,
        policies: by_namespace(world),
        selecting: BTreeMap::new(),
        verdicts: BTreeMap::new(),
        budget: options.namespace_budget,
        left: BTreeMap::new(),
        too_much: BTreeSet::new(),
    };

    let mut filled = Local::default();
    for (ip, owner) in owners.local() {
        let (link, egress, ingress) = match owner {
            Owner::Pod { link, key, pod } => {
                let mut verdict = |way| compiler.verdict(way, family_of(ip), key, pod);
                (Some(link), verdict(Way::Egress), verdict(Way::Ingress))
            }
            Owner::Nameless { link } => (Some(link), Verdict::Return, Verdict::Return),
            Owner::Closed { link } => (Some(link), pending(), pending()),
            Owner::Disputed => (None, pending(), pending()),
        };
        let family = family_of(ip) as usize;
        filled.egress[family].insert(vec![address_field(ip)], egress);
        filled.ingress[family].insert(vec![address_field(ip)], ingress);
        filled.sources[family].extend(link.map(|link| vec![ifname(link), address_field(ip)]));
    }
    filled.hairpins = owners.hairpins().map(|(a, b)| vec![ifname(a), ifname(b)]).collect();
    layout::add(&mut compiler.builder, filled, options);
    host_ports::add(&mut compiler.builder, &local.iter().collect::<Vec<_>>(), &mut problems);

    let work = compiler.left.values().map(|left| options.namespace_budget - left).sum();
    let (ruleset, sources) = compiler.builder.finish();
    let sources = sources.finish(&owners, world.pods.len(), !compiler.too_much.is_empty());
    problems.extend(compiler.too_much);
    problems.sort();
    Compiled { ruleset, problems, work, sources }
}

struct Compiler<'a> {
    builder: Builder,
    members: Members<'a>,
    policies: BTreeMap<&'a str, Vec<&'a Policy>>,
    /// The policies that select a pod: indices into those of its namespace.
    selecting: BTreeMap<&'a PodKey, Rc<[usize]>>,
    /// Pods that the same policies isolate share their chains.
    verdicts: BTreeMap<Question<'a>, Verdict>,
    budget: usize,
    /// Of it, to each namespace.
    left: BTreeMap<&'a str, usize>,
    too_much: BTreeSet<Problem>,
}

/// All that a verdict depends on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Question<'a> {
    way: Way,
    family: Family,
    namespace: &'a str,
    isolating: Vec<usize>,
    /// Ingress rules may name them.
    ports: Option<&'a BTreeSet<NamedPort>>,
}

impl<'a> Compiler<'a> {
    fn verdict(&mut self, way: Way, family: Family, key: &'a PodKey, pod: &'a Pod) -> Verdict {
        let namespace = key.namespace.as_str();
        let isolating = self.isolating(way, key, pod);
        if isolating.is_empty() {
            return Verdict::Return;
        }
        let ports = (way == Way::Ingress).then_some(&*pod.ports);
        let question = Question { way, family, namespace, isolating, ports };
        if let Some(verdict) = self.verdicts.get(&question) {
            return verdict.clone();
        }
        let policies: Vec<&'a Policy> =
            question.isolating.iter().map(|index| self.policies[namespace][*index]).collect();
        let rules = policies.iter().filter_map(|policy| policy.rules(way)).flatten();
        let allowance = Allowance::new(way, pod, rules);
        let budget = self.left.entry(namespace).or_insert(self.budget);
        let chains = Chains { builder: &mut self.builder, members: &self.members, way, family, budget };
        let verdict = chains.verdict(&allowance);
        let verdict = verdict.unwrap_or_else(|| {
            self.too_much.extend(policies.iter().map(|policy| too_much(policy, self.budget)));
            chains::deny(way)
        });
        self.verdicts.insert(question, verdict.clone());
        verdict
    }

    fn isolating(&mut self, way: Way, key: &'a PodKey, pod: &Pod) -> Vec<usize> {
        let Some(policies) = self.policies.get(key.namespace.as_str()) else { return Vec::new() };
        let selecting = self.selecting.entry(key).or_insert_with(|| {
            let policies = policies.iter().enumerate();
            policies
                .filter(|(_, policy)| policy.subjects.matches(&pod.labels))
                .map(|(index, _)| index)
                .collect()
        });
        selecting.iter().copied().filter(|index| policies[*index].rules(way).is_some()).collect()
    }
}

fn problem(policy: &Policy, reason: impl fmt::Display) -> Problem {
    Problem { object: format!("networkpolicy {}", policy.key), reason: reason.to_string() }
}

fn too_much(policy: &Policy, budget: usize) -> Problem {
    problem(
        policy,
        format_args!(
            "spec: the policies of the namespace need more than {budget} ports, peers and set elements on this node; \
             pods that this one selects are isolated"
        ),
    )
}

impl Policy {
    fn rules(&self, way: Way) -> Option<&Vec<model::Rule>> {
        match way {
            Way::Egress => self.egress.as_ref(),
            Way::Ingress => self.ingress.as_ref(),
        }
    }
}

fn by_namespace(world: &World) -> BTreeMap<&str, Vec<&Policy>> {
    let mut policies: BTreeMap<&str, Vec<&Policy>> = BTreeMap::new();
    for (key, policy) in &world.policies {
        policies.entry(&key.namespace).or_default().push(policy);
    }
    policies
}

fn pending() -> Verdict {
    Verdict::Goto(layout::PENDING.to_owned())
}

fn ifname(link: &str) -> KeyField {
    KeyField::Ifname(link.to_owned())
}

#[cfg(test)]
mod tests;
