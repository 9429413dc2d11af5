//! Asking the agent over its socket, and what to do when nobody answers.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use nix::time::{ClockId, clock_gettime};
use weft_api::cni::{MAX_REPLY, MAX_REQUEST, PROTOCOL, Reply, Request};
use weft_api::{CNI_SOCKET, DELETED_DIR};
use weft_pods::attachment::AttachmentId;

use crate::sandbox::Sandbox;

/// An agent restarts in less than a second; a runtime that is told to try again waits for many.
const PATIENCE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// Longer than the agent's own deadlines add up to. Runtimes give up after minutes.
const REPLY_DEADLINE: Duration = Duration::from_secs(90);

/// Whether to wait for an agent that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    None,
    Wait,
}

/// Nobody answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("the Weft agent does not listen on {path} ({source})")]
    Connect { path: PathBuf, source: io::Error },
    #[error("the Weft agent stopped before it answered ({0})")]
    Exchange(io::Error),
    #[error("the request is larger than {MAX_REQUEST} bytes")]
    TooLarge,
}

pub(crate) struct Client<'a> {
    pub(crate) run_dir: PathBuf,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) stdin: &'a str,
}

impl Client<'_> {
    pub(crate) fn ask(&self, patience: Patience, sandbox: Option<&Sandbox>) -> Result<Reply, AskError> {
        let request = Request {
            protocol: PROTOCOL,
            started: boot_milliseconds(),
            env: self.env.clone(),
            stdin: self.stdin.to_owned(),
        };
        let body = serde_json::to_vec(&request).map_err(|error| AskError::Exchange(error.into()))?;
        if body.len() > MAX_REQUEST {
            return Err(AskError::TooLarge);
        }
        let stream = self.connect(patience)?;
        exchange(stream, &body, sandbox).map_err(AskError::Exchange)
    }

    fn connect(&self, patience: Patience) -> Result<UnixStream, AskError> {
        let path = self.run_dir.join(CNI_SOCKET);
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match UnixStream::connect(&path) {
                Ok(stream) => return Ok(stream),
                Err(_) if patience == Patience::Wait && start.elapsed() < PATIENCE => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(source) => return Err(AskError::Connect { path, source }),
            }
        }
    }
}

fn exchange(mut stream: UnixStream, body: &[u8], sandbox: Option<&Sandbox>) -> io::Result<Reply> {
    stream.set_read_timeout(Some(REPLY_DEADLINE))?;
    stream.set_write_timeout(Some(REPLY_DEADLINE))?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?.to_be_bytes();
    let fds: Vec<RawFd> = sandbox.map_or_else(Vec::new, |s| vec![s.netns.as_raw_fd(), s.socket.as_raw_fd()]);
    let control: &[ControlMessage<'_>] =
        if fds.is_empty() { &[] } else { &[ControlMessage::ScmRights(&fds)] };
    // Four bytes fit into an empty buffer whole.
    sendmsg::<UnixAddr>(stream.as_raw_fd(), &[IoSlice::new(&length)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    stream.write_all(body)?;

    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_REPLY {
        return Err(io::Error::other("its answer is too long"));
    }
    let mut reply = vec![0; length];
    stream.read_exact(&mut reply)?;
    serde_json::from_slice(&reply).map_err(Into::into)
}

/// Leaves a DEL for the agent to find. The pod goes in any case: the runtime destroys its namespace, with it the link,
/// and an agent frees what has no link. There are no more notes than pods, as there is no ADD without an agent.
pub(crate) fn note(run_dir: &Path, id: &AttachmentId, cause: &AskError) {
    let dir = run_dir.join(DELETED_DIR);
    let written = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).and_then(|()| {
        let name = format!("{}@{}", id.container_id, id.ifname);
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(dir.join(name))
    });
    let outcome = match written {
        Ok(_) => "is noted for it".to_owned(),
        Err(error) => format!("cannot be noted in {}: {error}", dir.display()),
    };
    eprintln!("weft-cni: {cause}; the deletion of {id} {outcome}");
}

fn boot_milliseconds() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
