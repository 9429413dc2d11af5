//! `weftctl validate`: what an agent would say of objects, without one, and without a cluster.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use weft_intent::plan::acceptance;
use weft_intent::shown::Shown;
use weft_intent::{Kind, Object, ObjectKey, Snapshot};

use super::{Outcome, print};
use crate::Output;
use crate::fault::Fault;
use crate::input::{Files, Input};
use crate::terminal::tell;
use crate::written::Written;

#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    files: Files,
}

/// The answer for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Judgement {
    valid: bool,
    /// Objects that were judged.
    objects: usize,
    faults: Vec<Fault>,
    /// What could not be judged, and why not.
    notes: Vec<String>,
}

pub(crate) fn run(options: &Options, output: Output) -> Result<Outcome> {
    let judgement = judge(Input::read(&options.files.filenames)?);
    for note in &judgement.notes {
        tell(format!("note: {note}"));
    }
    if matches!(output, Output::Table | Output::Wide) {
        judgement.faults.iter().for_each(tell);
    }
    print(output, &judgement, text)?;
    Ok(if judgement.valid { Outcome::Yes } else { Outcome::Refused })
}

fn text(judgement: &Judgement) -> String {
    match (judgement.valid, judgement.objects) {
        (false, _) => String::new(),
        (true, 1) => "1 object is valid\n".to_owned(),
        (true, objects) => format!("{objects} objects are valid\n"),
    }
}

/// As if these objects were all that there are.
fn judge(input: Input) -> Judgement {
    let Input { objects, mut faults, others } = input;
    let total = objects.len() + faults.len();
    let mut notes: Vec<_> = others
        .iter()
        .map(|(written, kind)| format!("{}: {kind} is not judged here", written.source))
        .collect();
    let mut snapshot = Snapshot::new(objects.iter().map(|(_, key, object)| (key, object)), BTreeSet::new());
    let of_ours = |(_, key, _): &&(Written, ObjectKey, Object)| Kind::OURS.contains(&key.kind);
    snapshot.shown =
        objects.iter().filter(of_ours).map(|(_, key, _)| (key.clone(), Shown::default())).collect();
    if snapshot.nodes.is_empty() && !snapshot.shown.is_empty() {
        notes.push("there is no Node among them: which nodes are selected is not judged".to_owned());
    }
    notes.extend(assume_secrets(&mut snapshot));
    let mut verdicts = acceptance::judge(&snapshot);
    for (written, key, _) in &objects {
        let refusal = verdicts.remove(key).flatten();
        faults.extend(refusal.map(|reason| Fault::new(&written.source, Some(key), reason)));
    }
    faults.sort_by(|one, other| one.source.cmp(&other.source));
    Judgement { valid: faults.is_empty(), objects: total, faults, notes }
}

/// Who writes passwords down writes them elsewhere: where there is no Secret at all, those that are named are taken to be
/// right.
fn assume_secrets(snapshot: &mut Snapshot) -> Option<String> {
    if !snapshot.secrets.is_empty() {
        return None;
    }
    let mut assumed: BTreeMap<String, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    for secret in snapshot.bgp.password_secrets() {
        assumed.entry(secret.name.clone()).or_default().insert(secret.key.clone(), b"assumed".to_vec());
    }
    let names = assumed.keys().cloned().collect::<Vec<_>>().join(", ");
    snapshot.secrets.extend(assumed);
    (!names.is_empty()).then(|| format!("there is no Secret among them: {names} taken as given"))
}
