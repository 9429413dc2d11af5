//! What a handle asks of a speaker, and a speaker that goes to its peer by itself.

use std::net::TcpListener;

use super::*;

/// Peer 2, that is to be dialed at this port.
fn active(port: u16) -> PeerConfig {
    let mut active = PeerConfig { passive: false, connect_retry: Duration::from_millis(100), ..peer(2) };
    active.transport.port = port;
    active
}

fn listener(port: u16) -> TcpListener {
    let listener = TcpListener::bind((address(2), port)).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

async fn dialed(listener: &TcpListener) -> TcpStream {
    eventually("a dial", async || listener.accept().ok()).await.0
}

#[test]
fn a_speaker_tells_what_it_has_learned_and_said_until_its_end() {
    in_namespace(async || {
        let config = SpeakerConfig::new(Asn(65000), RouterId(OURS), 1);
        let (speaker, mut fib) = spawn(config, &Listen { port: 0, addresses: vec![OURS.into()] }).unwrap();
        let listener = listener(0);
        let peer = active(listener.local_addr().unwrap().port());
        let (ours, theirs) = ("10.1.0.0/24".parse().unwrap(), "192.0.2.0/24".parse().unwrap());
        let origin = OriginConfig { prefixes: vec![ours], ..OriginConfig::default() };
        speaker.set_origin(origin).await.unwrap();
        speaker.set_peers(vec![peer.clone()]).await.unwrap();
        let stream = dialed(&listener).await;
        greet(&stream, 2);
        announce(&stream, 2, "192.0.2.0/24");

        let learned = eventually("a change of the FIB", async || match fib.next().await {
            Some(FibEvent::Changes(changes)) => Some(changes),
            Some(FibEvent::Settled | FibEvent::Converged) => None,
            None => panic!("it has ended"),
        });
        assert_eq!(learned.await.iter().map(|change| change.prefix).collect::<Vec<_>>(), [theirs]);
        let routes = speaker.routes(RouteFilter::All).await.unwrap();
        assert_eq!(routes.iter().map(|route| route.prefix).collect::<Vec<_>>(), [ours, theirs]);
        let told = async || speaker.advertised(peer.key).await.unwrap().filter(|told| !told.is_empty());
        let told = eventually("our route at the peer", told).await;
        assert_eq!(told.iter().map(|route| route.prefix).collect::<Vec<_>>(), [ours]);

        speaker.unreachable(peer.key).await.unwrap();
        assert_ne!(state(&speaker, 0).await.0, StateKind::Established);
        let waits = speaker.clone();
        assert!(timeout(Duration::ZERO, waits.ended()).await.is_err(), "it lives");
        speaker.shutdown(Shutdown::Restart).await.unwrap();
        timeout(LIMIT, waits.ended()).await.unwrap();
        assert_eq!(speaker.peers().await, Err(Ended));
        eventually("the end of the changes", async || fib.next().await.is_none().then_some(())).await;
    });
}

#[test]
fn a_peer_that_refuses_is_dialed_again() {
    in_namespace(async || {
        let port = listener(0).local_addr().unwrap().port();
        let speaker = speaker();
        speaker.set_peers(vec![active(port)]).await.unwrap();
        eventually("a refusal", async || speaker.peers().await.unwrap().remove(0).last_error).await;
        let listener = listener(port);
        greet(&dialed(&listener).await, 2);
    });
}
