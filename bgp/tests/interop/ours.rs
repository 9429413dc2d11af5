//! Our speaker on its own thread in its own namespace, and what the tests ask it.

use std::net::IpAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;

use ipnetwork::IpNetwork;
use weft_bgp::net::{FibEvent, FibStream, Handle, Listen, spawn};
use weft_bgp::speaker::{LocalNexthop, OriginConfig, PeerConfig, RouteFilter, Shutdown, SpeakerConfig};
use weft_bgp::types::{AfiSafi, Asn, Change, RemoteAsn, RouterId};

use super::netns::Lab;

/// What differs between the tests.
#[derive(Clone, Copy, Default)]
pub(crate) struct Terms {
    /// The session runs over IPv6.
    pub(crate) over_v6: bool,
    /// IPv4 routes are expected to have an IPv6 gateway.
    pub(crate) gateway_v6: bool,
    pub(crate) only_v4_from_them: bool,
}

pub(crate) struct Ours {
    runtime: tokio::runtime::Handle,
    handle: Handle,
    fib: mpsc::Receiver<FibEvent>,
    seen: std::cell::RefCell<(Vec<Change>, bool)>,
    terms: Terms,
    thread: JoinHandle<()>,
}

impl Ours {
    pub(crate) fn start(lab: &Lab, terms: Terms, restarting: bool) -> Self {
        let netns = lab.ours.clone();
        let (ready, started) = mpsc::channel();
        let (changes, fib) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            super::netns::enter(&netns);
            // One thread, so that every socket is made in the namespace that it has entered.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut config = SpeakerConfig::new(Asn(65001), RouterId([10, 9, 0, 1].into()), 1);
                config.restarting = restarting.then(|| AfiSafi::ALL.to_vec());
                let (handle, stream) = spawn(config, &Listen { port: 179, addresses: Vec::new() }).unwrap();
                let prefixes = [super::OUR_V4, super::OUR_V6].map(|prefix| prefix.parse().unwrap()).to_vec();
                handle.set_origin(OriginConfig { prefixes, ..OriginConfig::default() }).await.unwrap();
                handle.set_peers(vec![peer(terms)]).await.unwrap();
                ready.send((tokio::runtime::Handle::current(), handle)).unwrap();
                forward(stream, changes).await;
            });
        });
        let (runtime, handle) = started.recv().expect("the speaker starts");
        Self { runtime, handle, fib, seen: Default::default(), terms, thread }
    }

    /// The FIB would have this prefix.
    pub(crate) fn has(&self, prefix: &str) -> bool {
        self.follow();
        let prefix: IpNetwork = prefix.parse().unwrap();
        let seen = self.seen.borrow();
        let last = seen.0.iter().rev().find(|change| change.prefix == prefix);
        last.is_some_and(|change| {
            change
                .nexthops
                .iter()
                .any(|hop| hop.address.is_ipv6() == (prefix.is_ipv6() || self.terms.gateway_v6))
        })
    }

    pub(crate) fn converged(&self) -> bool {
        self.follow();
        self.seen.borrow().1
    }

    pub(crate) fn describe(&self) -> String {
        let peers = self.runtime.block_on(self.handle.peers());
        let routes = self.runtime.block_on(self.handle.routes(RouteFilter::All));
        format!("{peers:#?}\n{routes:#?}")
    }

    pub(crate) fn restart(self) {
        self.end(Shutdown::Restart);
    }

    pub(crate) fn stop(self) {
        self.end(Shutdown::Stop { text: "the test is over".to_owned() });
    }

    fn end(self, how: Shutdown) {
        self.runtime.block_on(self.handle.shutdown(how)).unwrap();
        drop(self.handle);
        self.thread.join().unwrap();
    }

    fn follow(&self) {
        let mut seen = self.seen.borrow_mut();
        for event in self.fib.try_iter() {
            match event {
                FibEvent::Changes(changes) => seen.0.extend(changes),
                FibEvent::Settled => {}
                FibEvent::Converged => seen.1 = true,
            }
        }
    }
}

fn peer(terms: Terms) -> PeerConfig {
    let address: IpAddr = if terms.over_v6 { "fd09::2" } else { "10.9.0.2" }.parse().unwrap();
    let mut peer = PeerConfig::new("router", address, RemoteAsn::Number(Asn(65002)));
    peer.accept = vec!["10.2.0.0/16".parse().unwrap(), "fd02::/16".parse().unwrap()].into();
    peer.connect_retry = std::time::Duration::from_secs(1);
    peer.nexthop = LocalNexthop { v4: Some([10, 9, 0, 1].into()), v6: Some("fd09::1".parse().unwrap()) };
    peer
}

async fn forward(mut stream: FibStream, changes: mpsc::Sender<FibEvent>) {
    while let Some(event) = stream.next().await {
        if changes.send(event).is_err() {
            return;
        }
    }
}
