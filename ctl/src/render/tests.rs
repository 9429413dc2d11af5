use std::collections::BTreeMap;

use weft_api::control::{
    Allocation, Bfd, BfdState, ExplainStep, FamilyCounts, Path, Peer, PeerCounts, Policy, PolicyStatus, Pool,
    Problem, Route, SessionState, Status,
};

use super::*;

fn path(from: &str, nexthop: &str, best: bool, active: bool, reason: &str) -> Path {
    Path {
        from: from.into(),
        nexthop: nexthop.into(),
        as_path: if from == "local" { String::new() } else { "65001 64512".into() },
        origin: "igp".into(),
        local_pref: None,
        med: None,
        communities: vec!["65001:7".into()],
        best,
        active,
        stale: false,
        reason: reason.into(),
    }
}

fn ecmp_route() -> Route {
    Route {
        prefix: "10.244.2.0/24".into(),
        paths: vec![
            path("tor-a", "10.1.0.1", true, true, "best"),
            path("tor-b", "10.1.0.2", false, true, "multipath: equal to the best"),
        ],
        fib: vec!["10.1.0.1 dev eth0".into(), "10.1.0.2 dev eth1".into()],
    }
}

#[test]
fn status_names_what_it_waits_for_and_every_problem() {
    let status = Status {
        node: "node1".into(),
        version: "0.1.0".into(),
        ready: false,
        waiting_for: vec!["policy".into()],
        uptime_seconds: 65,
        datastore: "dir:/etc/weft".into(),
        asn: Some(64512),
        router_id: Some("10.1.0.11".into()),
        pod_cidrs: vec!["10.244.1.0/24".into(), "fd00:1::/64".into()],
        peers: PeerCounts { established: 1, total: 2 },
        kernel_routes: BTreeMap::from([("ipv4".into(), 3), ("ipv6".into(), 2)]),
        pods: 4,
        pod_mtu: Some(PodMtu { bytes: 1450, link: Some("eth0".into()) }),
        policy: PolicyStatus {
            revision: 9,
            policies: 2,
            chains: 11,
            sets: 5,
            set_elements: 17,
            flow_scans: 3,
        },
        problems: vec![Problem { object: "bad.yaml".into(), reason: "line 3: unknown field `asns`".into() }],
    };
    insta::assert_snapshot!(super::status(&status), @r"
    Node           node1
    Ready          NO, waiting for policy
    Version        0.1.0, up 1m05s
    Datastore      dir:/etc/weft
    BGP            AS 64512, router ID 10.1.0.11
    Peers          1 of 2 established
    Pod CIDRs      10.244.1.0/24, fd00:1::/64
    Kernel routes  3 ipv4, 2 ipv6
    Pods           4
    Pod MTU        1450, that of eth0
    Policy         2 policies as 11 chains, 5 sets with 17 elements; revision 9

    Problems
      bad.yaml: line 3: unknown field `asns`
    ");
}

#[test]
fn peers_show_state_counts_and_the_last_error() {
    let peer = Peer {
        name: "tor-a".into(),
        address: "10.1.0.1".parse().unwrap(),
        port: 179,
        asn: Some(65001),
        local_asn: 64512,
        state: SessionState::Established,
        state_seconds: 7_500,
        router_id: None,
        hold_time: Some(9),
        families: vec![FamilyCounts {
            family: "ipv4-unicast".into(),
            accepted: 3,
            rejected: 1,
            advertised: 2,
            end_of_rib: true,
            stale: 0,
        }],
        last_error: Some("hold timer expired (4/0)".into()),
        messages_in: 1,
        messages_out: 2,
        established_count: 2,
        malformed_attributes: 0,
        refused: vec![],
        capabilities: vec![],
        bfd: Some(bfd()),
    };
    insta::assert_snapshot!(peers(&[peer], Output::Table), @r"
    PEER   ADDRESS   AS     STATE        SINCE  BFD  FAMILY ACCEPTED/REFUSED/SENT  LAST ERROR
    tor-a  10.1.0.1  65001  Established  2h05m  Up   ipv4-unicast 3/1/2            hold timer expired (4/0)
    ");
}

fn bfd() -> Bfd {
    Bfd {
        state: BfdState::Up,
        state_seconds: 125,
        port: 3784,
        remote_state: Some(BfdState::Up),
        remote_diagnostic: Some("no diagnostic".into()),
        transmit_interval: Some(300),
        detection_time: Some(900),
        last_down: Some("control detection time expired".into()),
        last_down_seconds: Some(130),
        up_count: 2,
        failed_count: 1,
        packets_in: 400,
        packets_out: 401,
        drops: [("ttl".into(), 0)].into(),
        error: None,
    }
}

#[test]
fn what_bfd_goes_by_is_shown_when_asked_for() {
    assert_eq!(bfd_timing(&bfd()), "300ms/900ms");
    assert_eq!(bfd_timing(&Bfd { transmit_interval: None, detection_time: None, ..bfd() }), "-/-");
    assert_eq!(bfd_last_down(&bfd()).as_deref(), Some("control detection time expired, 2m10s ago"));
    assert_eq!(bfd_last_down(&Bfd { last_down: None, ..bfd() }), None);
}

#[test]
fn of_all_nodes_the_sessions_that_are_down_are_shown() {
    let down = |name: &str| {
        let text = format!(
            r#"{{"name": "{name}", "address": "10.1.0.1", "since": "2026-01-01T00:00:00Z", "lastError": "hold timer expired (4/0)"}}"#
        );
        serde_json::from_str(&text).unwrap()
    };
    let node = |node: &str, peers_established: &str, peers_down| NodePeers {
        node: node.into(),
        peers_established: peers_established.into(),
        peers_down,
    };
    let nodes = [node("node1", "3/3", vec![]), node("node2", "1/3", vec![down("tor-a"), down("tor-b")])];
    insta::assert_snapshot!(node_peers(&nodes), @r"
    NODE   ESTABLISHED  DOWN   ADDRESS   SINCE                 LAST ERROR
    node1  3/3
    node2  1/3          tor-a  10.1.0.1  2026-01-01T00:00:00Z  hold timer expired (4/0)
    node2  1/3          tor-b  10.1.0.1  2026-01-01T00:00:00Z  hold timer expired (4/0)
    ");
}

#[test]
fn routes_show_every_path_with_its_reason_and_the_kernel_once() {
    insta::assert_snapshot!(routes(&[ecmp_route()], Output::Table), @r"
    PREFIX            FROM   NEXTHOP   AS PATH      WHY                           KERNEL
    10.244.2.0/24  *  tor-a  10.1.0.1  65001 64512  best                          10.1.0.1 dev eth0, 10.1.0.2 dev eth1
                   =  tor-b  10.1.0.2  65001 64512  multipath: equal to the best
    ");
}

#[test]
fn advertised_shows_what_the_peer_sees() {
    let own = Route {
        prefix: "10.244.1.0/24".into(),
        paths: vec![path("local", "10.1.0.11", true, true, "")],
        fib: vec![],
    };
    insta::assert_snapshot!(advertised(&[own]), @r"
    PREFIX         NEXTHOP    AS PATH  COMMUNITIES  LEARNED FROM
    10.244.1.0/24  10.1.0.11  local    65001:7      local
    ");
}

#[test]
fn ipam_shows_pools_and_holders() {
    let ipam = Ipam {
        pools: vec![Pool {
            cidr: "10.244.1.0/24".into(),
            size: 254,
            used: 1,
            free: 250,
            cooling: 2,
            reserved: 1,
        }],
        allocations: vec![Allocation {
            pod: "demo/web".into(),
            container_id: "0123456789abcdef".into(),
            ifname: "eth0".into(),
            link: "weft0123456789a".into(),
            addresses: vec!["10.244.1.2".parse().unwrap(), "fd00:1::2".parse().unwrap()],
        }],
    };
    insta::assert_snapshot!(super::ipam(&ipam), @r"
    POOL           SIZE  USED  FREE  COOLING  RESERVED
    10.244.1.0/24  254   1     250   2        1

    ADDRESS     POD       IFNAME  LINK             CONTAINER
    10.244.1.2  demo/web  eth0    weft0123456789a  0123456789abc
    fd00:1::2   demo/web  eth0    weft0123456789a  0123456789abc
    ");
}

#[test]
fn policies_and_explanations_name_the_rules() {
    let policy = Policy {
        namespace: "demo".into(),
        name: "deny-all".into(),
        directions: vec!["Ingress".into(), "Egress".into()],
        local_pods: vec!["demo/web".into()],
        pods: 3,
    };
    insta::assert_snapshot!(policies(&[policy]), @r"
    NAMESPACE  NAME      ISOLATES        PODS  PODS HERE
    demo       deny-all  Ingress,Egress  3     demo/web
    ");
    let explanation = Explanation {
        from: "demo/client".into(),
        to: "demo/web".into(),
        protocol: "tcp".into(),
        port: Some(80),
        allowed: false,
        steps: vec![
            ExplainStep {
                direction: "egress".into(),
                allowed: true,
                reason: "not isolated".into(),
                policies: vec![],
                enforced_here: true,
            },
            ExplainStep {
                direction: "ingress".into(),
                allowed: false,
                reason: "isolated by demo/deny-all; no rule matches".into(),
                policies: vec!["demo/deny-all".into()],
                enforced_here: false,
            },
        ],
    };
    insta::assert_snapshot!(super::explanation(&explanation), @r"
    DENIED: demo/client -> demo/web, tcp port 80
      egress   allowed: not isolated
      ingress  denied: isolated by demo/deny-all; no rule matches (enforced on another node)
    ");
}

#[test]
fn an_empty_answer_is_a_header() {
    assert_eq!(peers(&[], Output::Table).lines().count(), 1);
}

#[test]
fn spans_have_two_units_at_the_most() {
    assert_eq!([0, 59, 65, 7_380, 371_000].map(span), ["0s", "59s", "1m05s", "2h03m", "4d07h"]);
}

#[test]
fn all_nodes_stand_in_one_table_with_their_problems_below() {
    let status = |json: &str| serde_json::from_str(json).unwrap();
    let fine = NodeSummary {
        node: "node1".into(),
        ready: true,
        reason: String::new(),
        status: Some(status(
            r#"{"version": "0.1.0", "peersEstablished": "2/2", "routes": 6, "pods": 3, "policy": {"policies": 1},
                "pools": [{"cidr": "10.244.1.0/24", "size": 254, "used": 3}]}"#,
        )),
    };
    let ill = NodeSummary {
        node: "node2".into(),
        ready: false,
        reason: "no agent runs there".into(),
        status: Some(status(
            r#"{"version": "0.1.0", "peersEstablished": "0/2", "problemCount": 1, "problems": [{"object": "BGPPeer tor", "reason": "why"}]}"#,
        )),
    };
    insta::assert_snapshot!(nodes(&[fine, ill], Output::Wide), @r"
    NODE   READY                    PEERS  ROUTES  PODS  POLICIES  PROBLEMS  VERSION  POOLS USED
    node1  yes                      2/2    6       3     1         0         0.1.0    10.244.1.0/24 3/254
    node2  NO: no agent runs there  0/2    0       0     0         1         0.1.0    -
      node2: BGPPeer tor: why
    ");
}

#[test]
fn wide_tables_have_more_columns() {
    let (narrow, wide) = (routes(&[ecmp_route()], Output::Table), routes(&[ecmp_route()], Output::Wide));
    assert!(wide.contains("65001:7") && !narrow.contains("65001:7"), "{wide}");
}
