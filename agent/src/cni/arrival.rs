//! What a client has brought.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::net::UnixStream;
use weft_pods::cni::CniError;

/// A call that has arrived, and how to see whether its client still waits.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    pub(super) started: u64,
    pub(super) stream: &'a UnixStream,
}

/// What ADD and CHECK bring along.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) netns: OwnedFd,
    pub(super) socket: OwnedFd,
}

impl Arrival<'_> {
    /// A client that was killed, say by a runtime that has lost patience. The kernel is asked, as what tokio knows is as old
    /// as its last look.
    pub(super) fn is_abandoned(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        match recv(self.stream.as_raw_fd(), &mut [0; 1], flags) {
            Ok(read) => read == 0,
            Err(errno) => errno != Errno::EAGAIN,
        }
    }
}

impl Sandbox {
    pub(super) fn new(descriptors: Vec<OwnedFd>) -> Result<Self, CniError> {
        let [netns, socket] = <[OwnedFd; 2]>::try_from(descriptors)
            .map_err(|_| CniError::Internal("weft-cni did not hand over the network namespace".into()))?;
        Ok(Self { netns, socket })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::in_netns;

    #[test]
    fn a_client_that_has_gone_is_missed_at_once() {
        in_netns(async || {
            let (client, stream) = UnixStream::pair().unwrap();
            let arrival = Arrival { started: 0, stream: &stream };
            assert!(!arrival.is_abandoned());
            drop(client);
            assert!(arrival.is_abandoned());
        });
    }
}
