use serde_json::json;
use tokio::sync::watch;
use weft_api::crd::BGPConfigurationSpec;

use super::*;
use crate::supervise::brief;
use crate::testing::eventually;

struct Dir(StateConfig);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("weft-remember-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Self(StateConfig { dir, passwords: false, bootstrap: None })
    }

    fn file(&self) -> PathBuf {
        self.0.dir.join(STATE_FILE)
    }

    async fn recalls(&self, node: &str) -> Option<Snapshot> {
        recall(&self.0, node).await.map(|remembered| remembered.snapshot)
    }

    fn bootstrap(&mut self, text: &str) {
        std::fs::create_dir_all(&self.0.dir).unwrap();
        let path = self.0.dir.join("bootstrap.yaml");
        std::fs::write(&path, text).unwrap();
        self.0.bootstrap = Some(path);
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0.dir);
    }
}

/// Two nodes; a router with a profile, one with a password; one object of each kind that plans read; what BGP does not need.
async fn cluster(name: &str) -> Snapshot {
    let text = r#"
{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {rack: a}},
 spec: {podCIDRs: [10.1.0.0/24, "fd00:1::/64"]}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}, spec: {podCIDRs: [10.2.0.0/24]},
 status: {addresses: [{type: InternalIP, address: "2001:db8::2"}, {type: InternalIP, address: 192.0.2.2}]}}
---
{apiVersion: weft.dev/v1alpha1, kind: BGPConfiguration, metadata: {name: default},
 spec: {asn: 65100, clusterCidrs: [10.0.0.0/8], gracefulRestart: {restartSeconds: 15}}}
---
{apiVersion: weft.dev/v1alpha1, kind: BGPNodeOverride, metadata: {name: a}, spec: {nodeSelector: {}, asn: 65101}}
---
{apiVersion: weft.dev/v1alpha1, kind: BGPAdvertisement, metadata: {name: all}, spec: {communities: ["65101:7"]}}
---
{apiVersion: weft.dev/v1alpha1, kind: BGPFilter, metadata: {name: default-route},
 spec: {rules: [{prefixes: [{cidr: 0.0.0.0/0}], action: accept}]}}
---
{apiVersion: weft.dev/v1alpha1, kind: BGPPeerProfile, metadata: {name: tors}, spec: {session: {importFilters: [default-route]}}}
---
{apiVersion: weft.dev/v1alpha1, kind: BGPPeer, metadata: {name: tor}, spec: {address: 192.0.2.254, asn: 65001, profile: tors}}
---
{apiVersion: weft.dev/v1alpha1, kind: BGPPeer, metadata: {name: secret}, spec: {address: 192.0.2.253, asn: external,
 session: {security: {passwordSecret: {name: bgp, key: tor}}}}}
---
{apiVersion: v1, kind: Secret, metadata: {namespace: weft-system, name: bgp}, stringData: {tor: "hush\0", other: "tell nobody"}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: demo, name: web}, spec: {nodeName: n1}}
"#;
    let mut dir = Dir::new(name);
    dir.bootstrap(text);
    let snapshot = dir.recalls("n1").await.unwrap();
    assert_eq!(*snapshot.problems, [].into());
    snapshot
}

fn planned(snapshot: &Snapshot) -> weft_intent::plan::Desired {
    weft_intent::plan::desired(snapshot, "n1").unwrap()
}

#[tokio::test]
async fn what_is_kept_plans_the_same_but_for_passwords_and_pods() {
    let mut dir = Dir::new("same");
    let world = cluster("same-of").await;
    for passwords in [false, true] {
        dir.0.passwords = passwords;
        store(&dir.0, "n1", &world).unwrap();
        let recalled = dir.recalls("n1").await.unwrap();
        let (mut want, have) = (planned(&world), planned(&recalled));
        assert_eq!((want.peers.len(), have.peers.len()), (3, if passwords { 3 } else { 2 }));
        if !passwords {
            want.peers.retain(|peer| peer.name != "secret");
            want.problems.clone_from(&have.problems);
            assert!(have.problems.iter().any(|problem| problem.reason.contains("the session stays down")));
        }
        assert_eq!(want, have);
        assert!(recalled.world.pods.is_empty());
    }
}

#[tokio::test]
async fn passwords_are_kept_only_when_that_is_asked_for_and_no_others_and_only_root_reads_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let mut dir = Dir::new("passwords");
    let kept = |dir: &Dir| std::fs::read_to_string(dir.file()).unwrap();
    let secret = json!(k8s_openapi::ByteString(b"hush\0".to_vec())).as_str().unwrap().to_owned();
    let other = json!(k8s_openapi::ByteString(b"tell nobody".to_vec())).as_str().unwrap().to_owned();
    store(&dir.0, "n1", &cluster("passwords-of").await).unwrap();
    assert!(!kept(&dir).contains(&secret) && !kept(&dir).contains("hush"));
    dir.0.passwords = true;
    store(&dir.0, "n1", &cluster("passwords-of").await).unwrap();
    assert!(kept(&dir).contains(&secret) && !kept(&dir).contains(&other));
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir.file()), mode(&dir.0.dir)), (0o600, 0o700));
}

