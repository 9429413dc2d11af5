//! Who may use a run directory: one process at a time, by an advisory lock on a file in it.
//!
//! Taken before anything else, by the agent for as long as it lives and by `cleanup` for as long as it works. The kernel
//! gives it back when the holder dies, however it dies.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::time::Instant;
use tracing::info;

/// The file's name.
pub const LOCK: &str = "agent.lock";
/// How often a lock that another has is tried again.
const POLL: Duration = Duration::from_millis(100);

/// The run directory is ours until this is dropped.
#[derive(Debug)]
pub struct RunDirLock {
    path: PathBuf,
    _file: Flock<File>,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// `holder` is its process id, in its own PID namespace.
    #[error("{path} is locked: process {holder} uses this directory; stop it first")]
    Taken { path: PathBuf, holder: String },
    #[error("cannot lock {path}")]
    Io { path: PathBuf, source: io::Error },
}

impl RunDirLock {
    /// Makes the directory where there is none. Another holder is waited for so long.
    pub async fn take(run_dir: &Path, patience: Duration) -> Result<Self, LockError> {
        let deadline = Instant::now() + patience;
        let mut waits = false;
        loop {
            match Self::try_take(run_dir) {
                Err(LockError::Taken { path, holder }) if Instant::now() < deadline => {
                    if !std::mem::replace(&mut waits, true) {
                        info!(path = %path.display(), holder, "waiting for another process to leave");
                    }
                    tokio::time::sleep(POLL).await;
                }
                result => return result,
            }
        }
    }

    fn try_take(run_dir: &Path) -> Result<Self, LockError> {
        let path = run_dir.join(LOCK);
        let io = |source| LockError::Io { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o755).create(run_dir).map_err(io)?;
        loop {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            let mut file = match Flock::lock(file.map_err(io)?, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((mut file, Errno::EWOULDBLOCK)) => {
                    let mut holder = String::new();
                    file.read_to_string(&mut holder).map_err(io)?;
                    return Err(LockError::Taken { path, holder: holder.trim().to_owned() });
                }
                Err((_, errno)) => return Err(io(errno.into())),
            };
            // A cleanup may have removed what we opened.
            let ours = file.metadata().map_err(io)?.ino();
            if path.metadata().is_ok_and(|there| there.ino() == ours) {
                write_pid(&mut file).map_err(io)?;
                return Ok(Self { path, _file: file });
            }
        }
    }

    /// Takes the file away too; whoever waits makes another.
    pub fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("weft-lock-{name}-{}", std::process::id())))
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    async fn take(dir: &Dir) -> Result<RunDirLock, LockError> {
        RunDirLock::take(&dir.0, Duration::ZERO).await
    }

    #[tokio::test]
    async fn a_second_one_is_refused_by_the_first_ones_pid_until_that_is_gone() {
        let dir = Dir::new("second");
        let first = take(&dir).await.unwrap();
        let refusal = take(&dir).await.unwrap_err().to_string();
        assert!(refusal.contains(&format!("process {} uses", std::process::id())), "{refusal}");
        drop(first);
        take(&dir).await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_has_it_when_the_first_one_leaves() {
        let dir = Dir::new("waits");
        let first = take(&dir).await.unwrap();
        let leave = async {
            tokio::task::yield_now().await;
            drop(first);
        };
        let (second, ()) = tokio::join!(RunDirLock::take(&dir.0, Duration::from_secs(20)), leave);
        second.unwrap();
    }

    #[tokio::test]
    async fn a_lock_on_a_file_that_was_removed_is_none() {
        let dir = Dir::new("removed");
        let first = take(&dir).await.unwrap();
        first.remove().unwrap();
        let _second = take(&dir).await.unwrap();
        assert!(take(&dir).await.is_err());
    }
}
