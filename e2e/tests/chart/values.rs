//! What values do to the manifests.

use std::thread;

use serde_json::{Value, json};

use crate::helm::{Helm, all_values, folder, objects, read};

/// From ci/all-values.yaml each is left out or made another, down to the last field of the last item of a list: something
/// must become another, with the agents or with the cleanup that takes their place.
#[test]
fn every_value_acts() {
    let (helm, chart, all) = (Helm::new(), folder(), all_values());
    let with = |values: &Value, cleanup: bool| {
        let mut values = values.clone();
        values["cleanup"]["enabled"] = (cleanup || values["cleanup"]["enabled"] == true).into();
        helm.render(&chart, &values)
    };
    let before = [false, true].map(|cleanup| with(&all, cleanup).unwrap());
    let acts = |other: &Value| {
        let after = [false, true].into_iter().map(|cleanup| with(other, cleanup));
        before.iter().zip(after).any(|(before, after)| after.is_ok_and(|after| after != *before))
    };
    let words = words(&read("values.schema.json"));
    let leaves = leaves("", &all);
    assert!(leaves.len() > 100, "{leaves:?}");
    let ignored = |pointer: &&String| !others(&all, pointer, &words).iter().any(acts);

    let share = leaves.len().div_ceil(thread::available_parallelism().map_or(1, usize::from));
    let found: Vec<&String> = thread::scope(|scope| {
        let parts =
            leaves.chunks(share).map(|part| scope.spawn(|| part.iter().filter(ignored).collect::<Vec<_>>()));
        let parts: Vec<_> = parts.collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    assert!(found.is_empty(), "accepted and ignored: {found:#?}");
}

fn leaves(pointer: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| leaves(&format!("{pointer}/{}", name.replace('/', "~1")), value))
            .collect(),
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(at, item)| leaves(&format!("{pointer}/{at}"), item)).collect()
        }
        _ => vec![pointer.to_owned()],
    }
}

/// Without the value, and with others in its place; the schema refuses some of them.
fn others(all: &Value, pointer: &str, words: &[Value]) -> Vec<Value> {
    let instead = |value: Value| {
        let mut all = all.clone();
        *all.pointer_mut(pointer).unwrap() = value;
        all
    };
    let mut others = vec![without(all, pointer)];
    match all.pointer(pointer).unwrap() {
        Value::Bool(value) => others.push(instead((!value).into())),
        Value::Number(value) => others.push(instead((value.as_u64().unwrap() + 1).into())),
        Value::String(value) => {
            others.push(instead(format!("{value}x").into()));
            others.extend(words.iter().cloned().map(instead));
        }
        value => panic!("{pointer}: {value} has no other"),
    }
    others
}

fn without(all: &Value, pointer: &str) -> Value {
    let mut all = all.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match all.pointer_mut(parent).unwrap() {
        Value::Object(fields) => drop(fields.remove(&name.replace("~1", "/"))),
        Value::Array(items) => drop(items.remove(name.parse().unwrap())),
        value => panic!("{parent}: {value} holds nothing"),
    }
    all
}

/// All that the schema lists by name.
fn words(schema: &Value) -> Vec<Value> {
    let inner: Vec<&Value> = match schema {
        Value::Object(fields) => fields.values().collect(),
        Value::Array(items) => items.iter().collect(),
        _ => Vec::new(),
    };
    let own = schema["enum"].as_array().into_iter().flatten().cloned();
    own.chain(inner.into_iter().flat_map(words)).collect()
}

#[test]
fn what_is_off_leaves_no_trace() {
    let (helm, chart) = (Helm::new(), folder());
    let plain = helm.render(&chart, &json!({ "admissionPolicy": { "enabled": false } })).unwrap();
    let kinds: Vec<_> = objects(&plain).into_iter().map(|object| object["kind"].clone()).collect();
    for kind in [
        "ValidatingAdmissionPolicy",
        "PodMonitor",
        "ServiceMonitor",
        "Service",
        "PrometheusRule",
        "ConfigMap",
    ] {
        assert!(!kinds.contains(&kind.into()), "{kind} is in {kinds:?}");
    }
    for part in [
        "appArmorProfile",
        "seLinuxOptions",
        "host: \"",
        "weft-operator",
        "--mtu",
        "hostAliases",
        "imagePullSecrets",
    ] {
        assert!(!plain.contains(part), "{part} is in\n{plain}");
    }
}

