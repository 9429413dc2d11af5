//! What helm brings to a cluster and takes away again: objects that say whether they act, CRDs that follow the chart, a
//! dashboard of metrics that exist, and nodes that are clean when their operator asks for it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use weft_e2e::cluster::{Cluster, chart};
use weft_e2e::wait;

use crate::story::{CONVERGED, Scene, reaches};

pub(crate) fn objects_tell_whether_they_are_accepted(cluster: &Cluster) {
    let others = [
        ("BGPAdvertisement", json!({ "communities": ["65000:1"] })),
        ("BGPPeerProfile", json!({ "session": { "importFilters": ["outside"] } })),
    ];
    for (kind, spec) in &others {
        let object = json!({ "apiVersion": "weft.dev/v1alpha1", "kind": kind, "metadata": { "name": "told" }, "spec": spec });
        cluster.apply(&object.to_string()).unwrap();
    }
    let told = ["bgpadvertisement/told", "bgppeerprofile/told"];
    let installed =
        ["bgpconfiguration/default", "bgpfilter/outside", "bgpnodeoverride/rack1", &some_peer(cluster)];
    for object in told.into_iter().chain(installed) {
        until_accepted(cluster, object, "True", "in force");
    }
    cluster.kubectl(&[&["delete"][..], &told].concat()).unwrap();
    let peer = |address: &str, labels: Value| {
        json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "BGPPeer", "metadata": { "name": "told" },
            "spec": { "address": address, "asn": 65099, "nodeSelector": { "matchLabels": labels } },
        })
    };
    // An address, as the schema wants, but that of no router.
    cluster.apply(&peer("224.0.0.5", json!({ "no": "node" })).to_string()).unwrap();
    until_accepted(cluster, "bgppeer/told", "False", "spec.address: 224.0.0.5");
    cluster.apply(&peer("192.0.2.9", json!({ "no": "node" })).to_string()).unwrap();
    until_accepted(cluster, "bgppeer/told", "False", "selects no node");
    cluster.apply(&peer("192.0.2.9", json!({ "kubernetes.io/hostname": "node1" })).to_string()).unwrap();
    until_accepted(cluster, "bgppeer/told", "True", "in force");
    let mut guarded = peer("192.0.2.9", json!({ "kubernetes.io/hostname": "node1" }));
    guarded["spec"]["session"] = json!({ "security": { "passwordSecret": { "name": "told" } } });
    cluster.apply(&guarded.to_string()).unwrap();
    until_accepted(cluster, "bgppeer/told", "False", "Secret told is missing");
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "namespace": "weft-system", "name": "told" },
        "stringData": { "password": "told" },
    });
    cluster.apply(&secret.to_string()).unwrap();
    until_accepted(cluster, "bgppeer/told", "True", "in force");
    cluster.kubectl(&["delete", "bgppeer", "told"]).unwrap();
    cluster.kubectl(&["-n", "weft-system", "delete", "secret", "told"]).unwrap();
}

/// As the rack's operator named it.
fn some_peer(cluster: &Cluster) -> String {
    format!("bgppeer/{}-ipv4", cluster.lab().plan().tors[0].name)
}

/// The condition is about the version of the object that is there.
fn until_accepted(cluster: &Cluster, object: &str, status: &str, message: &str) {
    wait::until(&format!("{object}: Accepted={status}"), CONVERGED, || {
        let object = cluster.get(&[object])?;
        let accepted = object["status"]["conditions"].as_array().into_iter().flatten();
        let accepted = accepted.filter(|condition| condition["type"] == "Accepted").find(|condition| {
            condition["status"] == status
                && condition["observedGeneration"] == object["metadata"]["generation"]
                && condition["message"].as_str().unwrap_or_default().contains(message)
        });
        Ok(accepted.map(drop))
    })
    .unwrap();
}

pub(crate) fn the_dashboard_and_alerts_show_what_agents_measure(cluster: &Cluster) {
    let page =
        cluster.lab().machine("node1").unwrap().run(["curl", "-s", "http://127.0.0.1:9179/metrics"]).unwrap();
    let shown = ["dashboards/weft.json", "alerts/weft.yaml"]
        .map(|file| fs::read_to_string(chart().unwrap().join(file)).unwrap())
        .concat();
    let words = shown.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let shown: BTreeSet<_> = words.filter(|word| word.starts_with("weft_")).collect();
    assert!(shown.len() > 10, "{shown:?}");
    let measured = |name: &&&str| {
        page.lines()
            .any(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")))
    };
    let missing: Vec<_> = shown.iter().filter(|name| !measured(name)).collect();
    assert!(missing.is_empty(), "in the dashboard or an alert and on no page of metrics: {missing:?}");
}

/// Every object of ours that the documentation and `examples/` show, as a server would take it.
pub(crate) fn examples_are_accepted(cluster: &Cluster) {
    let root = chart().unwrap().parent().unwrap().to_owned();
    let mut pages = vec![root.join("README.md"), root.join("chart/templates/NOTES.txt")];
    pages.extend(files(&root.join("docs"), "md"));
    pages.extend(files(&root.join("examples"), "yaml"));
    let mut seen = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for example in examples(&text) {
            let answer = cluster.would_apply(&example);
            assert!(answer.is_ok(), "{}: {example}\n{answer:?}", page.display());
            seen += 1;
        }
    }
    assert!(seen >= 2, "{seen} examples");
}

