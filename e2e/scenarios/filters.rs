//! Filters, as the network's routers see them: what nodes announce goes out with what a filter sets or not at all, what routers
//! announce comes in with what a filter sets, and no edit of a filter ends a session.

use serde_json::Value;
use weft_api::control::{Peer, Route};
use weft_e2e::lab::{Lab, LabSpec};
use weft_e2e::wait;

use crate::story::{CONVERGED, cluster, reaches, server};

const FILTERED: &str = "
apiVersion: weft.dev/v1alpha1
kind: BGPFilter
metadata: { name: out }
spec:
  rules:
    - prefixes: [{ cidr: 10.244.0.0/16, maxLength: 32 }]
      action: next
      set: { med: 50, communities: { add: ['65000:777', '4200000000:1:2', 'soo:192.0.2.1:7'] } }
    - communities: ['65000:700-799']
      action: accept
      set: { prepend: 2 }
";

const PREFERRED: &str = "
apiVersion: weft.dev/v1alpha1
kind: BGPFilter
metadata: { name: in }
spec:
  rules:
    - communities: ['65000:700-709']
      action: accept
    - communities: ['4200000000:*:2']
      asPath: { minLength: 3 }
      action: next
      set: { localPreference: 200, communities: { replace: ['65000:1'] } }
";

const NO_IPV6: &str = "
apiVersion: weft.dev/v1alpha1
kind: BGPFilter
metadata: { name: out }
spec: { rules: [{ families: [ipv6], action: reject }] }
";

#[test]
fn routers_are_told_and_believed_as_filters_say() {
    let lab = cluster("filters", &LabSpec::racks(["bird:1", "frr:1"]));
    let (a, b) = (server(&lab, "default/a", "node1", &[]), server(&lab, "default/b", "node2", &[]));
    reaches(a.namespace(), &b);
    let sessions = ["node1", "node2"].map(|node| sessions(&lab, node));

    lab.store().apply(FILTERED).unwrap();
    lab.store().apply(PREFERRED).unwrap();
    for tor in ["tor1", "tor2"] {
        for family in ["v4", "v6"] {
            with_filters(&lab, tor, family);
        }
    }
    let [one, two] = [pod_cidr(&lab, "node1"), pod_cidr(&lab, "node2")];
    shown(
        &lab,
        "tor1",
        &format!("show route all {one}"),
        &[
            "BGP.as_path: 64512 64512 64512",
            "BGP.med: 50",
            "BGP.community: (65000,777)",
            "BGP.large_community: (4200000000, 1, 2)",
            "BGP.ext_community: (ro, 192.0.2.1, 7)",
        ],
    );
    shown(
        &lab,
        "tor2",
        &format!("show bgp ipv4 unicast {two}"),
        &[
            "64513 64513 64513",
            "metric 50",
            "Community: 65000:777",
            "Large Community: 4200000000:1:2",
            "SoO:192.0.2.1:7",
        ],
    );
    wait::until_true("what tor1 says of node2, as the filter leaves it", CONVERGED, || {
        let routes = routes(&lab, "node1", &two);
        let path = routes.first().and_then(|route| route.paths.first());
        path.is_some_and(|path| {
            path.local_pref == Some(200) && path.communities == ["65000:1", "soo:192.0.2.1:7"]
        })
    })
    .unwrap();
    reaches(a.namespace(), &b);

    lab.store().apply(NO_IPV6).unwrap();
    shown(&lab, "tor1", &format!("show route all {one}"), &["BGP.as_path: 64512\n"]);
    wait::until_true("IPv6 routes are withdrawn", CONVERGED, || {
        routes(&lab, "node1", "fd00:10:244::/48").is_empty()
            && advertised(&lab, "node1", "tor1-v6").is_empty()
    })
    .unwrap();
    assert_eq!(["node1", "node2"].map(|node| self::sessions(&lab, node)), sessions, "no session began anew");
}

/// The nodes' sessions with this router take both filters, before that which the lab gives them.
fn with_filters(lab: &Lab, tor: &str, family: &str) {
    let file = lab.store().dir().join(format!("bgppeer-{tor}-{family}.yaml"));
    let mut peer: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let session = &mut peer["spec"]["session"];
    session["importFilters"].as_array_mut().unwrap().insert(0, "in".into());
    session["exportFilters"] = vec!["out"].into();
    lab.store().apply(&peer.to_string()).unwrap();
}

/// The router comes to say all of this of a route.
fn shown(lab: &Lab, tor: &str, question: &str, parts: &[&str]) {
    let mut said = String::new();
    let all = wait::until_true(question, CONVERGED, || {
        said = lab.ask(tor, question).unwrap_or_default();
        parts.iter().all(|part| said.contains(part))
    });
    assert!(all.is_ok(), "{tor} says of {parts:?}:\n{said}");
}

fn pod_cidr(lab: &Lab, node: &str) -> String {
    let node = lab.plan().nodes.iter().find(|plan| plan.name == node).unwrap();
    node.pod_cidrs.iter().find(|cidr| !cidr.contains(':')).unwrap().clone()
}

fn routes(lab: &Lab, node: &str, prefix: &str) -> Vec<Route> {
    lab.weftctl(node, &format!("bgp routes {prefix} -o json"))
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

fn advertised(lab: &Lab, node: &str, peer: &str) -> Vec<Route> {
    serde_json::from_str(&lab.weftctl(node, &format!("bgp advertised {peer} -o json")).unwrap()).unwrap()
}

/// How often each was established.
fn sessions(lab: &Lab, node: &str) -> Vec<(String, u64)> {
    let peers: Vec<Peer> = serde_json::from_str(&lab.weftctl(node, "bgp peers -o json").unwrap()).unwrap();
    peers.into_iter().map(|peer| (peer.name, peer.established_count)).collect()
}
