//! Against the real kernel: our speaker in one namespace, that of a router in another, a link between them.

use std::collections::BTreeSet;
use std::sync::mpsc as sync;

use futures::FutureExt as _;
use nix::sched::{CloneFlags, unshare};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;
use weft_bgp::net::FibEvent;
use weft_bgp::speaker::{PeerConfig, RemoteAsn, RouteFilter};
use weft_bgp::types::{Asn, Nexthop, RouterId};
use weft_bgp::wire::{Framer, GracefulRestart, Open};

use super::*;
use crate::reconcile::routes;
use crate::supervise::supervisor;
use crate::testing::{eventually, in_netns, ip};

const PREFIX: &str = "fd00:1::/64";

/// A router at 192.0.2.2 in AS 65001. It says what it has of the node, as often as it looks.
struct Router {
    thread: nix::unistd::Pid,
    linked: sync::Sender<()>,
    heard: watch::Receiver<Heard>,
}

#[derive(Clone, Debug, Default)]
struct Heard {
    asn: Option<Asn>,
    /// Of [`PREFIX`].
    nexthop: Option<String>,
    /// It would have dropped packets, be it for a moment.
    lost: bool,
    sessions: u64,
}

impl Router {
    fn start() -> Self {
        let (id_sender, id) = sync::channel();
        let (linked, link) = sync::channel();
        let (hears, heard) = watch::channel(Heard::default());
        let router = move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("tests against the kernel run as root");
            id_sender.send(nix::unistd::gettid()).unwrap();
            link.recv().unwrap();
            ip("link set router up");
            ip("addr add 192.0.2.2/24 dev router");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(Self::listen(&hears));
        };
        supervisor().0.thread("router", router).unwrap();
        Self { thread: id.recv().unwrap(), linked, heard }
    }

    /// Until nobody asks.
    async fn listen(heard: &watch::Sender<Heard>) {
        let config = SpeakerConfig::new(Asn(65001), RouterId([192, 0, 2, 2].into()), 2);
        let (handle, mut fib) = net::spawn(config, &Listen { port: 179, addresses: Vec::new() }).unwrap();
        let mut node = PeerConfig::new("node", "192.0.2.1".parse().unwrap(), RemoteAsn::External);
        node.accept = vec!["::/0".parse().unwrap()].into();
        node.passive = true;
        handle.set_peers(vec![node]).await.unwrap();
        let mut lost = false;
        while !heard.is_closed() {
            while let Some(Some(event)) = fib.next().now_or_never() {
                let FibEvent::Changes(changes) = event else { continue };
                lost |= changes.iter().any(|change| change.nexthops.is_empty());
            }
            let routes = handle.routes(RouteFilter::Prefix(PREFIX.parse().unwrap())).await.unwrap();
            let path = routes.first().and_then(|route| route.paths.first());
            let nexthop = path.and_then(|path| path.nexthop).map(|nexthop| match nexthop {
                Nexthop::V4(v4) => v4.to_string(),
                Nexthop::V6 { global, link_local: _ } => global.to_string(),
            });
            let node = handle.peers().await.unwrap().remove(0);
            heard.send_modify(|heard| {
                *heard = Heard { asn: node.asn, nexthop, lost, sessions: node.established_count };
            });
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn hears(&self, nexthop: Option<&str>) {
        let what = format!("{PREFIX} by {nexthop:?}");
        eventually(&what, || self.heard.borrow().nexthop.as_deref() == nexthop).await;
    }
}

fn bfd(tasks: &Supervisor) -> (bfd::Handle, mpsc::Receiver<bfd::Lost>) {
    crate::reconcile::bfd::spawn(tasks, 1, Vec::new()).unwrap()
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
        turn: Duration::from_millis(500),
        round: Duration::from_secs(2),
        parted: BTreeSet::new(),
        pod_cidrs: own,
        problems: BTreeSet::new(),
    }
}

/// A node with a router, and the plan that it follows.
struct Node {
    router: Router,
    running: SpeakerWatch,
    problem: watch::Receiver<Option<Problem>>,
    planned: watch::Sender<Option<Arc<Desired>>>,
    _tasks: Supervisor,
}

impl Node {
    async fn start(plan: Desired) -> Self {
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
        let (bfd, paths) = bfd(&tasks);
        let inputs = Inputs { desired: plans, lost, bfd, paths, routes, restarting, seed: 1 };
        let (running, problem) = spawn(&tasks, inputs);
        let node = Self { router, running, problem, planned, _tasks: tasks };
        node.plans(plan);
        node
    }

    fn plans(&self, plan: Desired) {
        self.planned.send_replace(Some(Arc::new(plan)));
    }

    async fn handle(&mut self) -> Handle {
        self.running.wait_for(Option::is_some).await.unwrap().clone().unwrap()
    }

    async fn established(&mut self) -> Handle {
        let handle = self.handle().await;
        while handle.peers().await.unwrap().iter().all(|peer| peer.state != StateKind::Established) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        handle
    }
}

#[test]
fn peers_are_told_another_nexthop_without_another_session() {
    in_netns(|| async {
        let mut node = Node::start(desired()).await;
        let handle = node.established().await;
        node.router.hears(None).await;

        let hears = async |node: &Node, address: &str| {
            let mut plan = desired();
            plan.peers[0].nexthop.v6 = address.parse().ok();
            node.plans(plan);
            node.router.hears(Some(address)).await;
        };
        hears(&node, "2001:db8::1").await;
        hears(&node, "2001:db8::7").await;
        assert_eq!(handle.peers().await.unwrap()[0].established_count, 1, "the session stays");
    });
}

