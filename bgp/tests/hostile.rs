//! A peer that does nothing but harm, on real sockets in a network namespace: the other peer's session, the log and the
//! memory do not notice. A process of its own, because it measures itself. Needs root.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by stopping")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use ipnetwork::Ipv4Network;
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Socket, Type};
use tokio::time::{Instant, sleep, timeout};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use weft_bgp::net::{Handle, Listen, spawn};
use weft_bgp::session::StateKind;
use weft_bgp::speaker::{PeerConfig, PeerStatus, SpeakerConfig};
use weft_bgp::types::{AfiSafi, Asn, Nexthop, RemoteAsn, RouterId};
use weft_bgp::wire::{
    AsPath, Capabilities, EncodeContext, Open, PathAttributes, encode_keepalive, encode_reach,
};

const LIMIT: Duration = Duration::from_secs(120);
const OURS: Ipv4Addr = Ipv4Addr::LOCALHOST;
const HONEST: u8 = 2;
const HOSTILE: u8 = 3;

/// Counts what an operator would read.
#[derive(Clone, Default)]
struct Log(Arc<AtomicU64>);

impl Log {
    fn lines(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A speaker with an honest peer that is up and has announced a route, and a hostile one.
struct Bench {
    speaker: Handle,
    to: SocketAddr,
    honest: TcpStream,
    log: Log,
}

/// One at a time: the memory is the process's.
fn in_namespace(test: impl AsyncFnOnce(Bench) + Send) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let body = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("root");
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { test(Bench::start(log).await).await });
        });
    };
    thread::scope(|scope| scope.spawn(body).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

impl Bench {
    async fn start(log: Log) -> Self {
        let config = SpeakerConfig::new(Asn(65000), RouterId(OURS), 1);
        let listen = Listen { port: 0, addresses: vec![OURS.into()] };
        let (speaker, _) = spawn(config, &listen).unwrap();
        let to = speaker.listening().await.unwrap()[0];
        speaker.set_peers([HONEST, HOSTILE].map(peer).to_vec()).await.unwrap();
        let honest = connect(HONEST, to);
        (&honest).write_all(&greeting(HONEST)).unwrap();
        let bench = Self { speaker, to, honest, log };
        bench.honest_announces("10.0.0.0/24", 1).await;
        bench
    }

    async fn peers(&self) -> [PeerStatus; 2] {
        self.speaker.peers().await.unwrap().try_into().unwrap()
    }

    async fn until(&self, what: &str, holds: impl Fn(&[PeerStatus; 2]) -> bool) {
        let asking = async {
            while !holds(&self.peers().await) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LIMIT, asking).await.unwrap_or_else(|_| panic!("waited for {what}"));
    }

    /// Its session is the first one still, and works.
    async fn honest_announces(&self, prefix: &str, routes: u32) {
        (&self.honest).write_all(&update(HONEST, prefix)).unwrap();
        self.until("the honest peer's route", |[honest, _]| honest.families[0].1.accepted == routes).await;
        assert_eq!(self.peers().await[0].established_count, 1);
    }
}

fn address(peer: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, peer)
}

fn asn(peer: u8) -> Asn {
    Asn(65000 + u32::from(peer))
}

fn peer(number: u8) -> PeerConfig {
    PeerConfig {
        passive: true,
        families: vec![AfiSafi::Ipv4Unicast],
        accept: vec!["0.0.0.0/0".parse().unwrap()].into(),
        ..PeerConfig::new(format!("peer{number}"), address(number).into(), RemoteAsn::Number(asn(number)))
    }
}

