//! Answers as text for people. Pure: an answer in, lines out.

mod objects;
mod table;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use crate::Output;
use crate::answer::{Finding, NodePeers, NodeSummary, Verdict};
use crate::store::{Change, Done};
use weft_api::control::{Bfd, Explanation, Ipam, Path, Peer, PodMtu, Policy, Route, Status};

pub(crate) use objects::objects;
use table::table;

pub(crate) fn status(status: &Status) -> String {
    let ready = if status.ready {
        "yes".to_owned()
    } else {
        format!("NO, waiting for {}", status.waiting_for.join(", "))
    };
    let routes: Vec<_> =
        status.kernel_routes.iter().map(|(family, count)| format!("{count} {family}")).collect();
    let policy = &status.policy;
    let rows = [
        ("Node", status.node.clone()),
        ("Ready", ready),
        ("Version", format!("{}, up {}", status.version, span(status.uptime_seconds))),
        ("Datastore", status.datastore.clone()),
        ("BGP", format!("AS {}, router ID {}", or_dash(status.asn), or_dash(status.router_id.as_deref()))),
        ("Peers", format!("{} of {} established", status.peers.established, status.peers.total)),
        ("Pod CIDRs", joined(&status.pod_cidrs)),
        ("Kernel routes", joined(&routes)),
        ("Pods", status.pods.to_string()),
        ("Pod MTU", pod_mtu(status.pod_mtu.as_ref())),
        (
            "Policy",
            format!(
                "{} policies as {} chains, {} sets with {} elements; revision {}",
                policy.policies, policy.chains, policy.sets, policy.set_elements, policy.revision
            ),
        ),
    ];
    let mut text = String::new();
    for (name, value) in rows {
        let _ = writeln!(text, "{name:<15}{value}");
    }
    if !status.problems.is_empty() {
        text.push_str("\nProblems\n");
        for problem in &status.problems {
            let _ = writeln!(text, "  {}: {}", problem.object, problem.reason);
        }
    }
    text
}

fn pod_mtu(mtu: Option<&PodMtu>) -> String {
    match mtu {
        None => "-".to_owned(),
        Some(PodMtu { bytes, link: None }) => bytes.to_string(),
        Some(PodMtu { bytes, link: Some(link) }) => format!("{bytes}, that of {link}"),
    }
}

/// All nodes.
pub(crate) fn nodes(nodes: &[NodeSummary], output: Output) -> String {
    let wide = output == Output::Wide;
    let mut header = vec!["NODE", "READY", "PEERS", "ROUTES", "PODS", "POLICIES", "PROBLEMS", "VERSION"];
    header.extend(wide.then_some("POOLS USED"));
    let rows = nodes.iter().map(|node| {
        let ready = if node.ready { "yes".to_owned() } else { format!("NO: {}", node.reason) };
        let mut row = vec![node.node.clone(), ready];
        let Some(status) = &node.status else { return row };
        row.extend([
            status.peers_established.clone(),
            status.routes.to_string(),
            status.pods.to_string(),
            status.policy.policies.to_string(),
            status.problem_count.to_string(),
            status.version.clone(),
        ]);
        if wide {
            let pools: Vec<_> = status
                .pools
                .iter()
                .map(|pool| format!("{} {}/{}", pool.cidr, pool.used, pool.size))
                .collect();
            row.push(joined(&pools));
        }
        row
    });
    let mut text = table(&header, rows);
    for node in nodes {
        for problem in node.status.iter().flat_map(|status| &status.problems) {
            let _ = writeln!(text, "  {}: {}: {}", node.node, problem.object, problem.reason);
        }
    }
    text
}

