//! Rules one by one, and properties against a naive model. Here: a RIB whose peers decode what they are told.

mod advertising;
mod choosing;
mod filtering;
mod learning;
mod model;
mod restarting;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;
use crate::types::FibNexthop;
use crate::wire::{AsPath, DecodeContext, Framer, Message, Reach};

const LOCAL_ASN: Asn = Asn(65000);
const CLUSTER: RouterId = RouterId(Ipv4Addr::new(1, 1, 1, 1));
const V4: AfiSafi = AfiSafi::Ipv4Unicast;
const V6: AfiSafi = AfiSafi::Ipv6Unicast;

fn net(text: &str) -> IpNetwork {
    text.parse().expect("a prefix")
}

fn nexthop(last: u8) -> Nexthop {
    Nexthop::V4(Ipv4Addr::new(192, 0, 2, last))
}

fn gateway(last: u8) -> FibNexthop {
    FibNexthop { address: IpAddr::from([192, 0, 2, last]), interface: None }
}

fn path(asns: &[u32]) -> PathAttributes {
    let as_path = AsPath::from_sequence(asns.iter().copied().map(Asn));
    PathAttributes { as_path, ..PathAttributes::default() }
}

fn config() -> RibConfig {
    RibConfig {
        local_asn: LOCAL_ASN,
        router_id: RouterId(Ipv4Addr::new(10, 255, 0, 1)),
        cluster_id: CLUSTER,
        max_paths: 4,
        hash_seed: 42,
        keep_incumbent: true,
    }
}

/// Peer number `n`, which may say everything. External ones are in AS 65000 + n.
fn peer(n: u8, kind: PeerKind) -> RibPeer {
    RibPeer {
        kind,
        asn: if kind == PeerKind::Internal { LOCAL_ASN } else { Asn(LOCAL_ASN.0 + u32::from(n)) },
        router_id: RouterId(Ipv4Addr::new(10, 255, 1, n)),
        address: IpAddr::from([192, 0, 2, n]),
        interface: None,
        families: AfiSafi::ALL.to_vec(),
        sends_end_of_rib: true,
        client: false,
        import: ImportPolicy { accept: Accept::Any, ..ImportPolicy::default() },
        export: ExportPolicy {
            nexthop_v4: Some(Ipv4Addr::new(192, 0, 2, 250)),
            nexthop_v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x250)),
            ..ExportPolicy::default()
        },
        max_prefixes: 1000,
        encode: EncodeContext { four_octet_asn: true, max_message_len: 4096, extended_nexthop: true },
    }
}

pub(super) fn external(n: u8) -> RibPeer {
    peer(n, PeerKind::External)
}

fn internal(n: u8) -> RibPeer {
    peer(n, PeerKind::Internal)
}

fn exporting(mut peer: RibPeer, routes: ExportRoutes) -> RibPeer {
    peer.export.routes = routes;
    peer
}

fn transit(peer: RibPeer) -> RibPeer {
    exporting(peer, ExportRoutes::Transit)
}

fn client(n: u8) -> RibPeer {
    RibPeer { client: true, ..transit(internal(n)) }
}

fn nlri(prefix: IpNetwork) -> Nlri {
    match prefix {
        IpNetwork::V4(prefix) => Nlri::V4(vec![prefix]),
        IpNetwork::V6(prefix) => Nlri::V6(vec![prefix]),
    }
}

fn announce(prefix: IpNetwork, nexthop: Nexthop, attributes: PathAttributes) -> Update {
    Update {
        reach: [Reach { nexthop, nlri: nlri(prefix) }].into_iter().collect(),
        attributes,
        ..Update::default()
    }
}

fn withdraw(prefix: IpNetwork) -> Update {
    Update { unreach: [nlri(prefix)].into_iter().collect(), ..Update::default() }
}

/// What a peer believes after all that it was told in this session.
#[derive(Debug)]
struct Inbox {
    framer: Framer,
    context: DecodeContext,
    routes: BTreeMap<IpNetwork, (PathAttributes, Nexthop)>,
    ends_of_rib: Vec<AfiSafi>,
    updates: usize,
}