fn connect(number: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(address(number).into(), 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

fn greeting(number: u8) -> Vec<u8> {
    let capabilities = Capabilities {
        families: vec![AfiSafi::Ipv4Unicast],
        four_octet_asn: true,
        ..Capabilities::default()
    };
    let open = Open { asn: asn(number), hold_time: 90, router_id: RouterId(address(number)), capabilities };
    [open.encode(), encode_keepalive()].concat()
}

fn update(number: u8, prefix: &str) -> Vec<u8> {
    let as_path = AsPath::from_sequence([asn(number)]);
    let attributes = PathAttributes { as_path, ..PathAttributes::default() };
    let context = EncodeContext { four_octet_asn: true, max_message_len: 4096, extended_nexthop: false };
    let prefixes: [Ipv4Network; 1] = [prefix.parse().unwrap()];
    let mut message = BytesMut::new();
    encode_reach(&attributes, Nexthop::V4([192, 0, 2, 9].into()), &prefixes, &context, &mut message);
    message.to_vec()
}

/// An UPDATE for one prefix with something wrong in it that the session survives.
fn broken(number: u32) -> Vec<u8> {
    let mandatory = [
        &[0x40, 1, 1, 0][..],
        &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xeb], // 65003
        &[0x40, 3, 4, 192, 0, 2, 9],
    ]
    .concat();
    let [_, high, middle, low] = number.to_be_bytes();
    let wrong = match number % 4 {
        0 => vec![0xc0, 8, 3, high, middle, low], // COMMUNITIES of three octets
        1 => vec![0x40, 99, 3, high, middle, low], // well-known, and nobody knows it
        2 => [0x40, 6, 0].repeat(300),            // ATOMIC_AGGREGATE three hundred times
        _ => vec![0xc0, 8, 200, high, middle, low, 0], // runs past the end
    };
    let attributes = [mandatory, wrong].concat();
    // Duplicates cost only themselves, so that these are routes: always the same one, or the prefix limit is what ends it.
    let nlri = if number % 4 == 2 { [24, 10, 255, 255] } else { [24, 10 + high, middle, low] };
    let len = |len: usize| u16::try_from(len).unwrap().to_be_bytes();
    let total = len(23 + attributes.len() + nlri.len());
    [&[0xff; 16][..], &total, &[2, 0, 0], &len(attributes.len()), &attributes, &nlri].concat()
}

/// In octets.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// So many lines at once, then one a minute.
fn lines_allowed(at_once: u64, began: Instant) -> u64 {
    at_once + began.elapsed().as_secs().div_ceil(60)
}

#[test]
fn a_hundred_thousand_broken_messages_disturb_nobody() {
    const MESSAGES: u32 = 100_000;
    in_namespace(async |bench| {
        let mut hostile = connect(HOSTILE, bench.to);
        hostile.write_all(&greeting(HOSTILE)).unwrap();
        bench.until("the hostile session", |[_, hostile]| hostile.state == StateKind::Established).await;
        let (lines, before, began) = (bench.log.lines(), memory(), Instant::now());

        let flood = thread::spawn(move || {
            for number in 0..MESSAGES {
                hostile.write_all(&broken(number)).unwrap();
            }
            hostile
        });
        bench.until("some of it", |[_, hostile]| hostile.malformed_attributes > 1000).await;
        bench.honest_announces("10.0.1.0/24", 2).await;
        bench.until("all of it", |[_, hostile]| hostile.messages_in > u64::from(MESSAGES)).await;
        bench.honest_announces("10.0.2.0/24", 3).await;

        assert_eq!(bench.peers().await[1].established_count, 1);
        assert!(bench.log.lines() - lines <= lines_allowed(0, began), "{} lines", bench.log.lines() - lines);
        let grown = memory().saturating_sub(before);
        assert!(grown <= 10 << 20, "{} KiB more", grown >> 10);
        drop(flood.join().unwrap());
    });
}

#[test]
fn a_peer_that_breaks_each_connection_is_damped() {
    const CONNECTIONS: u32 = 1000;
    in_namespace(async |bench| {
        let (lines, before, began) = (bench.log.lines(), memory(), Instant::now());
        let to = bench.to;
        let breaking = thread::spawn(move || {
            for number in 0..CONNECTIONS {
                let mut stream = connect(HOSTILE, to);
                // Some come up first. What becomes of it is not the question, only that it ends.
                let greeting = if number % 2 == 0 { greeting(HOSTILE) } else { Vec::new() };
                let _ = stream.write_all(&[&greeting[..], &[0; 19]].concat());
                let _ = stream.read_to_end(&mut Vec::new());
            }
        });
        while !breaking.is_finished() {
            sleep(Duration::from_millis(10)).await;
        }
        breaking.join().unwrap();
        bench.honest_announces("10.0.1.0/24", 2).await;

        let [_, hostile] = bench.peers().await;
        let minutes = began.elapsed().as_secs().div_ceil(60);
        assert!(hostile.established_count <= 4 + 2 * minutes, "up {} times", hostile.established_count);
        assert!(bench.log.lines() - lines <= lines_allowed(3, began), "{} lines", bench.log.lines() - lines);
        let grown = memory().saturating_sub(before);
        assert!(grown <= 10 << 20, "{} KiB more", grown >> 10);
    });
}
