//! Which pods a policy peer means, each question answered once.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::rc::Rc;

use super::owners::Owners;
use crate::model::{Labels, NamespaceMatch, Pod, PodKey, PodPeer};
use crate::selector::{Operator, Selector};

/// A pod that may be a peer.
pub(super) struct Member<'a> {
    namespace: &'a str,
    pub(super) pod: &'a Pod,
    pub(super) addresses: Cow<'a, BTreeSet<IpAddr>>,
}

pub(super) struct Members<'a> {
    namespaces: &'a BTreeMap<String, Labels>,
    /// In the order of their keys, so each namespace is a range.
    pods: Vec<Member<'a>>,
    by_namespace: BTreeMap<&'a str, Range<usize>>,
    /// For each label that a selector asked for: which pods have which value, in order.
    by_label: RefCell<BTreeMap<&'a str, Rc<ByValue<'a>>>>,
    answers: RefCell<BTreeMap<&'a PodPeer, Rc<[usize]>>>,
}

type ByValue<'a> = BTreeMap<&'a str, Vec<usize>>;

impl<'a> Members<'a> {
    pub(super) fn new(namespaces: &'a BTreeMap<String, Labels>, owners: &Owners<'a>) -> Self {
        let mut pods = Vec::new();
        let mut by_namespace = BTreeMap::new();
        for (key, pod, addresses) in owners.peers() {
            let index = pods.len();
            by_namespace.entry(key.namespace.as_str()).or_insert(index..index).end = index + 1;
            pods.push(Member { namespace: &key.namespace, pod, addresses });
        }
        Self { namespaces, pods, by_namespace, by_label: RefCell::default(), answers: RefCell::default() }
    }

    pub(super) fn all(&self) -> impl ExactSizeIterator<Item = &Member<'a>> {
        self.pods.iter()
    }

    /// The pods that any of `peers` means.
    pub(super) fn union(&self, peers: &BTreeSet<&'a PodPeer>) -> impl Iterator<Item = &Member<'a>> {
        let mut indices: Vec<usize> = Vec::new();
        peers.iter().for_each(|peer| indices.extend_from_slice(&self.answer(peer)));
        indices.sort_unstable();
        indices.dedup();
        indices.into_iter().map(|index| &self.pods[index])
    }

    /// At most so many pods and namespaces are looked at to find those that `peer` means; an index not made yet costs them all.
    pub(super) fn candidates(&self, peer: &'a PodPeer) -> usize {
        match label(peer) {
            Some((_, key, _)) if !self.by_label.borrow().contains_key(key) => self.pods.len(),
            Some((_, key, values)) => {
                let pods = self.by_value(key);
                1 + values.iter().filter_map(|value| pods.get(value.as_str())).map(Vec::len).sum::<usize>()
            }
            None => {
                self.by_namespace.len() + self.ranges(peer).iter().map(ExactSizeIterator::len).sum::<usize>()
            }
        }
    }

    fn answer(&self, peer: &'a PodPeer) -> Rc<[usize]> {
        let mut answers = self.answers.borrow_mut();
        answers.entry(peer).or_insert_with(|| self.search(peer)).clone()
    }

    fn search(&self, peer: &'a PodPeer) -> Rc<[usize]> {
        let selected = |index: &usize| peer.pods.matches(&self.pods[*index].pod.labels);
        let Some((namespaces, key, values)) = label(peer) else {
            return self.ranges(peer).into_iter().flatten().filter(selected).collect();
        };
        let pods = self.by_value(key);
        let candidates = values.iter().filter_map(|value| pods.get(value.as_str())).flatten().copied();
        let found = candidates.filter(|index| self.is_selected(self.pods[*index].namespace, namespaces));
        found.filter(selected).collect()
    }

    fn ranges(&self, peer: &PodPeer) -> Vec<Range<usize>> {
        match &peer.namespaces {
            NamespaceMatch::Named(name) => {
                self.by_namespace.get(name.as_str()).cloned().into_iter().collect()
            }
            NamespaceMatch::Labelled(selector) => {
                let selected = self.by_namespace.iter().filter(|(name, _)| self.is_selected(name, selector));
                selected.map(|(_, range)| range.clone()).collect()
            }
        }
    }

    fn is_selected(&self, namespace: &str, selector: &Selector) -> bool {
        is_selected(self.namespaces, namespace, selector)
    }

    fn by_value(&self, key: &'a str) -> Rc<ByValue<'a>> {
        let index = || {
            let mut pods = ByValue::new();
            for (index, member) in self.pods.iter().enumerate() {
                if let Some(value) = member.pod.labels.get(key) {
                    pods.entry(value).or_default().push(index);
                }
            }
            Rc::new(pods)
        };
        Rc::clone(self.by_label.borrow_mut().entry(key).or_insert_with(index))
    }
}

/// Whether `peer` means this pod, which can be a peer.
pub(super) fn means(peer: &PodPeer, namespaces: &BTreeMap<String, Labels>, key: &PodKey, pod: &Pod) -> bool {
    let in_namespace = match &peer.namespaces {
        NamespaceMatch::Named(name) => *name == key.namespace,
        NamespaceMatch::Labelled(selector) => is_selected(namespaces, &key.namespace, selector),
    };
    in_namespace && peer.pods.matches(&pod.labels)
}

fn is_selected(namespaces: &BTreeMap<String, Labels>, namespace: &str, selector: &Selector) -> bool {
    namespaces.get(namespace).is_some_and(|labels| selector.matches(labels))
}

/// A label that the pods must have leads to fewer of them than a selection of namespaces, which comes with it; one namespace
/// leads to fewer still.
fn label(peer: &PodPeer) -> Option<(&Selector, &str, &BTreeSet<String>)> {
    let NamespaceMatch::Labelled(namespaces) = &peer.namespaces else { return None };
    peer.pods.requirements.iter().find_map(|requirement| match &requirement.operator {
        Operator::In(values) => Some((namespaces, requirement.key.as_str(), values)),
        Operator::NotIn(_) | Operator::Exists | Operator::DoesNotExist => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AnyOr, PolicyPeer};
    use crate::testing::{Cluster, policy};

    fn peer(text: &str) -> PodPeer {
        let policy = policy(&format!("{{podSelector: {{}}, ingress: [{{from: [{text}]}}]}}"));
        let AnyOr::Only(peers) = &policy.ingress.as_ref().unwrap()[0].peers else { panic!("no peers") };
        let [PolicyPeer::Pods(peer)] = peers.as_slice() else { panic!("no selector") };
        peer.clone()
    }

    #[test]
    fn an_index_costs_all_pods_once_and_then_those_with_the_value() {
        let (own, labelled_namespace) =
            (peer("{podSelector: {}}"), peer("{namespaceSelector: {matchLabels: {ns: y}}}"));
        let [labelled, unknown] = ["a", "nobody"].map(|value| {
            peer(&format!("{{namespaceSelector: {{}}, podSelector: {{matchLabels: {{pod: {value}}}}}}}"))
        });
        let cluster = Cluster::new();
        let owners = Owners::new(&cluster.world, &cluster.local, &mut Vec::new());
        let members = Members::new(&cluster.world.namespaces, &owners);
        assert_eq!(members.candidates(&labelled), members.all().len());
        assert_eq!(members.union(&[&labelled].into()).count(), 3);
        assert_eq!(members.candidates(&labelled), 1 + 3);
        assert_eq!(members.candidates(&unknown), 1);
        // The namespaces, and the pods of one.
        for candidates in [&own, &labelled_namespace].map(|peer| members.candidates(peer)) {
            assert_eq!(candidates, 3 + 3);
        }
    }
}
