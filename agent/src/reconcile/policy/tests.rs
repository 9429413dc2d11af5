//! Against the real kernel, in a namespace of its own.

mod flows;

use std::net::IpAddr;

use weft_pods::attachment::{Addresses, Attachment, Mac, NetnsId, PodRef, PortMapping, Transport};
use weft_policy::compile::Full;
use weft_policy::model::{Pod, PodKey, PodUid};

use super::*;
use crate::gate::PolicyGate;
use crate::supervise::supervisor;
use crate::testing::in_netns;

fn attachment(name: &str, last: u8) -> Attachment {
    let addresses = Addresses { v4: Some([10, 1, 0, last].into()), v6: None };
    Attachment {
        id: AttachmentId { container_id: format!("container-{name}"), ifname: "eth0".to_owned() },
        link: format!("weft000000000{last:02}"),
        ifindex: 0,
        pod: Some(PodRef { namespace: "demo".to_owned(), name: name.to_owned(), uid: None }),
        addresses,
        mac: Mac::of_pod(&addresses),
        netns: NetnsId(1),
        mtu: 1500,
        ports: Vec::new(),
    }
}

fn world(names: &[&str]) -> Option<Arc<Snapshot>> {
    let mut snapshot = Snapshot::default();
    for name in names {
        let key = PodKey { namespace: "demo".to_owned(), name: (*name).to_owned() };
        snapshot.world.pods.insert(key, Pod { active: true, ..Pod::default() }.into());
    }
    Some(Arc::new(snapshot))
}

