//! Speakers on real sockets, each test in a network namespace of its own, against peers made of bytes. Needs root.

mod asking;
mod ending;
mod guards;

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use ipnetwork::Ipv4Network;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};
use socket2::{Domain, Socket, Type};
use tokio::time::{sleep, timeout};

use super::*;
use crate::session::StateKind;
use crate::types::{AfiSafi, Asn, Nexthop, RemoteAsn, RouterId};
use crate::wire::{
    AsPath, Capabilities, EncodeContext, Open, PathAttributes, encode_keepalive, encode_reach,
};

const LIMIT: Duration = Duration::from_secs(10);
pub(super) const OURS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);

pub(super) fn address(peer: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, peer)
}

fn asn(peer: u8) -> Asn {
    Asn(65000 + u32::from(peer))
}

/// Runs a test on a thread that has a namespace and a table of descriptors to itself.
pub(super) fn in_namespace(test: impl AsyncFnOnce() + Send) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let body = || {
        // The first of a process makes what all share: before the tables part.
        drop(runtime());
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_FILES).expect("root");
        close_copies();
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip runs");
        assert!(up.success());
        runtime().block_on(test());
    };
    thread::scope(|scope| scope.spawn(body).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// The connections of the other tests, which would not end while there is a copy. Not what the process shares: tokio's pipe
/// for signals.
fn close_copies() {
    let open = fs::read_dir("/proc/thread-self/fd").unwrap().map(|entry| entry.unwrap().file_name());
    let open: Vec<i32> = open.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
    for copy in open.into_iter().filter(|descriptor| is_of_inet(*descriptor)) {
        nix::unistd::close(copy).unwrap();
    }
}

fn is_of_inet(descriptor: i32) -> bool {
    let family = getsockname::<SockaddrStorage>(descriptor).ok().and_then(|name| name.family());
    matches!(family, Some(AddressFamily::Inet | AddressFamily::Inet6))
}

/// What this thread may open besides, one descriptor for each.
fn all_descriptors() -> Vec<OwnedFd> {
    let mut all = vec![OwnedFd::from(fs::File::open("/dev/null").unwrap())];
    while let Ok(copy) = all[0].try_clone() {
        all.push(copy);
    }
    all
}

/// Waits until the answer is there; panics with `what` when it does not come.
pub(super) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, asking).await.unwrap_or_else(|_| panic!("waited for {what}"))
}

/// Passive, and accepts everything.
pub(super) fn peer(number: u8) -> PeerConfig {
    PeerConfig {
        passive: true,
        families: vec![AfiSafi::Ipv4Unicast],
        accept: vec!["0.0.0.0/0".parse().unwrap()].into(),
        ..PeerConfig::new(format!("peer{number}"), address(number).into(), RemoteAsn::Number(asn(number)))
    }
}

fn speaker() -> Handle {
    let config = SpeakerConfig::new(Asn(65000), RouterId(OURS), 1);
    spawn(config, &Listen { port: 0, addresses: vec![OURS.into()] }).unwrap().0
}

async fn port_of(speaker: &Handle) -> SocketAddr {
    speaker.listening().await.unwrap()[0]
}

async fn state(speaker: &Handle, number: usize) -> (StateKind, u32) {
    let peer = &speaker.peers().await.unwrap()[number];
    (peer.state, peer.families[0].1.accepted)
}

async fn established(speaker: &Handle) {
    let up = async || {
        let peers = speaker.peers().await.unwrap();
        peers.iter().all(|peer| peer.state == StateKind::Established).then_some(())
    };
    eventually("all sessions", up).await;
}

fn socket(number: u8, ttl: u32) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(address(number).into(), 0).into()).unwrap();
    socket.set_ttl_v4(ttl).unwrap();
    socket
}

fn connect(number: u8, to: SocketAddr) -> TcpStream {
    let socket = socket(number, 255);
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// All that a peer has to say for the session to come up.
pub(super) fn greeting(number: u8) -> Vec<u8> {
    let capabilities = Capabilities {
        families: vec![AfiSafi::Ipv4Unicast],
        four_octet_asn: true,
        ..Capabilities::default()
    };
    let open = Open { asn: asn(number), hold_time: 90, router_id: RouterId(address(number)), capabilities };
    [open.encode(), encode_keepalive()].concat()
}

fn greet(mut stream: &TcpStream, number: u8) {
    stream.write_all(&greeting(number)).unwrap();
}

pub(super) fn announcement(number: u8, prefix: &str) -> BytesMut {
    let attributes =
        PathAttributes { as_path: AsPath::from_sequence([asn(number)]), ..PathAttributes::default() };
    let context = EncodeContext { four_octet_asn: true, max_message_len: 4096, extended_nexthop: false };
    let prefixes: [Ipv4Network; 1] = [prefix.parse().unwrap()];
    let nexthop = Nexthop::V4(Ipv4Addr::new(192, 0, 2, 200));
    let mut message = BytesMut::new();
    encode_reach(&attributes, nexthop, &prefixes, &context, &mut message);
    message
}

fn announce(mut stream: &TcpStream, number: u8, prefix: &str) {
    stream.write_all(&announcement(number, prefix)).unwrap();
}
