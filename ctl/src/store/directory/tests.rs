//! In temporary directories, as files are what this is about.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::*;
use crate::input::Input;
use crate::resource::{Resource, select};
use crate::written::name_of;

const WRITE: How = How { dry_run: false, force_conflicts: false };

/// Gone at the end.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("weftctl-{}-{number}", std::process::id()));
        fs::create_dir_all(path.join("store")).unwrap();
        Self(path)
    }

    fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    fn directory(&self) -> Directory {
        Directory::new(self.store())
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.store().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.store().join(name)).unwrap()
    }

    /// All names, those that are hidden too.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.store()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn apply(&self, text: &str, how: How) -> Report {
        self.directory().apply(&given(&self.0.join("input"), text), how).unwrap()
    }

    fn delete(&self, name: &str) -> Report {
        let resource = Resource::of_kind("BGPPeer").unwrap();
        let named = Named { key: ObjectKey::cluster(weft_intent::Kind::BgpPeer, name), resource };
        self.directory().delete(&[named], WRITE, false).unwrap()
    }

    fn get(&self, words: &str) -> Vec<Value> {
        self.directory().get(&select(&[words.to_owned()]).unwrap()[0]).unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn given(file: &Path, text: &str) -> Vec<Given> {
    fs::write(file, text).unwrap();
    let input = Input::read(&[file.to_owned()]).unwrap();
    assert_eq!(input.faults, []);
    let objects = input.objects.into_iter();
    objects.map(|(written, key, _)| Given::new(written, key, Resource::of_kind("BGPPeer").unwrap())).collect()
}

fn peer(name: &str, asn: u32) -> String {
    format!(
        "apiVersion: weft.dev/v1alpha1\nkind: BGPPeer\nmetadata: {{name: {name}}}\nspec: {{address: 192.0.2.1, asn: {asn}}}\n"
    )
}

fn changes(report: &Report) -> Vec<Change> {
    assert_eq!(report.faults, []);
    report.done.iter().map(|done| done.change).collect()
}

/// Nothing was done, and why.
fn refusal(report: &Report) -> String {
    assert_eq!(report.done, []);
    report.faults.iter().map(|fault| fault.reason.clone()).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_object_gets_a_file_of_its_own_with_the_text_of_its_user() {
    let temporary = Temporary::new();
    let text = format!("# left\n{}", peer("tor", 65001));
    assert_eq!(changes(&temporary.apply(&text, WRITE)), [Change::Created]);
    assert_eq!(
        (temporary.names(), temporary.read("bgppeer-tor.yaml")),
        (vec!["bgppeer-tor.yaml".to_owned()], text.clone())
    );
    assert_eq!(changes(&temporary.apply(&text, WRITE)), [Change::Unchanged]);
    assert_eq!(changes(&temporary.apply(&peer("tor", 65002), WRITE)), [Change::Configured]);
    assert_eq!(temporary.read("bgppeer-tor.yaml"), format!("# left\n{}", peer("tor", 65002)));
}

#[test]
fn only_its_document_is_replaced_and_the_file_keeps_owner_and_mode() {
    let temporary = Temporary::new();
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}   # as it is\nstringData: {password: x}\n";
    temporary.write("all.yaml", &format!("{secret}---\n{}---\n{}", peer("a", 1), peer("b", 2)));
    let path = temporary.store().join("all.yaml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let is_root = chown(&path, Some(1234), Some(5678)).is_ok();

    temporary.apply(&peer("b", 3), WRITE);
    assert_eq!(temporary.read("all.yaml"), format!("{secret}---\n{}---\n{}", peer("a", 1), peer("b", 3)));
    assert_eq!(changes(&temporary.delete("a")), [Change::Deleted]);
    assert_eq!(temporary.read("all.yaml"), format!("{secret}---\n{}", peer("b", 3)));
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o640);
    assert!(!is_root || (metadata.uid(), metadata.gid()) == (1234, 5678));
    assert_eq!(temporary.names(), ["all.yaml"]);
}

#[test]
fn the_last_object_takes_its_file_with_it() {
    let temporary = Temporary::new();
    temporary.apply(&peer("tor", 1), WRITE);
    temporary.delete("tor");
    assert_eq!(temporary.names(), Vec::<String>::new());
    assert_eq!(refusal(&temporary.delete("tor")), "not found");
}

#[test]
fn an_object_never_comes_to_stand_in_two_files() {
    let temporary = Temporary::new();
    temporary.write("a.yaml", &peer("tor", 1));
    temporary.write("b.yaml", &peer("tor", 2));
    let told = refusal(&temporary.apply(&peer("tor", 3), WRITE));
    assert!(told.contains("a.yaml document 1") && told.contains("b.yaml document 1"), "{told}");
    assert_eq!(changes(&temporary.delete("tor")), [Change::Deleted]);
    assert_eq!(temporary.names(), Vec::<String>::new(), "what remained would be in force");

    temporary.write("c.yaml", &format!("kind: [\n---\n{}", peer("known", 1)));
    let told = refusal(&temporary.apply(&peer("new", 1), WRITE));
    assert!(told.contains("c.yaml document 1"), "{told}");
    assert_eq!(changes(&temporary.apply(&peer("known", 2), WRITE)), [Change::Configured]);
    temporary.write("c.yaml", "");
    temporary.write("bgppeer-new.yaml", &peer("other", 1));
    assert!(refusal(&temporary.apply(&peer("new", 1), WRITE)).contains("holds something else"));
}

#[test]
fn one_that_is_refused_keeps_all_from_being_written_and_so_does_a_trial() {
    let temporary = Temporary::new();
    temporary.write("twice.yaml", &format!("{0}---\n{0}", peer("twice", 1)));
    let all = format!("{}---\n{}", peer("new", 1), peer("twice", 2));
    assert!(refusal(&temporary.apply(&all, WRITE)).contains("stands twice"));
    let trial = How { dry_run: true, ..WRITE };
    assert_eq!(changes(&temporary.apply(&peer("new", 1), trial)), [Change::Created]);
    assert_eq!(temporary.names(), ["twice.yaml"]);
}

#[test]
fn what_somebody_else_changes_meanwhile_is_not_overwritten() {
    let temporary = Temporary::new();
    temporary.write("f.yaml", "before");
    let store = temporary.store();
    let mut locked = Locked::new(&store).unwrap();
    let (replaced, removed) = (
        locked.prepare("f.yaml", Some("before"), Some("after")).unwrap(),
        locked.prepare("f.yaml", Some("before"), None).unwrap(),
    );
    let created = locked.prepare("new.yaml", None, Some("ours")).unwrap();
    temporary.write("f.yaml", "theirs");
    temporary.write("new.yaml", "theirs");
    for change in [replaced, removed, created] {
        locked.carry_out(change).unwrap_err();
    }
    assert_eq!(
        (temporary.read("f.yaml").as_str(), temporary.read("new.yaml").as_str()),
        ("theirs", "theirs")
    );
    assert_eq!(temporary.names(), ["f.yaml", "new.yaml"]);
}

#[test]
fn no_file_is_changed_before_all_can_be() {
    let temporary = Temporary::new();
    temporary.write("a.yaml", "before");
    let store = temporary.store();
    let change = |name, before| FileChange { name, before: Some(before), after: Some("after".to_owned()) };
    let changes = vec![change("a.yaml", "before"), change("gone.yaml", "before")];
    let told = write(&mut Locked::new(&store).unwrap(), changes).unwrap_err();
    assert!(format!("{told:#}").starts_with("gone.yaml: "), "{told:#}");
    assert_eq!((temporary.names(), temporary.read("a.yaml").as_str()), (vec!["a.yaml".to_owned()], "before"));
}

#[test]
fn killed_between_write_and_rename_the_old_file_is_there_and_the_next_attempt_succeeds() {
    let temporary = Temporary::new();
    temporary.write("bgppeer-tor.yaml", &peer("tor", 1));
    let store = temporary.store();
    let mut locked = Locked::new(&store).unwrap();
    let change = locked.prepare("bgppeer-tor.yaml", Some(&peer("tor", 1)), Some("half of i"));
    std::mem::forget((change, locked.prepare("other.yaml", None, Some("half of t"))));
    drop(locked);
    assert_eq!(temporary.get("bgppeers")[0]["spec"]["asn"], 1);
    assert_eq!(temporary.names().len(), 3);
    let trial = How { dry_run: true, ..WRITE };
    assert_eq!(changes(&temporary.apply(&peer("tor", 2), trial)), [Change::Configured]);
    assert_eq!(temporary.names().len(), 3, "a trial writes nothing");
    assert_eq!(changes(&temporary.apply(&peer("tor", 2), WRITE)), [Change::Configured]);
    assert_eq!((temporary.names().len(), temporary.read("bgppeer-tor.yaml")), (1, peer("tor", 2)));
}

#[test]
fn an_object_and_a_file_may_have_the_longest_name_there_is() {
    let temporary = Temporary::new();
    let file = format!("{}.yaml", "f".repeat(250));
    temporary.write(&file, &peer("tor", 1));
    assert_eq!(changes(&temporary.apply(&peer("tor", 2), WRITE)), [Change::Configured]);
    assert_eq!((temporary.names(), temporary.read(&file)), (vec![file.clone()], peer("tor", 2)));
    let longest = "l".repeat(253);
    for how in [WRITE, How { dry_run: true, ..WRITE }] {
        assert!(refusal(&temporary.apply(&peer(&longest, 1), how)).contains("too long"));
    }
    temporary.write(&file, &peer(&longest, 1));
    assert_eq!(changes(&temporary.apply(&peer(&longest, 2), WRITE)), [Change::Configured]);
}

#[test]
fn comments_that_go_are_said_and_others_stay() {
    let temporary = Temporary::new();
    let told = |text: &str| temporary.apply(text, WRITE).warnings;
    temporary.write(
        "all.yaml",
        &format!("# all\n---\n# left\n{}", peer("tor", 1).replace("kind", "# inside\nkind")),
    );
    assert_eq!(told(&peer("tor", 2)), ["all.yaml document 1 (line 2): its comments are not kept"]);
    assert_eq!(temporary.read("all.yaml"), format!("# all\n---\n# left\n{}", peer("tor", 2)));
    assert_eq!(told(&peer("tor", 3).replace("kind", "# mine\nkind")), Vec::<String>::new());
    assert!(temporary.read("all.yaml").contains("# left") && temporary.read("all.yaml").contains("# mine"));
    // What a server wrote goes, and comments with it.
    let served = format!("{}status: {{}} # mine\n", peer("tor", 4));
    let told = told(&served);
    assert!(
        told.iter().any(|warning| warning.contains("input document 1 (line 1): its comments")),
        "{told:?}"
    );
}

/// What means something else behind a marker or another comment is not copied.
#[test]
fn what_is_applied_is_what_is_there() {
    let texts = [
        format!("\u{feff}{}", peer("tor", 2)),
        format!("--- &all\n{}", peer("tor", 2)),
        format!("--- # the left one\n{}", peer("tor", 2)),
        format!("{}...\n", peer("tor", 2)),
        peer("tor", 2).replace('\n', "\r\n"),
        peer("tor", 2).replace("}\nspec", ", annotations: {a: '#'}}\nspec"),
        "apiVersion: weft.dev/v1alpha1\nkind: BGPPeer\nspec: {address: 192.0.2.1, asn: 2}\nmetadata:\n  name: tor\n  annotations:\n    note: |\n      x".to_owned(),
        r#"{"apiVersion": "weft.dev/v1alpha1", "kind": "BGPPeer", "metadata": {"name": "tor"}, "spec": {"address": "192.0.2.1", "asn": 2}}"#.to_owned(),
    ];
    for text in texts {
        for before in [
            String::new(),
            format!("{}---\n# left\n{}---\n{}", peer("one", 1), peer("tor", 1), peer("two", 1)),
        ] {
            let temporary = Temporary::new();
            if !before.is_empty() {
                temporary.write("all.yaml", &before);
            }
            let wanted = given(&temporary.0.join("input"), &text)[0].value.clone();
            let others = temporary.get("bgppeers").len();
            assert!(!matches!(changes(&temporary.apply(&text, WRITE))[..], [Change::Unchanged]), "{text:?}");
            let mut there = temporary.get("bgppeers");
            assert_eq!(there.len(), others.max(1), "{text:?}");
            there.retain(|peer| peer["metadata"]["name"] == "tor");
            assert_eq!(there.iter().map(as_written).collect::<Vec<_>>(), [wanted], "{text:?}");
            assert_eq!(changes(&temporary.apply(&text, WRITE)), [Change::Unchanged], "{text:?}");
        }
    }
}

#[test]
fn what_others_cannot_read_of_their_own_is_not_in_the_way() {
    let temporary = Temporary::new();
    let others = "apiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: elsewhere}\n---\napiVersion: v1\nkind: Pod\nmetadata: {}\n";
    temporary.write("others.yaml", others);
    assert_eq!(changes(&temporary.apply(&peer("tor", 1), WRITE)), [Change::Created]);
    temporary.write("nameless.yaml", "apiVersion: weft.dev/v1alpha1\nkind: BGPPeer\nmetadata: {}\n");
    assert!(refusal(&temporary.apply(&peer("other", 1), WRITE)).contains("nameless.yaml"));
}

/// As the agent reads a directory for the first time.
#[test]
fn of_two_the_first_that_can_be_read_counts_as_for_an_agent() {
    use weft_intent::files::Files;
    let (good, bad) = (|asn| peer("tor", asn), peer("tor", 0));
    for files in
        [[good(1), good(2)], [bad.clone(), good(2)], [good(1), bad.clone()], [bad.clone(), bad.clone()]]
    {
        let (temporary, mut agent) = (Temporary::new(), Files::default());
        for (name, text) in ["a.yaml", "b.yaml"].into_iter().zip(&files) {
            temporary.write(name, text);
            agent.update(name, text);
        }
        let in_force = agent
            .snapshot(Default::default())
            .bgp
            .peers
            .get("tor")
            .map(|peer| serde_json::to_value(peer).unwrap()["asn"].clone());
        let shown = temporary.get("bgppeers").remove(0);
        let is_accepted = shown["status"]["conditions"][0]["status"] == "True";
        assert_eq!(is_accepted.then(|| shown["spec"]["asn"].clone()), in_force, "{files:?}");
    }
}

#[test]
fn what_is_named_is_shown_in_the_order_of_the_names() {
    let temporary = Temporary::new();
    temporary.write("all.yaml", &format!("{}---\n{}", peer("a", 1), peer("b", 1)));
    let words = ["bgppeer", "b", "none", "a", "b"].map(str::to_owned);
    let shown = temporary.directory().get(&select(&words).unwrap()[0]).unwrap();
    assert_eq!(shown.iter().map(name_of).collect::<Vec<_>>(), ["b", "a"]);
}

/// A link would be seen by an agent only until the other name is gone.
#[test]
fn who_watches_the_directory_sees_a_rename() {
    let temporary = Temporary::new();
    let watch = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
    let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO;
    watch.add_watch(&temporary.store(), flags).unwrap();
    for asn in [1, 2] {
        temporary.apply(&peer("tor", asn), WRITE);
        let events = watch.read_events().unwrap().into_iter();
        let of_file = events.filter(|event| event.name.as_deref() == Some("bgppeer-tor.yaml".as_ref()));
        assert_eq!(of_file.map(|event| event.mask).collect::<Vec<_>>(), [AddWatchFlags::IN_MOVED_TO]);
    }
}

/// Who waits for a writer, or locks what is no directory, waits for ever.
#[test]
fn what_is_no_directory_is_refused() {
    let temporary = Temporary::new();
    let pipe = temporary.0.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [pipe, "/dev/zero".into(), "/proc/self/exe".into(), temporary.0.join("none")] {
        assert!(Directory::new(path.clone()).apply(&[], WRITE).is_err(), "{}", path.display());
        assert!(
            Directory::new(path.clone()).get(&select(&["all".to_owned()]).unwrap()[0]).is_err(),
            "{}",
            path.display()
        );
    }
}

#[test]
fn a_link_is_read_and_never_replaced() {
    let temporary = Temporary::new();
    fs::write(temporary.0.join("elsewhere"), peer("tor", 1)).unwrap();
    symlink(temporary.0.join("elsewhere"), temporary.store().join("l.yaml")).unwrap();
    assert_eq!(temporary.get("bgppeers").len(), 1);
    assert!(refusal(&temporary.apply(&peer("tor", 2), WRITE)).contains("symbolic link"));
    assert!(refusal(&temporary.delete("tor")).contains("symbolic link"));
    assert_eq!(fs::read_to_string(temporary.0.join("elsewhere")).unwrap(), peer("tor", 1));
}

#[test]
fn objects_say_whether_an_agent_takes_them() {
    let temporary = Temporary::new();
    temporary.write("a.yaml", &peer("first", 1));
    temporary.write("b.yaml", &format!("{}---\n{}", peer("second", 1), peer("zero", 0)));
    let told: Vec<_> = temporary
        .get("bgppeers")
        .into_iter()
        .map(|peer| peer["status"]["conditions"][0]["message"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told[0], "in force as written");
    assert_eq!(told[1], "spec.address: BGPPeer first has the same");
    assert!(told[2].starts_with("spec.asn: 0 is not within"), "{told:?}");
}

#[test]
fn an_item_of_a_list_and_a_json_file_are_changed_in_their_form() {
    let temporary = Temporary::new();
    let item = |name: &str, asn: u32| json!({ "apiVersion": "weft.dev/v1alpha1", "kind": "BGPPeer", "metadata": { "name": name }, "spec": { "address": "192.0.2.1", "asn": asn } });
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": [item("a", 1), item("b", 2)] });
    temporary.write("list.json", &list.to_string());
    temporary.apply(&peer("b", 3), WRITE);
    let read: Value = serde_json::from_str(&temporary.read("list.json")).unwrap();
    assert_eq!(read["items"], json!([item("a", 1), item("b", 3)]));
    temporary.delete("a");
    temporary.delete("b");
    assert_eq!(temporary.names(), Vec::<String>::new());
}