/// Probes come to the pod's address unless they are told another.
#[test]
fn probes_come_to_where_the_agent_listens() {
    let (helm, chart) = (Helm::new(), folder());
    for (address, host) in [("127.0.0.1", json!("127.0.0.1")), ("[::1]", json!("::1")), ("[::]", Value::Null)]
    {
        let text = helm.render(&chart, &json!({ "agent": { "metricsAddress": address } })).unwrap();
        let agent = crate::release::daemon_set(&text)["spec"]["template"]["spec"]["containers"][0].clone();
        for probe in ["livenessProbe", "readinessProbe"] {
            assert_eq!(agent[probe]["httpGet"]["host"], host, "{probe} with {address}");
        }
    }
}

/// The value that is wrong, and a word of the answer.
#[test]
fn what_would_be_ignored_or_break_is_refused() {
    let (helm, chart) = (Helm::new(), folder());
    let env = |name: &str| json!({ "agent": { "extraEnv": [{ "name": name, "value": "1" }] } });
    let args = |words: &[&str]| json!({ "agent": { "extraArgs": words } });
    let labels = json!({ "app.kubernetes.io/name": "other" });
    for (values, said) in [
        (json!({ "nonsense": 1 }), "nonsense"),
        (json!({ "agent": { "nonsense": 1 } }), "nonsense"),
        (json!({ "global": { "nonsense": 1 } }), "global.nonsense"),
        (json!({ "apiServer": { "port": 0 } }), "port"),
        (json!({ "image": { "digest": "latest" } }), "digest"),
        (json!({ "cni": { "binDir": "relative" } }), "binDir"),
        (json!({ "agent": { "logFormat": "xml" } }), "logFormat"),
        (json!({ "agent": { "metricsAddress": "::" } }), "metricsAddress"),
        (json!({ "agent": { "mtu": 1279 } }), "mtu"),
        (json!({ "agent": { "livenessProbe": { "exec": {} } } }), "exec"),
        (json!({ "agent": { "extraVolumes": [{ "name": "run", "emptyDir": {} }] } }), "extraVolumes"),
        (json!({ "agent": { "extraEnv": [{ "name": "A", "value": "1", "valueFrom": {} }] } }), "extraEnv"),
        (json!({ "podLabels": labels }), "app.kubernetes.io/name"),
        (json!({ "commonLabels": labels }), "app.kubernetes.io/name"),
        (json!({ "podAnnotations": { "weft.dev/operators": "a:1" } }), "weft.dev/operators"),
        (json!({ "prometheusRule": { "disabled": ["WeftNothing"] } }), "WeftNothing"),
        (
            json!({ "monitor": { "kind": "PodMonitor" }, "agent": { "metricsAddress": "127.0.0.1" } }),
            "monitor.kind",
        ),
        (env("WEFT_LOG"), "WEFT_LOG is set by the chart"),
        (env("WEFT_CNI_CONF_DIR"), "WEFT_CNI_CONF_DIR is set by the chart"),
        (env("WEFT_STARTUP_TAINT"), "agent.startupTaint"),
        (args(&["--node=other"]), "WEFT_NODE is set by the chart"),
        (args(&["--mtu=1400"]), "agent.mtu"),
        (args(&["--state-dir=/a", "--state-dir=/b"]), "WEFT_STATE_DIR is set by agent.extraArgs"),
        (args(&["state-dir"]), "extraArgs"),
    ] {
        let refused = helm.render(&chart, &values).expect_err(&values.to_string());
        assert!(refused.contains(said), "{values}: {refused}");
    }
}
