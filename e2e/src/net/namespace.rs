//! A network namespace, held by its descriptor: work is done inside it on a thread of its own.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};

/// Cheap to clone. The namespace lives as long as one clone does, also when every process has left it.
#[derive(Clone, Debug)]
pub struct Namespace {
    label: Arc<str>,
    file: Arc<File>,
}

impl Namespace {
    pub fn open(label: &str, path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("network namespace {}", path.display()))?;
        Ok(Self { label: label.into(), file: Arc::new(file) })
    }

    /// A new one, with nothing in it but a loopback link that is down.
    pub fn create(label: &str) -> Result<Self> {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("unshare")?;
            File::open("/proc/thread-self/ns/net").context("/proc/thread-self/ns/net")
        });
        let file = made.join().map_err(|_| anyhow!("a thread panicked"))?;
        let file = file.with_context(|| format!("making network namespace {label}"))?;
        Ok(Self { label: label.into(), file: Arc::new(file) })
    }

    pub fn label(&self) -> &str {
        &self.label
    }

    /// Names it to programs that this process starts, for as long as it is held.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Runs `work` inside. Sockets that it opens belong to this namespace for good.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            scope
                .spawn(|| self.join().and_then(|()| work()))
                .join()
                .map_err(|_| anyhow!("a thread in {} panicked", self.label))?
        })
    }

    /// Like [`Namespace::enter`], without waiting for the end.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<Result<T>> {
        let namespace = self.clone();
        thread::spawn(move || namespace.join().map(|()| work()))
    }

    /// Moves the calling thread, which can therefore do nothing else afterwards.
    pub(crate) fn join(&self) -> Result<()> {
        setns(&*self.file, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {}", self.label))
    }
}
