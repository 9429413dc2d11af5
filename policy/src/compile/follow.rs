//! A compiled ruleset follows pods that come, go and change elsewhere: its sets are changed in place, for what those pods
//! cost and not for what there are.
//!
//! In: the world that was compiled, and one that differs from it in pods alone. Out: what the sets gain and lose; or
//! nothing, where compiling anew alone tells, which is always right. So nothing is guessed here: a pod of this node, an
//! address that two pods have, a port that a rule names are not followed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Compiled;
use super::address::{address_field, family_of};
use super::allowance::NamedItem;
use super::members::means;
use super::owners::Owners;
use crate::model::{Labels, NamedPort, Pod, PodChange, PodKey, PodPeer, Protocol, World};
use crate::ruleset::{Family, Key, Name, Ruleset, SetChange};

/// What policies may cost is reckoned when they are compiled: again when there are twice as many pods, and so many more.
const UNRECKONED: usize = 1000;

/// What of a ruleset comes of pods elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sources {
    sets: BTreeMap<Name, PodSet>,
    /// Ports that rules about their peers' ports name.
    named: BTreeSet<(String, Protocol)>,
    /// Pods of this node, and their addresses.
    wired: BTreeSet<PodKey>,
    own: BTreeSet<IpAddr>,
    /// It is followed up to so many pods.
    most: usize,
}

/// Addresses of pods.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PodSet {
    family: Family,
    /// Of those that any of them means.
    peers: BTreeSet<PodPeer>,
    /// Addresses that more than one of these pods has.
    shared: BTreeSet<Key>,
}

/// What became of the sets; nothing else of the ruleset is different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    pub sets: Vec<SetChange>,
    /// An address that somebody has all the time was let in or shut out: its flows may have to end or may go on. What a pod
    /// brings that is new, and takes with it, has no flows or none that matter for long.
    pub concerns_flows: bool,
}

impl Sources {
    pub(super) fn add_set(
        &mut self,
        name: &str,
        family: Family,
        peers: &BTreeSet<&PodPeer>,
        shared: BTreeSet<Key>,
    ) {
        let peers = peers.iter().map(|peer| (*peer).clone()).collect();
        self.sets.insert(name.to_owned(), PodSet { family, peers, shared });
    }

