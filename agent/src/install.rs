//! What runtimes find: the binary `weft-cni`, and the conflist that tells them to run it.
//!
//! Runtimes execute the binary as soon as they see the conflist, so the binary comes first, and the conflist only when
//! pods can be wired. It stays when the agent stops: without it a runtime cannot even delete pods. Both are replaced by
//! rename, because a file that is being executed, or read, must never be half there.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tracing::info;

/// Lexically first wins.
const CONFLIST: &str = "05-weft.conflist";

/// One plugin, no chain. Old runtimes read `cniVersion`, new ones take the highest of `cniVersions`.
const CONTENT: &str = r#"{
  "cniVersion": "1.0.0",
  "cniVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
  "name": "weft",
  "plugins": [{"type": "weft-cni"}]
}
"#;

/// Does nothing when the same binary is there.
pub fn binary(source: &Path, directory: &Path) -> io::Result<()> {
    let target = directory.join("weft-cni");
    let content = fs::read(source)?;
    if fs::read(&target).is_ok_and(|present| present == content) {
        return Ok(());
    }
    fs::create_dir_all(directory)?;
    replace(&target, ".weft-cni.tmp", &content, 0o755)?;
    info!(path = %target.display(), "cni binary installed");
    Ok(())
}

/// Does nothing when it is there.
pub fn conflist(directory: &Path) -> io::Result<()> {
    let target = directory.join(CONFLIST);
    if fs::read(&target).is_ok_and(|present| present == CONTENT.as_bytes()) {
        return Ok(());
    }
    fs::create_dir_all(directory)?;
    replace(&target, ".05-weft.tmp", CONTENT.as_bytes(), 0o644)?;
    // containerd reacts to writes, not to a file that appears: this write comes after the final state is in place.
    let poke = directory.join(".05-weft.poke");
    fs::write(&poke, b"\n")?;
    fs::remove_file(&poke)?;
    info!(path = %target.display(), "conflist written");
    Ok(())
}

fn replace(target: &Path, temporary: &str, content: &[u8], mode: u32) -> io::Result<()> {
    let temporary = target.with_file_name(temporary);
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()?;
    fs::rename(&temporary, target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_installed_whole_and_left_alone_when_equal() {
        let directory = std::env::temp_dir().join(format!("weft-install-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let source = directory.join("source");
        fs::write(&source, b"#!").unwrap();

        binary(&source, &directory.join("bin")).unwrap();
        let installed = directory.join("bin/weft-cni");
        assert_eq!(fs::read(&installed).unwrap(), b"#!");
        assert_eq!(installed.metadata().unwrap().permissions().mode() & 0o777, 0o755);

        let conf = directory.join("net.d");
        conflist(&conf).unwrap();
        let names: Vec<_> = fs::read_dir(&conf).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [CONFLIST], "no temporary file stays");
        let before = conf.join(CONFLIST).metadata().unwrap().modified().unwrap();
        conflist(&conf).unwrap();
        assert_eq!(conf.join(CONFLIST).metadata().unwrap().modified().unwrap(), before);
        let json: serde_json::Value = serde_json::from_str(CONTENT).unwrap();
        assert_eq!(json["plugins"][0]["type"], "weft-cni");
        fs::remove_dir_all(&directory).unwrap();
    }
}
