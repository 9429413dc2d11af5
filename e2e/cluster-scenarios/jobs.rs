//! The address of a completed Job's pod is used again, while the pod's object is still there: the new pod has the address,
//! not the Job's policies.

use std::time::Duration;

use serde_json::json;
use weft_e2e::cluster::{Cluster, pod_spec};
use weft_e2e::wait;

use crate::policy::ingress;
use crate::story::{Scene, cut_off, reaches};

/// One whose few addresses are used up soon.
const NODE: &str = "node2";
/// An address rests for 30 s in any case; then the pod's sandbox is tried again.
const REUSED: Duration = Duration::from_secs(150);

/// On nodes with a /29 each.
pub(crate) fn address_is_used_again(cluster: &Cluster) {
    let scene = Scene::set(cluster, "jobs");
    let client = scene.server("client", "node1", &[("app", "client")]);
    // What the Job may be reached by, and what the Job may reach: nothing, and the guarded pod.
    let guarded = scene.server("guarded", "node1", &[("app", "guarded")]);
    let of_job = json!({ "matchLabels": { "job": "yes" } });
    scene.apply(ingress("closed-job", &of_job, &json!([])));
    let from_job = json!([{ "from": [{ "podSelector": of_job }] }]);
    scene.apply(ingress("from-job", &json!({ "matchLabels": { "app": "guarded" } }), &from_job));

    let mut spec = pod_spec(Some(NODE));
    // Ends at once, and well.
    spec["containers"][0]["args"] = json!(["--help"]);
    spec["restartPolicy"] = "Never".into();
    scene.apply(json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "job" },
        "spec": { "template": { "metadata": { "labels": { "job": "yes" } }, "spec": spec } },
    }));
    scene.kubectl(&["wait", "--for=condition=Complete", "job/job", "--timeout=180s"]);
    let done = || cluster.get(&["-n", scene.name, "pods", "-l", "job=yes"]).unwrap()["items"][0].clone();
    let address = done()["status"]["podIP"].as_str().unwrap().to_owned();

    // As many pods as it takes until one has the address.
    let mut servers = Vec::new();
    wait::until(&format!("pod with {address}"), REUSED, || {
        let server = scene.server(&format!("next-{}", servers.len()), NODE, &[]);
        let found = server.addresses().iter().any(|ip| ip.to_string() == address);
        servers.push(server);
        Ok(found.then_some(()))
    })
    .unwrap();
    assert_eq!(done()["status"]["phase"], "Succeeded");
    let heir = servers.last().unwrap();
    reaches(client.namespace(), heir);
    cut_off(heir.namespace(), &guarded);
}
