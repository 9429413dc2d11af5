//! Telling the container runtime that we are its network: the conflist, and the client beside the other plugins.
//!
//! A runtime reads the directory whenever it changes, so what it reads must always be whole. containerd notices a rename
//! only by the event of the old name, when the old name was in the same directory; and it must find the new content then.
//! Neither file is removed when the agent stops: without them a runtime cannot even delete pods.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::file::replace;

/// Sorts before what other networks write: runtimes take the first.
pub const CONFLIST: &str = "05-weft.conflist";
/// Written and removed beside it, to wake watchers.
pub(crate) const POKE: &str = ".05-weft.poke";
/// The plugin's `type`, which is the name of its file.
pub const PLUGIN: &str = "weft-cni";

/// Writes the conflist unless it is there. To be called when ADD can succeed, and after [`install_client`].
///
/// Somebody who chains a plugin may be about to write what we read. What is not JSON is kept in `broken`, and replaced when
/// it is the same at the next look.
pub fn write(conf_dir: &Path, broken: &mut Option<Vec<u8>>) -> io::Result<()> {
    let path = conf_dir.join(CONFLIST);
    let present = read(&path, broken)?;
    let wanted = conflist(present.as_ref());
    if present.as_ref() == Some(&wanted) {
        return Ok(());
    }
    std::fs::create_dir_all(conf_dir)?;
    replace(&path, format!("{wanted:#}\n").as_bytes(), 0o644)?;
    // A change after the rename, for a watcher that read between its two events.
    let poke = conf_dir.join(POKE);
    std::fs::write(&poke, b"\n")?;
    std::fs::remove_file(&poke)?;
    tracing::info!(path = %path.display(), "conflist written");
    Ok(())
}

/// `None` when there is none. What cannot be read is not known to be absent: plugins of others may be in it.
fn read(path: &Path, broken: &mut Option<Vec<u8>>) -> io::Result<Option<Value>> {
    let content = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        content => content?,
    };
    match serde_json::from_slice(&content) {
        Ok(present) => Ok(Some(present)),
        Err(_) if broken.as_ref() == Some(&content) => Ok(None),
        Err(error) => {
            *broken = Some(content);
            Err(error.into())
        }
    }
}

