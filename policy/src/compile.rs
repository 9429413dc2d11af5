//! The compiler: a world and the pods of this node to the ruleset of table `inet weft`.
//!
//! Pure, and total: whatever cannot be understood or is not known yet compiles to less being allowed.
//!
//! [`owners`] settles who has which address and [`members`] which pods a peer means. For each local pod and direction
//! the policies that isolate it become an [`allowance`], which [`chains`] turns into a verdict of the dispatch map,
//! with [`ports`] cut into classes and [`blocks`] into matches. [`layout`] is what stands around them, and [`host_ports`]
//! what leads to pods from ports of the node.

mod allowance;
mod blocks;
mod builder;
mod chains;
mod host_ports;
mod layout;
mod members;
mod owners;
mod ports;

use std::collections::BTreeMap;

use crate::model::{LocalPod, Pod, PodKey, Policy, Problem, World};
use crate::ruleset::{Family, KeyField, Ruleset, Verdict};
use allowance::{Allowance, Way};
use builder::Builder;
use chains::{Chains, address_field, family_of};
use layout::Local;
use members::Members;
use owners::{Owner, Owners};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the host side of every pod's link is called at its beginning.
    pub link_prefix: String,
    /// The conntrack mark bit of flows that were established and are now forbidden.
    pub revoked_mark: u32,
    /// The NFLOG group that samples denied packets.
    pub log_group: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    pub ruleset: Ruleset,
    /// Of all policies and of the local pods' addresses, sorted.
    pub problems: Vec<Problem>,
}

impl Default for Options {
    fn default() -> Self {
        Self { link_prefix: "weft".to_owned(), revoked_mark: 0x4000_0000, log_group: 100 }
    }
}

/// The ruleset that makes this node enforce `world` for the pods wired to it. The order of `local` does not matter.
pub fn compile(world: &World, local: &[LocalPod], options: &Options) -> Compiled {
    let mut problems: Vec<_> = world.policies.values().flat_map(|policy| policy.problems.clone()).collect();
    let owners = Owners::new(world, local, &mut problems);
    let members = Members::new(&world.namespaces, &owners);
    let mut compiler = Compiler { builder: Builder::default(), members, policies: by_namespace(world) };

    let mut filled = Local::default();
    for (ip, owner) in owners.local() {
        let (link, egress, ingress) = match owner {
            Owner::Pod { link, key, pod } => {
                let mut verdict = |way| compiler.verdict(way, family_of(ip), key, pod);
                (Some(link), verdict(Way::Egress), verdict(Way::Ingress))
            }
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
    host_ports::add(&mut compiler.builder, local, &mut problems);

    problems.sort();
    Compiled { ruleset: compiler.builder.finish(), problems }
}

struct Compiler<'a> {
    builder: Builder,
    members: Members<'a>,
    policies: BTreeMap<&'a str, Vec<&'a Policy>>,
}

impl<'a> Compiler<'a> {
    fn verdict(&mut self, way: Way, family: Family, key: &PodKey, pod: &Pod) -> Verdict {
        let policies = self.policies.get(key.namespace.as_str()).into_iter().flatten();
        let selecting = policies.filter(|policy| policy.subjects.matches(&pod.labels));
        let isolating: Vec<_> = selecting
            .filter_map(|policy| match way {
                Way::Egress => policy.egress.as_ref(),
                Way::Ingress => policy.ingress.as_ref(),
            })
            .collect();
        if isolating.is_empty() {
            return Verdict::Return;
        }
        let allowance = Allowance::new(way, pod, isolating.into_iter().flatten());
        Chains { builder: &mut self.builder, members: &self.members, way, family }.verdict(&allowance)
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
