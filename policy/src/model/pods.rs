//! The cluster's pods by name: a map whose copies share what did not change.
//!
//! A node has several worlds in use at once, and gets another with each pod that changes. So a copy costs a pointer for each
//! namespace, a change the pointers of one namespace, and what two copies do not share is found by comparing pointers.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Index;
use std::sync::Arc;

use super::{Pod, PodKey};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pods {
    /// None of them empty.
    namespaces: BTreeMap<Arc<str>, Arc<Namespace>>,
}

type Namespace = BTreeMap<Arc<PodKey>, Arc<Pod>>;

/// A pod that is not the same in two worlds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodChange<'a> {
    pub key: &'a PodKey,
    /// `None` where it was not there.
    pub before: Option<&'a Pod>,
    /// `None` where it is gone.
    pub after: Option<&'a Pod>,
}

impl Pods {
    pub fn get(&self, key: &PodKey) -> Option<&Arc<Pod>> {
        self.namespaces.get(&*key.namespace)?.get(key)
    }

    pub fn get_mut(&mut self, key: &PodKey) -> Option<&mut Arc<Pod>> {
        Arc::make_mut(self.namespaces.get_mut(&*key.namespace)?).get_mut(key)
    }

    /// What had the name before.
    pub fn insert(&mut self, key: PodKey, pod: Arc<Pod>) -> Option<Arc<Pod>> {
        let namespace = self.namespaces.entry(key.namespace.as_str().into()).or_default();
        Arc::make_mut(namespace).insert(key.into(), pod)
    }

    pub fn remove(&mut self, key: &PodKey) -> Option<Arc<Pod>> {
        let namespace = self.namespaces.get_mut(&*key.namespace)?;
        let removed = Arc::make_mut(namespace).remove(key);
        if namespace.is_empty() {
            self.namespaces.remove(&*key.namespace);
        }
        removed
    }

    pub fn retain(&mut self, stays: impl Fn(&PodKey) -> bool) {
        let gone: Vec<_> = self.keys().filter(|key| !stays(key)).cloned().collect();
        gone.iter().for_each(|key| drop(self.remove(key)));
    }

    /// In the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&PodKey, &Arc<Pod>)> {
        self.namespaces.values().flat_map(|pods| pods.iter()).map(|(key, pod)| (&**key, pod))
    }

    pub fn keys(&self) -> impl Iterator<Item = &PodKey> {
        self.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.iter().map(|(_, pod)| pod)
    }

    pub fn len(&self) -> usize {
        self.namespaces.values().map(|pods| pods.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }

    /// What is not the same in `before`, in the order of the keys.
    pub fn changes_since<'a>(&'a self, before: &'a Self) -> Vec<PodChange<'a>> {
        let none = &NONE;
        let mut changes = Vec::new();
        for (_, old, new) in side_by_side(&before.namespaces, &self.namespaces) {
            if old.zip(new).is_some_and(|(old, new)| Arc::ptr_eq(old, new)) {
                continue;
            }
            let pods = side_by_side(old.map_or(none, |pods| pods), new.map_or(none, |pods| pods));
            // Pods that are shared are equal at a glance.
            let unlike = pods.filter(|(_, old, new)| old != new);
            changes.extend(unlike.map(|(key, before, after)| PodChange {
                key,
                before: before.map(|pod| &**pod),
                after: after.map(|pod| &**pod),
            }));
        }
        changes
    }
}

static NONE: Namespace = Namespace::new();

/// Two maps by key, with what each has of it. Keys are mostly the same objects: names are compared where they are not.
fn side_by_side<'a, K: Ord + ?Sized, V>(
    old: &'a BTreeMap<Arc<K>, V>,
    new: &'a BTreeMap<Arc<K>, V>,
) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) if Arc::ptr_eq(a, b) => Ordering::Equal,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let old = if order.is_le() { old.next() } else { None };
        let new = if order.is_ge() { new.next() } else { None };
        let (key, _) = new.or(old)?;
        Some((&**key, old.map(|(_, value)| value), new.map(|(_, value)| value)))
    })
}

impl Index<&PodKey> for Pods {
    type Output = Arc<Pod>;

    fn index(&self, key: &PodKey) -> &Arc<Pod> {
        self.get(key).expect("who indexes knows that it is there")
    }
}

impl FromIterator<(PodKey, Arc<Pod>)> for Pods {
    fn from_iter<T: IntoIterator<Item = (PodKey, Arc<Pod>)>>(pods: T) -> Self {
        let mut all = Self::default();
        pods.into_iter().for_each(|(key, pod)| drop(all.insert(key, pod)));
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;

    fn key(name: &str) -> PodKey {
        let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
        PodKey { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn names(pods: &Pods) -> Vec<String> {
        pods.keys().map(ToString::to_string).collect()
    }

    fn pods(names: &[&str]) -> Pods {
        names.iter().map(|name| (key(name), Arc::default())).collect()
    }

    #[test]
    fn the_order_is_that_of_the_keys() {
        let pods = pods(&["b/x", "a-1/z", "a/y", "a/x"]);
        assert_eq!(names(&pods), ["a/x", "a/y", "a-1/z", "b/x"]);
        assert!(pods.keys().is_sorted());
    }

    #[test]
    fn a_namespace_without_pods_is_none() {
        let mut pods = pods(&["a/x"]);
        pods.remove(&key("a/x"));
        assert!(pods.is_empty());
        assert_eq!(pods, Pods::default());
    }

    #[test]
    fn a_copy_shares_all_but_what_was_changed_since() {
        let before = pods(&["a/x", "a/y", "b/x"]);
        let mut after = before.clone();
        after.insert(key("a/y"), Pod { active: true, ..Pod::default() }.into());
        assert!(Arc::ptr_eq(&before.namespaces["b"], &after.namespaces["b"]));
        assert!(Arc::ptr_eq(&before[&key("a/x")], &after[&key("a/x")]));
        assert!(!before[&key("a/y")].active);
    }

    proptest! {
        /// Against a map without namespaces, for any edits of a copy.
        #[test]
        fn changes_are_what_the_edits_of_a_copy_made(
            first in vec((0..4_usize, 0..4_usize), 0..12),
            edits in vec((0..4_usize, 0..4_usize, of(any::<bool>())), 0..12),
        ) {
            let name = |namespace: usize, pod: usize| key(&format!("n{namespace}/p{pod}"));
            let before: Pods = first.into_iter().map(|(n, p)| (name(n, p), Arc::default())).collect();
            let mut after = before.clone();
            for (n, p, active) in edits {
                match active.map(|active| Pod { active, ..Pod::default() }) {
                    Some(pod) => drop(after.insert(name(n, p), pod.into())),
                    None => drop(after.remove(&name(n, p))),
                }
            }
            let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
            let expected: Vec<_> = keys
                .into_iter()
                .map(|key| PodChange { key, before: before.get(key).map(|pod| &**pod), after: after.get(key).map(|pod| &**pod) })
                .filter(|change| change.before != change.after)
                .collect();
            prop_assert_eq!(after.changes_since(&before), expected);
            prop_assert_eq!(after.len(), after.keys().count());
        }
    }
}