fn files(dir: &Path, kind: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).into_iter().flatten().flatten().map(|file| file.path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == kind)).collect()
}

/// YAML documents of ours, without the indentation that they stand in.
fn examples(text: &str) -> Vec<String> {
    let (mut found, mut open): (Vec<String>, Option<(usize, String)>) = (Vec::new(), None);
    for line in text.lines() {
        let body = line.trim_start();
        let indent = line.len() - body.len();
        let ends = open.as_ref().is_some_and(|(start, _)| {
            ["---", "```", "EOF"].contains(&body.trim_end()) || (!body.is_empty() && indent < *start)
        });
        if ends {
            found.extend(open.take().map(|(_, document)| document));
        }
        if body.starts_with("apiVersion: weft.dev/") {
            open = Some((indent, String::new()));
        }
        if let Some((start, document)) = &mut open {
            document.push_str(line.get(*start..).unwrap_or_default());
            document.push('\n');
        }
    }
    found.extend(open.map(|(_, document)| document));
    found
}

/// Of an older chart, a CRD lacks what came later. A chart that leaves them out takes nothing away.
pub(crate) fn crds_follow_the_chart(cluster: &Cluster) {
    let columns = || {
        cluster.get(&["crd", "bgppeers.weft.dev"]).unwrap()["spec"]["versions"][0]["additionalPrinterColumns"]
            .clone()
    };
    let wanted = columns();
    assert!(wanted.as_array().is_some_and(|columns| !columns.is_empty()), "{wanted}");
    let older = r#"[{"op":"remove","path":"/spec/versions/0/additionalPrinterColumns"}]"#;
    cluster.kubectl(&["patch", "crd", "bgppeers.weft.dev", "--type=json", "-p", older]).unwrap();
    assert_ne!(columns(), wanted);
    cluster.upgrade_weft(&[]).unwrap();
    assert_eq!(columns(), wanted);

    let peers = || cluster.kubectl(&["get", "bgppeers", "-o", "name"]).unwrap();
    let before = peers();
    assert!(!before.is_empty(), "there is no peer");
    cluster.upgrade_weft(&["crds.install=false"]).unwrap();
    assert_eq!((columns(), peers()), (wanted, before));
    cluster.upgrade_weft(&[]).unwrap();
}

/// Of `ci/all-values.yaml`, what must be this cluster's own: its image comes from no registry.
const OWN: [&str; 5] = [
    "image.digest=",
    "global.imageRegistry=",
    "apiServer.port=6443",
    "cni.binDir=/opt/cni/bin",
    "cni.confDir=/etc/cni/net.d",
];

pub(crate) fn the_package_is_installed_with_every_value(cluster: &Cluster) {
    let scene = Scene::set(cluster, "every-value");
    let before = scene.server("before", "node1", &[]);
    cluster.kubectl(&["label", "nodes", "--all", "--overwrite", "weft.dev/agent=yes"]).unwrap();
    for kind in ["ServiceMonitor", "PrometheusRule"] {
        define_monitoring(cluster, kind);
    }
    let values = chart().unwrap().join("ci/all-values.yaml");
    cluster.upgrade_weft_from(&package(cluster), Some(&values), 180, &OWN).unwrap();
    let rollout = ["-n", "weft-system", "rollout", "status", "daemonset/fabric-agent", "--timeout=120s"];
    cluster.kubectl(&rollout).unwrap();
    for object in ["servicemonitor/fabric-agent", "prometheusrule/fabric", "configmap/fabric-dashboard"] {
        cluster.kubectl(&["-n", "weft-system", "get", object]).unwrap();
    }
    let after = scene.server("after", "node3", &[]);
    reaches(after.namespace(), &before);
    reaches(before.namespace(), &after);
    let show = || Ok(Command::new("ip").args(["-json", "link", "show", "eth0"]).output()?);
    let link: Value = serde_json::from_slice(&after.namespace().enter(show).unwrap().stdout).unwrap();
    assert_eq!(link[0]["mtu"], 1400, "{link}");
    let node = cluster.get(&["node", "node1"]).unwrap();
    let address = node["status"]["addresses"][0]["address"].as_str().unwrap();
    let page = format!("http://{address}:9279/metrics");
    let page = cluster.lab().machine("node1").unwrap().run(["curl", "-s", &page]).unwrap();
    assert!(page.contains("weft_ready 1"), "{page}");

    cluster.upgrade_weft(&[]).unwrap();
    reaches(after.namespace(), &before);
}

