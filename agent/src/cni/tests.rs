//! The server against the kernel, in a namespace of its own, without its tasks: each test takes the steps itself.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use weft_pods::attachment::{Addresses, Attachment, AttachmentId, Mac, PodRef};
use weft_pods::journal::{Replay, replay};
use weft_pods::record::Record;
use weft_pods::steps::{DYING_GROUP, Step};

use super::*;
use crate::kernel::link;
use crate::testing::{in_netns, ip};

pub(super) struct Open;

impl PolicyGate for Open {
    type Error = String;

    async fn admit(&self, _: &Attachment) -> Result<(), String> {
        Ok(())
    }

    async fn release(&self, _: &AttachmentId) {}

    async fn recovered(&self, _: Vec<Attachment>) {}
}

/// Notes what it is told, in order.
#[derive(Default)]
struct Noting(Mutex<Vec<String>>);

impl PolicyGate for Noting {
    type Error = String;

    async fn admit(&self, _: &Attachment) -> Result<(), String> {
        Ok(())
    }

    async fn release(&self, id: &AttachmentId) {
        self.0.lock().unwrap().push(format!("release {}", id.container_id));
    }

    async fn recovered(&self, attachments: Vec<Attachment>) {
        let ids = attachments.into_iter().map(|attachment| attachment.id.container_id);
        self.0.lock().unwrap().extend(ids.map(|id| format!("recovered {id}")));
    }
}

pub(super) struct RunDir(PathBuf);

impl RunDir {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weft-cni-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// An agent whose tasks do not run.
    pub(super) async fn agent(&self) -> (CniHandle, Arc<Service<Open>>) {
        self.agent_with(Open).await
    }

    async fn agent_with<G: PolicyGate>(&self, gate: G) -> (CniHandle, Arc<Service<G>>) {
        let proc_sys_net = "/proc/sys/net".into();
        let config = CniConfig { run_dir: self.0.clone(), node: "node1".to_owned(), mtu: 1400, proc_sys_net };
        let (handle, server) = start(config, gate).await.unwrap();
        handle.set_pools(&["10.1.0.0/24".parse().unwrap()]);
        handle.set_ready(Ok(()));
        (handle, server.service)
    }

