//! MD5 and GTSM: what the kernel must drop, and what it let through before it was told to.

use std::io::Read;
use std::os::fd::AsFd;

use super::super::admission::Admission;
use super::super::listener::Listeners;
use super::super::sockopt;
use super::*;
use crate::speaker::{Hops, Password};

fn password(secret: &str) -> Option<Password> {
    Password::new(secret)
}

fn with(password: Option<Password>, hops: Hops) -> PeerConfig {
    let mut peer = peer(2);
    (peer.transport.password, peer.transport.hops) = (password, hops);
    peer
}

/// A counter of TCP in this namespace.
fn tcp_counter(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let value = |pair: &[Vec<&str>]| {
        let column = pair[0].iter().position(|column| *column == name)?;
        pair[1][column].parse().ok()
    };
    lines.chunks(2).find_map(value).unwrap_or_else(|| panic!("no {name} in {file}"))
}

/// The connection has come to its end without a session: it was complete before its peer was to be guarded.
async fn is_refused(speaker: &Handle, mut stream: &TcpStream) {
    stream.set_nonblocking(true).unwrap();
    let ended = async || match stream.read(&mut [0; 4096]) {
        Ok(0) => Some(()),
        Ok(_) => None,
        Err(error) => (error.kind() != io::ErrorKind::WouldBlock).then_some(()),
    };
    eventually("the end of the connection", ended).await;
    let (state, accepted) = state(speaker, 0).await;
    assert_ne!(state, StateKind::Established);
    assert_eq!(accepted, 0);
}

#[test]
fn what_connected_before_its_guard_was_there_is_refused() {
    let (open, old, new) = (Hops::Multihop(64), password("old"), password("new"));
    let guarded = with(new.clone(), open);
    for (before, after) in [
        (None, guarded.clone()),
        (Some(with(None, open)), guarded.clone()),
        (Some(with(old.clone(), open)), guarded),
        (Some(with(old, open)), with(None, open)),
        (None, with(None, Hops::Security(1))),
        (Some(with(None, open)), with(None, Hops::Security(1))),
    ] {
        in_namespace(async move || {
            for _ in 0..20 {
                let speaker = speaker();
                let to = port_of(&speaker).await;
                speaker.set_peers(before.clone().into_iter().collect()).await.unwrap();
                let stream = socket(2, 64);
                if let Some(password) = before.as_ref().and_then(|peer| peer.transport.password.as_ref()) {
                    sockopt::set_md5(stream.as_fd(), to.ip(), Some(password)).unwrap();
                }
                stream.connect(&to.into()).unwrap();
                let stream = stream.into();
                greet(&stream, 2);
                announce(&stream, 2, "192.0.2.0/24");
                // Nothing is awaited before this, so the connection waits in the backlog.
                speaker.set_peers(vec![after.clone()]).await.unwrap();
                is_refused(&speaker, &stream).await;
            }
        });
    }
}

#[test]
fn a_change_of_one_peer_does_not_cost_others_their_place_in_the_backlog() {
    in_namespace(async || {
        let speaker = speaker();
        let to = port_of(&speaker).await;
        speaker.set_peers(vec![peer(3)]).await.unwrap();
        let stream = connect(3, to);
        greet(&stream, 3);
        speaker.set_peers(vec![peer(3), with(password("new"), Hops::Default)]).await.unwrap();
        eventually("the session", async || {
            (state(&speaker, 1).await.0 == StateKind::Established).then_some(())
        })
        .await;
    });
}

#[test]
fn only_the_signed_connection_of_a_peer_with_a_password_becomes_a_session() {
    in_namespace(async || {
        let speaker = speaker();
        let to = port_of(&speaker).await;
        speaker.set_peers(vec![with(password("secret"), Hops::Default)]).await.unwrap();
        assert!(socket(2, 255).connect_timeout(&to.into(), Duration::from_millis(300)).is_err(), "unsigned");
        let signed = connect_signed(to);
        greet(&signed, 2);
        established(&speaker).await;
    });
}

