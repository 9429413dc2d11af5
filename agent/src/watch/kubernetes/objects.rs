//! What the watches have said so far.
//!
//! In: watch events, in order per kind. Out: one [`Snapshot`] after another. An object that is refused keeps its last good version (a
//! policy of which none is known isolates its pods); a new list replaces a kind as a whole, and only when it is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::runtime::watcher::Event;
use serde_json::Value;
use tracing::{info, warn};
use weft_intent::object::{self, Refusal};
use weft_intent::shown::{self, Shown};
use weft_intent::{Kind, Object, ObjectKey, Problem, Snapshot};
use weft_policy::model::{CopyOnWrite, Labels, NamedPort, Pod, PodKey, Pods};

use super::raw::Raw;
use super::scope::Scope;
use super::shared::Shared;

#[derive(Debug)]
pub(super) struct Objects {
    /// Of all kinds but pods, which are many and change all the time.
    good: BTreeMap<ObjectKey, Object>,
    pods: Pods,
    refused: BTreeMap<ObjectKey, Refused>,
    shown: BTreeMap<ObjectKey, Shown>,
    /// Kinds that have not been listed once.
    unlisted: BTreeSet<Kind>,
    /// What the list in progress has named, by watch.
    listing: BTreeMap<Scope, BTreeSet<ObjectKey>>,
    labels: Shared<Labels>,
    ports: Shared<BTreeSet<NamedPort>>,
    /// The next snapshot will differ from the last.
    changed: bool,
    /// The last, while it differs in pods alone.
    last: Option<Snapshot>,
}

#[derive(Debug, PartialEq)]
struct Refused {
    reason: String,
    /// What acts in its place while no good version is known.
    closed: Option<Box<Object>>,
}

impl Objects {
    pub(super) fn new(kinds: &[Kind]) -> Self {
        Self {
            good: BTreeMap::new(),
            pods: Pods::default(),
            refused: BTreeMap::new(),
            shown: BTreeMap::new(),
            unlisted: kinds.iter().copied().collect(),
            listing: BTreeMap::new(),
            labels: Shared::default(),
            ports: Shared::default(),
            changed: true,
            last: None,
        }
    }

    /// Every watch has listed once.
    pub(super) fn listed(&self) -> bool {
        self.unlisted.is_empty()
    }