    fn journal(&self) -> Replay {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        replay(&std::fs::read(self.0.join("attachments.journal")).unwrap(), boot_id.trim())
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn unallocated(name: &str) -> Attachment {
    let id = AttachmentId { container_id: name.to_owned(), ifname: "eth0".to_owned() };
    Attachment {
        link: weft_pods::mark::name(&id, 0),
        id,
        ifindex: 0,
        pod: Some(PodRef { namespace: "demo".to_owned(), name: name.to_owned(), uid: None }),
        addresses: Addresses::default(),
        mac: Mac::HOST,
        netns: weft_pods::attachment::NetnsId(1),
        mtu: 1400,
        ports: Vec::new(),
    }
}

/// A pod as ADD leaves it in the books, with a link.
fn attached(service: &Service<Open>, name: &str) -> Attachment {
    let attachment = service.shared.allocate(unallocated(name)).unwrap();
    ip(&format!("link add {} group 87 type veth peer name pod-{name}", attachment.link));
    let ifindex = observed(service, &attachment.link).ifindex;
    service.shared.record(&Record::Commit { id: attachment.id.clone(), ifindex }).unwrap();
    attachment
}

fn observed(service: &Service<Open>, name: &str) -> weft_pods::recover::ObservedLink {
    service.rtnl.run(|rtnl| link::by_name(rtnl, name)).unwrap().expect("the link is there").link
}

/// Whatever kept it from being marked when its end began: a kernel that refused, somebody's `ip link set group`.
#[test]
fn the_audit_marks_a_dying_link_that_lacks_the_group() {
    in_netns(async || {
        let dir = RunDir::new("dying");
        let (_handle, service) = dir.agent().await;
        let [dying, live] = ["dying", "live"].map(|name| attached(&service, name));
        service.shared.record_fact(&Record::Release { id: dying.id.clone() });
        recovery::audit(&service, &dir.0).await.unwrap();
        assert_eq!(observed(&service, &dying.link).group, DYING_GROUP);
        assert_eq!(observed(&service, &live.link).group, weft_api::LINK_GROUP);
    });
}

#[test]
fn the_audit_marks_a_link_of_ours_that_has_no_record_and_no_others() {
    in_netns(async || {
        let dir = RunDir::new("orphan");
        let (_handle, service) = dir.agent().await;
        let live = attached(&service, "live");
        ip("link add weft0123456789a group 87 type veth peer name a");
        ip("link add weft0123456789b group 5 type veth peer name b");
        recovery::audit(&service, &dir.0).await.unwrap();
        let groups =
            ["weft0123456789a", "weft0123456789b", &live.link].map(|name| observed(&service, name).group);
        assert_eq!(groups, [DYING_GROUP, 5, weft_api::LINK_GROUP]);
    });
}

/// The flows of its address are still in the kernel: who gets the address next must not inherit them.
#[test]
fn a_pod_that_ended_while_no_agent_ran_has_its_address_until_the_policy_has_forgotten_it() {
    in_netns(async || {
        let dir = RunDir::new("ended");
        let (handle, service) = dir.agent().await;
        let [deleted, gone, live] = ["deleted", "gone", "live"].map(|name| attached(&service, name));
        drop((handle, service));
        ip(&format!("link del {}", gone.link));
        std::fs::create_dir_all(dir.0.join(weft_api::DELETED_DIR)).unwrap();
        std::fs::write(dir.0.join(weft_api::DELETED_DIR).join("deleted@eth0"), "").unwrap();

        let (_handle, service) = dir.agent_with(Noting::default()).await;
        let told = || std::mem::take(&mut *service.gate.0.lock().unwrap());
        assert_eq!(told(), ["recovered deleted", "recovered gone", "recovered live"]);
        let next = service.shared.allocate(unallocated("next")).unwrap();
        assert!(![deleted, gone].iter().any(|ended| ended.addresses == next.addresses));

        recovery::audit(&service, &dir.0).await.unwrap();
        assert_eq!(told(), ["release gone"]);
        service.reaper.run(link::reap).unwrap();
        recovery::audit(&service, &dir.0).await.unwrap();
        assert_eq!(told(), ["release deleted"]);
        assert_eq!(service.shared.attached().len(), 1);
        assert!(service.shared.entry(&live.id).is_some());
    });
}

/// The line that freed them was lost.
#[test]
fn a_link_that_has_the_addresses_of_a_pod_that_ended_is_adopted() {
    in_netns(async || {
        let dir = RunDir::new("adopted");
        let (handle, service) = dir.agent().await;
        let old = attached(&service, "old");
        ip(&format!("link del {}", old.link));
        let new = Attachment { addresses: old.addresses, mac: old.mac, ..unallocated("new") };
        ip(&format!("link add {} group 87 type veth peer name pod-new", new.link));
        let (ifindex, alias) = (observed(&service, &new.link).ifindex, weft_pods::mark::alias(&new));
        service.rtnl.run(|rtnl| link::apply(rtnl, ifindex, &[Step::Alias(alias)])).unwrap();
        drop((handle, service));

        let (_handle, service) = dir.agent().await;
        recovery::audit(&service, &dir.0).await.unwrap();
        let ids: Vec<_> = service.shared.attached().into_iter().map(|attachment| attachment.id).collect();
        assert_eq!(ids, [new.id]);
        assert_eq!(observed(&service, &new.link).group, weft_api::LINK_GROUP);
    });
}

/// A run directory on a file system of its own, which this thread alone sees.
struct Small<'a>(&'a RunDir);

impl<'a> Small<'a> {
    fn mount(dir: &'a RunDir) -> Self {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let path = dir.0.to_str().unwrap();
        for arguments in [vec!["--make-rprivate", "/"], vec!["-t", "tmpfs", "-o", "size=64k", "none", path]] {
            assert!(Command::new("mount").args(arguments).status().unwrap().success());
        }
        Self(dir)
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0.0).status();
    }
}

fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 512]).is_ok() {}
}

#[test]
fn with_a_full_run_directory_no_pod_is_added_and_pods_that_go_are_forgotten() {
    in_netns(async || {
        let dir = RunDir::new("full");
        let _mounted = Small::mount(&dir);
        let (handle, service) = dir.agent().await;
        let first = service.shared.allocate(unallocated("first")).unwrap();
        fill(&dir.0.join("fill"));
        // The last page of the journal has room for some.
        let refused = (0..100).find_map(|n| service.shared.allocate(unallocated(&format!("c{n}"))).err());
        let refused = refused.expect("no room for a hundred").to_string();
        assert!(refused.contains("attachments.journal: No space left on device"), "{refused}");
        let before = service.shared.read(Clone::clone);
        assert_eq!(dir.journal().ledger.entries().count(), before.entries().count(), "nothing is lost");

        service.shared.record_fact(&Record::Free { id: first.id.clone(), at: Duration::ZERO });
        assert_eq!(service.shared.entry(&first.id), None);
        service.shared.allocate(unallocated("next")).unwrap_err();

        drop((handle, service));
        let (_handle, service) = dir.agent().await;
        recovery::audit(&service, &dir.0).await.unwrap();
        assert_eq!(service.shared.read(|ledger| ledger.entries().len()), 0, "what has no link is free");
        service.shared.allocate(unallocated("next")).unwrap_err();
        std::fs::remove_file(dir.0.join("fill")).unwrap();
        service.shared.allocate(unallocated("next")).unwrap();
        let records = |ledger: &weft_pods::ledger::Ledger| ledger.snapshot();
        assert_eq!(records(&dir.journal().ledger), service.shared.read(records));
    });
}