#[tokio::test]
async fn a_file_that_is_not_whole_or_not_ours_is_left_out_and_said_so() {
    let dir = Dir::new("damaged");
    assert!(load(&dir.file(), "n1").unwrap().is_none(), "a fresh node has none");
    store(&dir.0, "n1", &cluster("damaged-of").await).unwrap();
    let good = std::fs::read(dir.file()).unwrap();
    assert!(load(&dir.file(), "n1").unwrap().is_some());

    let refusal = load(&dir.file(), "n2").unwrap_err().to_string();
    assert!(refusal.contains("node n1"), "{refusal}");
    for length in [0, 10, good.len() / 2, good.len() - 1] {
        std::fs::write(dir.file(), &good[..length]).unwrap();
        load(&dir.file(), "n1").unwrap_err();
    }
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    std::fs::write(dir.file(), &flipped).unwrap();
    load(&dir.file(), "n1").unwrap_err();
    let good = String::from_utf8(good).unwrap();
    // What it said of BGP an agent of today would read in part.
    for other in [1, 3] {
        let text = good.replacen("\"format\":2", &format!("\"format\":{other}"), 1);
        std::fs::write(dir.file(), text).unwrap();
        let refusal = load(&dir.file(), "n1").unwrap_err().to_string();
        assert!(refusal.contains(&format!("format {other}")), "{refusal}");
    }
    assert!(dir.recalls("n1").await.is_none());
}

#[tokio::test]
async fn an_operators_word_replaces_what_was_kept_and_adds_to_it() {
    let mut dir = Dir::new("bootstrap");
    let text = "{apiVersion: weft.dev/v1alpha1, kind: BGPPeer, metadata: {name: tor}, spec: {address: 192.0.2.9, asn: 65001}}\n---\n\
        {apiVersion: v1, kind: Node, metadata: {name: n9}}\n";
    dir.bootstrap(text);
    let alone = dir.recalls("n1").await.unwrap();
    assert_eq!((alone.bgp.peers.len(), alone.nodes.len()), (1, 1));

    store(&dir.0, "n1", &cluster("bootstrap-of").await).unwrap();
    let both = dir.recalls("n1").await.unwrap();
    assert_eq!((both.bgp.peers.len(), both.nodes.len()), (2, 3));
    assert_eq!(both.bgp.peers["tor"].address, "192.0.2.9".parse().ok());
    assert_eq!(
        both.bgp.configuration().graceful_restart.restart_seconds,
        15,
        "it says nothing of the configuration"
    );
}

#[tokio::test]
async fn an_operator_who_writes_down_an_address_takes_nothing_else_from_the_node() {
    let mut dir = Dir::new("address");
    let world = cluster("address-of").await;
    store(&dir.0, "n1", &world).unwrap();
    dir.bootstrap(
        "{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {edge: b}}, \
          status: {addresses: [{type: InternalIP, address: 192.0.2.7}]}}",
    );
    let mut want = (*world.nodes["n1"]).clone();
    want.internal_ips = vec!["192.0.2.7".parse().unwrap()];
    want.labels.insert("edge".to_owned(), "b".to_owned());
    assert_eq!(want.pod_cidrs.len(), 2);
    assert_eq!(*dir.recalls("n1").await.unwrap().nodes["n1"], want);

    dir.bootstrap(
        "{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {rack: z}}, \
          spec: {podCIDRs: [10.7.0.0/24]}}",
    );
    let told = Arc::clone(&dir.recalls("n1").await.unwrap().nodes["n1"]);
    assert_eq!(&*told.labels["rack"], "z");
    assert_eq!(
        (&told.pod_cidrs, &told.internal_ips),
        (&vec!["10.7.0.0/24".parse().unwrap()], &world.nodes["n1"].internal_ips)
    );
}

#[tokio::test]
async fn an_operators_configuration_counts_even_when_it_is_the_default_one() {
    let mut dir = Dir::new("default");
    store(&dir.0, "n1", &cluster("default-of").await).unwrap();
    dir.bootstrap(
        "{apiVersion: weft.dev/v1alpha1, kind: BGPConfiguration, metadata: {name: default}, spec: {}}",
    );
    let recalled = dir.recalls("n1").await.unwrap();
    assert_eq!(
        (recalled.problems.len(), recalled.bgp.written.clone()),
        (0, Some(BGPConfigurationSpec::default()))
    );
}

#[tokio::test]
async fn what_changes_is_kept_also_after_the_disk_had_no_room() {
    let dir = Dir::new("keeps");
    let (snapshots, receiver) = watch::channel(None);
    let pace = Duration::from_millis(20);
    brief(keep_at_pace(dir.0.clone(), "n1".to_owned(), receiver, pace, pace));
    let mut world = cluster("keeps-of").await;
    snapshots.send_replace(Some(Arc::new(world.clone())));
    eventually("kept", || dir.file().exists()).await;

    // A directory is where the file should be, for a while.
    std::fs::remove_file(dir.file()).unwrap();
    std::fs::create_dir(dir.file()).unwrap();
    world.bgp.written.as_mut().unwrap().graceful_restart.restart_seconds = 77;
    snapshots.send_replace(Some(Arc::new(world)));
    eventually("tried", || dir.0.dir.join(format!(".{STATE_FILE}.new")).exists()).await;
    std::fs::remove_dir(dir.file()).unwrap();
    eventually("kept again", || dir.file().is_file()).await;
    assert_eq!(dir.recalls("n1").await.unwrap().bgp.configuration().graceful_restart.restart_seconds, 77);
}
