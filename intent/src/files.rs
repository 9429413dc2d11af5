//! What each file holds, and what it last held that was good.
//!
//! In: the text of files. Out: one [`Snapshot`]. When a document is refused, the object that it would replace stays as
//! it was (where nobody knows how it was, a policy is read as isolating its pods); when not even its name can be read,
//! every object stays that the rest of the file does not replace.
//! Of an object that stands in two places, the first counts: by file name, then by place in the file.

use std::collections::btree_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::documents::{self, Entry, Fault};
use crate::object::{self, Refusal};
use crate::{Object, ObjectKey, Problem, Snapshot};

/// Larger files are refused: a million small policies would fit, a disk image put there by mistake does not.
pub const MAX_FILE_BYTES: u64 = 64 << 20;

/// Whether a file of this name is one of a directory's.
pub fn is_read(name: &str) -> bool {
    let known = [".yaml", ".yml", ".json"].iter().any(|suffix| name.ends_with(suffix));
    known && !name.starts_with('.')
}

#[derive(Debug, Default)]
pub struct Files {
    by_name: BTreeMap<String, File>,
}

#[derive(Debug, Default)]
struct File {
    objects: BTreeMap<ObjectKey, Object>,
    /// Refused, and no good version is known: with what stands in their place.
    refused: BTreeMap<ObjectKey, Option<Object>>,
    problems: Vec<Problem>,
}

impl Files {
    pub fn count(&self) -> usize {
        self.by_name.len()
    }

    pub fn update(&mut self, name: &str, text: &str) {
        let file = self.by_name.entry(name.to_owned()).or_default();
        let mut before = std::mem::take(file).objects;
        let mut nameless = false;
        for Entry { place, result } in documents::parse(text) {
            match result {
                Ok((key, object)) => match file.objects.entry(key) {
                    MapEntry::Vacant(entry) => drop(entry.insert(object)),
                    MapEntry::Occupied(entry) => {
                        file.problems.push(Problem::of_object(
                            entry.key().clone(),
                            format!("{name} {place}: ignored, stands twice in this file"),
                        ));
                    }
                },
                Err(Fault::UnknownKind(kind)) => {
                    let reason = format!("{place}: {kind} is not read here, ignored");
                    file.problems.push(Problem::of_source(name, reason));
                }
                Err(Fault::Refused(Refusal { key: Some(key), reason, closed })) => {
                    let last_good = before.remove(&key);
                    let reason = match (&last_good, &closed) {
                        (None, Some(_)) => object::isolating(&reason),
                        (Some(_), _) | (None, None) => reason,
                    };
                    file.problems.push(Problem::of_object(key.clone(), format!("{name} {place}: {reason}")));
                    match last_good {
                        Some(object) => drop(file.objects.entry(key).or_insert(object)),
                        None => drop(file.refused.entry(key).or_insert(closed.map(|object| *object))),
                    }
                }
                Err(Fault::Refused(Refusal { key: None, reason, closed: _ })) => {
                    nameless = true;
                    let reason = format!("{place}: {reason}");
                    file.problems.push(Problem::of_source(name, reason));
                }
            }
        }
        if nameless {
            for (key, object) in before {
                file.objects.entry(key).or_insert(object);
            }
        }
    }

    /// Its objects stay.
    pub fn unreadable(&mut self, name: &str, error: &io::Error) {
        let file = self.by_name.entry(name.to_owned()).or_default();
        file.problems = vec![Problem::of_source(name, format!("cannot be read: {error}"))];
    }

    pub fn remove(&mut self, name: &str) {
        self.by_name.remove(name);
    }

    pub fn retain(&mut self, names: &BTreeSet<String>) {
        self.by_name.retain(|name, _| names.contains(name));
    }

