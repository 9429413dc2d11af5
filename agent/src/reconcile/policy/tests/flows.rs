//! What becomes of established flows.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::reconcile::policy::flows;

const REVOKED: &str = "mark=1073741824";

fn conntrack(args: &str) -> String {
    let output = std::process::Command::new("conntrack").args(args.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "conntrack {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An established TCP connection to port 80 of `to`, behind a service address if one is given.
fn flow(from: &str, service: Option<&str>, to: &str) {
    conntrack(&format!(
        "-I -p tcp --state ESTABLISHED -u ASSURED,SEEN_REPLY -t 600 -s {from} -d {} --sport 1000 --dport 80 \
         -r {to} -q {from} --reply-port-src 80 --reply-port-dst 1000",
        service.unwrap_or(to)
    ));
}

fn denied(names: &[&str]) -> Option<Arc<Snapshot>> {
    world_with(names, &json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }))
}

fn egress_to(block: &str) -> Value {
    json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": [{ "to": [{ "ipBlock": { "cidr": block } }] }] })
}

/// After `snapshot` is in force and all flows are judged by it.
async fn judged(
    handle: &PolicyHandle,
    snapshots: &watch::Sender<Option<Arc<Snapshot>>>,
    snapshot: Option<Arc<Snapshot>>,
) -> PolicyState {
    let before = handle.state().borrow().judged;
    snapshots.send_replace(snapshot);
    settled(handle, |state| state.judged > before).await
}

#[test]
fn flows_that_a_policy_forbids_are_cut_and_go_on_when_it_is_gone() {
    in_netns(|| async {
        let (snapshots, receiver) = watch::channel(world(&["web"]));
        let handle = spawn(&supervisor().0, receiver).unwrap();
        handle.recovered(vec![attachment("web", 2)]).await;
        settled(&handle, |state| state.judged == 1).await;
        flow("192.0.2.9", None, "10.1.0.2");
        flow("192.0.2.9", None, "192.0.2.8");

        let state = judged(&handle, &snapshots, denied(&["web"])).await;
        assert_eq!(state.revoked, 1);
        assert!(conntrack("-L -d 10.1.0.2").contains(REVOKED));
        assert!(!conntrack("-L -d 192.0.2.8").contains(REVOKED), "none of ours");

        judged(&handle, &snapshots, world(&["web"])).await;
        assert!(!conntrack("-L -d 10.1.0.2").contains(REVOKED));
    });
}

#[test]
fn a_flow_is_judged_by_the_pod_behind_the_service() {
    in_netns(|| async {
        let (snapshots, receiver) = watch::channel(world(&["web"]));
        let handle = spawn(&supervisor().0, receiver).unwrap();
        handle.recovered(vec![attachment("web", 2)]).await;
        settled(&handle, |state| state.judged == 1).await;
        flow("10.1.0.2", Some("10.96.0.1"), "192.0.2.9");
        flow("10.1.0.2", Some("192.0.2.9"), "192.0.2.8");

        let state = judged(&handle, &snapshots, world_with(&["web"], &egress_to("192.0.2.9/32"))).await;
        assert_eq!(state.revoked, 1);
        assert!(!conntrack("-L -d 10.96.0.1").contains(REVOKED));
        assert!(conntrack("-L -d 192.0.2.9").contains(REVOKED));
    });
}

/// It was killed between the commit of the rules and the marking of flows.
#[test]
fn an_agent_that_adopts_cuts_what_its_forerunner_had_not_cut_yet() {
    in_netns(|| async {
        let web = attachment("web", 2);
        let (snapshots, receiver) = watch::channel(denied(&["web"]));
        let first = spawn(&supervisor().0, receiver).unwrap();
        first.recovered(vec![web.clone()]).await;
        settled(&first, |state| state.judged == 1).await;
        drop((first, snapshots));
        flow("192.0.2.9", None, "10.1.0.2");

        let (_snapshots, receiver) = watch::channel(denied(&["web"]));
        let second = spawn(&supervisor().0, receiver).unwrap();
        second.recovered(vec![web]).await;
        let state = settled(&second, |state| state.judged == 1).await;
        assert_eq!((state.counts.revision, state.revoked), (0, 1), "no rule had to change");
        assert!(conntrack("-L -d 10.1.0.2").contains(REVOKED));
    });
}

#[test]
fn a_scan_that_fails_is_a_problem_and_is_repeated_until_it_has_succeeded() {
    in_netns(|| async {
        let attempts = AtomicU64::new(0);
        let (seen, wait) = std::sync::mpsc::channel::<()>();
        let open = move || {
            if attempts.fetch_add(1, Ordering::SeqCst) < 2 {
                return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
            }
            let _ = wait.recv();
            Conntrack::open()
        };
        let state = Arc::new(watch::Sender::new(PolicyState::default()));
        let jobs =
            flows::spawn(&supervisor().0, Arc::clone(&state), Options::default().revoked_mark, open).unwrap();
        let (_snapshots, receiver) = watch::channel(denied(&["web"]));
        flow("192.0.2.9", None, "10.1.0.2");
        let handle = spawn_beside(&supervisor().0, jobs, receiver, state).unwrap();
        handle.recovered(vec![attachment("web", 2)]).await;

        let state = settled(&handle, |state| state.flow_failures == 2).await;
        assert!(state.problems().any(|problem| problem.object == "conntrack"), "{state:?}");
        drop(seen);
        let state = settled(&handle, |state| state.judged == 1 && state.flows.is_none()).await;
        assert_eq!((state.revoked, state.problems().next()), (1, None));
        assert!(conntrack("-L -d 10.1.0.2").contains(REVOKED));
    });
}

#[test]
fn what_begins_or_ends_at_the_node_itself_is_never_cut() {
    in_netns(|| async {
        crate::testing::ip("addr add 192.0.2.1/24 dev lo");
        let (snapshots, receiver) = watch::channel(world(&["web"]));
        let handle = spawn(&supervisor().0, receiver).unwrap();
        handle.recovered(vec![attachment("web", 2)]).await;
        settled(&handle, |state| state.judged == 1).await;
        flow("192.0.2.1", None, "10.1.0.2");
        flow("127.0.0.2", None, "10.1.0.2");
        flow("10.1.0.2", None, "192.0.2.1");

        let state = judged(&handle, &snapshots, denied(&["web"])).await;
        assert_eq!(state.revoked, 0, "{}", conntrack("-L"));
        assert!(!conntrack("-L").contains(REVOKED));
    });
}

#[test]
fn an_address_is_given_away_when_its_flows_are_forgotten_however_often_the_commit_fails() {
    in_netns(|| async {
        let (_snapshots, receiver) = watch::channel(world(&["web", "greedy"]));
        let handle = spawn(&supervisor().0, receiver).unwrap();
        flow("192.0.2.9", None, "10.1.0.2");
        flow("192.0.2.9", None, "192.0.2.8");
        let (web, greedy) = (attachment("web", 2), with_ports(attachment("greedy", 3), 1..=16385));
        handle.recovered(vec![web.clone(), greedy.clone()]).await;
        settled(&handle, |state| state.problems.iter().any(|p| p.object == "table inet weft")).await;

        let refused_again = async {
            let mut local = handle.local.clone();
            local.wait_for(|local| local.len() == 1).await.unwrap();
            handle.release(&greedy.id).await;
        };
        tokio::join!(handle.release(&web.id), refused_again);
        assert_eq!(conntrack("-L -d 10.1.0.2"), "");
        assert_ne!(conntrack("-L -d 192.0.2.8"), "", "others are left alone");
    });
}
