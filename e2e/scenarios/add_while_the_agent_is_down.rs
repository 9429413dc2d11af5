//! ADD without an agent fails, clearly and soon; tried again with one, it succeeds. DEL never waits for anybody.

use weft_e2e::lab::LabSpec;
use weft_e2e::wait;

use crate::story::{SOON, cluster, reaches, server};

#[test]
fn add_fails_clearly_and_succeeds_on_retry() {
    let lab = cluster("agent-down", &LabSpec::racks(["bird:1", "frr:1"]));
    let (a, b) = (server(&lab, "default/a", "node1", &[]), server(&lab, "default/b", "node2", &[]));
    let gone = lab.run_pod("default/gone", "node1", &[]).unwrap();
    reaches(a.namespace(), &b);

    lab.kill_agent("node1").unwrap();
    let sandbox = lab.sandbox("default/late", "node1", &[]).unwrap();
    let error = format!("{:#}", sandbox.add().unwrap_err());
    assert!(error.contains("\"code\":11"), "{error}"); // CNI spec: try again later
    assert!(error.contains("agent"), "{error}");
    lab.delete_pod(&gone).unwrap();
    // Neither hurts who runs already.
    reaches(a.namespace(), &b);

    lab.start_agent("node1").unwrap();
    let late = sandbox.add().unwrap();
    reaches(late.namespace(), &b);
    reaches(b.namespace(), &a);
    // Its link was still dying when the agent came, perhaps: the kernel takes a namespace down when it has time.
    let freed = || !lab.weftctl("node1", "ipam show -o json").unwrap().contains(gone.container_id());
    wait::until_true("the address of the pod deleted meanwhile is free", SOON, freed).unwrap();
}
