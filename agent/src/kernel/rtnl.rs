//! A synchronous NETLINK_ROUTE socket: batches and dumps, for threads that may block.
//!
//! Works on any socket of that kind, also one that was opened in another namespace and handed over: a netlink socket
//! stays in the namespace where it was made. Every request is acknowledged, so that each has its own error.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::descriptors;

/// The kernel answers within one RTNL hold of somebody else; that much is a hang.
const DEADLINE: Duration = Duration::from_secs(10);
/// Larger than any single message: a dump fills at most 32 KiB.
const BUFFER: usize = 64 * 1024;
/// Acknowledgements of one send must fit the default receive buffer.
const MAX_BATCH: usize = 64;
/// A dump that other changes keep interrupting is taken as it is read the last time.
const DUMP_TRIES: usize = 5;

/// Why the kernel did not do as told.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RtnlError {
    #[error("netlink socket: {0}")]
    Socket(#[from] Errno),
    /// With the kernel's own words, where it has any. `index` counts in the batch.
    #[error("{errno}{text}")]
    Refused { index: usize, errno: Errno, text: String },
    #[error("the kernel's answer cannot be read: {0}")]
    Malformed(String),
}

impl RtnlError {
    /// The kernel's error number, if it was the kernel that refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Socket(_) | Self::Malformed(_) => None,
        }
    }
}

/// A message, with flags beside REQUEST and ACK.
#[derive(Debug)]
pub struct Request {
    pub message: RouteNetlinkMessage,
    pub flags: u16,
}

/// The outcome of a batch: what the kernel sent back, and every refusal.
#[derive(Debug, Default)]
pub struct Outcome {
    pub answers: Vec<RouteNetlinkMessage>,
    pub refused: Vec<RtnlError>,
}

#[derive(Debug)]
pub struct Rtnl {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Rtnl {
    /// In the namespace of the calling thread.
    pub fn open() -> Result<Self, RtnlError> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        Self::from_socket(fd)
    }

    /// In the namespace of the socket.
    pub fn from_socket(fd: OwnedFd) -> Result<Self, RtnlError> {
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(DEADLINE.as_secs().cast_signed()))?;
        descriptors::set_netlink_option(&fd, libc::NETLINK_EXT_ACK, 1)?;
        descriptors::set_netlink_option(&fd, libc::NETLINK_CAP_ACK, 1)?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Sends all at once. The kernel executes all, also those after a refused one.
    pub fn batch(&mut self, requests: Vec<Request>) -> Result<Outcome, RtnlError> {
        let mut outcome = Outcome::default();
        let mut requests = requests.into_iter().peekable();
        let mut done = 0;
        while requests.peek().is_some() {
            let chunk: Vec<Request> = requests.by_ref().take(MAX_BATCH).collect();
            let length = chunk.len();
            self.chunk(chunk, done, &mut outcome)?;
            done += length;
        }
        Ok(outcome)
    }

    /// One request, whose refusal is the error.
    pub fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, RtnlError> {
        let mut outcome = self.batch(vec![Request { message, flags }])?;
        match outcome.refused.pop() {
            Some(refusal) => Err(refusal),
            None => Ok(outcome.answers),
        }
    }

    fn chunk(
        &mut self,
        requests: Vec<Request>,
        offset: usize,
        outcome: &mut Outcome,
    ) -> Result<(), RtnlError> {
        let first = self.sequence.wrapping_add(1);
        let length = requests.len();
        let mut waiting = length;
        let mut bytes = Vec::new();
        for Request { message, flags } in requests {
            self.append(message, flags | NLM_F_ACK, &mut bytes);
        }
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())?;
        while waiting > 0 {
            for message in self.receive()? {
                let index = message.header.sequence_number.wrapping_sub(first) as usize;
                match message.payload {
                    // Of a request that timed out before.
                    _ if index >= length => {}
                    NetlinkPayload::Error(error) => {
                        waiting -= 1;
                        if let Some(code) = error.code {
                            outcome.refused.push(RtnlError::Refused {
                                index: offset + index,
                                errno: Errno::from_raw(code.get().saturating_neg()),
                                text: extended_text(&error.header),
                            });
                        }
                    }
                    NetlinkPayload::InnerMessage(answer) => outcome.answers.push(answer),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// All objects of a kind.
    pub fn dump(&mut self, message: &RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, RtnlError> {
        let mut last = Vec::new();
        for _ in 0..DUMP_TRIES {
            last.clear();
            if self.dump_each(message.clone(), |answer| last.push(answer))? {
                break;
            }
        }
        Ok(last)
    }

    /// All objects of a kind, one by one: none is kept, however many there are. Says whether they are all: `false` when
    /// they changed meanwhile.
    pub fn dump_each(
        &mut self,
        message: RouteNetlinkMessage,
        mut take: impl FnMut(RouteNetlinkMessage),
    ) -> Result<bool, RtnlError> {
        let mut bytes = Vec::new();
        self.append(message, NLM_F_DUMP, &mut bytes);
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut interrupted = false;
        loop {
            for message in self.receive()? {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(!interrupted),
                    NetlinkPayload::Error(error) => {
                        let errno = Errno::from_raw(error.raw_code().saturating_neg());
                        return Err(RtnlError::Refused {
                            index: 0,
                            errno,
                            text: extended_text(&error.header),
                        });
                    }
                    NetlinkPayload::InnerMessage(answer) => take(answer),
                    _ => {}
                }
            }
        }
    }

    fn append(&mut self, message: RouteNetlinkMessage, flags: u16, bytes: &mut Vec<u8>) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..start + message.buffer_len()]);
    }

    fn receive(&mut self) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, RtnlError> {
        let length = recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
        parse(&self.buffer[..length])
    }
}

/// The messages of one datagram.
pub fn parse(mut bytes: &[u8]) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, RtnlError> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes)
            .map_err(|error| RtnlError::Malformed(error.to_string()))?;
        let length = (message.header.length as usize).next_multiple_of(4).max(4);
        bytes = bytes.get(length..).unwrap_or_default();
        messages.push(message);
    }
    Ok(messages)
}

/// NLMSGERR_ATTR_MSG, ready to follow the error's name. `header` is the request's header and then the attributes.
fn extended_text(header: &[u8]) -> String {
    const NLMSGERR_ATTR_MSG: u16 = 1;
    const REQUEST_HEADER: usize = 16;
    let mut attributes = header.get(REQUEST_HEADER..).unwrap_or_default();
    while let Some((&[l0, l1, k0, k1], _)) = attributes.split_first_chunk::<4>() {
        let (length, kind) = (usize::from(u16::from_ne_bytes([l0, l1])), u16::from_ne_bytes([k0, k1]));
        let Some(value) = attributes.get(4..length) else { break };
        if kind == NLMSGERR_ATTR_MSG {
            return format!(" ({})", String::from_utf8_lossy(value).trim_end_matches('\0'));
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::link::observed;

    proptest! {
        #[test]
        fn any_datagram_is_read_or_refused(bytes: Vec<u8>) {
            let _ = parse(&bytes);
            extended_text(&bytes);
        }

        /// With a header that leads to the decoders of links, addresses, routes and neighbours.
        #[test]
        fn any_message_about_a_link_is_read_or_refused(kind in 16_u16..32, body: Vec<u8>, length: Option<u32>) {
            let whole = u32::try_from(16 + body.len()).unwrap();
            let mut bytes = length.unwrap_or(whole).to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(body);
            for message in parse(&bytes).into_iter().flatten() {
                if let NetlinkPayload::InnerMessage(message) = message.payload {
                    let _ = observed(&message);
                }
            }
        }
    }
}
