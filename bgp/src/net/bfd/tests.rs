//! The thread on real sockets, each test in a namespace of its own, against a peer made of bytes. Needs root.

use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use socket2::SockRef;
use tokio::time::sleep;

use super::super::tests::{eventually, in_namespace};
use super::*;
use crate::bfd::{Diagnostic, Discriminator, DropReason, Packet, Path, State, Terms};

const TERMS: Terms = Terms { interval: Duration::from_millis(50), detect_multiplier: 3 };
const SINGLE: u16 = 3784;

/// Two addresses of the loopback. Of what is sent to the second the engine hears itself, as a stranger.
const V4: &str = "127.0.2.1";
const V6: &str = "fd00::2";

/// Somebody at the second. What it is told is seen on the wire alone: the engine holds the port.
struct Router {
    socket: UdpSocket,
    discriminator: Discriminator,
}

impl Router {
    fn new(address: &str, number: u32) -> Self {
        let add = format!("ip address replace {V6}/128 dev lo nodad");
        assert!(Command::new("sh").args(["-c", &add]).status().unwrap().success());
        let socket = UdpSocket::bind(SocketAddr::new(address.parse().unwrap(), 40_000)).unwrap();
        let options = SockRef::from(&socket);
        match socket.local_addr().unwrap() {
            SocketAddr::V4(_) => options.set_ttl_v4(255).unwrap(),
            SocketAddr::V6(_) => options.set_unicast_hops_v6(255).unwrap(),
        }
        socket.set_nonblocking(true).unwrap();
        Self { socket, discriminator: Discriminator::new(number).unwrap() }
    }

    fn key(&self) -> PeerKey {
        PeerKey { address: self.socket.local_addr().unwrap().ip(), interface: None }
    }

    fn watched(&self, path: Path) -> Watched {
        let config = Config { terms: TERMS, path };
        let source = Some(to(self.key().address, 0).ip());
        Watched { name: "router".to_owned(), key: self.key(), source, config }
    }

    fn packet(&self, state: State, yours: Option<Discriminator>) -> Packet {
        Packet {
            diagnostic: Diagnostic::None,
            state,
            poll: false,
            is_final: false,
            control_plane_independent: false,
            demand: false,
            // Two seconds: tests share a machine.
            detect_multiplier: 40,
            my_discriminator: self.discriminator,
            your_discriminator: yours,
            desired_min_tx: Duration::from_millis(50),
            required_min_rx: Duration::from_millis(50),
            required_min_echo_rx: Duration::ZERO,
        }
    }

    fn says(&self, port: u16, packet: &Packet) {
        self.socket.send_to(&packet.encode(), to(self.key().address, port)).unwrap();
    }
}

fn to(address: IpAddr, port: u16) -> SocketAddr {
    let ours: IpAddr =
        if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    SocketAddr::new(ours, port)
}

/// Runs an engine on a thread, and gives the test what is heard of it.
fn with_engine(left: Vec<Left>, test: impl AsyncFnOnce(Handle, mpsc::Receiver<Lost>) + Send) {
    in_namespace(async || {
        let (handle, engine, lost) = new(7, left).unwrap();
        let thread = std::thread::spawn(|| engine.run());
        test(handle, lost).await;
        thread.join().expect("it ends with its handles, and without a panic");
    });
}

/// All that passes on the loopback, with its Ethernet header; each is seen as it leaves and as it arrives.
fn sniffer() -> File {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap().into()
}

async fn shown(handle: &Handle) -> Shown {
    handle.report().await.unwrap().sessions[0].clone()
}

/// Up, by packets of ours alone: what the engine says goes to a port that nobody of the test holds.
async fn bring_up(handle: &Handle, router: &Router, port: u16) {
    let ours = shown(handle).await.status.discriminator;
    router.says(port, &router.packet(State::Down, Some(ours)));
    router.says(port, &Packet { is_final: true, ..router.packet(State::Init, Some(ours)) });
    eventually("the session", async || (shown(handle).await.status.state == State::Up).then_some(())).await;
}