/// Addresses in the dispatch map of local pods.
fn dispatched() -> String {
    let output =
        std::process::Command::new("nft").args(["list", "map", "inet", "weft", "pod_i4"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

async fn settled(handle: &PolicyHandle, holds: impl Fn(&PolicyState) -> bool) -> PolicyState {
    let mut state = handle.state();
    let found = tokio::time::timeout(Duration::from_secs(5), state.wait_for(|state| holds(state))).await;
    found.expect("the state comes within the deadline").unwrap().clone()
}

#[test]
fn a_pod_is_admitted_when_its_policy_is_in_the_kernel_and_forgotten_when_it_is_released() {
    in_netns(|| async {
        let (_snapshots, receiver) = watch::channel(world(&["web"]));
        let handle = spawn(&supervisor().0, receiver).unwrap();
        handle.recovered(Vec::new()).await;

        let web = attachment("web", 2);
        handle.admit(&web).await.unwrap();
        assert!(dispatched().contains("10.1.0.2"), "{}", dispatched());
        assert_eq!(handle.local().len(), 1);
        let revision = handle.state().borrow().counts.revision;

        handle.release(&web.id).await;
        assert!(!dispatched().contains("10.1.0.2"), "{}", dispatched());
        assert_eq!(settled(&handle, |state| state.settled).await.counts.revision, revision + 1);
    });
}

#[test]
fn a_pod_waits_for_the_datastore_and_is_refused_when_it_never_comes() {
    in_netns(|| async {
        let (snapshots, receiver) = watch::channel(world(&[]));
        let handle = spawn(&supervisor().0, receiver).unwrap();
        handle.recovered(Vec::new()).await;

        let (late, never) = (attachment("late", 2), attachment("never", 3));
        let appears = async {
            settled(&handle, |state| state.settled).await;
            snapshots.send_replace(world(&["late"]));
        };
        let (late, never, ()) = tokio::join!(handle.admit(&late), handle.admit(&never), appears);
        assert_eq!(late, Ok(()));
        assert_eq!(never, Err(AdmitError::Unknown("demo/never".to_owned())));
        assert!(dispatched().contains("10.1.0.2") && !dispatched().contains("10.1.0.3"), "{}", dispatched());
    });
}

#[test]
fn an_add_waits_for_its_own_pod_and_not_for_the_one_that_had_its_name() {
    let uid = |uid: &str| Some(PodUid(uid.to_owned()));
    let mut snapshot = (*world(&["web"]).unwrap()).clone();
    let mut pod = local_pod(&attachment("web", 2));
    for (shown, ours, known) in
        [(uid("old"), uid("new"), false), (uid("new"), uid("new"), true), (None, uid("new"), true)]
    {
        let object = Pod { uid: shown, active: true, ..Pod::default() };
        snapshot.world.pods.insert(pod.key.clone(), object.into());
        pod.uid = ours;
        assert_eq!(is_known(&snapshot.world, &pod), known, "{:?}", snapshot.world.pods[&pod.key].uid);
    }
}

#[test]
fn the_next_owner_adopts_what_the_last_one_left() {
    in_netns(|| async {
        let web = attachment("web", 2);
        let (snapshots, receiver) = watch::channel(world(&["web"]));
        let first = spawn(&supervisor().0, receiver).unwrap();
        first.recovered(vec![web.clone()]).await;
        settled(&first, |state| state.settled).await;
        drop((first, snapshots));

        let (_snapshots, receiver) = watch::channel(world(&["web"]));
        let second = spawn(&supervisor().0, receiver).unwrap();
        second.recovered(vec![web]).await;
        let state = settled(&second, |state| state.settled).await;
        assert_eq!(state.counts.revision, 0, "nothing had to change");
        let address: IpAddr = [10, 1, 0, 2].into();
        assert!(dispatched().contains(&address.to_string()));
    });
}

/// With `policy`, the spec of one that stands in namespace demo.
fn world_with(names: &[&str], policy: &serde_json::Value) -> Option<Arc<Snapshot>> {
    let mut snapshot = world(names)?;
    let object = serde_json::json!({ "metadata": { "name": "p", "namespace": "demo" }, "spec": policy });
    let policy = weft_policy::translate::policy(&serde_json::from_value(object).unwrap()).unwrap();
    Arc::make_mut(&mut snapshot).world.policies.insert(policy.key.clone(), policy.into());
    Some(snapshot)
}

/// The task may wake for the pod and find the snapshot already there.
#[test]
fn a_snapshot_that_comes_together_with_a_pod_is_in_force_too() {
    in_netns(|| async {
        let policy = serde_json::json!({ "podSelector": {} });
        let worlds = [world(&["web"]), world_with(&["web"], &policy)];
        let (snapshots, receiver) = watch::channel(worlds[0].clone());
        let handle = spawn(&supervisor().0, receiver).unwrap();
        handle.recovered(Vec::new()).await;
        let nobody = attachment("nobody", 9).id;
        for round in 1..=200 {
            let changes = async { snapshots.send_replace(worlds[round % 2].clone()) };
            tokio::join!(handle.release(&nobody), changes);
            settled(&handle, |state| state.counts.policies as usize == round % 2).await;
        }
    });
}

fn with_ports(attachment: Attachment, ports: std::ops::RangeInclusive<u16>) -> Attachment {
    let port =
        |host_port| PortMapping { transport: Transport::Udp, host_port, container_port: 80, host_ip: None };
    Attachment { ports: ports.map(port).collect(), ..attachment }
}

#[test]
fn a_pod_is_admitted_while_flows_wait_to_be_judged() {
    in_netns(|| async {
        let (snapshots, receiver) = watch::channel(world(&["web", "db"]));
        let (jobs, taken) = std::sync::mpsc::sync_channel(16);
        let handle = spawn_beside(&supervisor().0, jobs, receiver, Arc::default()).unwrap();
        handle.recovered(vec![attachment("web", 2)]).await;
        settled(&handle, |state| state.settled).await;
        assert!(matches!(taken.recv(), Ok(Job::Judge(_))), "once, whatever the former agent had judged");

        snapshots.send_replace(world_with(&["web", "db"], &serde_json::json!({ "podSelector": {} })));
        settled(&handle, |state| state.counts.policies == 1).await;
        handle.admit(&attachment("db", 3)).await.unwrap();

        let Ok(Job::Judge(scene)) = taken.recv() else { panic!("the change of policy is judged") };
        assert_eq!((scene.snapshot.world.policies.len(), scene.local.len()), (1, 1));
        assert!(taken.try_recv().is_err(), "a pod that comes has no flows");
    });
}

/// Pods of namespace demo may talk to its pod web, and so may those elsewhere in it: by name, label `app` and address.
fn world_of(elsewhere: &[(&str, &str, [u8; 4])]) -> Option<Arc<Snapshot>> {
    let peers = serde_json::json!([{ "podSelector": { "matchLabels": { "app": "friend" } } }]);
    let mut snapshot =
        world_with(&["web"], &serde_json::json!({ "podSelector": {}, "ingress": [{ "from": peers }] }))?;
    let world = &mut Arc::make_mut(&mut snapshot).world;
    for (name, app, ip) in elsewhere {
        let key = PodKey { namespace: "demo".to_owned(), name: (*name).to_owned() };
        let labels = [("app".to_owned(), (*app).to_owned())].into();
        let pod =
            Pod { active: true, labels: Arc::new(labels), ips: [IpAddr::from(*ip)].into(), ..Pod::default() };
        world.pods.insert(key, pod.into());
    }
    Some(snapshot)
}

fn peers() -> String {
    let output = std::process::Command::new("nft").args(["list", "sets", "inet"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn pods_elsewhere_are_followed_and_their_flows_judged_when_one_that_lives_is_shut_out() {
    in_netns(|| async {
        let (snapshots, receiver) = watch::channel(world_of(&[]));
        let (jobs, taken) = std::sync::mpsc::sync_channel(16);
        let handle = spawn_beside(&supervisor().0, jobs, receiver, Arc::default()).unwrap();
        handle.recovered(vec![attachment("web", 2)]).await;
        settled(&handle, |state| state.settled).await;
        assert!(matches!(taken.recv(), Ok(Job::Judge(_))), "once, whatever the former agent had judged");

        snapshots.send_replace(world_of(&[("a", "friend", [10, 9, 0, 1]), ("b", "friend", [10, 9, 0, 2])]));
        settled(&handle, |state| state.counts.revision == 2).await;
        assert!(peers().contains("10.9.0.1") && peers().contains("10.9.0.2"), "{}", peers());
        snapshots.send_replace(world_of(&[("a", "friend", [10, 9, 0, 1])]));
        settled(&handle, |state| state.counts.revision == 3).await;
        assert!(!peers().contains("10.9.0.2"), "{}", peers());
        assert!(taken.try_recv().is_err(), "they wait for more");

        snapshots.send_replace(world_of(&[("a", "stranger", [10, 9, 0, 1])]));
        settled(&handle, |state| state.counts.revision == 4).await;
        let Ok(Job::Judge(scene)) = taken.recv_timeout(JUDGED_WITHIN / 2) else {
            panic!("what it has been saying is judged");
        };
        assert!(
            scene
                .snapshot
                .world
                .pods
                .values()
                .all(|pod| pod.labels.get("app").is_none_or(|app| app == "stranger"))
        );
        assert!(taken.try_recv().is_err(), "and with it all that waited");
    });
}

#[test]
fn flows_with_pods_that_are_gone_do_not_wait_for_ever() {
    in_netns(|| async {
        let (snapshots, receiver) = watch::channel(world_of(&[("a", "friend", [10, 9, 0, 1])]));
        let (jobs, taken) = std::sync::mpsc::sync_channel(16);
        let handle = spawn_beside(&supervisor().0, jobs, receiver, Arc::default()).unwrap();
        handle.recovered(vec![attachment("web", 2)]).await;
        settled(&handle, |state| state.settled).await;
        assert!(matches!(taken.recv(), Ok(Job::Judge(_))), "once, whatever the former agent had judged");

        snapshots.send_replace(world_of(&[]));
        settled(&handle, |state| state.counts.revision == 2).await;
        let Ok(Job::Judge(scene)) = taken.recv_timeout(JUDGED_WITHIN * 2) else {
            panic!("nothing is judged")
        };
        assert_eq!(scene.snapshot.world.pods.len(), 1);
        assert!(taken.try_recv().is_err());
    });
}

#[test]
fn a_pod_with_more_host_ports_than_a_map_holds_is_refused_by_name_and_no_other() {
    in_netns(|| async {
        let (_snapshots, receiver) = watch::channel(world(&["greedy", "web"]));
        let handle = spawn(&supervisor().0, receiver).unwrap();
        handle.recovered(Vec::new()).await;

        let (greedy, web) = (with_ports(attachment("greedy", 2), 1..=16385), attachment("web", 3));
        let (greedy, web) = tokio::join!(handle.admit(&greedy), handle.admit(&web));
        let refused = greedy.unwrap_err();
        assert_eq!(refused, AdmitError::Full("demo/greedy".to_owned(), Full::HostPorts));
        assert!(refused.to_string().contains("demo/greedy: with its host ports"), "{refused}");
        assert_eq!(web, Ok(()));
    });
}
