//! How connections end, and how a peer that is dead is noticed.

use std::io::Read;

use super::*;
use crate::wire::{CeaseReason, Framer, Message, Notification};

/// The last message of a peer's connection, when it came to an orderly end.
fn last_word(mut stream: TcpStream) -> Option<Notification> {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let (mut all, mut framer) = (Vec::new(), Framer::default());
    stream.read_to_end(&mut all).ok()?;
    framer.push(&all);
    let mut last = None;
    while let Some(frame) = framer.next_frame().unwrap() {
        last = Message::decode(&frame, &Default::default()).ok();
    }
    match last {
        Some(Message::Notification(notification)) => Some(notification),
        _ => None,
    }
}

#[test]
fn a_stop_is_told_to_a_hundred_peers() {
    in_namespace(async || {
        let speaker = speaker();
        let to = port_of(&speaker).await;
        speaker.set_peers((1..=100).map(peer).collect()).await.unwrap();
        let greeted = (1..=100).map(|number| {
            let stream = connect(number, to);
            greet(&stream, number);
            stream
        });
        let streams: Vec<_> = greeted.collect();
        established(&speaker).await;

        let peers: Vec<_> =
            streams.into_iter().map(|stream| thread::spawn(move || last_word(stream))).collect();
        // While they are told something else: what was written then is reported while we stop.
        let prefixes = vec!["10.1.0.0/24".parse().unwrap()];
        speaker.set_origin(OriginConfig { prefixes, ..OriginConfig::default() }).await.unwrap();
        speaker.shutdown(Shutdown::Stop { text: "bye".to_owned() }).await.unwrap();
        let stop = Notification::cease(CeaseReason::AdministrativeShutdown, Some("bye"));
        let told = peers.into_iter().filter_map(|peer| peer.join().unwrap()).filter(|word| *word == stop);
        assert_eq!(told.count(), 100);
    });
}

/// Whether the kernel's keepalive timer runs on the connection that was accepted at this port.
fn is_kept_alive(port: u16) -> bool {
    const ESTABLISHED: &str = "01";
    const KEEPALIVE: &str = "02:";
    let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|column| {
        column[1].ends_with(&format!(":{port:04X}"))
            && column[3] == ESTABLISHED
            && column[5].starts_with(KEEPALIVE)
    })
}

#[test]
fn without_a_hold_time_the_kernel_asks_whether_the_peer_lives() {
    in_namespace(async || {
        let speaker = speaker();
        let to = port_of(&speaker).await;
        speaker.set_peers(vec![PeerConfig { hold_time: 0, ..peer(2) }]).await.unwrap();
        let stream = connect(2, to);
        greet(&stream, 2);
        established(&speaker).await;
        eventually("a keepalive timer", async || is_kept_alive(to.port()).then_some(())).await;
    });
}
