//! Against the real kernel, in a namespace with two uplinks: u1 (192.0.2.0/24, 2001:db8:1::/64), u2 (198.51.100.0/24).

use weft_bgp::types::FibNexthop;

use super::*;
use crate::supervise::{brief, supervisor};
use crate::testing::{eventually, in_netns, ip, ip_batch};

struct Lab {
    routes: RouteHandle,
    fib: mpsc::Sender<FibEvent>,
    lost: mpsc::Receiver<IpAddr>,
}

impl Lab {
    async fn new() -> Self {
        for (link, v4, v6) in
            [("u1", "192.0.2.1/24", "2001:db8:1::1/64"), ("u2", "198.51.100.1/24", "2001:db8:2::1/64")]
        {
            ip(&format!("link add {link} type veth peer name {link}x"));
            ip(&format!("link set {link}x up"));
            ip(&format!("link set {link} up"));
            ip(&format!("addr add {v4} dev {link}"));
            ip(&format!("addr add {v6} dev {link} nodad"));
        }
        Self::start().await.0
    }

    async fn start() -> (Self, bool) {
        Self::begin(true).await
    }

    /// `listed`: all peers are known.
    async fn begin(listed: bool) -> (Self, bool) {
        let (lost_sender, lost) = mpsc::channel(8);
        let (routes, restarting) = spawn(&supervisor().0, lost_sender).await.unwrap();
        if listed {
            routes.set_listed().await;
        }
        let (fib, events) = mpsc::channel(4);
        routes.follow(FibStream::new(events)).await;
        (Self { routes, fib, lost }, restarting)
    }

    async fn own(&self, cidrs: &[&str]) {
        let own = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        self.routes.set_own(own, ["192.0.2.254".parse().unwrap()].into()).await;
    }

    async fn learn(&self, prefix: &str, nexthops: &[&str]) {
        let nexthop = |text: &&str| FibNexthop { address: text.parse().unwrap(), interface: None };
        let change =
            Change { prefix: prefix.parse().unwrap(), nexthops: nexthops.iter().map(nexthop).collect() };
        self.fib.send(FibEvent::Changes(vec![change])).await.unwrap();
    }

    async fn settle(&self) {
        self.fib.send(FibEvent::Settled).await.unwrap();
        self.routes.status().wait_for(|status| status.settled).await.unwrap();
    }

    async fn converge(&self) {
        self.fib.send(FibEvent::Converged).await.unwrap();
    }
}

/// What `ip` shows of our routes, without what does not matter.
fn shown(family: &str) -> String {
    ip(&format!("-{family} route show proto 87")).replace(" metric 87", "").replace("  ", " ")
}