impl Inbox {
    fn new(peer: &RibPeer) -> Self {
        let context = DecodeContext {
            peer_kind: peer.kind,
            four_octet_asn: peer.encode.four_octet_asn,
            families: peer.families.clone(),
            extended_nexthop: peer.encode.extended_nexthop,
        };
        Self {
            framer: Framer::default(),
            context,
            routes: BTreeMap::new(),
            ends_of_rib: Vec::new(),
            updates: 0,
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.framer.push(bytes);
        while let Some(frame) = self.framer.next_frame().expect("framed well") {
            let Message::Update(update) = Message::decode(&frame, &self.context).expect("a good message")
            else {
                panic!("only UPDATEs come from the RIB");
            };
            assert_eq!(update.errors, [], "we send nothing malformed");
            self.updates += 1;
            self.believe(&update);
        }
    }

    fn believe(&mut self, update: &Update) {
        self.ends_of_rib.extend(update.end_of_rib);
        for prefix in update.unreach.iter().flat_map(prefixes) {
            assert!(
                self.routes.remove(&prefix).is_some(),
                "{prefix} was withdrawn and had never been announced"
            );
        }
        for reach in &update.reach {
            for prefix in prefixes(&reach.nlri) {
                self.routes.insert(prefix, (update.attributes.clone(), reach.nexthop));
            }
        }
    }

    fn prefixes(&self) -> Vec<String> {
        self.routes.keys().map(ToString::to_string).collect()
    }
}

fn prefixes(nlri: &Nlri) -> Vec<IpNetwork> {
    match nlri {
        Nlri::V4(prefixes) => prefixes.iter().copied().map(IpNetwork::from).collect(),
        Nlri::V6(prefixes) => prefixes.iter().copied().map(IpNetwork::from).collect(),
    }
}

/// A RIB, what its established peers believe, and the FIB.
#[derive(Debug)]
struct Network {
    rib: Rib,
    inboxes: BTreeMap<u8, Inbox>,
    fib: BTreeMap<IpNetwork, Vec<FibNexthop>>,
}

impl Network {
    fn new(config: RibConfig) -> Self {
        Self { rib: Rib::new(config), inboxes: BTreeMap::new(), fib: BTreeMap::new() }
    }

    fn with(peers: impl IntoIterator<Item = RibPeer>) -> Self {
        let mut network = Self::new(config());
        (1..).zip(peers).for_each(|(n, peer)| network.up(n, peer));
        network
    }

    fn up(&mut self, n: u8, peer: RibPeer) {
        self.inboxes.insert(n, Inbox::new(&peer));
        self.rib.peer_up(id(n), peer);
    }

    fn down(&mut self, n: u8, keep_stale: bool) {
        self.inboxes.remove(&n);
        self.rib.peer_down(id(n), if keep_stale { Kept::Session } else { Kept::Nothing });
    }

    fn announce(&mut self, n: u8, prefix: &str, attributes: PathAttributes) {
        let update = announce(net(prefix), nexthop(n), attributes);
        self.rib.apply(id(n), update).expect("within the limit");
    }

    fn withdraw(&mut self, n: u8, prefix: &str) {
        self.rib.apply(id(n), withdraw(net(prefix))).expect("a withdrawal breaks no limit");
    }

    fn originate(&mut self, prefix: &str) {
        self.rib.originate(net(prefix), OriginAttributes::default());
    }

    /// One chunk for one peer, if there is any.
    fn deliver_one(&mut self, n: u8) -> bool {
        let Some(inbox) = self.inboxes.get_mut(&n) else { return false };
        let bytes = self.rib.poll_advertise(id(n));
        if let Some(bytes) = &bytes {
            assert!(!bytes.is_empty(), "something is said");
            inbox.receive(bytes);
        }
        bytes.is_some()
    }

    fn poll_fib(&mut self) -> Option<Change> {
        let change = self.rib.poll_change()?;
        assert!(change.nexthops.is_sorted(), "in order: {change:?}");
        if change.nexthops.is_empty() {
            assert!(self.fib.remove(&change.prefix).is_some(), "{} was not in the FIB", change.prefix);
        } else {
            let before = self.fib.insert(change.prefix, change.nexthops.clone());
            assert_ne!(before.as_ref(), Some(&change.nexthops), "a change changes something");
        }
        Some(change)
    }

    /// Until nobody has anything left to do.
    fn settle(&mut self) {
        while self.rib.sweep() {}
        while self.poll_fib().is_some() {}
        let peers: Vec<u8> = self.inboxes.keys().copied().collect();
        while peers.iter().filter(|&&n| self.deliver_one(n)).count() > 0 {}
    }

    fn told(&self, n: u8) -> Vec<String> {
        self.inboxes[&n].prefixes()
    }

    fn standings(&self, prefix: &str) -> Vec<(Option<PeerId>, Standing)> {
        let route = self.rib.explain(net(prefix)).expect("a known prefix");
        route.paths.into_iter().map(|path| (path.from, path.standing)).collect()
    }

    fn best(&self, prefix: &str) -> (Option<PeerId>, Standing) {
        self.standings(prefix)[0]
    }

    /// Nothing is kept for nothing.
    fn assert_empty(&self) {
        let shared = &self.rib.core.shared;
        let interned = (shared.attributes.len(), shared.nexthops.len(), shared.gateways.len());
        assert_eq!(interned, (0, 0, 0), "attribute sets, nexthops, nexthop sets");
        assert_eq!((self.rib.tables.v4.len(), self.rib.tables.v6.len()), (0, 0), "prefixes");
    }
}

fn id(n: u8) -> PeerId {
    PeerId(u32::from(n))
}