    pub fn snapshot(&self, mut problems: BTreeSet<Problem>) -> Snapshot {
        let mut objects: BTreeMap<&ObjectKey, (&str, &Object)> = BTreeMap::new();
        for (name, file) in &self.by_name {
            problems.extend(file.problems.iter().cloned());
            let stand_ins = file.refused.iter().filter(|(key, _)| !file.objects.contains_key(*key));
            let stand_ins = stand_ins.filter_map(|(key, stand_in)| Some((key, stand_in.as_ref()?)));
            for (key, object) in file.objects.iter().chain(stand_ins) {
                match objects.entry(key) {
                    MapEntry::Vacant(entry) => drop(entry.insert((name, object))),
                    MapEntry::Occupied(entry) => {
                        let first = entry.get().0;
                        problems.insert(Problem::of_object(
                            key.clone(),
                            format!("{name}: ignored, stands in {first} too"),
                        ));
                    }
                }
            }
        }
        let mut snapshot =
            Snapshot::new(objects.into_iter().map(|(key, (_, object))| (key, object)), problems);
        let refused: BTreeSet<_> = self.by_name.values().flat_map(|file| file.refused.keys()).collect();
        snapshot.imply_namespaces(|key| !refused.contains(key));
        snapshot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str, label: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{v: '{label}'}}}}\n---\n"
        )
    }

    fn labels(files: &Files) -> Vec<(String, String)> {
        let snapshot = files.snapshot(BTreeSet::new());
        snapshot.world.namespaces.iter().map(|(name, labels)| (name.clone(), labels["v"].clone())).collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn the_last_good_version_of_a_refused_object_stays_in_force() {
        let mut files = Files::default();
        files.update("f.yaml", &(namespace("a", "1") + &namespace("b", "1")));
        files.update("f.yaml", &(namespace("a", "1").replace("'1'", "[2]") + &namespace("c", "2")));

        assert_eq!(
            labels(&files),
            pairs(&[("a", "1"), ("c", "2")]),
            "b is gone because its document is gone"
        );
        let problems = files.snapshot(BTreeSet::new()).problems;
        let problem = problems.first().expect("the refusal is reported");
        assert_eq!(problem.about.to_string(), "Namespace a");
        assert!(
            problem.reason.contains("f.yaml document 1 (line 1): metadata.labels.v: "),
            "{}",
            problem.reason
        );
    }

    #[test]
    fn a_document_without_a_readable_name_keeps_all_that_the_file_does_not_replace() {
        let mut files = Files::default();
        files.update("f.yaml", &(namespace("a", "1") + &namespace("b", "1")));
        files.update("f.yaml", &(namespace("a", "2") + "kind: [Name"));

        assert_eq!(labels(&files), pairs(&[("a", "2"), ("b", "1")]));
        let problems = files.snapshot(BTreeSet::new()).problems;
        assert_eq!(problems.first().map(|problem| problem.about.to_string()).as_deref(), Some("f.yaml"));
    }

    const MISSPELT: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p1, namespace: demo}\n\
        spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{form: []}]}\n";

    fn policies(files: &Files) -> Vec<std::sync::Arc<weft_policy::model::Policy>> {
        files.snapshot(BTreeSet::new()).world.policies.into_inner().into_values().collect()
    }

    #[test]
    fn a_policy_that_is_refused_isolates_its_pods_where_no_good_version_is_known() {
        let selects = |files: &Files, app: &str| {
            let labels = [("app".to_owned(), app.to_owned())].into();
            policies(files).iter().any(|policy| policy.subjects.matches(&labels))
        };
        let mut files = Files::default();
        files.update("f.yaml", MISSPELT);
        let stand_in = policies(&files).pop().expect("something stands in its place");
        assert_eq!((&stand_in.ingress, &stand_in.egress), (&Some(Vec::new()), &None));
        assert!(selects(&files, "web") && !selects(&files, "db"));
        let problems = files.snapshot(BTreeSet::new()).problems;
        assert!(problems.iter().any(|problem| problem.reason.contains("isolated")), "{problems:?}");

        files.update("f.yaml", &MISSPELT.replace("app: web", "app: db"));
        assert!(selects(&files, "db") && !selects(&files, "web"), "as it is written, not as it was");
        files.update("f.yaml", &MISSPELT.replace("[{form: []}]", "[]"));
        files.update("f.yaml", &MISSPELT.replace("app: web", "app: db"));
        assert!(selects(&files, "web") && !selects(&files, "db"), "the last good version is in force");
    }

    #[test]
    fn a_namespace_without_an_object_has_its_name_and_one_that_is_refused_is_unknown() {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: demo}\n---\n";
        let mut files = Files::default();
        files.update("p.yaml", pod);
        let namespaces = |files: &Files| files.snapshot(BTreeSet::new()).world.namespaces;
        assert_eq!(namespaces(&files)["demo"]["kubernetes.io/metadata.name"], "demo");
        files.update("n.yaml", &namespace("demo", "1").replace("'1'", "[2]"));
        assert_eq!(namespaces(&files).get("demo"), None, "its labels may be others");
    }

    #[test]
    fn the_refusal_disappears_with_the_next_good_version() {
        let mut files = Files::default();
        files.update("f.yaml", "kind: [Name");
        files.update("f.yaml", &namespace("a", "3"));

        assert_eq!(labels(&files), pairs(&[("a", "3")]));
        assert!(files.snapshot(BTreeSet::new()).problems.is_empty());
    }

    #[test]
    fn of_duplicates_the_first_file_counts_and_the_others_are_named() {
        let mut files = Files::default();
        files.update("b.yaml", &namespace("a", "b"));
        files.update("a.yaml", &(namespace("a", "a") + &namespace("a", "again")));

        assert_eq!(labels(&files), pairs(&[("a", "a")]));
        let reasons: Vec<_> =
            files.snapshot(BTreeSet::new()).problems.into_inner().into_iter().map(|p| p.reason).collect();
        let wanted = [
            "a.yaml document 2 (line 4): ignored, stands twice in this file",
            "b.yaml: ignored, stands in a.yaml too",
        ];
        assert_eq!(reasons, wanted);
    }

    #[test]
    fn an_unreadable_file_keeps_its_objects() {
        let mut files = Files::default();
        files.update("f.yaml", &namespace("a", "1"));
        files.unreadable("f.yaml", &io::Error::other("no"));
        assert_eq!(labels(&files), pairs(&[("a", "1")]));
        files.remove("f.yaml");
        assert!(labels(&files).is_empty());
    }
}
