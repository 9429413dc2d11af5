//! `weftctl get`, `apply`, `delete` and `validate` as people and scripts call them: what is printed where, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

/// A directory of objects, and a folder of what is to be applied; gone at the end.
struct Place(PathBuf);

/// How weftctl ended, and what it said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("weftctl-verbs-{}-{number}", std::process::id()));
        fs::create_dir_all(path.join("store")).unwrap();
        Self(path)
    }

    fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// A file outside the store.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weftctl"));
        command.args(words).env("WEFT_DATASTORE", format!("dir:{}", self.store().display()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn weftctl(&self, words: &[&str]) -> Said {
        Said::of(self.command(words).output().unwrap())
    }

    fn weftctl_with(&self, words: &[&str], input: &str) -> Said {
        let mut child: Child = self.command(words).stdin(Stdio::piped()).spawn().unwrap();
        // It may have said no before it has read all.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Said::of(child.wait_with_output().unwrap())
    }

    fn json(&self, words: &[&str]) -> Value {
        let said = self.weftctl(&[words, &["-o", "json"]].concat());
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Said {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.err);
        self.out
    }

    /// With this exit code, for each of these reasons.
    #[track_caller]
    fn refused(&self, code: i32, reasons: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for reason in reasons {
            assert!(self.err.contains(reason), "{reason:?} is not in {}", self.err);
        }
    }
}

fn peer(name: &str, spec: &str) -> String {
    format!("apiVersion: weft.dev/v1alpha1\nkind: BGPPeer\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

/// One of each kind, with values that a reader of YAML likes to take for something else.
const ALL: &str = r#"
apiVersion: weft.dev/v1alpha1
kind: BGPConfiguration
metadata: { name: default, labels: { a: "yes", b: "0x1F" }, annotations: { a: "yes", b: "0x1F", c: "1e3", d: "null", e: "", f: "12:30", g: "~" } }
spec: { asn: 4200000001, clusterCidrs: [10.244.0.0/16, "fd00::/48"] }
---
apiVersion: weft.dev/v1alpha1
kind: BGPPeer
metadata: { name: tor.a-1, annotations: { note: "two\nlines: and # no comment ", other: "---" } }
spec:
  nodeSelector: { matchExpressions: [{ key: rack, operator: In, values: ["01", "on"] }] }
  address: "2001:db8::1"
  asn: external
  profile: tors
---
apiVersion: weft.dev/v1alpha1
kind: BGPPeerProfile
metadata: { name: tors }
spec: { session: { timers: {}, importFilters: [more] } }
---
apiVersion: weft.dev/v1alpha1
kind: BGPNodeOverride
metadata: { name: racks }
spec: { nodeSelector: {}, asn: 65001 }
---
apiVersion: weft.dev/v1alpha1
kind: BGPFilter
metadata: { name: more }
spec: { rules: [{ prefixes: [{ cidr: 0.0.0.0/0 }], action: accept }] }
---
apiVersion: weft.dev/v1alpha1
kind: BGPAdvertisement
metadata: { name: blue }
spec: { communities: ["65000:100", "4200000000:1:2"] }
"#;

#[test]
fn what_get_prints_can_be_edited_and_applied() {
    let place = Place::new();
    assert_eq!(place.weftctl_with(&["apply", "-f", "-"], ALL).ok().matches(" created\n").count(), 6);
    let before = place.json(&["get", "all"]);

    for form in ["yaml", "json"] {
        let printed = place.weftctl(&["get", "all", "-o", form]).ok();
        let again = place.weftctl_with(&["apply", "-f", "-"], &printed).ok();
        assert_eq!(again.matches(" unchanged\n").count(), 6, "{again}");
        // And into a store that has none of it.
        let other = Place::new();
        other.weftctl_with(&["apply", "-f", "-"], &printed).ok();
        let spec = |all: &Value| {
            all["items"].as_array().unwrap().iter().map(|one| one["spec"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(spec(&other.json(&["get", "all"])), spec(&before));
        assert_eq!(other.json(&["get", "bgpconfig"])["items"][0]["metadata"], before["items"][0]["metadata"]);
    }

    let one = place.weftctl(&["get", "bgppeer/tor.a-1", "-o", "yaml"]).ok();
    let edited = one.replace("external", "internal");
    assert_eq!(
        place.weftctl_with(&["apply", "-f", "-"], &edited).ok(),
        "bgppeer.weft.dev/tor.a-1 configured\n"
    );
    assert_eq!(place.json(&["get", "bgppeer", "tor.a-1"])["spec"]["asn"], "internal");
    assert_eq!(place.json(&["get", "bgppeer", "tor.a-1"])["metadata"], before["items"][1]["metadata"]);
}

#[test]
fn tables_are_for_people_and_an_empty_answer_is_said() {
    let place = Place::new();
    let nothing = place.weftctl(&["get", "bgppeers"]);
    assert_eq!((nothing.code, nothing.out.as_str(), nothing.err.as_str()), (0, "", "No resources found\n"));
    place.weftctl_with(&["apply", "-f", "-"], ALL).ok();
    let all = place.weftctl(&["get", "all"]).ok();
    assert!(all.contains("bgppeer.weft.dev/tor.a-1  2001:db8::1  external  tors"), "{all}");
    assert!(place.weftctl(&["get", "peers", "-o", "wide"]).err.contains("bgppeers"));
    let wide = place.weftctl(&["get", "BGPPeer", "-o", "wide"]).ok();
    assert!(wide.contains("MESSAGE") && wide.contains("in force as written"), "{wide}");
}

#[test]
fn exit_codes_tell_refused_from_wrong_usage() {
    let place = Place::new();
    place.weftctl(&["get", "ippools"]).refused(2, &["`ippools` is no kind of Weft's"]);
    place.weftctl(&["get"]).refused(2, &["KIND"]);
    place.weftctl(&["apply"]).refused(2, &["--filename"]);
    place.weftctl(&["delete", "bgppeer"]).refused(2, &["Names are missing"]);
    place.weftctl(&["get", "bgppeers", "--node", "n1"]).refused(2, &["--node"]);
    place.weftctl_with(&["apply", "--watch", "-f", "-"], ALL).refused(2, &["--watch"]);
    place
        .weftctl(&["get", "bgppeers", "--datastore", "etcd:x"])
        .refused(2, &["neither kubernetes nor dir:PATH"]);
    place.weftctl(&["get", "bgppeer", "x"]).refused(1, &["bgppeer.weft.dev/x: not found"]);
    place.weftctl(&["delete", "bgppeer", "x"]).refused(1, &["BGPPeer x: not found"]);
    place.weftctl(&["delete", "bgppeer", "x", "--ignore-not-found"]).ok();
    place.weftctl(&["apply", "-f", "/nowhere.yaml"]).refused(1, &["/nowhere.yaml"]);
    place.weftctl(&["get", "bgppeers", "--datastore", "dir:/nowhere"]).refused(1, &["/nowhere"]);
}

#[test]
fn weft_nodes_are_for_reading() {
    let place = Place::new();
    let node = "apiVersion: weft.dev/v1alpha1\nkind: WeftNode\nmetadata: {name: n1}\nspec: {}\n";
    place.weftctl_with(&["apply", "-f", "-"], node).refused(1, &["written by its agent", "nothing to apply"]);
    place.weftctl(&["delete", "weftnode", "n1"]).refused(1, &["agents write these"]);
    let with_peer = format!("{node}---\n{}", peer("tor", "address: 192.0.2.1, asn: 1"));
    assert_eq!(place.weftctl_with(&["apply", "-f", "-"], &with_peer).ok(), "bgppeer.weft.dev/tor created\n");
    assert!(place.weftctl(&["get", "wn"]).err.contains("No resources"));
}

#[test]
fn nothing_is_written_when_one_document_is_refused_and_each_is_named() {
    let place = Place::new();
    let good = peer("good", "address: 192.0.2.1, asn: 1");
    let cases = [
        (peer("typo", "adress: 192.0.2.1, asn: 1"), "BGPPeer typo: spec.adress: unknown field"),
        (peer("type", "address: 192.0.2.1, asn: 1, port: x"), "BGPPeer type: spec.port: "),
        (peer("none", "asn: 1"), "BGPPeer none: spec.address: missing"),
        (peer("../up", "address: 192.0.2.1, asn: 1"), "metadata.name: "),
        (peer("good", "address: 192.0.2.2, asn: 1"), "BGPPeer good: stands at "),
        ("kind: [".to_owned(), "line 6"),
        (
            "apiVersion: weft.dev/v1alpha1\nkind: BGPPear\nmetadata: {name: x}\n".to_owned(),
            "there is no weft.dev/v1alpha1 BGPPear",
        ),
        (peer("x", "").replace("/v1alpha1", ""), "there is no weft.dev BGPPeer"),
        ("apiVersion: v1\nkind: List\nitems: {a: 1}\n".to_owned(), "items: not a list"),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n".to_owned(),
            "apps/v1 Deployment: is none of weft.dev",
        ),
        (
            "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData: {p: hunter2}\n".to_owned(),
            "is none of weft.dev",
        ),
    ];
    for (bad, reason) in cases {
        let file = place.file("all.yaml", &format!("{good}---\n{bad}"));
        let said = place.weftctl(&["apply", "-f", &file]);
        said.refused(1, &[&format!("weftctl: {file} document 2 (line 5): "), reason]);
        assert!(!said.err.contains("hunter2") && said.out.is_empty(), "{said:?}");
        assert_eq!(fs::read_dir(place.store()).unwrap().count(), 0, "{reason}");
    }
}

#[test]
fn validate_says_what_an_agent_would_and_needs_nothing() {
    let place = Place::new();
    let validate = |text: &str| {
        let file = place.file("in.yaml", text);
        let mut command = place.command(&["validate", "-f", &file, "-o", "json"]);
        let said =
            Said::of(command.env_remove("WEFT_DATASTORE").env("KUBECONFIG", "/nowhere").output().unwrap());
        let answer: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(said.code, i32::from(answer["valid"] != true), "{said:?}");
        answer
    };
    let reasons = |text: &str| -> Vec<String> {
        let faults = validate(text)["faults"].as_array().unwrap().clone();
        faults
            .iter()
            .map(|fault| format!("{} {}", fault["document"], fault["reason"].as_str().unwrap()))
            .collect()
    };
    assert_eq!(reasons(ALL), Vec::<String>::new());
    assert_eq!(validate(ALL)["objects"], 6);

    let one = peer("a", "address: 192.0.2.1, asn: 1");
    let both = format!("{one}---\n{}", peer("b", "address: 192.0.2.1, asn: 2"));
    assert_eq!(reasons(&both), ["2 spec.address: BGPPeer a has the same"]);
    assert!(
        reasons(&peer("a", "address: 192.0.2.1, asn: 1, profile: p"))[0]
            .starts_with("1 spec.profile: BGPPeerProfile p is missing")
    );
    assert!(
        reasons(&peer(
            "a",
            "address: 192.0.2.1, asn: 1, nodeSelector: {matchExpressions: [{key: a, operator: Like}]}"
        ))[0]
            .starts_with("1 spec.nodeSelector: ")
    );
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {rack: a}}\n";
    let picky = peer("a", "address: 192.0.2.1, asn: 1, nodeSelector: {matchLabels: {rack: b}}");
    assert_eq!(reasons(&picky), Vec::<String>::new());
    assert_eq!(reasons(&format!("{picky}---\n{node}")), ["1 spec.nodeSelector: selects no node"]);
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}, ingress: [{ports: [{port: 80, endPort: 79}]}]}\n";
    assert!(reasons(policy)[0].contains("endPort"), "{:?}", reasons(policy));

    let with_password =
        peer("a", "address: 192.0.2.1, asn: 1, session: {security: {passwordSecret: {name: s}}}");
    assert_eq!(reasons(&with_password), Vec::<String>::new());
    assert!(validate(&with_password)["notes"].to_string().contains("s taken as given"));
    let other = "apiVersion: v1\nkind: Secret\nmetadata: {name: t}\n";
    assert!(reasons(&format!("{with_password}---\n{other}"))[0].contains("Secret s is missing"));
}

#[test]
fn delete_takes_what_stands_in_a_file_also_when_it_is_not_valid() {
    let place = Place::new();
    place.weftctl_with(&["apply", "-f", "-"], ALL).ok();
    let broken = place
        .file("gone.yaml", &format!("{}---\n{}", peer("tor.a-1", "nonsense: 1"), peer("tor.a-1", "asn: 1")));
    assert_eq!(
        place.weftctl(&["delete", "-f", &broken, "--dry-run=server"]).ok(),
        "bgppeer.weft.dev/tor.a-1 deleted (dry run)\n"
    );
    assert_eq!(place.weftctl(&["delete", "-f", &broken]).ok(), "bgppeer.weft.dev/tor.a-1 deleted\n");
    place.weftctl(&["delete", "-f", &broken]).refused(1, &["not found"]);
    let all = place.weftctl(&["get", "all", "-o", "json"]).ok();
    let rest = place.weftctl_with(&["delete", "-f", "-"], &all).ok();
    assert_eq!(rest.matches(" deleted\n").count(), 5, "{rest}");
    assert_eq!(fs::read_dir(place.store()).unwrap().count(), 0);
}

/// Whenever it is killed, a reader finds one of the two versions, whole.
#[test]
fn killed_at_any_moment_a_file_is_the_old_one_or_the_new_one() {
    let place = Place::new();
    let long = "x".repeat(200_000);
    let version = |asn: u32| {
        peer("tor", &format!("address: 192.0.2.1, asn: {asn}"))
            .replace("{name: tor}", &format!("{{name: tor, annotations: {{long: {long}}}}}"))
    };
    let files = [1, 2].map(|asn| place.file(&format!("{asn}.yaml"), &version(asn)));
    place.weftctl(&["apply", "-f", &files[0]]).ok();
    let target = place.store().join("bgppeer-tor.yaml");
    for round in 0..60_u64 {
        let mut child = place.command(&["apply", "-f", &files[usize::from(round % 2 == 0)]]).spawn().unwrap();
        sleep(Duration::from_micros(round * 400));
        child.kill().unwrap();
        child.wait().unwrap();
        let text = fs::read_to_string(&target).unwrap();
        assert!([version(1), version(2)].contains(&text), "neither version after round {round}");
    }
    place.weftctl(&["apply", "-f", &files[1]]).ok();
    assert_eq!(fs::read_to_string(&target).unwrap(), version(2));
    assert_eq!(visible(&place.store()), ["bgppeer-tor.yaml"]);
}

/// All of one file, long enough that they meet in it.
#[test]
fn many_at_once_lose_nothing_and_wait_for_one_another() {
    const MANY: usize = 24;
    let place = Place::new();
    let note = format!(", annotations: {{note: {}}}}}", "n".repeat(50_000));
    let numbered =
        |n: usize, asn: usize| peer(&format!("p{n:02}"), &format!("address: 192.0.2.1, asn: {asn}"));
    let noted = |n, asn| numbered(n, asn).replacen('}', &note, 1) + "---\n";
    fs::write(place.store().join("all.yaml"), (0..MANY).map(|n| noted(n, 1)).collect::<String>()).unwrap();
    let apply = |n| {
        let file = place.file(&format!("{n}.yaml"), &numbered(n, n + 100));
        place.command(&["apply", "-f", &file]).spawn().unwrap()
    };
    let children: Vec<_> = (0..MANY).map(apply).collect();
    for child in children {
        Said::of(child.wait_with_output().unwrap()).ok();
    }
    let all = place.json(&["get", "bgppeers"]);
    let numbers = all["items"].as_array().unwrap().iter().map(|peer| peer["spec"]["asn"].as_u64().unwrap());
    assert_eq!(numbers.collect::<Vec<_>>(), (100..100 + MANY as u64).collect::<Vec<_>>());
    assert_eq!(visible(&place.store()), ["all.yaml"]);
}

#[test]
fn large_files_are_read_and_absurd_ones_are_refused() {
    let place = Place::new();
    let note = "n".repeat(5_000);
    let many: String = (0..2_000)
        .map(|n| {
            peer(&format!("p{n}"), &format!("address: 10.{}.{}.1, asn: 1", n / 250, n % 250))
                .replace("}\nspec", &format!(", annotations: {{note: {note}}}}}\nspec"))
                + "---\n"
        })
        .collect();
    assert!(many.len() > 10_000_000);
    fs::write(place.store().join("all.yaml"), &many).unwrap();
    let edited = peer("p1999", "address: 192.0.2.9, asn: 2");
    assert_eq!(
        place.weftctl_with(&["apply", "-f", "-"], &edited).ok(),
        "bgppeer.weft.dev/p1999 configured\n"
    );
    let file = place.file("many.yaml", &many);
    let report = place.weftctl(&["validate", "-f", &file]).ok();
    assert_eq!(report, "2000 objects are valid\n");

    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
    place.weftctl_with(&["validate", "-f", "-"], bomb).refused(1, &["standard input document 1"]);
    place
        .weftctl_with(&["validate", "-f", "-"], &"[".repeat(100_000))
        .refused(1, &["standard input document 1"]);
    place.weftctl(&["validate", "-f", "/dev/zero"]).refused(1, &["larger than"]);
}

/// As `head` does.
#[test]
fn a_reader_that_has_enough_ends_it_and_a_full_disk_is_said() {
    let place = Place::new();
    let many: String =
        (0..3_000).map(|n| peer(&format!("p{n}"), "address: 192.0.2.1, asn: 1") + "---\n").collect();
    fs::write(place.store().join("all.yaml"), many).unwrap();
    for words in [
        &["get", "bgppeers"][..],
        &["get", "bgppeers", "-o", "json"],
        &["get", "all", "--watch"],
        &["completion", "bash"],
    ] {
        let mut child = place.command(words).spawn().unwrap();
        drop(child.stdout.take());
        let said = Said::of(child.wait_with_output().unwrap());
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{words:?}");
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let words: Vec<_> = words.iter().copied().filter(|word| *word != "--watch").collect();
        let said = Said::of(place.command(&words).stdout(full).output().unwrap());
        said.refused(1, &["weftctl: standard output: No space left"]);
    }
}

#[test]
fn what_is_in_names_and_reasons_does_not_steer_the_terminal() {
    let place = Place::new();
    let said = place.weftctl_with(&["validate", "-f", "-"], &peer("a", "\"\\e[31m\": 1"));
    said.refused(1, &["spec.\\u{1b}[31m: unknown field"]);
    assert!(!said.err.contains('\x1b'), "{said:?}");
    fs::write(place.store().join("a.yaml"), peer("\"\\e[31m\"", "address: 192.0.2.1, asn: 1")).unwrap();
    let shown = place.weftctl(&["get", "bgppeers", "-o", "wide"]).ok();
    assert!(!shown.contains('\x1b') && shown.contains("\\u{1b}[31m"), "{shown}");
}

#[test]
fn what_is_named_twice_is_meant_once_and_what_is_not_there_prints_nothing() {
    let place = Place::new();
    place.weftctl_with(&["apply", "-f", "-"], &peer("a", "address: 192.0.2.1, asn: 1")).ok();
    assert_eq!(place.json(&["get", "bgppeer", "a", "a"])["metadata"]["name"], "a");
    let none = place.weftctl(&["get", "bgppeer", "none", "-o", "json"]);
    assert_eq!((none.code, none.out.as_str()), (1, ""));
    assert_eq!(place.weftctl(&["delete", "bgppeer", "a", "a"]).ok(), "bgppeer.weft.dev/a deleted\n");
    let told = place.weftctl(&["delete", "bgppeer", "a", "-o", "json"]);
    assert_eq!((told.code, told.out.as_str()), (1, "[]\n"));
    let told = place.weftctl_with(&["apply", "-f", "-", "-o", "json"], &peer("A", ""));
    assert_eq!((told.code, told.out.as_str()), (1, "[]\n"));
}

#[test]
fn what_is_no_file_among_files_is_refused_and_a_flag_counts_more_than_the_variable() {
    let place = Place::new();
    fs::create_dir_all(place.0.join("in/sub.yaml")).unwrap();
    place.file("in/a.yaml", &peer("a", "address: 192.0.2.1, asn: 1"));
    let folder = place.0.join("in").display().to_string();
    place.weftctl(&["validate", "-f", &folder]).ok();
    std::os::unix::fs::symlink("nowhere", place.0.join("in/b.yaml")).unwrap();
    place.weftctl(&["validate", "-f", &folder]).refused(1, &["in/b.yaml: No such file"]);
    fs::remove_file(place.0.join("in/b.yaml")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", place.0.join("in/b.yaml")).unwrap();
    place.weftctl(&["validate", "-f", &folder]).refused(1, &["in/b.yaml: not a regular file"]);
    place.weftctl(&["get", "bgppeers", "--socket", "/nowhere"]).refused(1, &["/nowhere"]);
    place.weftctl(&["get", "bgppeers", "--kubeconfig", "/nowhere"]).refused(1, &["kubeconfig", "/nowhere"]);
    let keys = place.file("kubeconfig", "apiVersion: v1\nusers: [\ntoken: hunter2\n");
    let said = place.weftctl(&["get", "bgppeers", "--kubeconfig", &keys]);
    said.refused(1, &["kubeconfig"]);
    assert!(!said.err.contains("hunter2"), "{said:?}");
}

#[test]
fn a_server_that_is_not_there_is_said_with_the_reason() {
    let place = Place::new();
    let nowhere = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}"#;
    let (kubeconfig, file) =
        (place.file("config", nowhere), place.file("a.yaml", &peer("a", "address: 192.0.2.1, asn: 1")));
    for words in [&["get", "bgppeers"][..], &["apply", "-f", &file], &["delete", "bgppeer", "a"]] {
        let words = [words, &["--kubeconfig", &kubeconfig]].concat();
        place.weftctl(&words).refused(1, &["the API server: ", "Connection refused"]);
    }
}

fn visible(store: &Path) -> Vec<String> {
    let names = fs::read_dir(store).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/weftctl.md")).unwrap()
}

#[test]
fn the_commands_of_the_manual_are_commands() {
    let (place, page) = (Place::new(), page());
    let blocks = page.split("```sh\n").skip(1).flat_map(|rest| rest.split("```").next().unwrap().lines());
    let lines = blocks
        .filter_map(|line| line.strip_prefix("weftctl ").or_else(|| line.strip_prefix("kubectl weft ")));
    let mut count = 0;
    for line in lines {
        let words = line.split(['#', '>']).next().unwrap().split_whitespace();
        let words: Vec<_> = words.chain(["--help"]).collect();
        place.weftctl(&words).ok();
        count += 1;
    }
    assert!(count > 6, "the examples are not found");
}

#[test]
fn the_manual_shows_what_validate_says() {
    let place = Place::new();
    let tor = |name: &str, spec: &str| peer(name, spec).replace("metadata", "# a ToR\nmetadata");
    let text = [
        tor("tor-a", "address: 10.1.0.1, asn: 65001") + "---\n",
        tor("tor-b", "address: 10.1.0.2, asn: 65001, profile: tors") + "---\n",
        tor("tor-c", "adress: 10.1.0.3, asn: 65001"),
    ];
    fs::create_dir(place.0.join("peers")).unwrap();
    place.file("peers/racks.yaml", &text.concat());
    let said = Said::of(place.command(&["validate", "-f", "peers/"]).current_dir(&place.0).output().unwrap());
    let page = page();
    let example = page.split("$ weftctl validate -f peers/\n").nth(1).unwrap().split("```").next().unwrap();
    let told: Vec<_> = said.err.lines().filter(|line| !line.contains("note: ")).collect();
    assert_eq!(told, example.lines().collect::<Vec<_>>());
}

#[test]
fn a_filter_is_tried_without_asking_anybody() {
    const FILTERS: &str = "
apiVersion: weft.dev/v1alpha1
kind: BGPFilter
metadata: { name: mark }
spec:
  rules:
    - { prefixes: [{ cidr: 10.0.0.0/8, maxLength: 32 }], action: next, set: { med: 7, communities: { add: ['65000:1'] } } }
---
apiVersion: weft.dev/v1alpha1
kind: BGPFilter
metadata: { name: decide }
spec:
  rules:
    - { communities: ['65000:9'], action: reject }
    - { communities: ['65000:1'], action: accept, set: { prepend: 2 } }
";
    let place = Place::new();
    let file = place.file("filters.yaml", FILTERS);
    let test = |words: &[&str]| {
        let mut command = place.command(&[&["bgp", "filter", "test", &file], words].concat());
        Said::of(command.env_remove("WEFT_DATASTORE").env("KUBECONFIG", "/nowhere").output().unwrap())
    };
    let said = test(&["10.1.0.0/24", "--as-path", "65001,65002"]).ok();
    assert!(said.contains("BGPFilter decide spec.rules[1]: 10.1.0.0/24 is accepted"), "{said}");
    assert!(said.contains("as path: 65001 65001 65001 65002\n") && said.contains("med: 7\n"), "{said}");
    assert!(test(&["10.1.0.0/24", "--out-of", "64512"]).ok().contains("as path: 64512 64512\n"));

    let refused = test(&["10.1.0.0/24", "--community", "65000:9", "-o", "json"]);
    let answer: Value = serde_json::from_str(&refused.out).unwrap();
    let rules: Vec<_> =
        answer["rules"].as_array().unwrap().iter().map(|rule| (&rule["filter"], &rule["rule"])).collect();
    assert_eq!((refused.code, &answer["verdict"]), (3, &"rejected".into()));
    assert_eq!(rules, [(&"mark".into(), &0.into()), (&"decide".into(), &0.into())]);

    assert!(test(&["192.0.2.0/24"]).ok().contains("no rule decides about 192.0.2.0/24"));
    assert!(test(&["10.1.0.0/24", "--filter", "mark"]).ok().contains("no rule decides"));
    assert_eq!(test(&["10.1.0.0/24", "--filter", "other"]).code, 1);
    assert_eq!(test(&["10.1.0.0"]).code, 2);
}
