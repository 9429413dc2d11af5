//! A file that cannot be read, and an object that makes no sense, are refused by name. Everything else keeps working, and
//! keeps changing.

use weft_e2e::lab::{Lab, LabSpec};
use weft_e2e::wait;

use crate::story::{SOON, cluster, cut_off, reaches, server};

const DENY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { namespace: default, name: deny }
spec:
  podSelector: { matchLabels: { app: db } }
  policyTypes: [Ingress]
";

const NO_SUCH_ADDRESS: &str = "
apiVersion: weft.dev/v1alpha1
kind: BGPPeer
metadata: { name: typo }
spec: { address: 10.1.10.300, asn: 65001 }
";

#[test]
fn it_is_named_and_the_rest_works_on() {
    let lab = cluster("bad-yaml", &LabSpec::racks(["bird:1", "frr:1"]));
    let db = server(&lab, "default/db", "node1", &[("app", "db")]);
    let web = server(&lab, "default/web", "node2", &[("app", "web")]);
    reaches(web.namespace(), &db);

    lab.store().write("broken.yaml", "kind: NetworkPolicy\nspec: {{\n").unwrap();
    lab.store().apply(NO_SUCH_ADDRESS).unwrap();
    until_named(&lab, "broken.yaml");
    until_named(&lab, "typo");
    reaches(web.namespace(), &db);

    // A policy that arrives later acts; one that breaks keeps acting as it did.
    lab.store().apply(DENY).unwrap();
    cut_off(web.namespace(), &db);
    lab.store()
        .write("networkpolicy-default-deny.yaml", "apiVersion: networking.k8s.io/v1\nkind: [\n")
        .unwrap();
    until_named(&lab, "networkpolicy-default-deny.yaml");
    cut_off(web.namespace(), &db);

    // So does an agent that starts into it.
    lab.kill_agent("node1").unwrap();
    lab.start_agent("node1").unwrap();
    until_named(&lab, "broken.yaml");

    lab.store().remove("broken.yaml").unwrap();
    lab.store().remove("networkpolicy-default-deny.yaml").unwrap();
    lab.store().delete(NO_SUCH_ADDRESS).unwrap();
    reaches(web.namespace(), &db);
    wait::until_true("no problems", SOON, || {
        !status(&lab).contains("broken.yaml") && !status(&lab).contains("typo")
    })
    .unwrap();
}

fn until_named(lab: &Lab, name: &str) {
    wait::until_true(&format!("{name} in the status"), SOON, || status(lab).contains(name)).unwrap();
}

/// What an operator sees; an error would be its exit code.
fn status(lab: &Lab) -> String {
    lab.weftctl("node1", "status -o json").unwrap_or_else(|error| format!("{error:#}"))
}
