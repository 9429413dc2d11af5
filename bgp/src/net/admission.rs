//! Who may connect, and how sockets of each peer are set up.
//!
//! In: the peers. Out: guards on the listeners, and whether a connection is let in. A peer whose guards the kernel does not
//! take is not spoken to until it does, and a connection that was complete before its guards were there is refused, because
//! nobody can tell by the socket what it was checked against.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use tokio::net::TcpStream;
use tracing::{debug, warn};

use super::listener::Listeners;
use super::{explain, gtsm, sockopt};
use crate::speaker::{Password, PeerConfig, PeerKey, Transport};
use crate::types::Asn;

pub(super) struct Admission {
    asn: Asn,
    pub(super) listeners: Listeners,
    peers: BTreeMap<PeerKey, PeerTransport>,
    /// What the listeners are known to filter.
    least_ttls: Option<BTreeMap<IpAddr, u8>>,
    refused: u64,
}

/// How to reach a peer and whom to accept.
#[derive(Clone)]
pub(super) struct PeerTransport {
    pub(super) is_external: bool,
    pub(super) transport: Transport,
    /// No hold time will notice that the peer is dead.
    pub(super) keepalive: bool,
    /// The kernel does not take its guards: no connection either way.
    pub(super) blocked: Option<String>,
}

/// What the kernel drops of a peer: what is not signed with this key, what has less than this TTL left.
type Guards<'a> = (Option<&'a Password>, Option<u8>);

fn guards(transport: &Transport) -> Guards<'_> {
    (transport.password.as_ref(), sockopt::least_ttl(transport.hops))
}

impl Admission {
    pub(super) fn new(asn: Asn, listeners: Listeners) -> Self {
        Self { asn, listeners, peers: BTreeMap::new(), least_ttls: None, refused: 0 }
    }

    /// Peers are to be set anew: no guard stands on these yet.
    pub(super) fn replace_listeners(&mut self, listeners: Listeners) {
        self.listeners = listeners;
        self.least_ttls = None;
        self.peers.clear();
    }

    /// Makes these the peers, and no others. Gives the connections that are to be admitted once the speaker knows.
    pub(super) fn set_peers(&mut self, peers: &[PeerConfig]) -> Vec<(TcpStream, SocketAddr)> {
        let before = std::mem::take(&mut self.peers);
        let no_ttls = self.set_least_ttls(least_ttls(peers)).err().map(|error| error.to_string());
        // Of two with the same key the first counts.
        let mut seen = BTreeSet::new();
        let peers: Vec<_> = peers.iter().filter(|config| seen.insert(config.key)).collect();
        let disputed = disputed(&peers);
        let mut changed = BTreeSet::new();
        for config in peers {
            let old = before.get(&config.key);
            let same = guards(&config.transport) == old.map_or((None, None), |old| guards(&old.transport));
            if !same || old.is_some_and(|old| old.blocked.is_some()) {
                changed.insert(config.key.address);
            }
            let peer = self.guard(config, old, &disputed, no_ttls.clone());
            self.peers.insert(config.key, peer);
        }
        self.remove_keys(&before);
        self.without(&changed)
    }

    fn set_least_ttls(&mut self, least: BTreeMap<IpAddr, u8>) -> io::Result<()> {
        if self.least_ttls.as_ref() == Some(&least) {
            return Ok(());
        }
        self.least_ttls = None;
        self.listeners.set_least_ttls(&least)?;
        self.least_ttls = Some(least);
        Ok(())
    }

    /// Sets the key where it is not set yet. `no_ttls`: why nothing can be dropped by its TTL.
    fn guard(
        &self,
        config: &PeerConfig,
        old: Option<&PeerTransport>,
        disputed: &BTreeSet<IpAddr>,
        no_ttls: Option<String>,
    ) -> PeerTransport {
        let (password, least_ttl) = guards(&config.transport);
        let was_blocked = old.and_then(|old| old.blocked.as_ref());
        let in_place =
            was_blocked.is_none() && old.and_then(|old| old.transport.password.as_ref()) == password;
        let key = if disputed.contains(&config.key.address) {
            Err(io::Error::other("peers at this address have different passwords"))
        } else if in_place {
            Ok(())
        } else {
            self.listeners.set_key(config.key.address, password)
        };
        let blocked = match key.err() {
            Some(error) => Some(error.to_string()),
            None => no_ttls.filter(|_| least_ttl.is_some()),
        };
        if let Some(error) = blocked.as_ref().filter(|_| blocked.as_ref() != was_blocked) {
            warn!(peer = %config.name, error, "peer is refused");
        }
        let (is_external, transport) = (config.asn.is_external(self.asn), config.transport.clone());
        PeerTransport { is_external, transport, keepalive: config.hold_time == 0, blocked }
    }

    /// Of peers that are gone, unless another, on another link, has the same address.
    fn remove_keys(&self, before: &BTreeMap<PeerKey, PeerTransport>) {
        let had_key = before.iter().filter(|(_, gone)| gone.transport.password.is_some());
        for (key, _) in had_key.filter(|(key, _)| !self.peers.keys().any(|peer| peer.address == key.address))
        {
            if let Err(error) = self.listeners.set_key(key.address, None) {
                debug!(peer = %key, %error, "key not removed");
            }
        }
    }