#[test]
fn who_listens_elsewhere_keeps_sessions_and_guards() {
    in_namespace(async || {
        let speaker = speaker();
        let first = port_of(&speaker).await;
        let mut near = peer(4);
        near.transport.hops = Hops::Security(1);
        speaker.set_peers(vec![with(password("secret"), Hops::Default), peer(3), near]).await.unwrap();
        let session = connect(3, first);
        greet(&session, 3);
        eventually("the session", async || {
            (state(&speaker, 1).await.0 == StateKind::Established).then_some(())
        })
        .await;

        let taken = std::net::TcpListener::bind((OURS, 0)).unwrap();
        let elsewhere = |port| Listen { port, addresses: vec![OURS.into()] };
        let refused = speaker.listen(elsewhere(taken.local_addr().unwrap().port())).await.unwrap();
        assert!(refused.is_err());
        assert_eq!(port_of(&speaker).await, first);

        speaker.listen(elsewhere(0)).await.unwrap().unwrap();
        let to = port_of(&speaker).await;
        assert_ne!(to, first);
        assert!(socket(2, 255).connect_timeout(&first.into(), Duration::from_millis(300)).is_err(), "closed");
        assert!(socket(2, 255).connect_timeout(&to.into(), Duration::from_millis(300)).is_err(), "unsigned");
        let from_afar = socket(4, 64).connect_timeout(&to.into(), Duration::from_millis(300));
        assert!(from_afar.is_err(), "over too many hops");
        let (signed, near) = (connect_signed(to), connect(4, to));
        greet(&signed, 2);
        greet(&near, 4);
        established(&speaker).await;
        assert_eq!(speaker.peers().await.unwrap()[1].established_count, 1, "the same session");
    });
}

#[test]
fn the_address_of_a_peer_that_is_gone_needs_no_key_any_more() {
    in_namespace(async || {
        let speaker = speaker();
        let to = port_of(&speaker).await;
        let connects = || socket(2, 255).connect_timeout(&to.into(), Duration::from_millis(300)).is_ok();
        speaker.set_peers(vec![with(password("secret"), Hops::Default)]).await.unwrap();
        assert!(!connects());
        // Another, on another link, has the same address and the same key.
        let mut other = with(password("secret"), Hops::Default);
        other.key.interface = Some(7);
        speaker.set_peers(vec![other]).await.unwrap();
        assert!(!connects());
        speaker.set_peers(vec![peer(3)]).await.unwrap();
        assert!(connects());
    });
}

#[test]
fn a_peer_is_heard_at_the_address_that_was_chosen_for_it_alone() {
    for (local, heard) in [(OURS, true), (address(9), false)] {
        in_namespace(async move || {
            let speaker = speaker();
            let to = port_of(&speaker).await;
            let mut peer = peer(2);
            peer.transport.local_address = Some(local.into());
            speaker.set_peers(vec![peer]).await.unwrap();
            let stream = connect(2, to);
            greet(&stream, 2);
            if heard {
                established(&speaker).await;
            } else {
                is_refused(&speaker, &stream).await;
            }
            assert_eq!(speaker.refused().await, Ok(u64::from(!heard)));
        });
    }
}

#[test]
fn what_the_kernel_cannot_hand_over_is_no_end_of_the_backlog() {
    in_namespace(async || {
        let listeners = Listeners::bind(&Listen { port: 0, addresses: vec![OURS.into()] }).unwrap();
        let to = listeners.local_addresses()[0];
        let _streams = [2, 3].map(|number| connect(number, to));
        let taken = all_descriptors();
        let (backlog, error) = listeners.backlog();
        drop(taken);
        assert!(backlog.is_empty() && error.is_some());
        let (backlog, error) = listeners.backlog();
        assert_eq!((backlog.len(), error.map(|error| error.to_string())), (2, None));
    });
}

fn connect_signed(to: SocketAddr) -> TcpStream {
    let signed = socket(2, 255);
    sockopt::set_md5(signed.as_fd(), to.ip(), password("secret").as_ref()).unwrap();
    signed.connect(&to.into()).unwrap();
    signed.into()
}

#[test]
fn a_peer_that_could_not_be_guarded_is_tried_again_and_others_do_not_notice() {
    in_namespace(async || {
        let speaker = speaker();
        let to = port_of(&speaker).await;
        speaker.set_peers(vec![peer(3)]).await.unwrap();
        let other = connect(3, to);
        greet(&other, 3);
        let mut taken = all_descriptors();
        taken.pop(); // For the connection that waits in the backlog; it cannot be seen that there are no more.
        speaker.set_peers(vec![peer(3), with(password("secret"), Hops::Default)]).await.unwrap();
        let is_up = async |number| state(&speaker, number).await.0 == StateKind::Established;
        eventually("the other's session", async || is_up(1).await.then_some(())).await;

        drop(taken);
        let attempt = async || {
            let before = speaker.refused().await.unwrap();
            let signed = connect_signed(to);
            greet(&signed, 2);
            let verdict = async || {
                let up = is_up(0).await;
                (up || speaker.refused().await.unwrap() > before).then_some(up)
            };
            eventually("a verdict", verdict).await.then_some(())
        };
        eventually("the session", attempt).await;
    });
}

