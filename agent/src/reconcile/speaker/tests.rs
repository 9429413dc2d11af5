//! Against the real kernel: our speaker in one namespace, that of a router in another, a link between them.

use std::collections::BTreeSet;
use std::sync::mpsc as sync;

use nix::sched::{CloneFlags, unshare};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;
use weft_bgp::speaker::{OriginConfig, RemoteAsn, RouteFilter};
use weft_bgp::types::{Asn, Nexthop, RouterId};
use weft_bgp::wire::{Framer, GracefulRestart, Open};

use super::*;
use crate::reconcile::routes;
use crate::supervise::supervisor;
use crate::testing::{eventually, in_netns, ip};

const PREFIX: &str = "fd00:1::/64";

/// A router at 192.0.2.2 in AS 65001. It says by which nexthop it hears of [`PREFIX`], as often as it looks.
struct Router {
    thread: nix::unistd::Pid,
    linked: sync::Sender<()>,
    nexthop: watch::Receiver<Option<String>>,
}

impl Router {
    fn start() -> Self {
        let (id_sender, id) = sync::channel();
        let (linked, link) = sync::channel();
        let (heard, nexthop) = watch::channel(None);
        let router = move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("tests against the kernel run as root");
            id_sender.send(nix::unistd::gettid()).unwrap();
            link.recv().unwrap();
            ip("link set router up");
            ip("addr add 192.0.2.2/24 dev router");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(Self::listen(&heard));
        };
        supervisor().0.thread("router", router).unwrap();
        Self { thread: id.recv().unwrap(), linked, nexthop }
    }

    /// Until nobody asks.
    async fn listen(heard: &watch::Sender<Option<String>>) {
        let config = SpeakerConfig::new(Asn(65001), RouterId([192, 0, 2, 2].into()), 2);
        let (handle, _fib) = net::spawn(config, &Listen { port: 179, addresses: Vec::new() }).unwrap();
        let mut node = PeerConfig::new("node", "192.0.2.1".parse().unwrap(), RemoteAsn::External);
        node.accept = vec!["::/0".parse().unwrap()].into();
        node.passive = true;
        handle.set_peers(vec![node]).await.unwrap();
        while !heard.is_closed() {
            let routes = handle.routes(RouteFilter::Prefix(PREFIX.parse().unwrap())).await.unwrap();
            let path = routes.first().and_then(|route| route.paths.first());
            heard.send_replace(path.and_then(|path| path.nexthop).map(|nexthop| match nexthop {
                Nexthop::V4(v4) => v4.to_string(),
                Nexthop::V6 { global, link_local: _ } => global.to_string(),
            }));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn hears(&self, nexthop: Option<&str>) {
        let what = format!("{PREFIX} by {nexthop:?}");
        eventually(&what, || self.nexthop.borrow().as_deref() == nexthop).await;
    }
}

fn desired() -> Desired {
    let mut router = PeerConfig::new("tor", "192.0.2.2".parse().unwrap(), RemoteAsn::External);
    router.connect_retry = Duration::from_millis(200);
    let own = vec![PREFIX.parse().unwrap()];
    Desired {
        speaker: SpeakerPlan {
            asn: Asn(65000),
            router_id: RouterId([192, 0, 2, 1].into()),
            max_paths: 1,
            restart_time: None,
            listen_port: 179,
        },
        peers: vec![router],
        origin: OriginConfig { prefixes: own.clone(), ..OriginConfig::default() },
        pod_cidrs: own,
        problems: BTreeSet::new(),
    }
}

#[test]
fn peers_are_told_the_address_that_the_link_has_by_now() {
    in_netns(|| async {
        let router = Router::start();
        ip("link add up1 type veth peer name router");
        ip(&format!("link set router netns {}", router.thread));
        router.linked.send(()).unwrap();
        ip("addr add 192.0.2.1/24 dev up1");
        ip("link set up1 up");
        let (tasks, _ends) = supervisor();
        let (lost_sender, lost) = mpsc::channel(8);
        let (routes, restarting) = routes::spawn(&tasks, lost_sender).await.unwrap();
        let (planned, plans) = watch::channel(None);
        let addresses = routes.addresses_changed();
        let mut running =
            spawn(&tasks, Inputs { desired: plans, lost, addresses, routes, restarting, seed: 1 });
        planned.send_replace(Some(Arc::new(desired())));
        let handle = running.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        while handle.peers().await.unwrap().iter().all(|peer| peer.state.to_string() != "Established") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        router.hears(None).await;

        // As router advertisements or DHCP bring it, after the configuration.
        ip("addr add 2001:db8::1/64 dev up1 nodad");
        router.hears(Some("2001:db8::1")).await;

        ip("addr add 2001:db8::7/64 dev up1 nodad");
        ip("addr del 2001:db8::1/64 dev up1");
        router.hears(Some("2001:db8::7")).await;
        assert_eq!(handle.peers().await.unwrap()[0].established_count, 1, "the session stays");
    });
}

#[test]
fn a_speaker_that_ends_by_itself_is_missed() {
    in_netns(|| async {
        let (tasks, mut ends) = supervisor();
        let (lost_sender, lost) = mpsc::channel(8);
        let (routes, restarting) = routes::spawn(&tasks, lost_sender).await.unwrap();
        let (planned, plans) = watch::channel(None);
        let inputs = Inputs {
            desired: plans,
            lost,
            addresses: routes.addresses_changed(),
            routes: routes.clone(),
            restarting,
            seed: 1,
        };
        let mut running = spawn(&tasks, inputs);
        planned.send_replace(Some(Arc::new(desired())));
        let handle = running.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        // Its task is gone, as after a panic.
        handle.shutdown(Shutdown::Restart).await.unwrap();
        assert_eq!(ends.first().await, "bgp ended");
    });
}

/// What the first OPEN of a node says of its restart, when this stands in the kernel before it starts.
async fn restart_capability(route: Option<&str>) -> GracefulRestart {
    ip("link set lo up");
    ip("addr add 192.0.2.2/32 dev lo");
    if let Some(route) = route {
        ip(&format!("route add {route}"));
    }
    let router = tokio::net::TcpListener::bind("192.0.2.2:1179").await.unwrap();
    let (tasks, _ends) = supervisor();
    let (lost_sender, lost) = mpsc::channel(8);
    let (routes, restarting) = routes::spawn(&tasks, lost_sender).await.unwrap();
    let mut plan = desired();
    plan.speaker.restart_time = Some(120);
    plan.peers[0].transport.port = 1179;
    let (planned, plans) = watch::channel(None);
    let addresses = routes.addresses_changed();
    let _running = spawn(&tasks, Inputs { desired: plans, lost, addresses, routes, restarting, seed: 1 });
    planned.send_replace(Some(Arc::new(plan)));
    let (mut stream, _) = timeout(Duration::from_secs(20), router.accept()).await.expect("dialed").unwrap();
    let mut framer = Framer::default();
    let frame = loop {
        let mut bytes = [0; 4096];
        let length = stream.read(&mut bytes).await.unwrap();
        framer.push(&bytes[..length]);
        if let Some(frame) = framer.next_frame().unwrap() {
            break frame;
        }
    };
    Open::decode(&frame.body).unwrap().capabilities.graceful_restart.expect("it is on")
}

/// RFC 4724 §4.1: routers keep what they have of a node that says so, and forget it otherwise.
#[test]
fn an_agent_whose_forerunner_left_routes_says_that_it_restarts_and_has_kept_them() {
    for (route, restarts) in [
        (Some("blackhole 10.9.0.0/24 proto 87 metric 87"), true),
        (Some("blackhole 10.9.0.0/24 proto static metric 87"), false),
        (None, false),
    ] {
        in_netns(move || async move {
            let said = restart_capability(route).await;
            assert_eq!((said.restarting, said.restart_time), (restarts, 120), "{route:?}");
            assert!(said.families.iter().all(|(_, kept)| *kept == restarts), "{said:?}");
        });
    }
}