/// In force, and not a session less.
#[test]
fn how_it_chooses_where_it_listens_and_how_long_it_may_be_away_is_changed_while_it_runs() {
    in_netns(|| async {
        let mut node = Node::start(desired()).await;
        let handle = node.established().await;
        let mut plan = desired();
        (plan.speaker.max_paths, plan.speaker.restart_time, plan.speaker.listen_port) = (4, Some(60), 1790);
        plan.peers[0].max_prefixes = 5;
        node.plans(plan);
        let port = async || handle.listening().await.unwrap()[0].port();
        timeout(Duration::from_secs(20), async { while port().await != 1790 {} })
            .await
            .expect("it listens there");
        assert_eq!(handle.peers().await.unwrap()[0].established_count, 1);
        assert!(handle.peers().await.unwrap()[0].state == StateKind::Established);
    });
}

#[test]
fn a_port_that_another_has_is_said_and_tried_again() {
    in_netns(|| async {
        let taken = tokio::net::TcpListener::bind("0.0.0.0:1790").await.unwrap();
        let mut node = Node::start(desired()).await;
        let handle = node.established().await;
        let mut plan = desired();
        plan.speaker.listen_port = 1790;
        node.plans(plan);
        let said = node.problem.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert!(said.reason.starts_with("spec.listenPort: 1790: listen on 0.0.0.0:1790: "), "{said:?}");
        assert_eq!(handle.listening().await.unwrap()[0].port(), 179, "meanwhile where it did");
        drop(taken);
        node.problem.wait_for(Option::is_none).await.unwrap();
        assert_eq!(handle.listening().await.unwrap()[0].port(), 1790);
        assert_eq!(handle.peers().await.unwrap()[0].established_count, 1);
    });
}

#[test]
fn another_as_is_taken_also_where_another_port_is_not_to_be_had() {
    in_netns(|| async {
        let taken = tokio::net::TcpListener::bind("0.0.0.0:1790").await.unwrap();
        let mut plan = desired();
        plan.turn = Duration::ZERO;
        let mut node = Node::start(plan.clone()).await;
        node.established().await;
        (plan.speaker.asn, plan.speaker.listen_port) = (Asn(65009), 1790);
        node.plans(plan);
        node.router.heard.wait_for(|heard| heard.asn == Some(Asn(65009))).await.unwrap();
        node.problem.wait_for(Option::is_some).await.unwrap();
        let handle = node.established().await;
        assert_eq!(handle.listening().await.unwrap()[0].port(), 179);
        drop(taken);
        node.problem.wait_for(Option::is_none).await.unwrap();
        assert_eq!(handle.listening().await.unwrap()[0].port(), 1790);
    });
}

#[test]
fn another_as_is_taken_in_turn_and_the_router_does_not_lose_the_node_over_it() {
    in_netns(|| async {
        let mut plan = desired();
        plan.speaker.restart_time = Some(60);
        plan.peers[0].nexthop.v6 = "2001:db8::1".parse().ok();
        let mut node = Node::start(plan.clone()).await;
        let handle = node.established().await;
        node.router.hears(Some("2001:db8::1")).await;

        plan.speaker.asn = Asn(65009);
        plan.peers[0].hold_time = 30;
        (plan.peers[0].max_prefixes, plan.turn) = (5, Duration::from_secs(1));
        let edited = Instant::now();
        node.plans(plan);
        handle.ended().await;
        assert!(edited.elapsed() >= Duration::from_secs(1), "its turn had not come");
        node.established().await;
        let heard = node.router.heard.wait_for(|heard| heard.sessions == 2).await.unwrap().clone();
        assert_eq!((heard.asn, heard.lost), (Some(Asn(65009)), false), "{heard:?}");
    });
}

/// A mistake is corrected at once.
#[test]
fn what_ends_no_session_does_not_wait() {
    in_netns(|| async {
        let mut plan = desired();
        plan.turn = Duration::from_secs(3600);
        plan.peers[0].asn = RemoteAsn::Internal;
        let mut node = Node::start(plan.clone()).await;
        node.handle().await;
        plan.speaker.asn = Asn(65009);
        plan.peers[0].asn = RemoteAsn::External;
        node.plans(plan);
        node.router.heard.wait_for(|heard| heard.asn == Some(Asn(65009))).await.unwrap();
    });
}

#[test]
fn a_speaker_that_ends_by_itself_is_missed() {
    in_netns(|| async {
        let (tasks, mut ends) = supervisor();
        let (lost_sender, lost) = mpsc::channel(8);
        let (routes, restarting) = routes::spawn(&tasks, lost_sender).await.unwrap();
        let (planned, plans) = watch::channel(None);
        let (held, paths) = bfd(&tasks);
        let bfd = held.clone();
        let inputs = Inputs { desired: plans, lost, bfd, paths, routes: routes.clone(), restarting, seed: 1 };
        let (mut running, _) = spawn(&tasks, inputs);
        planned.send_replace(Some(Arc::new(desired())));
        let handle = running.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        // Its task is gone, as after a panic.
        handle.shutdown(Shutdown::Restart).await.unwrap();
        assert_eq!(ends.first().await, "bgp ended");
        drop(held);
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
    let (bfd, paths) = bfd(&tasks);
    let _running = spawn(&tasks, Inputs { desired: plans, lost, bfd, paths, routes, restarting, seed: 1 });
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
