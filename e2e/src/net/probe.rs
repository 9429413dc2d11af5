//! One attempt to reach an echo server: did the payload come back before the deadline?

use std::fmt;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;

use super::Namespace;
use crate::wait;

/// Within a lab an answer takes a millisecond, or some hundred when the machine is busy.
const ATTEMPT: Duration = Duration::from_millis(400);
/// Bytes. The kernel counts about 800 for the smallest datagram: room for some seconds at 1,000 a second.
const RECEIVE_BUFFER: usize = 4 << 20;
const PAYLOAD: &[u8; 16] = b"weft-e2e probe\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proto {
    Tcp,
    Udp,
}

impl Proto {
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];
}

impl fmt::Display for Proto {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl FromStr for Proto {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => bail!("{text}: tcp or udp"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// With what the sender's socket said: a timeout for a drop, a refusal for a reject or a missing server.
    Denied(String),
}

impl Verdict {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => out.write_str("allowed"),
            Self::Denied(why) => write!(out, "denied ({why})"),
        }
    }
}

/// From inside `namespace`. An error means that the attempt itself could not be made.
pub fn probe(namespace: &Namespace, proto: Proto, to: SocketAddr, limit: Duration) -> Result<Verdict> {
    namespace.enter(|| Ok(probe_here(proto, to, limit)))
}

/// Waits until an echo server answers by TCP and by UDP.
pub fn until_open(from: &Namespace, to: SocketAddr, limit: Duration) -> Result<()> {
    Proto::ALL.into_iter().try_for_each(|proto| until_verdict(from, proto, to, true, limit))
}

/// Waits until neither TCP nor UDP gets through, which takes two attempts each: one alone may be bad luck.
pub fn until_closed(from: &Namespace, to: SocketAddr, limit: Duration) -> Result<()> {
    for proto in Proto::ALL.into_iter().chain(Proto::ALL) {
        until_verdict(from, proto, to, false, limit)?;
    }
    Ok(())
}

/// Waits until one attempt ends as `open` says.
pub fn until_verdict(
    from: &Namespace,
    proto: Proto,
    to: SocketAddr,
    open: bool,
    limit: Duration,
) -> Result<()> {
    let wanted = if open { "an answer" } else { "silence" };
    wait::until(&format!("{wanted} on {proto} {to} from {}", from.label()), limit, || {
        let verdict = probe(from, proto, to, ATTEMPT)?;
        ensure!(verdict.is_allowed() == open, "{verdict}");
        Ok(Some(()))
    })
}

/// From the calling thread's namespace.
pub fn probe_here(proto: Proto, to: SocketAddr, limit: Duration) -> Verdict {
    let answered = match proto {
        Proto::Tcp => ask_tcp(to, limit),
        Proto::Udp => ask_udp(to, limit),
    };
    match answered {
        Ok(()) => Verdict::Allowed,
        Err(error) => Verdict::Denied(error.to_string()),
    }
}

fn ask_tcp(to: SocketAddr, limit: Duration) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, limit)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(PAYLOAD)?;
    stream.read_exact(&mut [0; PAYLOAD.len()])
}

fn ask_udp(to: SocketAddr, limit: Duration) -> std::io::Result<()> {
    let socket = udp_towards(to)?;
    socket.set_read_timeout(Some(limit))?;
    socket.send(PAYLOAD)?;
    socket.recv(&mut [0; PAYLOAD.len()]).map(drop)
}

/// On a busy machine a thread may sleep for a second: what arrives meanwhile must not be lost in its socket.
pub(super) fn roomy(socket: &impl AsFd) -> std::io::Result<()> {
    setsockopt(socket, RcvBufForce, &RECEIVE_BUFFER).map_err(Into::into)
}

/// A socket that only `to` can answer.
pub(super) fn udp_towards(to: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    roomy(&socket)?;
    socket.connect(to)?;
    Ok(socket)
}