/// Sessions of all nodes: a line for each that is down, of those that a node names.
pub(crate) fn node_peers(nodes: &[NodePeers]) -> String {
    let rows = nodes.iter().flat_map(|NodePeers { node, peers_established, peers_down }| {
        let down = peers_down.iter().map(|peer| {
            let since = peer.since.as_ref().map(|since| since.0.to_string());
            let error = peer.last_error.clone().unwrap_or_default();
            vec![peer.name.clone(), peer.address.clone(), or_dash(since), error]
        });
        let mut down: Vec<Vec<String>> = down.collect();
        if down.is_empty() {
            down.push(Vec::new());
        }
        down.into_iter().map(move |peer| [vec![node.clone(), peers_established.clone()], peer].concat())
    });
    table(&["NODE", "ESTABLISHED", "DOWN", "ADDRESS", "SINCE", "LAST ERROR"], rows)
}

pub(crate) fn peers(peers: &[Peer], output: Output) -> String {
    let wide = output == Output::Wide;
    let rows = peers.iter().map(|peer| {
        let counts: Vec<_> = peer
            .families
            .iter()
            .map(|family| {
                format!("{} {}/{}/{}", family.family, family.accepted, family.rejected, family.advertised)
            })
            .collect();
        let mut row = vec![
            peer.name.clone(),
            peer.address.to_string(),
            or_dash(peer.asn),
            peer.state.to_string(),
            span(peer.state_seconds),
            or_dash(peer.bfd.as_ref().map(|bfd| bfd.state)),
            joined(&counts),
        ];
        if wide {
            row.extend([
                or_dash(peer.bfd.as_ref().map(bfd_timing)),
                or_dash(peer.bfd.as_ref().and_then(bfd_last_down)),
                or_dash(peer.router_id.as_deref()),
                or_dash(peer.hold_time),
                peer.established_count.to_string(),
                format!("{}/{}", peer.messages_in, peer.messages_out),
                joined(&peer.capabilities),
                joined(&peer.refused.iter().map(|route| route.prefix.clone()).collect::<Vec<_>>()),
            ]);
        }
        row.push(peer.last_error.clone().unwrap_or_default());
        row
    });
    let mut header = vec!["PEER", "ADDRESS", "AS", "STATE", "SINCE", "BFD", "FAMILY ACCEPTED/REFUSED/SENT"];
    if wide {
        header.extend([
            "BFD SENDS/GIVES UP",
            "BFD LAST DOWN",
            "ROUTER ID",
            "HOLD",
            "TIMES UP",
            "MESSAGES IN/OUT",
            "CAPABILITIES",
            "REFUSED",
        ]);
    }
    header.push("LAST ERROR");
    table(&header, rows)
}

/// `300ms/900ms`
fn bfd_timing(bfd: &Bfd) -> String {
    let millis = |millis: Option<u64>| millis.map(|millis| format!("{millis}ms"));
    format!("{}/{}", or_dash(millis(bfd.transmit_interval)), or_dash(millis(bfd.detection_time)))
}

/// `control detection time expired, 2m05s ago`
fn bfd_last_down(bfd: &Bfd) -> Option<String> {
    Some(format!("{}, {} ago", bfd.last_down.as_ref()?, span(bfd.last_down_seconds?)))
}

/// A line per path, best first as the agent sends them: `*` the best, `=` its multipath companions.
pub(crate) fn routes(routes: &[Route], output: Output) -> String {
    let wide = output == Output::Wide;
    let rows = routes.iter().flat_map(|route| {
        route.paths.iter().enumerate().map(|(index, path)| {
            let (prefix, fib) =
                if index == 0 { (route.prefix.clone(), joined(&route.fib)) } else { Default::default() };
            let mut row = vec![prefix, mark(path), path.from.clone(), path.nexthop.clone(), as_path(path)];
            if wide {
                row.extend([
                    path.origin.clone(),
                    or_dash(path.local_pref),
                    or_dash(path.med),
                    joined(&path.communities),
                ]);
            }
            row.extend([path.reason.clone(), fib]);
            row
        })
    });
    let mut header = vec!["PREFIX", "", "FROM", "NEXTHOP", "AS PATH"];
    if wide {
        header.extend(["ORIGIN", "LOCAL PREF", "MED", "COMMUNITIES"]);
    }
    header.extend(["WHY", "KERNEL"]);
    table(&header, rows)
}

