//! Waiting for a descriptor in tokio.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// `fd` must be non-blocking; reading is the caller's.
pub fn polled(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(unsafe_code, reason = "tokio cannot know that a descriptor stays open while it is registered")]
    // SAFETY: an `OwnedFd` is open, and the `AsyncFd` that now owns it deregisters before it closes it. We never
    // replace it: all that is handed out later is `get_ref`.
    let registered = unsafe { AsyncFd::register(fd) };
    Ok(registered?)
}