async fn until_shown(family: &str, wanted: &[&str]) {
    let squeeze = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut last = String::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        last = squeeze(shown(family));
        if wanted.iter().all(|part| last.contains(part)) && (!wanted.is_empty() || last.is_empty()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not {wanted:?}: {last}");
}

#[test]
fn nothing_is_written_before_the_pod_cidrs_are_known() {
    in_netns(|| async {
        let lab = Lab::new().await;
        lab.learn("10.2.0.0/24", &["192.0.2.2"]).await;
        lab.converge().await;
        // The answer comes after what was sent before it.
        assert!(lab.routes.installed(None).await.is_empty());
        assert!(shown("4").is_empty());
        lab.own(&["10.1.0.0/24"]).await;
        until_shown("4", &["blackhole 10.1.0.0/24", "10.2.0.0/24 via 192.0.2.2 dev u1"]).await;
    });
}

#[test]
fn multipath_and_ipv4_through_ipv6_are_installed_changed_and_withdrawn() {
    in_netns(|| async {
        let lab = Lab::new().await;
        lab.own(&["10.1.0.0/24", "fd00:1::/64"]).await;
        lab.learn("10.2.0.0/24", &["192.0.2.2", "198.51.100.2"]).await;
        lab.learn("10.3.0.0/24", &["2001:db8:1::2"]).await;
        lab.learn("10.4.0.0/24", &["2001:db8:1::2", "198.51.100.2"]).await;
        lab.learn("fd00:2::/64", &["2001:db8:1::2", "2001:db8:2::2"]).await;
        lab.converge().await;
        until_shown(
            "4",
            &[
                "blackhole 10.1.0.0/24",
                "10.2.0.0/24 nexthop via 192.0.2.2 dev u1 weight 1 nexthop via 198.51.100.2 dev u2 weight 1",
                "10.3.0.0/24 via inet6 2001:db8:1::2 dev u1",
                "10.4.0.0/24 nexthop via 198.51.100.2 dev u2 weight 1 nexthop via inet6 2001:db8:1::2 dev u1 weight 1",
            ],
        )
        .await;
        let both = "nexthop via 2001:db8:1::2 dev u1 weight 1 nexthop via 2001:db8:2::2 dev u2 weight 1";
        until_shown("6", &["blackhole fd00:1::/64", "fd00:2::/64", both]).await;

        lab.learn("10.2.0.0/24", &["198.51.100.2"]).await;
        lab.learn("10.3.0.0/24", &[]).await;
        lab.learn("fd00:2::/64", &["2001:db8:2::2"]).await;
        until_shown("4", &["10.2.0.0/24 via 198.51.100.2 dev u2"]).await;
        until_shown("6", &["fd00:2::/64 via 2001:db8:2::2 dev u2"]).await;
        eventually("the withdrawn route is gone", || !shown("4").contains("10.3.0.0/24")).await;
        lab.settle().await;
        let mut status = lab.routes.status();
        let counted = status.wait_for(|status| status.ipv4 == 3 && status.ipv6 == 2);
        tokio::time::timeout(Duration::from_secs(5), counted).await.unwrap().unwrap();
    });
}

#[test]
fn what_the_kernel_holds_equals_the_plan_when_it_is_read_again() {
    in_netns(|| async {
        let lab = Lab::new().await;
        lab.own(&["10.1.0.0/24", "fd00:1::/64"]).await;
        lab.learn("10.2.0.0/24", &["192.0.2.2", "198.51.100.2", "2001:db8:1::2"]).await;
        lab.learn("fd00:2::/64", &["2001:db8:1::2", "2001:db8:2::2"]).await;
        until_shown("6", &["fd00:2::/64"]).await;
        let mut want: Vec<_> = lab.routes.installed(None).await;
        want.sort_by_key(|(prefix, _)| *prefix);

        let (socket, connection) = RouteSocket::open().unwrap();
        brief(connection);
        let have = socket.dump(Table::insert).await.unwrap();
        let want: routes::Routes =
            want.into_iter().map(|(prefix, target)| (routes::own_key(prefix), target)).collect();
        assert_eq!(want.len(), 4);
        assert_eq!(routes::diff(&want, &have), []);
    });
}

#[test]
fn drift_is_repaired() {
    in_netns(|| async {
        let lab = Lab::new().await;
        lab.own(&["10.1.0.0/24"]).await;
        lab.learn("10.2.0.0/24", &["192.0.2.2"]).await;
        lab.learn("10.3.0.0/24", &["192.0.2.2"]).await;
        lab.converge().await;
        until_shown("4", &["blackhole 10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"]).await;

        let begun = Instant::now();
        ip("route flush proto 87");
        until_shown("4", &["blackhole 10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"]).await;
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());

        ip("route replace 10.2.0.0/24 via 198.51.100.9 proto 87 metric 87");
        until_shown("4", &["10.2.0.0/24 via 192.0.2.2 dev u1"]).await;
        ip("route add 10.9.0.0/24 via 198.51.100.9 proto 87 metric 87");
        eventually("a route with our mark that nobody wants", || !shown("4").contains("10.9.0.0/24")).await;
        assert!(lab.routes.status().borrow().drift >= 3);
    });
}