pub(crate) fn advertised(routes: &[Route]) -> String {
    let rows = routes.iter().flat_map(|route| {
        route.paths.iter().map(|path| {
            vec![
                route.prefix.clone(),
                path.nexthop.clone(),
                as_path(path),
                joined(&path.communities),
                path.from.clone(),
            ]
        })
    });
    table(&["PREFIX", "NEXTHOP", "AS PATH", "COMMUNITIES", "LEARNED FROM"], rows)
}

pub(crate) fn ipam(ipam: &Ipam) -> String {
    let pools = ipam.pools.iter().map(|pool| {
        vec![
            pool.cidr.clone(),
            pool.size.to_string(),
            pool.used.to_string(),
            pool.free.to_string(),
            pool.cooling.to_string(),
            pool.reserved.to_string(),
        ]
    });
    let allocations = ipam.allocations.iter().flat_map(|allocation| {
        allocation.addresses.iter().map(|address| {
            let pod = if allocation.pod.is_empty() { "-" } else { &allocation.pod };
            vec![
                address.to_string(),
                pod.to_owned(),
                allocation.ifname.clone(),
                allocation.link.clone(),
                allocation.container_id.chars().take(13).collect(),
            ]
        })
    });
    format!(
        "{}\n{}",
        table(&["POOL", "SIZE", "USED", "FREE", "COOLING", "RESERVED"], pools),
        table(&["ADDRESS", "POD", "IFNAME", "LINK", "CONTAINER"], allocations)
    )
}

pub(crate) fn policies(policies: &[Policy]) -> String {
    let rows = policies.iter().map(|policy| {
        vec![
            policy.namespace.clone(),
            policy.name.clone(),
            policy.directions.join(","),
            policy.pods.to_string(),
            joined(&policy.local_pods),
        ]
    });
    table(&["NAMESPACE", "NAME", "ISOLATES", "PODS", "PODS HERE"], rows)
}

pub(crate) fn explanation(explanation: &Explanation) -> String {
    let port = explanation.port.map(|port| format!(" port {port}")).unwrap_or_default();
    let verdict = if explanation.allowed { "ALLOWED" } else { "DENIED" };
    let mut text =
        format!("{verdict}: {} -> {}, {}{port}\n", explanation.from, explanation.to, explanation.protocol);
    for step in &explanation.steps {
        let verdict = if step.allowed { "allowed" } else { "denied" };
        let place = if step.enforced_here { "" } else { " (enforced on another node)" };
        let _ = writeln!(text, "  {:<8} {verdict}: {}{place}", step.direction, step.reason);
    }
    text
}

pub(crate) fn findings(findings: &[Finding]) -> String {
    let rows = findings.iter().map(|finding| {
        let verdict = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Missing => "MISSING",
        };
        vec![finding.check.to_owned(), verdict.to_owned(), finding.detail.clone()]
    });
    table(&["CHECK", "", "FOUND"], rows)
}

/// As kubectl says it, a line per object.
pub(crate) fn done(done: &[Done], dry_run: bool) -> String {
    let mut text = String::new();
    for Done { kind, name, change, .. } in done {
        let change = match change {
            Change::Created => "created",
            Change::Configured => "configured",
            Change::Unchanged => "unchanged",
            Change::Deleted => "deleted",
        };
        let trial = if dry_run { " (dry run)" } else { "" };
        let _ = writeln!(text, "{}.weft.dev/{name} {change}{trial}", kind.to_lowercase());
    }
    text
}

fn mark(path: &Path) -> String {
    let mark = match (path.best, path.active) {
        (true, _) => "*",
        (false, true) => "=",
        (false, false) => "",
    };
    if path.stale { format!("{mark}s") } else { mark.to_owned() }
}

fn as_path(path: &Path) -> String {
    if path.as_path.is_empty() { "local".to_owned() } else { path.as_path.clone() }
}

fn joined(items: &[String]) -> String {
    if items.is_empty() { "-".to_owned() } else { items.join(", ") }
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `1 node`, `2 nodes`
pub(crate) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// `59s`, `1m05s`, `2h03m`, `4d07h`
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}
