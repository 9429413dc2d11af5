//! BFD beside the speaker: its thread, whom it watches, and what is left of it for the next agent.
//!
//! In: the peers that the speaker is told. Out: sessions, and what is lost of them for who owns the speaker. Sessions pass from an
//! agent to the next through a file in the run directory, as none outlives a boot; it is taken away when it is read.

use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tracing::{info, warn};
use weft_bgp::net::bfd::{self, Handle, Left, Lost, Watched};
use weft_bgp::speaker::{PeerConfig, Shutdown};

use crate::file;
use crate::supervise::Supervisor;

const FILE: &str = "bfd.json";

#[derive(Serialize, Deserialize)]
struct Written {
    at: Timestamp,
    sessions: Vec<Left>,
}

/// `seed` is a number that nobody else can know.
pub fn spawn(tasks: &Supervisor, seed: u64, left: Vec<Left>) -> io::Result<(Handle, mpsc::Receiver<Lost>)> {
    let (handle, engine, lost) = bfd::new(seed, left)?;
    tasks.thread("bfd", move || engine.run())?;
    Ok((handle, lost))
}

/// Those that are to be watched, from where the speaker would dial them.
pub(super) fn watched<'a>(peers: impl IntoIterator<Item = &'a PeerConfig>) -> Vec<Watched> {
    let watched = |peer: &PeerConfig| {
        let (name, source) = (peer.name.clone(), peer.transport.local_address);
        Some(Watched { name, key: peer.key, source, config: peer.bfd? })
    };
    peers.into_iter().filter_map(watched).collect()
}

/// What the last agent has left and is still waited for, or nothing.
pub fn take(run_dir: &Path, now: Timestamp) -> Vec<Left> {
    let path = run_dir.join(FILE);
    let Ok(text) = std::fs::read(&path) else { return Vec::new() };
    // What cannot be taken away would be gone on with twice.
    let written = std::fs::remove_file(&path)
        .and_then(|()| serde_json::from_slice::<Written>(&text).map_err(io::Error::other));
    match written {
        Ok(Written { at, sessions }) => still_awaited(sessions, at, now),
        Err(error) => {
            warn!(path = %path.display(), %error, "sessions of bfd cannot be gone on with");
            Vec::new()
        }
    }
}

fn still_awaited(mut sessions: Vec<Left>, at: Timestamp, now: Timestamp) -> Vec<Left> {
    // A clock that was set back says nothing.
    let silent = Duration::try_from(now.duration_since(at)).unwrap_or(Duration::MAX);
    sessions.retain(|left| left.session.session.is_awaited(silent));
    sessions
}

/// After the speaker: a router that hears of a restart by BFD first takes it for the end of the session.
pub async fn leave(handle: &Handle, how: Shutdown, run_dir: &Path) {
    // It may have ended by itself.
    let sessions = handle.leave(how).await.unwrap_or_default();
    if sessions.is_empty() {
        return;
    }
    info!(sessions = sessions.len(), "bfd waits for the next agent");
    let written = serde_json::to_vec(&Written { at: Timestamp::now(), sessions }).map_err(io::Error::other);
    let path = run_dir.join(FILE);
    if let Err(error) = written.and_then(|text| file::replace(&path, &text, 0o600)) {
        warn!(path = %path.display(), %error, "sessions of bfd are not left to the next agent");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use weft_bgp::bfd::{Config, Diagnostic, Discriminator, Packet, Resumed, Sessions, State, Terms};
    use weft_bgp::speaker::{PeerKey, RemoteAsn};
    use weft_bgp::types::Instant;

    use super::*;

    const KEY: PeerKey =
        PeerKey { address: std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)), interface: None };
    const CONFIG: Config = Config { terms: Terms::DEFAULT, path: weft_bgp::bfd::Path::SingleHop };

    /// Of a peer that waits for 900 ms.
    fn left() -> Vec<Left> {
        let mut sessions = Sessions::new(1, Vec::new());
        let start = Instant::default();
        sessions.set(start, &BTreeMap::from([(KEY, CONFIG)]));
        let ours = sessions.statuses(start)[0].discriminator;
        for state in [State::Down, State::Up] {
            let interval = Duration::from_millis(300);
            let packet = Packet {
                diagnostic: Diagnostic::None,
                state,
                poll: false,
                is_final: false,
                control_plane_independent: false,
                demand: false,
                detect_multiplier: 3,
                my_discriminator: Discriminator::new(7).unwrap(),
                your_discriminator: Some(ours),
                desired_min_tx: interval,
                required_min_rx: interval,
                required_min_echo_rx: Duration::ZERO,
            };
            sessions.received(start, KEY, 3784, 255, &packet.encode());
        }
        let left = sessions.leave(start, Some(Duration::ZERO));
        left.into_iter().map(|session: Resumed| Left { session, port: Some(50_000) }).collect()
    }

    fn directory(name: &str) -> std::path::PathBuf {
        let directory = std::env::temp_dir().join(format!("weft-bfd-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn what_is_left_is_taken_once() {
        let (directory, now) = (directory("once"), Timestamp::now());
        let text = serde_json::to_vec(&Written { at: now, sessions: left() }).unwrap();
        file::replace(&directory.join(FILE), &text, 0o600).unwrap();
        assert_eq!(take(&directory, now), left());
        assert_eq!(take(&directory, now), []);
        std::fs::write(directory.join(FILE), b"{").unwrap();
        assert_eq!(take(&directory, now), []);
        assert!(!directory.join(FILE).exists());
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_session_that_nobody_waits_for_is_not_gone_on_with() {
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        for (millis, awaited) in [(0, true), (899, true), (900, false), (86_400_000, false), (-1, false)] {
            let now = at + jiff::SignedDuration::from_millis(millis);
            assert_eq!(!still_awaited(left(), at, now).is_empty(), awaited, "{millis} ms");
        }
    }

    #[test]
    fn only_who_is_to_be_watched_is_and_from_where_it_is_dialed() {
        let mut near = PeerConfig::new("tor", KEY.address, RemoteAsn::External);
        near.bfd = Some(CONFIG);
        near.transport.local_address = Some([192, 0, 2, 1].into());
        let other = PeerConfig::new("other", [192, 0, 2, 3].into(), RemoteAsn::External);
        let expected =
            Watched { name: "tor".to_owned(), key: KEY, source: Some([192, 0, 2, 1].into()), config: CONFIG };
        assert_eq!(watched([&near, &other]), [expected]);
    }
}