#[test]
fn a_bounced_link_gets_its_routes_back_and_its_nexthops_are_reported() {
    in_netns(|| async {
        let mut lab = Lab::new().await;
        lab.own(&["10.1.0.0/24"]).await;
        lab.learn("10.2.0.0/24", &["192.0.2.2"]).await;
        lab.learn("10.3.0.0/24", &["192.0.2.2", "198.51.100.2"]).await;
        until_shown("4", &["10.2.0.0/24 via 192.0.2.2 dev u1", "nexthop via 192.0.2.2"]).await;

        ip("link set u1 down");
        // The kernel itself passes over a dead member of a multipath route.
        eventually("a route without a link is gone", || !shown("4").contains("10.2.0.0/24")).await;
        let mut status = lab.routes.status();
        let told = status.wait_for(|status| status.problems.iter().any(|p| p.object == "nexthop 192.0.2.2"));
        tokio::time::timeout(Duration::from_secs(5), told).await.unwrap().unwrap();
        assert_eq!(lab.lost.recv().await, Some("192.0.2.2".parse().unwrap()));

        ip("link set u1 up");
        until_shown(
            "4",
            &[
                "10.2.0.0/24 via 192.0.2.2 dev u1",
                "nexthop via 192.0.2.2 dev u1 weight 1 nexthop via 198.51.100.2",
            ],
        )
        .await;
    });
}

#[test]
fn a_link_that_is_back_at_once_has_lost_nobody() {
    in_netns(|| async {
        let mut lab = Lab::new().await;
        lab.own(&["10.1.0.0/24"]).await;
        lab.learn("10.2.0.0/24", &["192.0.2.2"]).await;
        lab.learn("10.3.0.0/24", &["198.51.100.2"]).await;
        until_shown("4", &["10.2.0.0/24 via 192.0.2.2 dev u1", "10.3.0.0/24"]).await;

        ip("link set u1 down");
        ip("link set u1 up");
        until_shown("4", &["10.2.0.0/24 via 192.0.2.2 dev u1"]).await;
        // Were the first link's nexthop lost, it would be told before that of the second.
        ip("link set u2 down");
        assert_eq!(lab.lost.recv().await, Some("198.51.100.2".parse().unwrap()));
    });
}

#[test]
fn a_foreign_route_is_never_touched_and_reported() {
    in_netns(|| async {
        let lab = Lab::new().await;
        ip("route add 10.2.0.0/24 via 198.51.100.9 proto static");
        ip("route add 10.3.0.0/24 via 198.51.100.9 proto static metric 87");
        ip("route add 10.8.0.0/24 via 198.51.100.9 proto bird");
        lab.own(&["10.1.0.0/24"]).await;
        lab.learn("10.2.0.0/24", &["192.0.2.2"]).await;
        lab.learn("10.3.0.0/24", &["192.0.2.2"]).await;
        lab.learn("10.4.0.0/24", &["192.0.2.2"]).await;
        lab.converge().await;
        until_shown("4", &["10.4.0.0/24 via 192.0.2.2"]).await;
        // The kernel has the routes a moment before the status says so.
        let conflicts =
            || -> Vec<_> { lab.routes.status().borrow().problems.iter().map(|p| p.object.clone()).collect() };
        eventually("both conflicts", || conflicts() == ["route 10.2.0.0/24", "route 10.3.0.0/24"]).await;
        let foreign = ip("route show");
        for part in
            ["10.2.0.0/24 via 198.51.100.9", "10.3.0.0/24 via 198.51.100.9", "10.8.0.0/24 via 198.51.100.9"]
        {
            assert!(foreign.contains(part), "{foreign}");
        }
        assert!(!shown("4").contains("10.2.0.0/24") && !shown("4").contains("10.3.0.0/24"));

        // Someone takes a prefix that we have, and gives it back.
        ip("route add 10.4.0.0/24 via 198.51.100.9 proto static metric 5");
        eventually("we yield", || !shown("4").contains("10.4.0.0/24")).await;
        ip("route del 10.4.0.0/24 proto static");
        ip("route del 10.2.0.0/24 proto static");
        until_shown("4", &["10.4.0.0/24 via 192.0.2.2", "10.2.0.0/24 via 192.0.2.2"]).await;
    });
}