/// The archive that a release publishes.
fn package(cluster: &Cluster) -> PathBuf {
    let mut words: Vec<OsString> = ["package", "--destination"].iter().map(OsString::from).collect();
    words.push(cluster.lab().dir().into());
    words.push(chart().unwrap().into_os_string());
    cluster.helm(&words).unwrap().trim().rsplit(' ').next().unwrap().into()
}

/// As the Prometheus operator's own definition, for what it takes; what it is for is not here.
fn define_monitoring(cluster: &Cluster, kind: &str) {
    let singular = kind.to_lowercase();
    let name = format!("{singular}s.monitoring.coreos.com");
    let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": name },
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": { "kind": kind, "singular": singular, "plural": format!("{singular}s") },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } }],
        },
    });
    cluster.apply(&definition.to_string()).unwrap();
    cluster.kubectl(&["wait", "--for=condition=Established", &format!("crd/{name}")]).unwrap();
}

pub(crate) fn helm_test_passes(cluster: &Cluster) {
    cluster.helm_release("test", &["--timeout", "180s"]).unwrap();
}

pub(crate) fn uninstalled_and_cleaned_up(cluster: &Cluster) {
    let scene = Scene::set(cluster, "uninstalled");
    let pods = ["node1", "node3"].map(|node| scene.server(&format!("on-{node}"), node, &[]));
    reaches(pods[0].namespace(), &pods[1]);

    cluster.helm_release("uninstall", &["--wait"]).unwrap();
    for (from, to) in [(0, 1), (1, 0)] {
        reaches(pods[from].namespace(), &pods[to]);
    }
    for kept in ["crd/bgppeers.weft.dev", &some_peer(cluster), "bgpconfiguration/default"] {
        cluster.kubectl(&["get", kept]).unwrap();
    }

    // Nodes with pods are left as they are, and their cleanup says why.
    let refused = cluster.upgrade_weft_within(15, &["cleanup.enabled=true"]);
    assert!(refused.is_err(), "a node was cleaned under running pods");
    let field = "app.kubernetes.io/component=cleanup";
    wait::until("a cleanup that names the pod", CONVERGED, || {
        let logs =
            cluster.kubectl(&["-n", "weft-system", "logs", "-l", field, "-c", "cleanup", "--prefix"])?;
        Ok(logs.contains("uninstalled/on-node1").then_some(()))
    })
    .unwrap();
    reaches(pods[0].namespace(), &pods[1]);

    drop(pods);
    scene.kubectl(&["delete", "pods", "--all", "--wait"]);
    cluster.kubectl(&["-n", "weft-system", "delete", "pods", "-l", field]).unwrap();
    cluster.upgrade_weft(&["cleanup.enabled=true"]).unwrap();
    for node in scene.nodes() {
        assert_clean(cluster, node);
    }
    cluster.helm_release("uninstall", &["--wait"]).unwrap();

    // As it was found.
    cluster.install_weft(&[]).unwrap();
    let pods = ["node1", "node3"].map(|node| scene.server(&format!("again-on-{node}"), node, &[]));
    reaches(pods[0].namespace(), &pods[1]);
}

fn assert_clean(cluster: &Cluster, node: &str) {
    let machine = cluster.lab().machine(node).unwrap();
    let run = |words: &[&str]| machine.run(words).unwrap();
    for family in ["-4", "-6"] {
        assert_eq!(run(&["ip", family, "route", "show", "proto", "87"]), "", "{node}");
    }
    assert!(!run(&["nft", "list", "tables"]).contains("inet weft"), "{node}");
    let links: Value = serde_json::from_str(&run(&["ip", "-json", "link", "show"])).unwrap();
    let ours = |link: &&Value| link["ifname"].as_str().unwrap_or_default().starts_with("weft");
    assert_eq!(links.as_array().unwrap().iter().filter(ours).count(), 0, "{node}: {links}");
    for file in ["/etc/cni/net.d/05-weft.conflist", "/opt/cni/bin/weft-cni", "/run/weft/journal"] {
        assert!(!machine.path(file).exists(), "{node} has {file}");
    }
}
