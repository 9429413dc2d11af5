//! Which files of a directory changed, by inotify.
//!
//! In: a directory. Out: names, gathered over a short time, so that files written together are read together.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;
use weft_intent::files::is_read;

use crate::kernel::polled::polled;

/// Quiet time that ends a group of changes: longer than the gaps within one `cp` or `git checkout`.
const QUIET: Duration = Duration::from_millis(10);
/// Groups end after this many reads even when changes keep coming.
const MAX_READS: usize = 20;
/// Renamed into place by the kubelet when a whole ConfigMap changes.
const CONFIG_MAP_LINK: &str = "..data";

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// Written, renamed, removed; not empty.
    Names(BTreeSet<String>),
    /// Events were lost: anything may have changed.
    Unknown,
    /// The directory is not there.
    Gone,
}

pub(super) struct Changes {
    directory: PathBuf,
    inotify: Inotify,
    readable: AsyncFd<OwnedFd>,
}

impl Changes {
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // Not IN_MODIFY: a file is complete when its writer closes it.
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        inotify.add_watch(directory, flags)?;
        // A duplicate shares the queue, so it is readable when the original is.
        let readable = polled(inotify.as_fd().try_clone_to_owned()?)?;
        Ok(Self { directory: directory.to_owned(), inotify, readable })
    }

    pub(super) async fn next(&mut self) -> io::Result<Changed> {
        let mut names = BTreeSet::new();
        loop {
            let events = self.read().await?;
            if let Some(special) = self.gather(events, &mut names) {
                return Ok(special);
            }
            if !names.is_empty() {
                break;
            }
        }
        for _ in 1..MAX_READS {
            let Ok(events) = timeout(QUIET, self.read()).await else { break };
            if let Some(special) = self.gather(events?, &mut names) {
                return Ok(special);
            }
        }
        Ok(Changed::Names(names))
    }

    async fn read(&self) -> io::Result<Vec<InotifyEvent>> {
        loop {
            let mut guard = self.readable.readable().await?;
            match self.inotify.read_events() {
                Ok(events) => return Ok(events),
                Err(Errno::EAGAIN) => guard.clear_ready(),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn gather(&self, events: Vec<InotifyEvent>, names: &mut BTreeSet<String>) -> Option<Changed> {
        for event in events {
            let gone = AddWatchFlags::IN_DELETE_SELF
                | AddWatchFlags::IN_MOVE_SELF
                | AddWatchFlags::IN_IGNORED
                | AddWatchFlags::IN_UNMOUNT;
            if event.mask.intersects(gone) {
                return Some(Changed::Gone);
            }
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                return Some(Changed::Unknown);
            }
            let Some(name) = event.name.and_then(|name| name.into_string().ok()) else { continue };
            if name == CONFIG_MAP_LINK {
                return Some(Changed::Unknown);
            }
            let complete =
                !event.mask.contains(AddWatchFlags::IN_CREATE) || is_link(&self.directory.join(&name));
            if is_read(&name) && complete {
                names.insert(name);
            }
        }
        None
    }
}

/// A fresh link has its content already; a fresh file will be closed by its writer.
fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink() || metadata.nlink() > 1)
}