#[test]
fn a_peer_that_falls_silent_is_lost_within_its_detection_time() {
    for (address, path) in [
        (V4, Path::SingleHop),
        (V4, Path::Multihop { least_ttl: 1 }),
        (V6, Path::SingleHop),
        (V6, Path::Multihop { least_ttl: 1 }),
    ] {
        with_engine(Vec::new(), async |handle, mut lost| {
            let router = Router::new(address, 5);
            handle.watch(vec![router.watched(path)]).await.unwrap();
            bring_up(&handle, &router, path.port()).await;
            for _ in 0..20 {
                let ours = shown(&handle).await.status.discriminator;
                router.says(path.port(), &router.packet(State::Up, Some(ours)));
                sleep(Duration::from_millis(20)).await;
            }
            assert!(lost.try_recv().is_err(), "it speaks");
            let Lost { key, failure } = lost.recv().await.unwrap();
            assert_eq!(key, router.key());
            assert!(failure.silent >= Duration::from_secs(2), "{failure:?}");
            assert_eq!(shown(&handle).await.status.failed_count, 1);
        });
    }
}

#[test]
fn what_has_been_routed_is_refused_on_a_link() {
    for address in [V4, V6] {
        with_engine(Vec::new(), async |handle, _lost| {
            let router = Router::new(address, 5);
            handle.watch(vec![router.watched(Path::SingleHop)]).await.unwrap();
            let options = SockRef::from(&router.socket);
            match router.key().address {
                IpAddr::V4(_) => options.set_ttl_v4(254).unwrap(),
                IpAddr::V6(_) => options.set_unicast_hops_v6(254).unwrap(),
            }
            router.says(SINGLE, &router.packet(State::Down, None));
            let dropped = async || {
                let status = shown(&handle).await.status;
                (status.drops.of(DropReason::Ttl) == 1).then_some(status)
            };
            assert_eq!(eventually("a drop", dropped).await.packets_in, 0);
        });
    }
}

#[test]
fn strangers_are_counted_and_not_answered() {
    with_engine(Vec::new(), async |handle, _lost| {
        let (router, stranger) = (Router::new(V4, 5), Router::new("127.0.2.2", 6));
        handle.watch(vec![router.watched(Path::SingleHop)]).await.unwrap();
        let before = handle.report().await.unwrap().strangers;
        (0..100).for_each(|_| {
            stranger.says(SINGLE, &Packet { poll: true, ..stranger.packet(State::Down, None) });
        });
        let counted = async || (handle.report().await.unwrap().strangers >= before + 100).then_some(());
        eventually("the stranger", counted).await;
        assert!(stranger.socket.recv_from(&mut [0; 64]).is_err());
        assert_eq!(shown(&handle).await.status.packets_in, 0);
    });
}

/// As the kernel of the other side sees it.
#[test]
fn a_packet_leaves_as_the_rfc_wants_it() {
    for (address, header) in [(V4, 20), (V6, 40)] {
        with_engine(Vec::new(), async |handle, _lost| {
            let sniffer = sniffer();
            let router = Router::new(address, 5);
            handle.watch(vec![router.watched(Path::SingleHop)]).await.unwrap();
            let mut frame = [0; 256];
            let to_peer = async || {
                let len = (&sniffer).read(&mut frame).ok()?;
                let ip = frame[14..len].to_vec();
                (ip.len() >= header + 8 && ip[header + 2..header + 4] == SINGLE.to_be_bytes()).then_some(ip)
            };
            let ip = eventually("a packet", to_peer).await;
            let (class, ttl) = match address {
                V6 => ((ip[0] << 4) | (ip[1] >> 4), ip[7]),
                _ => (ip[1], ip[8]),
            };
            assert_eq!((class, ttl), (0xc0, 255), "DSCP CS6, and what GTSM asks for");
            assert!(u16::from_be_bytes([ip[header], ip[header + 1]]) >= 49152);
            let packet = Packet::decode(&ip[header + 8..]).unwrap();
            assert_eq!((packet.state, packet.desired_min_tx), (State::Down, Duration::from_secs(1)));
        });
    }
}

#[test]
fn a_port_that_is_taken_is_said_and_tried_again() {
    with_engine(Vec::new(), async |handle, _lost| {
        let other = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SINGLE)).unwrap();
        let router = Router::new(V4, 5);
        handle.watch(vec![router.watched(Path::SingleHop)]).await.unwrap();
        let deaf = handle.report().await.unwrap().deaf;
        assert!(deaf.len() == 1 && deaf[0].contains("UDP port 3784"), "{deaf:?}");
        drop(other);
        eventually("the port", async || handle.report().await.unwrap().deaf.is_empty().then_some(())).await;
        bring_up(&handle, &router, SINGLE).await;
    });
}

