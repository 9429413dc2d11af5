//! The Kubernetes programs, built by `e2e/kubernetes/build` from the modules that are pinned there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The folder that holds the programs; builds what is missing, which takes minutes the first time.
#[derive(Clone, Debug)]
pub struct Binaries {
    dir: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Helm alone.
    Helm,
    /// What a cluster runs.
    Cluster,
    /// The upstream e2e suites and what they need, too.
    Suites,
}

impl Binaries {
    pub fn build(scope: Scope) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/build");
        let word = match scope {
            Scope::Helm => "helm",
            Scope::Cluster => "cluster",
            Scope::Suites => "suites",
        };
        let output = Command::new(&script).arg(word).stderr(Stdio::inherit()).output();
        let output = output.with_context(|| script.display().to_string())?;
        ensure!(output.status.success(), "{}: {}", script.display(), output.status);
        Ok(Self { dir: String::from_utf8(output.stdout)?.trim().into() })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if path.exists() { Ok(path) } else { bail!("{} was not built", path.display()) }
    }
}
