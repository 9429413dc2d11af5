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

/// Which etcd a cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Etcd {
    /// Of before streaming lists: the API server refuses them, and reads lists out of etcd page by page.
    Distribution,
    /// Of the API server's age.
    Pinned,
}

impl Etcd {
    /// Builds what is missing.
    pub(super) fn program(self) -> Result<PathBuf> {
        match self {
            Self::Distribution => Ok("etcd".into()),
            Self::Pinned => run_script("etcd/build", &[]),
        }
    }
}

impl Binaries {
    pub fn build(scope: Scope) -> Result<Self> {
        let word = match scope {
            Scope::Helm => "helm",
            Scope::Cluster => "cluster",
            Scope::Suites => "suites",
        };
        Ok(Self { dir: run_script("build", &[word])? })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if path.exists() { Ok(path) } else { bail!("{} was not built", path.display()) }
    }
}

/// The path that it prints.
fn run_script(name: &str, words: &[&str]) -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes").join(name);
    let output = Command::new(&script).args(words).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| script.display().to_string())?;
    ensure!(output.status.success(), "{}: {}", script.display(), output.status);
    Ok(String::from_utf8(output.stdout)?.trim().into())
}