    /// Whether anything that is kept has changed since the last time that this was asked. Most events change only what is
    /// not: a kubelet's heartbeat, a container's restart count.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn snapshot(&mut self) -> Snapshot {
        let last = self.last.take().unwrap_or_else(|| self.all_but_pods());
        let next = last.with_pods(&self.pods);
        self.last = Some(next.clone());
        next
    }

    fn all_but_pods(&self) -> Snapshot {
        let mut problems = BTreeSet::new();
        let mut objects: Vec<_> = self.good.iter().collect();
        for (key, Refused { reason, closed }) in &self.refused {
            let stand_in = closed.as_deref().filter(|_| !self.good.contains_key(key));
            let reason = stand_in.map_or_else(|| reason.clone(), |_| object::isolating(reason));
            problems.insert(Problem::of_object(key.clone(), reason));
            objects.extend(stand_in.map(|object| (key, object)));
        }
        Snapshot { shown: CopyOnWrite::new(self.shown.clone()), ..Snapshot::new(objects, problems) }
    }

    /// Of something else than pods.
    fn note_change(&mut self) {
        (self.changed, self.last) = (true, None);
    }

    pub(super) fn handle(&mut self, scope: impl Into<Scope>, event: Event<Raw>) {
        let scope = scope.into();
        let kind = scope.kind();
        match event {
            Event::Init => drop(self.listing.insert(scope, BTreeSet::new())),
            Event::InitApply(raw) => {
                if let Some(key) = self.apply(kind, &raw.value) {
                    self.listing.entry(scope).or_default().insert(key);
                }
            }
            Event::InitDone => self.finish_list(&scope),
            Event::Apply(raw) => drop(self.apply(kind, &raw.value)),
            Event::Delete(raw) => {
                if let Some(key) = object::served_key(kind, &raw.value) {
                    self.forget(&key);
                }
            }
        }
    }

    /// Those that sessions have their passwords in. A name that no Secret can have is none.
    pub(super) fn named_secrets(&self) -> BTreeSet<String> {
        let first = ObjectKey { kind: Kind::BgpConfiguration, namespace: String::new(), name: String::new() };
        let sessions = self.good.range(first..).filter_map(|(_, object)| match object {
            Object::BgpConfiguration(spec) => Some(&spec.session),
            Object::BgpPeer(spec) => Some(&spec.session),
            Object::BgpPeerProfile(spec) => Some(&spec.session),
            _ => None,
        });
        let is_in_name = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.');
        sessions
            .filter_map(|session| Some(session.security.password_secret.as_ref()?.name.clone()))
            .filter(|name| !name.is_empty() && name.bytes().all(is_in_name))
            .collect()
    }

    /// Forgets all Secrets but these.
    pub(super) fn keep_secrets(&mut self, named: &BTreeSet<String>) {
        let stays = |scope: &Scope| scope.name().is_none_or(|name| named.contains(name));
        self.listing.retain(|scope, _| stays(scope));
        self.retain(Kind::Secret, |key| named.contains(&key.name));
    }

    pub(super) fn refuse_secret(&mut self, namespace: &str, name: &str, reason: String) {
        let key = ObjectKey { kind: Kind::Secret, namespace: namespace.to_owned(), name: name.to_owned() };
        self.refuse(key, Refused { reason, closed: None });
    }

    /// The object's key; `None` for one without a name, which no server sends.
    fn apply(&mut self, kind: Kind, value: &Value) -> Option<ObjectKey> {
        if let (Some(key), Some(shown)) = (object::served_key(kind, value), shown::shown(kind, value))
            && self.shown.get(&key) != Some(&shown)
        {
            self.shown.insert(key, shown);
            self.note_change();
        }
        match object::parse_served(kind, value) {
            Ok((key, object)) => {
                if self.refused.remove(&key).is_some() {
                    self.note_change();
                }
                self.keep(&key, object);
                Some(key)
            }
            Err(Refusal { key, reason, closed }) => {
                let key = key?;
                self.refuse(key.clone(), Refused { reason, closed });
                Some(key)
            }
        }
    }

    fn refuse(&mut self, key: ObjectKey, refused: Refused) {
        if self.refused.get(&key) != Some(&refused) {
            warn!(object = %key, error = refused.reason, "object refused");
            self.refused.insert(key, refused);
            self.note_change();
        }
    }

    fn keep(&mut self, key: &ObjectKey, object: Object) {
        if let Object::Pod(pod) = object {
            self.keep_pod(pod_key(key), pod);
        } else if self.good.get(key) != Some(&object) {
            self.good.insert(key.clone(), object);
            self.note_change();
        }
    }

    fn keep_pod(&mut self, key: PodKey, mut pod: Arc<Pod>) {
        if self.pods.get(&key) != Some(&pod) {
            // What it has in common with others.
            let common = Arc::make_mut(&mut pod);
            common.labels = self.labels.one(&common.labels);
            common.ports = self.ports.one(&common.ports);
            self.pods.insert(key, pod);
            self.changed = true;
        }
    }

    fn forget(&mut self, key: &ObjectKey) {
        if key.kind == Kind::Pod {
            self.changed |= self.pods.remove(&pod_key(key)).is_some();
        }
        let known = [
            self.good.remove(key).is_some(),
            self.refused.remove(key).is_some(),
            self.shown.remove(key).is_some(),
        ];
        if known.contains(&true) {
            self.note_change();
        }
    }

    /// What the list did not name is gone.
    fn finish_list(&mut self, scope: &Scope) {
        let named = self.listing.remove(scope).unwrap_or_default();
        self.retain(scope.kind(), |key| !scope.covers(key) || named.contains(key));
        if matches!(scope, Scope::All(kind) if self.unlisted.remove(kind)) {
            info!(watch = %scope, objects = named.len(), "listed");
        }
    }

    fn retain(&mut self, kind: Kind, stays: impl Fn(&ObjectKey) -> bool) {
        let known = |objects: &Self| objects.good.len() + objects.refused.len() + objects.shown.len();
        let (before, pods) = (known(self), self.pods.len());
        if kind == Kind::Pod {
            self.pods.retain(|PodKey { namespace, name }| {
                stays(&ObjectKey { kind, namespace: namespace.clone(), name: name.clone() })
            });
            self.changed |= self.pods.len() != pods;
        }
        let stays = |key: &ObjectKey| key.kind != kind || stays(key);
        self.good.retain(|key, _| stays(key));
        self.refused.retain(|key, _| stays(key));
        self.shown.retain(|key, _| stays(key));
        if known(self) != before {
            self.note_change();
        }
    }
}