    pub(super) fn add_named(&mut self, items: &[NamedItem<'_>]) {
        self.named.extend(items.iter().map(|item| (item.name.to_owned(), item.protocol)));
    }

    /// `pods` are those of the world. Where the policies cost too much, fewer pods may bring them into force again.
    pub(super) fn finish(self, owners: &Owners<'_>, pods: usize, too_much: bool) -> Self {
        let most = if too_much { 0 } else { 2 * pods + UNRECKONED };
        Self {
            wired: owners.wired().cloned().collect(),
            own: owners.local().map(|(ip, _)| ip).collect(),
            most,
            ..self
        }
    }

    /// Its pod runs elsewhere, and has an address and ports like most.
    fn is_plain(&self, change: &PodChange<'_>) -> bool {
        let names =
            |port: &NamedPort| self.named.iter().any(|(name, of)| *name == port.name && *of == port.protocol);
        let is_plain = |pod: &Pod| pod.ips.is_disjoint(&self.own) && !pod.ports.iter().any(names);
        !self.wired.contains(change.key) && [change.before, change.after].into_iter().flatten().all(is_plain)
    }
}

impl Compiled {
    /// Whether `after` was followed, with what that changed; `None` where it must be compiled. It was compiled from `before`
    /// and the pods of this node as they still are.
    pub fn follow(&mut self, before: &World, after: &World) -> Option<Followed> {
        let World { namespaces, pods, policies } = after;
        if *namespaces != before.namespaces || *policies != before.policies || pods.len() > self.sources.most
        {
            return None;
        }
        let changes = pods.changes_since(&before.pods);
        if !changes.iter().all(|change| self.sources.is_plain(change)) {
            return None;
        }
        let sets = self.sources.sets.iter();
        let sets = sets.map(|(name, set)| set.change(name, &changes, namespaces, &self.ruleset));
        let sets: Vec<_> =
            sets.collect::<Option<Vec<_>>>()?.into_iter().filter(|set| !set.is_empty()).collect();
        sets.iter().for_each(|set| self.ruleset.change_set(set));
        Some(Followed { concerns_flows: concerns_flows(&changes, &sets), sets })
    }
}

impl PodSet {
    /// `None` where an address is that of two pods, before or after.
    fn change(
        &self,
        name: &Name,
        changes: &[PodChange<'_>],
        namespaces: &BTreeMap<String, Labels>,
        ruleset: &Ruleset,
    ) -> Option<SetChange> {
        let (mut old, mut new) = (BTreeSet::new(), BTreeSet::new());
        for PodChange { key, before, after } in changes {
            for (pod, keys) in [(before, &mut old), (after, &mut new)] {
                let meant = pod.filter(|pod| {
                    is_peer(pod) && self.peers.iter().any(|peer| means(peer, namespaces, key, pod))
                });
                let ips =
                    meant.into_iter().flat_map(|pod| &pod.ips).filter(|ip| family_of(**ip) == self.family);
                for ip in ips {
                    keys.insert(vec![address_field(*ip)]).then_some(())?;
                }
            }
        }
        let elements = &ruleset.sets.get(name)?.elements;
        let is_shared =
            |key: &Key| self.shared.contains(key) || (elements.contains(key) && !old.contains(key));
        if old.iter().chain(&new).any(is_shared) {
            return None;
        }
        let (removed, added) = (&old - &new, &new - &old);
        Some(SetChange { set: name.clone(), removed, added })
    }
}

/// As the compiler sees those elsewhere.
fn is_peer(pod: &Pod) -> bool {
    pod.active && !pod.host_network
}

fn concerns_flows(changes: &[PodChange<'_>], sets: &[SetChange]) -> bool {
    let keys = |pods: &mut dyn Iterator<Item = &Pod>| -> BTreeSet<Key> {
        pods.filter(|pod| pod.active).flat_map(|pod| &pod.ips).map(|ip| vec![address_field(*ip)]).collect()
    };
    let before = keys(&mut changes.iter().filter_map(|change| change.before));
    let after = keys(&mut changes.iter().filter_map(|change| change.after));
    sets.iter().any(|set| !set.removed.is_disjoint(&after) || !set.added.is_disjoint(&before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Options, compile};
    use crate::testing::{Cluster, ip, key};

    const FROM_Y: &str = "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}]}]}";

    /// What follows from an edit of pods, where it can be followed; held against what is compiled of them.
    fn follow(cluster: &Cluster, edit: impl FnOnce(&mut Cluster)) -> Option<Followed> {
        let (world, local) = (cluster.world.clone(), cluster.local.clone());
        let mut compiled = compile(&world, &local, &Options::default());
        let mut after = Cluster { world: world.clone(), local };
        edit(&mut after);
        let followed = compiled.follow(&world, &after.world);
        if followed.is_some() {
            assert_eq!(compiled.ruleset, after.compile());
        }
        followed
    }

    /// Elements lost and gained, and whether flows are concerned.
    fn counts(followed: Option<Followed>) -> Option<(usize, usize, bool)> {
        let Followed { sets, concerns_flows } = followed?;
        let count = |of: fn(&SetChange) -> usize| sets.iter().map(of).sum();
        Some((count(|set| set.removed.len()), count(|set| set.added.len()), concerns_flows))
    }

    #[test]
    fn a_pod_that_comes_and_goes_elsewhere_is_followed_and_has_no_flows() {
        let cluster = Cluster::with(FROM_Y);
        let new = |cluster: &mut Cluster| {
            let pod = Pod { ips: [ip("10.0.2.9"), ip("fd00::2:9")].into(), active: true, ..Pod::default() };
            cluster.world.pods.insert(key("y/new"), pod.into());
        };
        assert_eq!(counts(follow(&cluster, new)), Some((0, 2, false)));
        let delete = |cluster: &mut Cluster| drop(cluster.world.pods.remove(&key("y/b")));
        assert_eq!(counts(follow(&cluster, delete)), Some((2, 0, false)));
        assert_eq!(
            counts(follow(&cluster, |cluster| cluster.pod("y/b").active = false)),
            Some((2, 0, false))
        );
    }

    #[test]
    fn what_no_set_holds_changes_nothing() {
        let cluster = Cluster::with(FROM_Y);
        assert_eq!(
            counts(follow(&cluster, |cluster| drop(cluster.world.pods.remove(&key("z/a"))))),
            Some((0, 0, false))
        );
        let relabel = |cluster: &mut Cluster| cluster.pod("y/b").labels = Default::default();
        assert_eq!(counts(follow(&cluster, relabel)), Some((0, 0, false)));
    }

    /// Somebody took a pod's right to talk away, or gave it: what it has been saying is to be judged.
    #[test]
    fn a_pod_that_lives_and_is_meant_no_more_has_flows() {
        let cluster = Cluster::with(
            "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {pod: b}}}]}]}",
        );
        let other = |name: &str| std::sync::Arc::new([("pod".to_owned(), name.to_owned())].into());
        let quarantine = |cluster: &mut Cluster| cluster.pod("y/b").labels = other("quarantine");
        assert_eq!(counts(follow(&cluster, quarantine)), Some((2, 0, true)));
        assert_eq!(
            counts(follow(&cluster, |cluster| cluster.pod("y/a").labels = other("b"))),
            Some((0, 2, true))
        );
        assert_eq!(
            counts(follow(&cluster, |cluster| cluster.pod("y/b").host_network = true)),
            Some((2, 0, true))
        );
        // Another pod has its address at once.
        let replace = |cluster: &mut Cluster| {
            let ips = cluster.pod("y/b").ips.clone();
            cluster.world.pods.remove(&key("y/b"));
            cluster.pod("z/c").ips = ips;
        };
        assert_eq!(counts(follow(&cluster, replace)), Some((2, 0, true)));
    }

    #[test]
    fn an_address_goes_from_one_pod_to_the_next_without_a_gap() {
        let cluster = Cluster::with(FROM_Y);
        let replace = |cluster: &mut Cluster| {
            let pod = cluster.world.pods.remove(&key("y/b")).unwrap();
            cluster.world.pods.insert(key("y/new"), pod);
        };
        assert_eq!(counts(follow(&cluster, replace)), Some((0, 0, false)));
    }

    #[test]
    fn what_only_compiling_tells_is_not_followed() {
        let cluster = Cluster::with(FROM_Y);
        let not_followed =
            |cluster: &Cluster, edit: &dyn Fn(&mut Cluster)| assert_eq!(follow(cluster, edit), None);
        not_followed(&cluster, &|cluster| drop(cluster.world.pods.remove(&key("x/a"))));
        not_followed(&cluster, &|cluster| {
            cluster.pod("y/b").ips = cluster.world.pods[&key("x/a")].ips.clone();
        });
        not_followed(&cluster, &|cluster| {
            cluster.pod("y/b").ips = cluster.world.pods[&key("y/c")].ips.clone();
        });
        not_followed(&cluster, &|cluster| {
            for pod in ["y/b", "y/c"] {
                cluster.pod(pod).ips = [ip("10.0.2.9")].into();
            }
        });
        not_followed(&cluster, &|cluster| cluster.add("{name: more, podSelector: {}}"));
        not_followed(&cluster, &|cluster| drop(cluster.world.namespaces.remove("z")));

        let mut shared = Cluster::with(FROM_Y);
        shared.pod("y/b").ips = shared.world.pods[&key("y/c")].ips.clone();
        not_followed(&shared, &|cluster| drop(cluster.world.pods.remove(&key("y/b"))));

        let named = "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: web}], to: [{namespaceSelector: {}}]}]}";
        not_followed(&Cluster::with(named), &|cluster| drop(cluster.world.pods.remove(&key("y/b"))));
    }

    #[test]
    fn what_policies_cost_is_reckoned_again_when_there_are_many_more_pods() {
        let grow = |number: usize| {
            move |cluster: &mut Cluster| {
                for index in 0..number {
                    cluster.world.pods.insert(key(&format!("z/more-{index}")), Default::default());
                }
            }
        };
        let cluster = Cluster::with(FROM_Y);
        let room = cluster.world.pods.len() + UNRECKONED;
        assert!(follow(&cluster, grow(room)).is_some());
        assert!(follow(&cluster, grow(room + 1)).is_none());

        let options = Options { namespace_budget: 1, ..Options::default() };
        let mut compiled = compile(&cluster.world, &cluster.local, &options);
        assert!(!compiled.problems.is_empty());
        assert_eq!(
            compiled.follow(&cluster.world, &cluster.world),
            None,
            "fewer pods may cost little enough"
        );
    }
}
