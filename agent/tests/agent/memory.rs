//! An agent whose API server does not answer.

use crate::machine::{Agent, connect, get, until};

/// Nobody listens there.
const KUBECONFIG: &str = "apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {token: t}}]
";
const BOOTSTRAP: &str = "apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.1.0.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
apiVersion: weft.dev/v1alpha1
kind: BGPPeer
metadata: {name: tor}
spec: {address: 192.0.2.254, asn: 65001}
";

#[test]
fn it_speaks_bgp_from_what_an_operator_wrote_and_says_so() {
    let files = [("kubeconfig", KUBECONFIG), ("bootstrap.yaml", BOOTSTRAP)];
    let flags = ["--datastore=kubernetes", "--state-dir=DIR/state", "--bootstrap=DIR/bootstrap.yaml"];
    let agent = Agent::start("memory", &files, &flags, &[("KUBECONFIG", "DIR/kubeconfig")]);
    until("bgp runs", || agent.control("/v1/bgp/peers").contains("\"name\":\"tor\""));
    let status = agent.control("/v1/status");
    assert!(status.contains("datastore kubernetes") && status.contains("bootstrap.yaml"), "{status}");
    assert!(agent.control("/v1/bgp/routes?prefix=10.1.0.0/24").contains("blackhole"));

    let from = [127, 0, 0, 1].into();
    assert!(get(connect(from), "/metrics").contains("weft_remembered 1"));
    let ready = get(connect(from), "/readyz");
    assert!(ready.contains("503") && ready.contains("the datastore has not been read yet"), "{ready}");
    assert!(
        !agent.directory.join("state/bgp.json").exists(),
        "what an operator wrote is not the server's word"
    );
}