#[test]
fn routes_to_pods_belong_to_the_cni() {
    in_netns(|| async {
        let lab = Lab::new().await;
        ip("link add weft00000000001 type veth peer name podside");
        ip("link set weft00000000001 up");
        ip("route add 10.1.0.7/32 dev weft00000000001 proto 87 scope link");
        ip("route add fd00:1::7/128 dev weft00000000001 proto 87");
        lab.own(&["10.1.0.0/24", "fd00:1::/64"]).await;
        lab.converge().await;
        until_shown("4", &["blackhole 10.1.0.0/24", "10.1.0.7"]).await;
        until_shown("6", &["blackhole fd00:1::/64", "fd00:1::7"]).await;
        assert_eq!(lab.routes.installed(None).await.len(), 2);
    });
}

#[test]
fn routes_of_an_earlier_agent_stay_until_convergence() {
    in_netns(|| async {
        let first = Lab::new().await;
        first.own(&["10.1.0.0/24"]).await;
        first.learn("10.2.0.0/24", &["192.0.2.2"]).await;
        first.learn("10.3.0.0/24", &["192.0.2.2"]).await;
        until_shown("4", &["10.2.0.0/24", "10.3.0.0/24"]).await;
        drop(first);

        let (second, restarting) = Lab::start().await;
        assert!(restarting);
        second.own(&["10.1.0.0/24"]).await;
        second.learn("10.2.0.0/24", &["198.51.100.2"]).await;
        second.settle().await;
        until_shown("4", &["10.2.0.0/24 via 198.51.100.2", "10.3.0.0/24 via 192.0.2.2"]).await;
        second.converge().await;
        eventually("the stale route is swept", || !shown("4").contains("10.3.0.0/24")).await;
        until_shown("4", &["blackhole 10.1.0.0/24", "10.2.0.0/24 via 198.51.100.2"]).await;
    });
}

#[test]
fn a_node_that_has_learned_nothing_restarts_like_any_other() {
    in_netns(|| async {
        let (first, restarting) = Lab::start().await;
        assert!(!restarting);
        first.own(&["10.1.0.0/24"]).await;
        until_shown("4", &["blackhole 10.1.0.0/24"]).await;
        drop(first);
        assert!(Lab::start().await.1);
    });
}

#[test]
fn a_pod_outside_our_pod_cidrs_keeps_its_route_whoever_else_announces_it() {
    in_netns(|| async {
        let lab = Lab::new().await;
        ip("link add weft00000000001 type veth peer name podside");
        ip("link set weft00000000001 up");
        ip("route add fd00:1::7/128 dev weft00000000001 proto 87");
        lab.own(&["fd00:9::/64"]).await;
        lab.learn("fd00:1::7/128", &["2001:db8:1::2"]).await;
        lab.learn("fd00:1::/64", &["2001:db8:1::2"]).await;
        lab.converge().await;
        until_shown("6", &["blackhole fd00:9::/64", "fd00:1::/64 via", "fd00:1::7 dev weft00000000001"])
            .await;
        eventually("no route beside the pod's", || !shown("6").contains("fd00:1::7 via")).await;
        let mut pods = lab.routes.pods();
        assert_eq!(*pods.borrow(), ["fd00:1::7/128".parse().unwrap()].into());
        ip("route del fd00:1::7/128 dev weft00000000001 proto 87");
        let gone = pods.wait_for(BTreeSet::is_empty);
        tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap().unwrap();
    });
}

#[test]
fn uplinks_are_those_to_peers_to_nexthops_and_of_the_default_route_with_their_new_mtu() {
    in_netns(|| async {
        let lab = Lab::new().await;
        ip("link add u3 type veth peer name u3x");
        ip("link set u3 up");
        ip("addr add 203.0.113.1/24 dev u3");
        let index = |name: &str| nix::net::if_::if_nametoindex(name).unwrap();
        let mut status = lab.routes.status();
        let mut until = async |wanted: &[(&str, Option<u32>)]| {
            let wanted = wanted.iter().map(|(name, mtu)| (index(name), *mtu)).collect();
            let told = status.wait_for(|status| status.uplinks.as_ref() == Some(&wanted));
            tokio::time::timeout(Duration::from_secs(5), told).await.unwrap().unwrap();
        };
        lab.own(&["10.1.0.0/24"]).await;
        until(&[("u1", None)]).await;
        lab.learn("10.2.0.0/24", &["198.51.100.2"]).await;
        until(&[("u1", None), ("u2", None)]).await;
        ip("link set u2 mtu 1400");
        until(&[("u1", None), ("u2", Some(1400))]).await;
        lab.learn("10.2.0.0/24", &[]).await;
        ip("link set u3x up");
        ip("route add default via 203.0.113.254");
        until(&[("u1", None), ("u3", Some(1500))]).await;
        ip("route del default");
        until(&[("u1", None)]).await;
    });
}