#[test]
fn ports_are_open_while_somebody_is_watched() {
    with_engine(Vec::new(), async |handle, _lost| {
        let is_open = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SINGLE)).is_err();
        let router = Router::new(V4, 5);
        assert!(!is_open());
        handle.watch(vec![router.watched(Path::SingleHop)]).await.unwrap();
        assert!(is_open());
        handle.watch(Vec::new()).await.unwrap();
        assert!(!is_open());
    });
}

#[test]
fn a_packet_that_cannot_be_sent_is_said_and_the_next_one_tries_again() {
    with_engine(Vec::new(), async |handle, _lost| {
        let key = PeerKey { address: [192, 0, 2, 9].into(), interface: None };
        let config = Config { terms: TERMS, path: Path::SingleHop };
        handle.watch(vec![Watched { name: "far".to_owned(), key, source: None, config }]).await.unwrap();
        let error = shown(&handle).await.error.expect("there is no way to it");
        assert!(error.contains("unreachable"), "{error}");
        let way = Command::new("ip").args(["route", "add", "192.0.2.0/24", "dev", "lo"]).status().unwrap();
        assert!(way.success());
        eventually("the way back", async || shown(&handle).await.error.is_none().then_some(())).await;
    });
}

#[test]
fn a_restart_is_not_seen_by_a_peer_that_waits() {
    in_namespace(async || {
        let router = Router::new(V4, 5);
        let (handle, engine, _lost) = new(7, Vec::new()).unwrap();
        let thread = std::thread::spawn(|| engine.run());
        handle.watch(vec![router.watched(Path::SingleHop)]).await.unwrap();
        bring_up(&handle, &router, SINGLE).await;
        let ours = shown(&handle).await.status.discriminator;

        let speak = async {
            loop {
                // Every packet may be an answer.
                router.says(SINGLE, &Packet { is_final: true, ..router.packet(State::Up, Some(ours)) });
                sleep(Duration::from_millis(20)).await;
            }
        };
        let leave = async {
            handle.lengthen().await.unwrap();
            handle.leave(Shutdown::Restart).await.unwrap()
        };
        let left = tokio::select! { () = speak => unreachable!("it speaks on"), left = leave => left };
        thread.join().unwrap();
        assert_eq!(left.len(), 1);

        let sniffer = sniffer();
        let (handle, engine, mut lost) = new(8, left).unwrap();
        let thread = std::thread::spawn(|| engine.run());
        handle.watch(vec![router.watched(Path::SingleHop)]).await.unwrap();
        let status = shown(&handle).await.status;
        assert_eq!((status.state, status.discriminator), (State::Up, ours));
        let mut frame = [0; 256];
        let first = async || {
            let len = (&sniffer).read(&mut frame).ok()?;
            Packet::decode(frame[..len].get(42..)?).ok()
        };
        let first = eventually("its first packet", first).await;
        assert_eq!((first.state, first.poll, first.my_discriminator), (State::Up, true, ours));
        assert!(lost.try_recv().is_err());
        drop(handle);
        thread.join().unwrap();
    });
}

#[test]
fn a_peer_that_would_not_wait_is_told() {
    with_engine(Vec::new(), async |handle, _lost| {
        let router = Router::new(V4, 5);
        handle.watch(vec![router.watched(Path::SingleHop)]).await.unwrap();
        bring_up(&handle, &router, SINGLE).await;
        let sniffer = sniffer();
        // It does not answer.
        handle.lengthen().await.unwrap();
        assert_eq!(handle.leave(Shutdown::Restart).await.unwrap(), []);
        let mut frame = [0; 256];
        let mut said = 0;
        while let Ok(len) = (&sniffer).read(&mut frame) {
            let packet = frame[..len].get(42..).and_then(|payload| Packet::decode(payload).ok());
            said += u32::from(packet.is_some_and(|packet| packet.state == State::AdminDown));
        }
        // Each is seen as it leaves and as it arrives.
        assert_eq!(said, 6);
    });
}
