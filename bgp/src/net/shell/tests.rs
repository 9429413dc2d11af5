//! What the shell says, and in which order.

use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake};

use crate::net::Listen;
use crate::net::tests::{OURS, address, announcement, greeting, in_namespace, peer};
use crate::speaker::Password;
use crate::types::{AfiSafi, Asn, RouterId};
use crate::wire::encode_end_of_rib;

use super::*;

/// With one peer, whose session is up, and the reader of the FIB's changes.
fn shell() -> (Shell, mpsc::Receiver<FibEvent>) {
    let (events, _) = mpsc::channel(1);
    let (fib, reader) = mpsc::channel(1);
    let listeners = Listeners::bind(&Listen { port: 0, addresses: vec![OURS.into()] }).unwrap();
    let mut shell = Shell::new(SpeakerConfig::new(Asn(65000), RouterId(OURS), 1), listeners, events, fib);
    shell.set_peers(vec![peer(2)]);
    let remote = PeerKey { address: address(2).into(), interface: None };
    shell.handle(Input::Connected { conn: ConnId::Accepted(1), local: OURS.into(), remote });
    hears(&mut shell, &greeting(2));
    (shell, reader)
}

fn hears(shell: &mut Shell, bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    shell.handle(Input::Received { conn: ConnId::Accepted(1), bytes });
}

#[test]
fn guards_are_tried_again_later_and_only_where_they_failed() {
    in_namespace(async || {
        let (mut shell, _reader) = shell();
        assert_eq!(shell.guards_due, None);
        // On different links the kernel cannot tell them apart.
        let signed = |interface, secret| {
            let mut peer = peer(3);
            (peer.key.interface, peer.transport.password) = (Some(interface), Password::new(secret));
            peer
        };
        let before = Clock::now();
        shell.set_peers(vec![signed(1, "one"), signed(2, "other")]);
        assert!(shell.guards_due.is_some_and(|due| due >= before + GUARDS_RETRY));
        shell.set_peers(vec![signed(1, "one")]);
        assert_eq!(shell.guards_due, None);
    });
}

#[test]
fn a_mark_comes_after_what_was_known_however_much_is_learned_meanwhile() {
    in_namespace(async || {
        let (mut shell, _reader) = shell();
        hears(&mut shell, &announcement(2, "192.0.2.0/24"));
        assert!(shell.has_fib_event());
        hears(&mut shell, &announcement(2, "192.0.3.0/24"));
        hears(&mut shell, &encode_end_of_rib(AfiSafi::Ipv4Unicast));
        let mut told = Vec::new();
        for prefix in (4..).map(|third| format!("192.0.{third}.0/24")).take(5) {
            hears(&mut shell, &announcement(2, &prefix));
            assert!(shell.has_fib_event());
            told.extend(shell.fib_events.pop_front());
        }
        let prefixes = |event: &FibEvent| match event {
            FibEvent::Changes(changes) => changes.iter().map(|change| change.prefix.to_string()).collect(),
            mark @ (FibEvent::Settled | FibEvent::Converged) => vec![format!("{mark:?}")],
        };
        let expected: [&[&str]; 5] = [
            &["192.0.2.0/24"],
            &["192.0.3.0/24"],
            &["Settled"],
            &["Converged"],
            &["192.0.4.0/24", "192.0.5.0/24", "192.0.6.0/24", "192.0.7.0/24", "192.0.8.0/24"],
        ];
        assert_eq!(told.iter().map(prefixes).collect::<Vec<_>>(), expected);
    });
}

/// At the instant when it is woken: whether the port is free.
struct Probe {
    port: SocketAddr,
    free: AtomicBool,
}

impl Wake for Probe {
    fn wake(self: Arc<Self>) {
        self.free.store(TcpListener::bind(self.port).is_ok(), Ordering::Relaxed);
    }
}

#[test]
fn whoever_hears_of_the_end_finds_the_port_free() {
    in_namespace(async || {
        let (shell, _reader) = shell();
        let port = shell.admission.listeners.local_addresses()[0];
        let (done, mut ended) = oneshot::channel();
        let (_, inbox) = mpsc::channel(1);
        let probe = Arc::new(Probe { port, free: AtomicBool::new(false) });
        let waker = Arc::clone(&probe).into();
        assert!(Pin::new(&mut ended).poll(&mut Context::from_waker(&waker)).is_pending());
        shell.shutdown(Shutdown::Restart, Some(done), inbox).await;
        assert!(probe.free.load(Ordering::Relaxed));
    });
}
