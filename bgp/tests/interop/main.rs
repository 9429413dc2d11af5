//! Our speaker against other people's routers, in network namespaces: routes both ways in both families, and a restart
//! that they sit out. Needs root; a router that is not installed is an error, not a pass.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by stopping")]

mod netns;
mod ours;

use std::time::Duration;

use netns::{Lab, wait_for};
use ours::{Ours, Terms};

const LIMIT: Duration = Duration::from_secs(20);

/// Routes of ours that the router must show, and that it must keep while we restart.
const OUR_V4: &str = "10.1.0.0/24";
const OUR_V6: &str = "fd01::/64";
/// Routes of the router that we must learn.
const THEIR_V4: &str = "10.2.0.0/24";
const THEIR_V6: &str = "fd02::/64";

/// The story that every router takes part in. `shows` asks it whether it has a route of ours.
fn routes_pass_both_ways_and_survive_our_restart(lab: &Lab, terms: Terms, shows: impl Fn(&str) -> bool) {
    // OpenBGPD on Linux announces no IPv6 route over a session over IPv4: it finds no nexthop of its own.
    let theirs = if terms.only_v4_from_them { &[THEIR_V4][..] } else { &[THEIR_V4, THEIR_V6] };
    let explain = |ours: &Ours| format!("{}\n{}", ours.describe(), lab.log());
    let ours = Ours::start(lab, terms, false);
    for prefix in theirs {
        wait_for(prefix, LIMIT, || ours.has(prefix), || explain(&ours));
    }
    for prefix in [OUR_V4, OUR_V6] {
        wait_for(prefix, LIMIT, || shows(prefix), || explain(&ours));
    }

    ours.restart();
    assert!(shows(OUR_V4) && shows(OUR_V6), "forgotten while we restart\n{}", lab.log());
    let ours = Ours::start(lab, terms, true);
    for prefix in theirs {
        wait_for(prefix, LIMIT, || ours.has(prefix), || explain(&ours));
    }
    wait_for("convergence", LIMIT, || ours.converged(), || explain(&ours));
    assert!(shows(OUR_V4) && shows(OUR_V6), "forgotten when we came back\n{}", lab.log());

    ours.stop();
    wait_for("our routes to go", LIMIT, || !shows(OUR_V4) && !shows(OUR_V6), || lab.log());
}

#[test]
fn bird() {
    let lab = Lab::new("bird");
    let config = lab.file(
        "bird.conf",
        "router id 10.9.0.2;
         protocol device {}
         protocol static { ipv4; route 10.2.0.0/24 blackhole; }
         protocol static { ipv6; route fd02::/64 blackhole; }
         protocol bgp weft {
             local 10.9.0.2 as 65002; neighbor 10.9.0.1 as 65001;
             graceful restart on; connect delay time 1; error wait time 1, 2;
             ipv4 { import all; export all; };
             ipv6 { import all; export all; next hop self; };
         }",
    );
    let socket = lab.dir.join("bird.ctl").display().to_string();
    lab.start(&format!("bird -f -c {config} -s {socket} -P {socket}.pid"));
    let shows =
        |prefix: &str| lab.try_there(&format!("birdc -s {socket} show route for {prefix}")).contains("[weft");
    routes_pass_both_ways_and_survive_our_restart(&lab, Terms::default(), shows);
}

#[test]
fn frr() {
    let lab = Lab::new("frr");
    let dir = frr_start(
        &lab,
        "router bgp 65002
          bgp router-id 10.9.0.2
          no bgp ebgp-requires-policy
          no bgp network import-check
          bgp graceful-restart
          neighbor 10.9.0.1 remote-as 65001
          neighbor 10.9.0.1 timers connect 1
          address-family ipv4 unicast
           network 10.2.0.0/24
          exit-address-family
          address-family ipv6 unicast
           network fd02::/64
           neighbor 10.9.0.1 activate
           neighbor 10.9.0.1 route-map SELF6 out
          exit-address-family
         route-map SELF6 permit 10
          set ipv6 next-hop global fd09::2
        ",
    );
    let shows = |prefix: &str| frr_shows(&lab, &dir, prefix).contains("from 10.9.0.1");
    routes_pass_both_ways_and_survive_our_restart(&lab, Terms::default(), shows);
}