#[test]
fn when_others_write_more_than_can_be_heard_the_table_is_read_again() {
    in_netns(|| async {
        let lab = Lab::new().await;
        lab.own(&["10.1.0.0/24"]).await;
        lab.learn("10.2.0.0/24", &["192.0.2.2"]).await;
        until_shown("4", &["10.2.0.0/24 via 192.0.2.2"]).await;
        // Nobody reads meanwhile: this thread has the runtime. More than the socket has room for.
        let routes = |verb: &str| -> String {
            let prefixes = (0..20_000).map(|n| format!("20.{}.{}.0/24", n / 256, n % 256));
            prefixes.map(|prefix| format!("route {verb} {prefix} via 198.51.100.9 proto bird\n")).collect()
        };
        ip_batch(&routes("add"));
        ip("route add 10.2.0.0/24 via 198.51.100.9 proto static");
        eventually("we yield to a route that no event told of", || !shown("4").contains("10.2.0.0/24")).await;
    });
}

#[test]
fn a_far_nexthop_takes_the_gateways_of_the_route_that_leads_to_it() {
    in_netns(|| async {
        let lab = Lab::new().await;
        ip("route add 203.0.113.0/24 nexthop via 192.0.2.254 nexthop via 198.51.100.254");
        lab.own(&["10.1.0.0/24"]).await;
        lab.learn("10.2.0.0/24", &["203.0.113.7"]).await;
        until_shown("4", &["10.2.0.0/24 nexthop via 192.0.2.254 dev u1 weight 1 nexthop via 198.51.100.254"])
            .await;
        ip("route replace 203.0.113.0/24 via 198.51.100.254");
        until_shown("4", &["10.2.0.0/24 via 198.51.100.254 dev u2"]).await;
    });
}

#[test]
fn a_speaker_that_may_lack_peers_sweeps_nothing() {
    in_netns(|| async {
        let first = Lab::new().await;
        first.own(&["10.1.0.0/24"]).await;
        first.learn("10.3.0.0/24", &["192.0.2.2"]).await;
        until_shown("4", &["10.3.0.0/24"]).await;
        drop(first);

        let (second, _) = Lab::begin(false).await;
        second.own(&["10.1.0.0/24"]).await;
        second.converge().await;
        second.learn("10.2.0.0/24", &["192.0.2.2"]).await;
        until_shown("4", &["10.2.0.0/24", "10.3.0.0/24"]).await;

        // All peers are known, and the next speaker has heard them.
        second.routes.set_listed().await;
        let (fib, events) = mpsc::channel(4);
        second.routes.follow(FibStream::new(events)).await;
        fib.send(FibEvent::Converged).await.unwrap();
        eventually("the stale route is swept", || !shown("4").contains("10.3.0.0/24")).await;
    });
}

/// Without it no route is written, and nobody else would notice.
#[test]
fn a_socket_that_fails_is_missed() {
    in_netns(|| async {
        let (tasks, mut ends) = supervisor();
        let (socket, connection) = RouteSocket::open().unwrap();
        let (fails, failed) = oneshot::channel::<()>();
        let connection = async {
            tokio::select! {
                () = connection => {}
                _ = failed => {}
            }
        };
        let (_routes, _) = spawn_over(&tasks, socket, connection, mpsc::channel(1).0).await.unwrap();
        assert_eq!(ends.first().now_or_never(), None);
        drop(fails);
        assert_eq!(ends.first().await, "route socket ended");
    });
}
