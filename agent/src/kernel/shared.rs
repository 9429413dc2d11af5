//! One warm netlink socket for a thread that may block, and all that runs on it.
//!
//! The work is done where the caller runs: RTNL serialises it anyway, and a thread of its own would cost two switches per
//! job. On a busy node each of them waits for a turn on the CPU, which takes longer than the job.

use std::sync::{Mutex, PoisonError};

use super::rtnl::{Rtnl, RtnlError};

#[derive(Debug)]
pub struct SharedRtnl {
    rtnl: Mutex<Rtnl>,
}

impl SharedRtnl {
    /// In the namespace of the calling thread.
    pub fn open() -> Result<Self, RtnlError> {
        Ok(Self { rtnl: Mutex::new(Rtnl::open()?) })
    }

    /// Blocks for as long as the kernel works: up to a millisecond, tens of them while links are deleted.
    pub fn run<T>(&self, job: impl FnOnce(&mut Rtnl) -> T) -> T {
        // Answers that a panic left unread are told by their sequence numbers.
        job(&mut self.rtnl.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