#[test]
fn frr_with_ipv4_routes_over_ipv6_nexthops() {
    let lab = Lab::new("frr6");
    let dir = frr_start(
        &lab,
        "router bgp 65002
          bgp router-id 10.9.0.2
          no bgp ebgp-requires-policy
          no bgp network import-check
          bgp graceful-restart
          neighbor fd09::1 remote-as 65001
          neighbor fd09::1 timers connect 1
          neighbor fd09::1 capability extended-nexthop
          address-family ipv4 unicast
           network 10.2.0.0/24
           neighbor fd09::1 activate
          exit-address-family
          address-family ipv6 unicast
           network fd02::/64
           neighbor fd09::1 activate
          exit-address-family
        ",
    );
    let shows = |prefix: &str| {
        let route = frr_shows(&lab, &dir, prefix);
        route.contains("from fd09::1") && route.contains("fd09::1 from")
    };
    routes_pass_both_ways_and_survive_our_restart(
        &lab,
        Terms { over_v6: true, gateway_v6: true, only_v4_from_them: false },
        shows,
    );
}

#[test]
fn gobgp() {
    let lab = Lab::new("gobgp");
    let config = lab.file(
        "gobgp.toml",
        r#"[global.config]
           as = 65002
           router-id = "10.9.0.2"
           [[neighbors]]
           [neighbors.config]
           neighbor-address = "10.9.0.1"
           peer-as = 65001
           [neighbors.timers.config]
           connect-retry = 1
           [neighbors.graceful-restart.config]
           enabled = true
           restart-time = 60
           [[neighbors.afi-safis]]
           [neighbors.afi-safis.config]
           afi-safi-name = "ipv4-unicast"
           [neighbors.afi-safis.mp-graceful-restart.config]
           enabled = true
           [[neighbors.afi-safis]]
           [neighbors.afi-safis.config]
           afi-safi-name = "ipv6-unicast"
           [neighbors.afi-safis.mp-graceful-restart.config]
           enabled = true"#,
    );
    lab.start(&format!("gobgpd -f {config}"));
    let add = "gobgp global rib add -a ipv4 10.2.0.0/24 && \
               ip netns exec {} gobgp global rib add -a ipv6 fd02::/64 nexthop fd09::2";
    let add = add.replace("{}", &lab.theirs);
    wait_for("gobgpd", LIMIT, || lab.try_there("gobgp global").contains("65002"), || lab.log());
    lab.there(&add);
    let shows = |prefix: &str| {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        lab.try_there(&format!("gobgp global rib -a {family} {prefix}")).contains("65001")
    };
    routes_pass_both_ways_and_survive_our_restart(&lab, Terms::default(), shows);
}

#[test]
fn openbgpd() {
    let lab = Lab::new("openbgpd");
    let socket = lab.dir.join("bgpd.sock").display().to_string();
    let config = lab.file(
        "bgpd.conf",
        &format!(
            "AS 65002
             router-id 10.9.0.2
             fib-update no
             listen on 10.9.0.2
             socket \"{socket}\"
             network 10.2.0.0/24
             network fd02::/64
             neighbor 10.9.0.1 {{
                 remote-as 65001
                 announce IPv4 unicast
                 announce IPv6 unicast
                 announce restart yes
             }}
             allow from any
             allow to any
            "
        ),
    );
    // It trusts no file that others may write, and locks itself into its home, which its unit makes.
    netns::run(&format!("chmod 600 {config} && mkdir -p /run/openbgpd"));
    lab.start(&format!("bgpd -d -f {config}"));
    let shows =
        |prefix: &str| lab.try_there(&format!("bgpctl -s {socket} show rib {prefix}")).contains("65001");
    routes_pass_both_ways_and_survive_our_restart(
        &lab,
        Terms { only_v4_from_them: true, ..Terms::default() },
        shows,
    );
}

/// zebra, then bgpd, with everything they keep in the lab's directory; gives the directory of the command sockets.
fn frr_start(lab: &Lab, config: &str) -> String {
    let dir = lab.dir.display().to_string();
    let config = lab.file("bgpd.conf", config);
    let empty = lab.file("zebra.conf", "");
    netns::run(&format!("chown -R frr:frr {dir}"));
    let common = format!("--vty_socket {dir} -A 127.0.0.1 -z {dir}/zserv.api --log stdout");
    lab.start(&format!("/usr/lib/frr/zebra -f {empty} -i {dir}/zebra.pid {common}"));
    wait_for("zebra", LIMIT, || lab.dir.join("zserv.api").exists(), || lab.log());
    lab.start(&format!("/usr/lib/frr/bgpd -f {config} -i {dir}/bgpd.pid {common}"));
    dir
}

fn frr_shows(lab: &Lab, dir: &str, prefix: &str) -> String {
    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
    lab.try_there(&format!("vtysh --vty_socket {dir} -d bgpd -c 'show bgp {family} unicast {prefix}'"))
}
