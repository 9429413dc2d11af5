//! A netlink socket to netfilter: send a request, read its acknowledgement or its dump.
//!
//! Blocking, and rightly so: the kernel carries a netfilter request out inside `send`, so that the answer waits when
//! `send` returns; asynchronous reading would not make the caller wait any less.

use std::io;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use weft_policy::nft::wire::{self, Message};

/// A limit, not a reservation; above what any batch of ours can be. The usual 200 KB refuse a big one.
const SEND_BUFFER: usize = 64 << 20;
const RECEIVE_BUFFER: usize = 8 << 20;
/// The kernel makes dumps in pieces of at most 32 KB.
const DATAGRAM: usize = 64 << 10;
/// Only a bug on either side can make an answer stay out; then better an error than silence.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A dump that others' changes interrupt is asked for again. They would have to hit every one of these attempts.
const DUMP_ATTEMPTS: usize = 20;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;

#[derive(Debug)]
pub(super) struct NetfilterSocket {
    socket: Socket,
    port: u32,
    buffer: Vec<u8>,
    next_sequence: u32,
}

/// The kernel's answer to one message: what `NLMSG_ERROR` says.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) sequence: u32,
    /// `None` is success.
    pub(super) error: Option<io::Error>,
    /// The extended acknowledgement's text.
    pub(super) detail: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum DumpError {
    #[error("netfilter socket")]
    Socket(#[from] io::Error),
    #[error("others kept changing what was to be read")]
    Interrupted,
}

/// How far a dump is.
#[derive(Debug)]
pub(super) struct DumpProgress {
    pub(super) done: bool,
    pub(super) consistent: bool,
}

impl Default for DumpProgress {
    fn default() -> Self {
        Self { done: false, consistent: true }
    }
}

impl NetfilterSocket {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let port = socket.bind_auto()?.port_number();
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER)?;
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        let seconds = i64::try_from(ANSWER_TIMEOUT.as_secs()).expect("ten");
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(seconds, 0))?;
        Ok(Self { socket, port, buffer: Vec::with_capacity(DATAGRAM), next_sequence: 1 })
    }

    /// Our address on netlink: how the kernel calls the owner of a table and the cause of a notification.
    pub(super) fn port(&self) -> u32 {
        self.port
    }

    pub(super) fn next_sequence(&self) -> u32 {
        self.next_sequence
    }

    /// Tells which numbers the caller has used up.
    pub(super) fn set_next_sequence(&mut self, sequence: u32) {
        self.next_sequence = sequence;
    }

    /// Sends, and waits until message `sequence` is answered, or any other is refused.
    pub(super) fn transact(&mut self, bytes: &[u8], sequence: u32) -> io::Result<Answer> {
        self.discard_pending()?;
        self.send(bytes)?;
        loop {
            let datagram = self.receive(0)?;
            let answers = wire::messages(datagram).filter_map(|message| answer(&message));
            let decisive = answers.into_iter().find(|a| a.error.is_some() || a.sequence == sequence);
            if let Some(answer) = decisive {
                return Ok(answer);
            }
        }
    }

    /// Sends a dump request and hands on all messages of the reply. `forget` is called before a new attempt.
    pub(super) fn dump<T>(
        &mut self,
        request: &[u8],
        state: &mut T,
        forget: impl Fn(&mut T),
        mut absorb: impl FnMut(&mut T, &Message<'_>),
    ) -> Result<(), DumpError> {
        for _ in 0..DUMP_ATTEMPTS {
            self.begin_dump(request)?;
            let mut progress = DumpProgress::default();
            while !progress.done {
                self.dump_part(&mut progress, |message| absorb(state, message))?;
            }
            if progress.consistent {
                return Ok(());
            }
            forget(state);
        }
        Err(DumpError::Interrupted)
    }

    /// The kernel makes each part when it is asked for by [`Self::dump_part`]; meanwhile this socket is good for nothing else.
    pub(super) fn begin_dump(&mut self, request: &[u8]) -> io::Result<()> {
        self.discard_pending()?;
        self.send(request)
    }

    /// One datagram.
    pub(super) fn dump_part(
        &mut self,
        progress: &mut DumpProgress,
        mut absorb: impl FnMut(&Message<'_>),
    ) -> io::Result<()> {
        for message in wire::messages(self.receive(0)?) {
            progress.consistent &= message.flags & NLM_F_DUMP_INTR == 0;
            progress.done |= message.kind == NLMSG_DONE;
            match answer(&message) {
                _ if progress.done => break,
                Some(Answer { error: Some(error), .. }) => return Err(error),
                Some(_) => {}
                None => absorb(&message),
            }
        }
        Ok(())
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0).map(drop)
    }

    fn receive(&mut self, flags: i32) -> io::Result<&[u8]> {
        loop {
            self.buffer.clear();
            self.buffer.reserve(DATAGRAM);
            match self.socket.recv(&mut self.buffer, flags) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) => return Ok(&self.buffer),
            }
        }
    }

    /// An answer to a request that was given up must not be taken for an answer to the next.
    fn discard_pending(&mut self) -> io::Result<()> {
        loop {
            match self.receive(libc::MSG_DONTWAIT) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // Something did not fit the buffer: that is discarded too.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// `None`: not an acknowledgement.
fn answer(message: &Message<'_>) -> Option<Answer> {
    if message.kind != NLMSG_ERROR {
        return None;
    }
    let (code, rest) = message.payload.split_first_chunk::<4>()?;
    let code = i32::from_ne_bytes(*code);
    Some(Answer {
        sequence: message.sequence,
        error: (code != 0).then(|| io::Error::from_raw_os_error(-code)),
        detail: detail(message.flags, rest),
    })
}

/// The text behind the copy of the request's header (the copy is no longer than that: `NETLINK_CAP_ACK`).
fn detail(flags: u16, rest: &[u8]) -> Option<String> {
    const NLM_F_ACK_TLVS: u16 = 0x200;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let attributes = rest.get(wire::NLMSG_HEADER..)?;
    wire::find(attributes, NLMSGERR_ATTR_MSG).and_then(wire::text).map(str::to_owned)
}
