//! What a release is made of, and what an upgrade to another leaves alone.

use std::fs;

use serde_json::{Value, json};

use crate::helm::{Helm, Scratch, all_values, folder, objects, read};

pub(crate) fn daemon_set(manifests: &str) -> Value {
    objects(manifests).into_iter().find(|object| object["kind"] == "DaemonSet").unwrap()
}

/// Kubernetes replaces a DaemonSet's pods when anything of their template is another.
#[test]
fn a_release_of_the_chart_alone_replaces_no_agent() {
    let (helm, scratch) = (Helm::new(), Scratch::new("alone"));
    let about = read("Chart.yaml");
    let line = |field: &str| about[field].as_str().unwrap().to_owned();
    let newer = scratch.copy_chart("newer", |text| {
        text.replace(&format!("\nversion: {}", line("version")), "\nversion: 9.9.9")
    });
    let other_app = |text: String| {
        text.replace(&format!("appVersion: \"{}\"", line("appVersion")), "appVersion: \"9.9.9\"")
    };
    let other = scratch.copy_chart("other", other_app);
    for (values, chart) in [
        (json!({}), &newer),
        (all_values(), &newer),
        (json!({ "cleanup": { "enabled": true } }), &newer),
        (json!({ "image": { "tag": "0.1.0" } }), &other),
        (json!({ "image": { "digest": all_values()["image"]["digest"] } }), &other),
    ] {
        let [before, after] = [&folder(), chart].map(|chart| helm.render(chart, &values).unwrap());
        assert!(after.contains("9.9.9") && before != after, "it is no other chart");
        let [before, after] = [before, after].map(|text| daemon_set(&text));
        for part in ["template", "selector"] {
            assert_eq!(before["spec"][part], after["spec"][part], "{part} with {values}");
        }
    }
}

/// It cannot be changed: an upgrade that tries fails.
#[test]
fn a_daemon_set_selects_by_what_no_value_changes() {
    let helm = Helm::new();
    let cleanup = json!({ "cleanup": { "enabled": true } });
    for (values, component) in [(json!({}), "agent"), (all_values(), "agent"), (cleanup, "cleanup")] {
        let daemon_set = daemon_set(&helm.render(&folder(), &values).unwrap());
        let labels = json!({
            "app.kubernetes.io/name": "weft", "app.kubernetes.io/instance": "weft",
            "app.kubernetes.io/component": component,
        });
        assert_eq!(daemon_set["spec"]["selector"]["matchLabels"], labels);
        for (name, value) in labels.as_object().unwrap() {
            assert_eq!(daemon_set["spec"]["template"]["metadata"]["labels"][name], *value);
        }
    }
}

#[test]
fn the_package_holds_what_the_folder_does() {
    let (helm, scratch) = (Helm::new(), Scratch::new("package"));
    let package = helm.package(&folder(), &scratch.0);
    for values in [json!({}), all_values()] {
        assert_eq!(helm.render(&package, &values), helm.render(&folder(), &values));
    }
    let all = objects(&helm.render(&package, &all_values()).unwrap());
    let of = |kind: &str| all.iter().find(|object| object["kind"] == kind).unwrap();
    let dashboard = of("ConfigMap")["data"]["weft.json"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(dashboard).unwrap(), read("dashboards/weft.json"));
    let rules = of("PrometheusRule")["spec"]["groups"][0]["rules"].as_array().unwrap();
    let disabled = all_values()["prometheusRule"]["disabled"].as_array().unwrap().clone();
    let mut alerts = read("alerts/weft.yaml").as_array().unwrap().clone();
    alerts.retain(|alert| !disabled.contains(&alert["alert"]));
    for alert in &mut alerts {
        alert["labels"]["team"] = "network".into();
    }
    assert_eq!(*rules, alerts);
}

/// Definitions are what objects of users hang on.
#[test]
fn helm_keeps_the_definitions() {
    let rendered = objects(&Helm::new().render(&folder(), &json!({})).unwrap());
    let definitions: Vec<_> =
        rendered.iter().filter(|object| object["kind"] == "CustomResourceDefinition").collect();
    let files = fs::read_dir(folder().join("definitions")).unwrap().count();
    assert!(files > 0 && definitions.len() == files, "{files} files, {} definitions", definitions.len());
    for definition in definitions {
        let metadata = &definition["metadata"];
        assert_eq!(metadata["annotations"]["helm.sh/resource-policy"], "keep", "{}", metadata["name"]);
    }
}

#[test]
fn a_parent_chart_gives_its_global_values() {
    let (helm, scratch) = (Helm::new(), Scratch::new("parent"));
    scratch.copy_chart("charts/weft", |text| text);
    fs::write(scratch.0.join("Chart.yaml"), "{ apiVersion: v2, name: parent, version: 1.0.0 }").unwrap();
    let global =
        json!({ "imageRegistry": "mirror.example/", "imagePullSecrets": ["a"], "of": "another chart" });
    for (repository, image) in [
        ("ghcr.io/weft-network/weft", "mirror.example/weft-network/weft:1"),
        ("localhost/weft", "mirror.example/weft:1"),
        ("weft-network/weft", "mirror.example/weft-network/weft:1"),
    ] {
        let weft = json!({ "image": { "repository": repository, "tag": "1" } });
        let pod = daemon_set(&helm.render(&scratch.0, &json!({ "global": global, "weft": weft })).unwrap());
        let pod = &pod["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["image"], image);
        assert_eq!(pod["imagePullSecrets"], json!([{ "name": "a" }]));
    }
}
