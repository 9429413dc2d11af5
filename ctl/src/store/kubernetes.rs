//! Objects in the Kubernetes API. What is applied is ours to manage (server-side apply): other managers' fields stay, and a
//! field that two would set differently is a conflict that somebody must decide.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::Status;
use kube::{Client, Error};
use serde_json::Value;
use weft_intent::object::is_subdomain;
use weft_intent::{Kind, ObjectKey, object};

use super::{Change, Done, Given, How, Named, Report};
use crate::fault::Fault;
use crate::resource::{Resource, Selection};
use crate::written::as_written;

/// Whose fields these are.
const MANAGER: &str = "weftctl";

pub(crate) struct Kubernetes {
    client: Client,
}

impl Kubernetes {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    pub(super) async fn get(&self, selection: &Selection) -> Result<Vec<Value>> {
        let Selection { resource, names } = selection;
        let api = self.api(resource);
        let mut objects = Vec::new();
        if names.is_empty() {
            objects = api.list(&ListParams::default()).await.map_err(|error| told(resource, error))?.items;
        }
        for name in names.iter().filter(|name| is_subdomain(name)) {
            objects.extend(api.get_opt(name).await.map_err(|error| told(resource, error))?);
        }
        objects.into_iter().map(|object| shown(resource, object)).collect()
    }

    pub(super) async fn apply(&self, given: &[Given], how: How) -> Report {
        let tried = self.apply_all(given, How { dry_run: true, ..how }).await;
        self.unless_refused(tried, how, self.apply_all(given, how)).await
    }

    async fn apply_all(&self, given: &[Given], how: How) -> Report {
        let mut report = Report::default();
        for object in given {
            match self.apply_one(object, how).await {
                Ok(done) => report.done.push(done),
                Err(reason) => report.faults.push(Fault::new(&object.source, Some(&object.key), reason)),
            }
        }
        report
    }

    async fn apply_one(&self, given: &Given, how: How) -> Result<Done, String> {
        let Given { key, resource, value, .. } = given;
        let told = |error| format!("{:#}", told(resource, error));
        let api = self.api(resource);
        let before = api.get_opt(&key.name).await.map_err(told)?;
        let params =
            PatchParams { dry_run: how.dry_run, force: how.force_conflicts, ..PatchParams::apply(MANAGER) };
        let params = params.validation_strict();
        let after = api.patch(&key.name, &params, &Patch::Apply(value)).await.map_err(told)?;
        let warning = kept(key.kind, value, &after);
        let after = plain(resource, after)?;
        let change = match before.map(|before| plain(resource, before)).transpose()? {
            None => Change::Created,
            Some(before) if before == after => Change::Unchanged,
            Some(_) => Change::Configured,
        };
        Ok(Done { warning, ..Done::new(key, change) })
    }

    pub(super) async fn delete(&self, named: &[Named], how: How, ignore_missing: bool) -> Report {
        let tried = self.delete_all(named, How { dry_run: true, ..how }, ignore_missing).await;
        self.unless_refused(tried, how, self.delete_all(named, how, ignore_missing)).await
    }

    async fn delete_all(&self, named: &[Named], how: How, ignore_missing: bool) -> Report {
        let mut report = Report::default();
        for Named { key, resource } in named {
            match self.delete_one(key, resource, how).await {
                Ok(true) => report.done.push(Done::new(key, Change::Deleted)),
                Ok(false) if ignore_missing => {}
                Ok(false) => report.faults.push(Fault::of_object(key, "not found")),
                Err(error) => {
                    report.faults.push(Fault::of_object(key, format!("{:#}", told(resource, error))));
                }
            }
        }
        report
    }

    /// Whether it was there.
    async fn delete_one(&self, key: &ObjectKey, resource: &Resource, how: How) -> Result<bool, Error> {
        // What is no name would be another path of the API.
        if !is_subdomain(&key.name) {
            return Ok(false);
        }
        let params = DeleteParams { dry_run: how.dry_run, ..DeleteParams::default() };
        match self.api(resource).delete(&key.name, &params).await {
            Ok(_) => Ok(true),
            Err(Error::Api(status)) if is_missing(&status) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What was tried comes to pass when nothing of it was refused.
    async fn unless_refused(&self, mut tried: Report, how: How, act: impl Future<Output = Report>) -> Report {
        if !tried.faults.is_empty() {
            tried.done.clear();
            return tried;
        }
        if how.dry_run { tried } else { act.await }
    }

    fn api(&self, resource: &Resource) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource.api())
    }
}

/// What a user could have written.
fn plain(resource: &Resource, object: DynamicObject) -> Result<Value, String> {
    shown(resource, object).map(|object| as_written(&object)).map_err(|error| error.to_string())
}

/// What is there and was not written: somebody else set it, and leaving it out does not take it away.
fn kept(kind: Kind, written: &Value, after: &DynamicObject) -> Option<String> {
    let meaning = |object: &Value| object::parse_served(kind, object).ok()?.1.spec();
    let (wanted, have) = (meaning(written)?, meaning(&serde_json::to_value(after).ok()?)?);
    let (path, value) = difference("spec", &wanted, &have)?;
    let managers = after.metadata.managed_fields.iter().flatten().filter(|entry| entry.subresource.is_none());
    let others = managers.filter_map(|entry| entry.manager.as_deref()).filter(|manager| *manager != MANAGER);
    let others = others.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ");
    Some(format!("{path} stays {value}, as {others} set it: to change it, write the value that you want"))
}

/// The path of the first field that is another, and what is there.
fn difference(path: &str, wanted: &Value, have: &Value) -> Option<(String, Value)> {
    match (wanted, have) {
        (Value::Object(wanted), Value::Object(have)) => have.iter().find_map(|(name, have)| {
            difference(&format!("{path}.{name}"), wanted.get(name).unwrap_or(&Value::Null), have)
        }),
        _ => (wanted != have).then(|| (path.to_owned(), have.clone())),
    }
}

/// For people: which fields others manage, what is wrong with which field, or what the server says.
fn told(resource: &Resource, error: Error) -> anyhow::Error {
    let Error::Api(status) = error else {
        return anyhow::Error::new(error).context("the API server");
    };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let conflicts: Vec<_> = causes
        .clone()
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| format!("{}: {}", cause.field.trim_start_matches('.'), cause.message))
        .collect();
    if !conflicts.is_empty() {
        return anyhow!("{}; --force-conflicts takes such fields over", conflicts.join("; "));
    }
    if status.code == 404 && !is_missing(&status) {
        return anyhow!("the API server has no {}: are Weft's definitions installed?", resource.api().plural);
    }
    let causes: Vec<_> = causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    if status.code == 422 && !causes.is_empty() {
        anyhow!("{}", causes.join("; "))
    } else {
        anyhow!("{}", status.message)
    }
}

/// The object, and not its kind.
fn is_missing(status: &Status) -> bool {
    status.code == 404 && status.details.as_ref().is_some_and(|details| !details.name.is_empty())
}

/// As kubectl shows it: items of a list do not say what they are, and who manages which field is nobody's reading.
fn shown(resource: &Resource, mut object: DynamicObject) -> Result<Value> {
    object.metadata.managed_fields = None;
    let mut value = serde_json::to_value(object)?;
    let api = resource.api();
    value["apiVersion"] = api.api_version.into();
    value["kind"] = api.kind.into();
    Ok(value)
}
