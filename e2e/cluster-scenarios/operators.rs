//! A network operator with the chart's role: every question of `weftctl --node` is answered as it is for an administrator,
//! and there is no way from there to anything else.

use std::path::Path;

use serde_json::Value;
use weft_e2e::cluster::Cluster;

use crate::story::Scene;

const USER: &str = "operator";
const PORT: u16 = 9180;

pub(crate) fn read_and_do_nothing_else(cluster: &Cluster) {
    let scene = Scene::set(cluster, "operators");
    let server = scene.server("web", "node1", &[]);
    let user = cluster.user(USER).unwrap();
    let (refused, code) = cluster.weftctl_as(&user, &["status", "--node", "node1"]).unwrap();
    assert!(code == 1 && refused.contains("forbidden"), "without a role: {refused}");

    cluster
        .upgrade_weft(&[
            "operators.enabled=true",
            "operators.subjects[0].kind=User",
            &format!("operators.subjects[0].name={USER}"),
            "operators.subjects[0].apiGroup=rbac.authorization.k8s.io",
        ])
        .unwrap();
    let address = server.addresses()[0].to_string();
    every_question_is_answered(cluster, &user, &address);
    the_port_answers_operators_only(cluster, &user);
    the_api_server_passes_nothing_else_on(cluster, &user);
    cluster.upgrade_weft(&[]).unwrap();
}

fn every_question_is_answered(cluster: &Cluster, user: &Path, address: &str) {
    let tor = &cluster.lab().plan().tors[0];
    let peer = format!("{}-ipv4", tor.name);
    let questions: [(&[&str], &str); 8] = [
        (&["status"], "node1"),
        (&["bgp", "peers"], &peer),
        (&["bgp", "routes"], "prefix"),
        (&["bgp", "routes", address], "prefix"),
        (&["bgp", "advertised", &peer], "prefix"),
        (&["ipam", "show"], "operators/web"),
        (&["policy", "list"], "["),
        (&["policy", "explain", "203.0.113.1", "operators/web:80"], "allowed"),
    ];
    for (question, part) in questions {
        let (answer, code) =
            cluster.weftctl_as(user, &[question, &["--node", "node1", "-o", "json"]].concat()).unwrap();
        assert!(code == 0 && answer.contains(part), "{question:?}: {code} {answer}");
    }
    for words in [&["status"][..], &["bgp", "peers"], &["version"]] {
        let (answer, code) = cluster.weftctl_as(user, words).unwrap();
        assert!(code == 0, "{words:?}: {answer}");
    }
    let (none, code) = cluster.weftctl_as(user, &["bgp", "advertised", "nobody", "--node", "node1"]).unwrap();
    assert_eq!(code, 3, "the agent's own refusals come through: {none}");
}

/// Directly at the node, past the API server.
fn the_port_answers_operators_only(cluster: &Cluster, user: &Path) {
    let token = |account: &str, audience: &[&str]| {
        let words = [&["-n", "weft-system", "create", "token", account], audience].concat();
        cluster.kubectl(&words).unwrap().trim().to_owned()
    };
    let ask = |method: &str, path: &str, token: Option<&str>| {
        let header = token.map(|token| format!("--header 'weft-token: {token}'")).unwrap_or_default();
        let line = format!(
            "curl -sk -X {method} {header} -w '%{{http_code}}' -o /dev/null https://127.0.0.1:{PORT}{path}"
        );
        cluster.lab().shell("node1", &line).unwrap()
    };
    let for_node = |node: &str| format!("--audience=weft.dev/nodes/{node}");
    let good = token("weft-operator", &[&for_node("node1")]);
    assert_eq!(ask("GET", "/v1/status", Some(&good)), "200");
    // Of what only the socket has there is nothing.
    assert_eq!(ask("POST", "/v1/stop", Some(&good)), "404");
    for (what, token) in [
        ("none", None),
        ("no token", Some("x".to_owned())),
        ("one for the API server", Some(token("weft-operator", &[]))),
        ("one for another node", Some(token("weft-operator", &[&for_node("node2")]))),
        ("another account's", Some(token("default", &[&for_node("node1")]))),
        ("an agent's", Some(token("weft-agent", &[]))),
    ] {
        assert_eq!(ask("GET", "/v1/status", token.as_deref()), "401", "{what}");
    }
    let (status, code) = cluster.weftctl_as(user, &["status", "--node", "node1", "-o", "json"]).unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert!(code == 0 && status["ready"] == true, "nobody has stopped it: {status}");
}

fn the_api_server_passes_nothing_else_on(cluster: &Cluster, user: &Path) {
    let agents =
        cluster.get(&["-n", "weft-system", "pods", "-l", "app.kubernetes.io/component=agent"]).unwrap();
    let pod = agents["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    let as_user = |words: &[&str]| {
        let words = [&["--kubeconfig", user.to_str().unwrap()], words].concat();
        format!("{:#}", cluster.kubectl(&words).expect_err("it was let"))
    };
    let pods = "/api/v1/namespaces/weft-system/pods";
    for port in ["https:POD:10250", "http:POD:9179", "POD:9179", "POD"] {
        let path = format!("{pods}/{}/proxy/", port.replace("POD", &pod));
        let error = as_user(&["get", "--raw", &path]);
        assert!(error.contains("only the port for operators"), "{port}: {error}");
    }
    let stop = format!("{pods}/https:{pod}:{PORT}/proxy/v1/stop");
    for words in [
        &["create", "--raw", &stop, "-f", "/dev/null"][..],
        &["-n", "weft-system", "exec", &pod, "--", "/usr/bin/weftctl", "status"],
        &["-n", "weft-system", "port-forward", &pod, "9179"],
        &["-n", "weft-system", "create", "token", "weft-agent"],
        &["-n", "weft-system", "get", "secrets"],
        &["-n", "weft-system", "delete", "pod", &pod],
        &["delete", "bgppeers", "--all"],
        &["get", "pods", "-A"],
    ] {
        let error = as_user(words);
        assert!(error.contains("orbidden"), "{words:?}: {error}");
    }
}