    /// What the kernel has completed so far, but for these addresses.
    fn without(&mut self, changed: &BTreeSet<IpAddr>) -> Vec<(TcpStream, SocketAddr)> {
        if changed.is_empty() {
            return Vec::new();
        }
        let (backlog, error) = self.listeners.backlog();
        if let Some(error) = error {
            warn!(%error, "peers whose guards have changed are refused");
            for (_, peer) in self.peers.iter_mut().filter(|(key, _)| changed.contains(&key.address)) {
                peer.blocked = Some(error.to_string());
            }
        }
        let (early, others): (Vec<_>, _) =
            backlog.into_iter().partition(|(_, remote)| changed.contains(&remote.ip()));
        for (_, remote) in early {
            self.refuse(remote, "connected before its peer was guarded as it is");
        }
        others
    }

    /// Only configured peers, to the right address, with the socket set up as their configuration asks. Gives our end.
    pub(super) fn admit(&mut self, stream: &TcpStream, remote: SocketAddr) -> Option<SocketAddr> {
        self.check(stream, key_of(remote)).map_err(|error| self.refuse(remote, &error.to_string())).ok()
    }

    fn check(&self, stream: &TcpStream, key: PeerKey) -> io::Result<SocketAddr> {
        let peer = self.peers.get(&key).ok_or_else(|| io::Error::other("not a peer"))?;
        if let Some(reason) = &peer.blocked {
            return Err(io::Error::other(reason.clone()));
        }
        let local = stream.local_addr()?;
        if peer.transport.local_address.is_some_and(|expected| expected != local.ip()) {
            return Err(io::Error::other("not to the peer's local address"));
        }
        sockopt::set_hops(stream.as_fd(), key.address, peer.transport.hops, peer.is_external)
            .and_then(|()| gtsm::release(stream.as_fd()))
            .map_err(|error| explain("TTL", &error))?;
        if peer.keepalive {
            sockopt::set_keepalive(stream.as_fd())?;
        }
        stream.set_nodelay(true)?;
        Ok(local)
    }

    fn refuse(&mut self, remote: SocketAddr, reason: &str) {
        self.refused += 1;
        debug!(%remote, reason, "connection refused");
    }

    /// To be tried again: the kernel may take the guards then.
    pub(super) fn is_any_blocked(&self) -> bool {
        self.peers.values().any(|peer| peer.blocked.is_some())
    }

    pub(super) fn peer(&self, key: &PeerKey) -> Option<&PeerTransport> {
        self.peers.get(key)
    }

    /// Connections since the start.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }
}

/// Addresses of several peers, on different links, that do not have the same password: the kernel knows one per address.
fn disputed(peers: &[&PeerConfig]) -> BTreeSet<IpAddr> {
    let (mut passwords, mut disputed) = (BTreeMap::new(), BTreeSet::new());
    for peer in peers {
        let password = peer.transport.password.as_ref();
        if *passwords.entry(peer.key.address).or_insert(password) != password {
            disputed.insert(peer.key.address);
        }
    }
    disputed
}

/// Of two peers at one address, on different links, the stricter counts.
fn least_ttls(peers: &[PeerConfig]) -> BTreeMap<IpAddr, u8> {
    let mut least = BTreeMap::new();
    for peer in peers {
        if let Some(ttl) = sockopt::least_ttl(peer.transport.hops) {
            let strictest = least.entry(peer.key.address).or_insert(ttl);
            *strictest = ttl.max(*strictest);
        }
    }
    least
}

/// Link-local addresses come with their interface.
pub(super) fn key_of(remote: SocketAddr) -> PeerKey {
    let interface = match remote {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => Some(v6.scope_id()),
        SocketAddr::V6(_) | SocketAddr::V4(_) => None,
    };
    PeerKey { address: remote.ip(), interface }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speaker::Hops;
    use crate::types::RemoteAsn;

    /// At one address, on a link each.
    fn peers(transports: impl IntoIterator<Item = Transport>) -> Vec<PeerConfig> {
        let on_link = |(index, transport)| {
            let mut peer = PeerConfig::new("tor", [192, 0, 2, 2].into(), RemoteAsn::External);
            (peer.key.interface, peer.transport) = (Some(index), transport);
            peer
        };
        (1..).zip(transports).map(on_link).collect()
    }

    #[test]
    fn of_peers_at_one_address_the_stricter_ttl_counts() {
        let asks = |hops: [Hops; 3]| peers(hops.map(|hops| Transport { hops, ..Transport::default() }));
        let (near, far) = (Hops::Security(1), Hops::Security(3));
        for hops in [[near, far, Hops::Default], [far, near, Hops::Default], [Hops::Default, near, far]] {
            assert_eq!(least_ttls(&asks(hops)), [(IpAddr::from([192, 0, 2, 2]), 255)].into());
        }
        assert_eq!(least_ttls(&asks([Hops::Default, Hops::Default, Hops::Multihop(3)])), BTreeMap::new());
    }

    #[test]
    fn peers_at_one_address_are_in_dispute_unless_they_have_one_password() {
        let in_dispute = |passwords: [Option<&str>; 2]| {
            let signed = |text: Option<&str>| Transport {
                password: text.and_then(Password::new),
                ..Transport::default()
            };
            let peers = peers(passwords.map(signed));
            !disputed(&peers.iter().collect::<Vec<_>>()).is_empty()
        };
        assert!(!in_dispute([None, None]) && !in_dispute([Some("a"), Some("a")]));
        assert!(in_dispute([Some("a"), Some("b")]) && in_dispute([None, Some("a")]));
    }

    #[test]
    fn only_link_local_addresses_belong_to_a_link() {
        let from = |address: &str| key_of(address.parse().unwrap());
        assert_eq!(from("[fe80::1%7]:179").interface, Some(7));
        assert_eq!(from("[2001:db8::1%7]:179").interface, None);
        assert_eq!(from("192.0.2.1:179").interface, None);
    }
}