/// Ours, and behind it the plugins that others have chained to it: only the first can make the interface. Other keys of
/// the list stay as they are.
///
/// Old runtimes read `cniVersion` alone; others take the newest of `cniVersions` that they know. A capability is a
/// promise: only what we act on is there.
fn conflist(present: Option<&Value>) -> Value {
    let mut conflist = present.and_then(Value::as_object).cloned().unwrap_or_default();
    let plugins = conflist.get("plugins").and_then(Value::as_array).into_iter().flatten();
    let chained = plugins.filter(|plugin| plugin.is_object() && plugin["type"] != PLUGIN).cloned();
    let ours = json!({ "type": PLUGIN, "capabilities": { "portMappings": true } });
    let plugins: Vec<Value> = std::iter::once(ours).chain(chained).collect();
    conflist.insert("cniVersion".to_owned(), json!("1.0.0"));
    conflist.insert("cniVersions".to_owned(), json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
    conflist.insert("name".to_owned(), json!("weft"));
    conflist.insert("plugins".to_owned(), plugins.into());
    conflist.into()
}

/// `weft-agent install`. Flags as those of `weft-agent run`.
#[derive(Args, Clone, Debug)]
pub struct Install {
    /// The weft-cni to install.
    #[arg(long, env = "WEFT_CNI_BINARY", value_name = "FILE")]
    pub cni_binary: PathBuf,
    /// Where runtimes look for CNI binaries.
    #[arg(long, env = "WEFT_CNI_BIN_DIR", default_value = "/opt/cni/bin", value_name = "DIR")]
    pub cni_bin_dir: PathBuf,
}

/// Copies the client `from` into a runtime's plugin directory. A client that runs keeps running.
pub fn install_client(from: &Path, bin_dir: &Path) -> io::Result<()> {
    let (path, content) = (bin_dir.join(PLUGIN), std::fs::read(from)?);
    if std::fs::read(&path).is_ok_and(|installed| installed == content) {
        return Ok(());
    }
    std::fs::create_dir_all(bin_dir)?;
    replace(&path, &content, 0o755)?;
    tracing::info!(path = %path.display(), "cni binary installed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::sync::atomic::{AtomicBool, Ordering};

    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

    use super::*;

    struct Dir(std::path::PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("weft-conflist-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_conflist_is_json_and_names_the_plugin() {
        let conflist = conflist(None);
        assert_eq!(conflist["plugins"][0]["type"], PLUGIN);
        for version in conflist["cniVersions"].as_array().unwrap() {
            assert!(weft_pods::cni::CniVersion::parse(version.as_str().unwrap()).is_some());
        }
    }

    /// As a service mesh or `tuning` chains itself to the first network that it finds.
    #[test]
    fn plugins_that_others_chained_and_their_keys_stay_and_ours_is_first_and_fresh() {
        let dir = Dir::new("chained");
        let path = dir.0.join(CONFLIST);
        let read = || serde_json::from_slice::<Value>(&std::fs::read(&path).unwrap()).unwrap();
        let mesh = json!({ "type": "istio-cni", "kubernetes": { "cni_bin_dir": "/opt/cni/bin" } });
        let stale = json!({
            "cniVersion": "0.3.1", "name": "weft", "disableCheck": true,
            "plugins": [{ "type": "weft-cni" }, mesh, { "type": "tuning" }],
        });
        std::fs::write(&path, stale.to_string()).unwrap();
        write(&dir.0, &mut None).unwrap();
        let ours = conflist(None)["plugins"][0].clone();
        assert_eq!(read()["plugins"], json!([ours, mesh, { "type": "tuning" }]));
        assert_eq!((&read()["cniVersion"], &read()["disableCheck"]), (&json!("1.0.0"), &json!(true)));
        for unusable in ["[]", r#"{"plugins":7}"#, r#"{"plugins":[7,{"type":"weft-cni"}]}"#] {
            std::fs::write(&path, unusable).unwrap();
            write(&dir.0, &mut None).unwrap();
            assert_eq!(read(), conflist(None), "{unusable}");
        }
    }

    #[test]
    fn what_somebody_is_writing_or_cannot_be_read_is_not_replaced() {
        let dir = Dir::new("broken");
        let path = dir.0.join(CONFLIST);
        let mut broken = None;
        for half in ["", "{", r#"{"plugins":["#] {
            std::fs::write(&path, half).unwrap();
            write(&dir.0, &mut broken).unwrap_err();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), half);
        }
        write(&dir.0, &mut broken).unwrap();
        assert_eq!(super::read(&path, &mut None).unwrap(), Some(conflist(None)), "nobody goes on with it");

        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(CONFLIST, &path).unwrap();
        assert_eq!(write(&dir.0, &mut broken).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert!(path.is_symlink());
    }

    /// containerd ignores Create; a write or the moving away of a name make it read again.
    #[test]
    fn a_watcher_is_woken_after_the_content_is_complete() {
        let dir = Dir::new("watch");
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        inotify.add_watch(&dir.0, AddWatchFlags::IN_ALL_EVENTS).unwrap();
        write(&dir.0, &mut None).unwrap();
        let events = inotify.read_events().unwrap();
        let complete = events.iter().position(|event| {
            event.mask.contains(AddWatchFlags::IN_MOVED_TO)
                && event.name.as_deref() == Some(CONFLIST.as_ref())
        });
        let woken = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVED_FROM;
        assert!(events[complete.unwrap()..].iter().any(|event| event.mask.intersects(woken)));
    }

    #[test]
    fn what_is_there_already_is_not_written_again() {
        let dir = Dir::new("again");
        write(&dir.0, &mut None).unwrap();
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        inotify.add_watch(&dir.0, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVE).unwrap();
        write(&dir.0, &mut None).unwrap();
        assert_eq!(inotify.read_events().unwrap_err(), nix::errno::Errno::EAGAIN);
    }

    #[test]
    fn a_reader_never_sees_half_a_conflist() {
        let dir = Dir::new("torn");
        let path = dir.0.join(CONFLIST);
        write(&dir.0, &mut None).unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..50 {
                    replace(&path, b"{}", 0o644).unwrap();
                    write(&dir.0, &mut None).unwrap();
                }
                done.store(true, Ordering::Relaxed);
            });
            while !done.load(Ordering::Relaxed) {
                let content = std::fs::read_to_string(&path).unwrap();
                assert!(content == "{}" || content == whole, "{content}");
            }
        });
        assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 1);
    }

    #[test]
    fn the_client_is_installed_as_an_executable() {
        let dir = Dir::new("client");
        let (from, bin_dir) = (dir.0.join("built"), dir.0.join("bin"));
        std::fs::write(&from, "client").unwrap();
        install_client(&from, &bin_dir).unwrap();
        let mode = std::fs::metadata(bin_dir.join(PLUGIN)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111);
    }

    #[test]
    fn another_client_takes_the_place_of_the_one_before_and_the_same_is_left_alone() {
        let dir = Dir::new("upgrade");
        let (from, bin_dir) = (dir.0.join("built"), dir.0.join("bin"));
        let installed = bin_dir.join(PLUGIN);
        let install = |content: &str| {
            std::fs::write(&from, content).unwrap();
            install_client(&from, &bin_dir).unwrap();
            assert_eq!(std::fs::read_to_string(&installed).unwrap(), content);
            // Open, so that no other file gets its number.
            File::open(&installed).unwrap()
        };
        let [first, again, other] = ["old", "old", "new"].map(install);
        let inode = |file: &File| file.metadata().unwrap().ino();
        assert_eq!(inode(&first), inode(&again));
        assert_ne!(inode(&first), inode(&other));
    }
}