#[test]
fn gtsm_drops_what_comes_from_afar_before_and_after_the_connection_is_accepted() {
    in_namespace(async || {
        let speaker = speaker();
        let to = port_of(&speaker).await;
        speaker.set_peers(vec![with(None, Hops::Security(1)), peer(3)]).await.unwrap();
        assert!(socket(2, 64).connect_timeout(&to.into(), Duration::from_millis(300)).is_err(), "from afar");

        let near: TcpStream = connect(2, to);
        // Still in the backlog: what is queued here counts, had nobody looked at its TTL.
        near.set_ttl(64).unwrap();
        let before = tcp_counter("snmp", "RetransSegs");
        greet(&near, 2);
        while tcp_counter("snmp", "RetransSegs") == before {
            thread::yield_now(); // Nor does the speaker run.
        }
        assert_eq!(state(&speaker, 0).await, (StateKind::Active, 0));

        near.set_ttl(255).unwrap();
        let other: TcpStream = socket(3, 64).into();
        socket2::SockRef::from(&other).connect(&to.into()).unwrap();
        greet(&other, 3);
        established(&speaker).await;

        near.set_ttl(64).unwrap();
        announce(&near, 2, "192.0.2.0/24");
        let dropped_or_learned = async || {
            let dropped = tcp_counter("netstat", "TCPMinTTLDrop") > 0;
            (dropped || state(&speaker, 0).await.1 > 0).then_some(())
        };
        eventually("the UPDATE from afar", dropped_or_learned).await;
        assert_eq!(state(&speaker, 0).await.1, 0);
    });
}

#[test]
fn a_listener_tells_its_peers_apart_in_both_families() {
    use std::collections::BTreeMap;
    use std::net::{IpAddr, Ipv6Addr};

    in_namespace(async || {
        let [near6, other6] = [2, 3].map(|last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last));
        for address in [near6, other6] {
            let address = address.to_string();
            Command::new("ip").args(["address", "add", &address, "dev", "lo", "nodad"]).status().unwrap();
        }
        let least: BTreeMap<IpAddr, u8> =
            [(address(2).into(), 255), (address(4).into(), 250), (near6.into(), 255)].into();
        let any: [IpAddr; 2] = [OURS.into(), Ipv6Addr::LOCALHOST.into()];
        let mut listeners = any.map(|any| std::net::TcpListener::bind((any, 0)).unwrap());
        for listener in &mut listeners {
            gtsm::guard(listener.as_fd(), listener.local_addr().unwrap().is_ipv6(), &least).unwrap();
        }
        let passes = |from: IpAddr, ttl: u32| {
            let to = listeners[usize::from(from.is_ipv6())].local_addr().unwrap();
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
            match from {
                IpAddr::V4(_) => socket.set_ttl_v4(ttl).unwrap(),
                IpAddr::V6(_) => socket.set_unicast_hops_v6(ttl).unwrap(),
            }
            socket.connect_timeout(&to.into(), Duration::from_millis(300)).is_ok()
        };
        for (from, ttl, expected) in [
            (IpAddr::from(address(2)), 255, true),
            (address(2).into(), 254, false),
            (address(4).into(), 250, true),
            (address(4).into(), 249, false),
            (address(3).into(), 1, true),
            (near6.into(), 255, true),
            (near6.into(), 254, false),
            (other6.into(), 1, true),
        ] {
            assert_eq!(passes(from, ttl), expected, "{from} with TTL {ttl}");
        }
    });
}

#[test]
fn more_peers_than_the_kernel_can_filter_are_an_error() {
    let least = (0..700u32).map(|last| (Ipv4Addr::from_bits(0x0a00_0000 + last).into(), 255)).collect();
    let listener = std::net::TcpListener::bind((OURS, 0)).unwrap();
    assert!(gtsm::guard(listener.as_fd(), false, &least).is_err());
    assert!(gtsm::guard(listener.as_fd(), true, &least).is_ok(), "none of them is of IPv6");
}

#[test]
fn peers_at_one_address_with_different_passwords_are_refused_until_they_agree() {
    in_namespace(async || {
        let listen = Listen { port: 0, addresses: vec![OURS.into()] };
        let mut admission = Admission::new(Asn(65000), Listeners::bind(&listen).unwrap());
        let to = admission.listeners.local_addresses()[0];
        let on = |link, secret| {
            let mut peer = with(password(secret), Hops::Default);
            peer.key.interface = Some(link);
            peer
        };
        for (secrets, spoken_to) in
            [(["secret", "secret"], true), (["secret", ""], false), (["secret", "secret"], true)]
        {
            let peers = [on(2, secrets[0]), on(3, secrets[1])];
            admission.set_peers(&peers);
            for peer in &peers {
                assert_eq!(admission.peer(&peer.key).unwrap().blocked.is_none(), spoken_to, "{secrets:?}");
            }
            let unsigned = socket(2, 255).connect_timeout(&to.into(), Duration::from_millis(300));
            assert!(unsigned.is_err(), "{secrets:?}");
        }
    });
}
