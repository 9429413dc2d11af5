//! Container images without a registry: built from static programs into archives that nodes import.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Binaries;

/// Holds a pod's namespaces.
pub const PAUSE: &str = "weft.test/pause:1";
/// Answers and asks over the network: the tests' pods.
pub const AGNHOST: &str = "weft.test/agnhost:1";
/// What the chart runs.
pub const WEFT: &str = "weft.test/weft:e2e";

/// One image, from files that all go into `/`.
#[derive(Debug)]
pub(super) struct Image<'a> {
    pub(super) name: &'a str,
    pub(super) files: Vec<(PathBuf, &'a str)>,
    pub(super) entrypoint: &'a [&'a str],
}

impl Image<'_> {
    /// Writes `ARCHIVE`, an OCI archive.
    pub(super) fn build(&self, archive: &Path) -> Result<()> {
        let context = archive.with_extension("context");
        fs::create_dir_all(&context)?;
        let mut recipe = "FROM scratch\n".to_owned();
        for (index, (from, to)) in self.files.iter().enumerate() {
            let copy = context.join(index.to_string());
            fs::copy(from, &copy).with_context(|| from.display().to_string())?;
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
            recipe += &format!("COPY {index} {to}\n");
        }
        recipe += &format!("ENTRYPOINT {}\n", serde_json::to_string(self.entrypoint)?);
        fs::write(context.join("Dockerfile"), recipe)?;
        let built =
            buildah(&["bud", "--isolation", "chroot", "--tag", self.name, &context.display().to_string()])
                .and_then(|()| {
                    buildah(&["push", self.name, &format!("oci-archive:{}:{}", archive.display(), self.name)])
                });
        fs::remove_dir_all(&context)?;
        built
    }
}

/// The pause image and the tests' own, built once per set of binaries.
pub(super) fn base(binaries: &Binaries) -> Result<Vec<PathBuf>> {
    let agnhost = binaries.path("agnhost")?;
    let images: [(&str, &str, &[&str]); 2] =
        [("pause.tar", PAUSE, &["/agnhost", "pause"]), ("agnhost.tar", AGNHOST, &["/agnhost"])];
    let mut archives = Vec::new();
    for (file, name, entrypoint) in images {
        let archive = binaries.dir().join(file);
        if !archive.exists() {
            let partial = binaries.dir().join(format!(".{file}"));
            Image { name, files: vec![(agnhost.clone(), "/agnhost")], entrypoint }.build(&partial)?;
            fs::rename(&partial, &archive)?;
        }
        archives.push(archive);
    }
    Ok(archives)
}

/// The image of the Dockerfile at the root of the repository, from the programs in `dir`.
pub(super) fn weft(dir: &Path, archive: &Path) -> Result<()> {
    let file = |name: &str| dir.join(name);
    let files = vec![
        (file("weft-agent"), "/usr/bin/weft-agent"),
        (file("weftctl"), "/usr/bin/weftctl"),
        (file("weft-cni"), "/opt/weft/weft-cni"),
    ];
    Image { name: WEFT, files, entrypoint: &["/usr/bin/weft-agent"] }.build(archive)
}

fn buildah(words: &[&str]) -> Result<()> {
    let mut command = Command::new("buildah");
    let output = command.args(["--storage-driver", "vfs"]).args(words).output().context("buildah")?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