fn pod_key(key: &ObjectKey) -> PodKey {
    PodKey { namespace: key.namespace.clone(), name: key.name.clone() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weft_policy::model::World;

    use super::*;

    fn namespace(name: &str, labels: &Value) -> Raw {
        let object = json!({ "metadata": { "name": name, "labels": labels } });
        serde_json::from_value(object).unwrap()
    }

    fn listed(names: &[&str]) -> Objects {
        let mut objects = Objects::new(&[Kind::Namespace]);
        list(&mut objects, names);
        objects
    }

    fn list(objects: &mut Objects, names: &[&str]) {
        objects.handle(Kind::Namespace, Event::Init);
        for name in names {
            objects.handle(Kind::Namespace, Event::InitApply(namespace(name, &json!({}))));
        }
        objects.handle(Kind::Namespace, Event::InitDone);
    }

    fn names(objects: &mut Objects) -> Vec<String> {
        objects.snapshot().world.namespaces.keys().cloned().collect()
    }

    #[test]
    fn nothing_counts_as_listed_before_every_kind_is() {
        let mut objects = Objects::new(&[Kind::Namespace, Kind::Pod]);
        list(&mut objects, &["a"]);
        assert!(!objects.listed());
        objects.handle(Kind::Pod, Event::Init);
        objects.handle(Kind::Pod, Event::InitDone);
        assert!(objects.listed());
    }

    #[test]
    fn a_new_list_removes_what_it_does_not_name_but_not_before_it_is_complete() {
        let mut objects = listed(&["a", "b"]);
        objects.handle(Kind::Namespace, Event::Init);
        objects.handle(Kind::Namespace, Event::InitApply(namespace("b", &json!({}))));
        assert_eq!(names(&mut objects), ["a", "b"]);
        objects.handle(Kind::Namespace, Event::InitDone);
        assert_eq!(names(&mut objects), ["b"]);
    }

    #[test]
    fn an_event_that_changes_nothing_that_is_kept_makes_no_snapshot() {
        let mut objects = listed(&["a", "b"]);
        assert!(objects.take_changed());
        objects.handle(Kind::Namespace, Event::Apply(namespace("a", &json!({}))));
        list(&mut objects, &["a", "b"]);
        assert!(!objects.take_changed(), "the same again");

        let refused = json!({ "x": 7 });
        let changes: [&dyn Fn(&mut Objects); 5] = [
            &|objects| objects.handle(Kind::Namespace, Event::Apply(namespace("a", &json!({ "x": "y" })))),
            &|objects| objects.handle(Kind::Namespace, Event::Apply(namespace("a", &refused))),
            &|objects| objects.handle(Kind::Namespace, Event::Apply(namespace("a", &json!({ "x": "y" })))),
            &|objects| objects.handle(Kind::Namespace, Event::Delete(namespace("a", &json!({})))),
            &|objects| list(objects, &[]),
        ];
        for (index, change) in changes.iter().enumerate() {
            change(&mut objects);
            assert!(objects.take_changed(), "change {index}");
        }
    }

    #[test]
    fn snapshots_share_what_did_not_change() {
        let pod = |name: &str| -> Raw {
            serde_json::from_value(json!({ "metadata": { "name": name, "namespace": "a" } })).unwrap()
        };
        let mut objects = Objects::new(&[Kind::Pod]);
        objects.handle(Kind::Pod, Event::Init);
        objects.handle(Kind::Pod, Event::InitApply(pod("p")));
        objects.handle(Kind::Pod, Event::InitDone);
        let before = objects.snapshot();
        objects.handle(Kind::Pod, Event::Apply(pod("q")));
        let after = objects.snapshot();
        let (key, pod) = before.world.pods.iter().next().unwrap();
        assert!(Arc::ptr_eq(pod, &after.world.pods[key]) && after.world.pods.len() == 2);
        let labels: Vec<_> = after.world.pods.values().map(|pod| &pod.labels).collect();
        assert!(Arc::ptr_eq(labels[0], labels[1]), "and pods what they have in common");
    }

    #[test]
    fn a_pod_and_a_policy_may_have_one_name() {
        let mut objects = Objects::new(&[]);
        let web = json!({ "metadata": { "name": "web", "namespace": "a" }, "spec": { "podSelector": {} } });
        let web: Raw = serde_json::from_value(web).unwrap();
        let known = |objects: &mut Objects| {
            let World { pods, policies, .. } = objects.snapshot().world;
            (pods.len(), policies.len())
        };
        for (kind, after) in [(Kind::Pod, (0, 1)), (Kind::NetworkPolicy, (1, 0))] {
            for kind in [Kind::Pod, Kind::NetworkPolicy] {
                objects.handle(kind, Event::Apply(web.clone()));
            }
            assert_eq!(known(&mut objects), (1, 1));
            objects.handle(kind, Event::Delete(web.clone()));
            assert_eq!(known(&mut objects), after);
        }
    }

    #[test]
    fn a_refused_object_keeps_its_last_good_version_until_it_is_deleted() {
        let mut objects = listed(&["a"]);
        objects.handle(Kind::Namespace, Event::Apply(namespace("a", &json!({ "x": 7 }))));
        assert_eq!(names(&mut objects), ["a"]);
        let problems = objects.snapshot().problems;
        assert!(problems.iter().any(|problem| problem.about.to_string() == "Namespace a"), "{problems:?}");

        objects.handle(Kind::Namespace, Event::Delete(namespace("a", &json!({}))));
        assert!(names(&mut objects).is_empty() && objects.snapshot().problems.is_empty());
    }

    fn policy(pod_selector: &Value) -> Raw {
        let peer = json!({ "ipBlock": { "cidr": "nowhere" } });
        serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "a" },
            "spec": { "podSelector": pod_selector, "policyTypes": ["Egress"], "egress": [{ "to": [peer] }] },
        }))
        .unwrap()
    }

    /// ARCHITECTURE.md, invariant 5.
    #[test]
    fn a_policy_that_was_never_readable_isolates_what_it_selects() {
        let mut objects = Objects::new(&[Kind::NetworkPolicy]);
        objects.handle(Kind::NetworkPolicy, Event::Init);
        let web = json!({ "matchLabels": { "app": "web" } });
        objects.handle(Kind::NetworkPolicy, Event::InitApply(policy(&web)));
        objects.handle(Kind::NetworkPolicy, Event::InitDone);
        let snapshot = objects.snapshot();
        let policy = snapshot.world.policies.values().next().expect("something stands in its place");
        assert_eq!((&policy.ingress, &policy.egress), (&None, &Some(Vec::new())));
        let selects = |app: &str| policy.subjects.matches(&[("app".to_owned(), app.to_owned())].into());
        assert!(selects("web") && !selects("db"));
        let problem = snapshot.problems.first().unwrap();
        assert_eq!(problem.about.to_string(), "NetworkPolicy a/p");
        assert!(
            problem.reason.contains("ipBlock.cidr") && problem.reason.contains("isolated"),
            "{problem:?}"
        );
    }

    #[test]
    fn a_policy_whose_selector_is_not_readable_isolates_its_namespace() {
        let mut objects = Objects::new(&[]);
        for selector in
            [json!({ "matchLabels": 7 }), json!({ "matchExpressions": [{ "key": "a", "operator": "Like" }] })]
        {
            objects.handle(Kind::NetworkPolicy, Event::Apply(policy(&selector)));
            let world = objects.snapshot().world;
            let policy = world.policies.values().next().expect("something stands in its place");
            assert!(policy.subjects.matches(&Labels::default()) && policy.egress.is_some(), "{selector}");
        }
        objects.handle(Kind::NetworkPolicy, Event::Delete(policy(&json!({}))));
        assert!(objects.snapshot().world.policies.is_empty());
    }

    /// The watches of pods and of namespaces do not wait for each other.
    #[test]
    fn a_namespace_that_is_not_known_yet_matches_no_selector() {
        let mut objects = listed(&["a"]);
        let pod = json!({ "metadata": { "name": "p", "namespace": "new" } });
        objects.handle(Kind::Pod, Event::Apply(serde_json::from_value(pod).unwrap()));
        assert_eq!(names(&mut objects), ["a"]);
    }
}
