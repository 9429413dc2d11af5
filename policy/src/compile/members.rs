//! Which pods a policy peer means, each question answered once.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::rc::Rc;

use super::owners::Owners;
use crate::model::{Labels, NamespaceMatch, Pod, PodPeer};

/// A pod that may be a peer.
pub(super) struct Member<'a> {
    pub(super) pod: &'a Pod,
    pub(super) addresses: Cow<'a, BTreeSet<IpAddr>>,
}

pub(super) struct Members<'a> {
    namespaces: &'a BTreeMap<String, Labels>,
    /// In the order of their keys, so each namespace is a range.
    pods: Vec<Member<'a>>,
    by_namespace: BTreeMap<&'a str, Range<usize>>,
    answers: RefCell<BTreeMap<&'a PodPeer, Rc<[usize]>>>,
}

impl<'a> Members<'a> {
    pub(super) fn new(namespaces: &'a BTreeMap<String, Labels>, owners: &Owners<'a>) -> Self {
        let mut pods = Vec::new();
        let mut by_namespace = BTreeMap::new();
        for (key, pod, addresses) in owners.peers() {
            let index = pods.len();
            by_namespace.entry(key.namespace.as_str()).or_insert(index..index).end = index + 1;
            pods.push(Member { pod, addresses });
        }
        Self { namespaces, pods, by_namespace, answers: RefCell::default() }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Member<'a>> {
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

    fn answer(&self, peer: &'a PodPeer) -> Rc<[usize]> {
        let mut answers = self.answers.borrow_mut();
        answers.entry(peer).or_insert_with(|| self.search(peer)).clone()
    }

    fn search(&self, peer: &PodPeer) -> Rc<[usize]> {
        let wanted = |namespace: &str| match &peer.namespaces {
            NamespaceMatch::Named(name) => name == namespace,
            NamespaceMatch::Labelled(selector) => {
                self.namespaces.get(namespace).is_some_and(|labels| selector.matches(labels))
            }
        };
        let ranges = self.by_namespace.iter().filter(|(namespace, _)| wanted(namespace));
        let pods = ranges.flat_map(|(_, range)| range.clone());
        pods.filter(|&index| peer.pods.matches(&self.pods[index].pod.labels)).collect()
    }
}
