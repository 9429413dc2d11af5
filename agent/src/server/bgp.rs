//! What the speaker and the kernel know of BGP, in the words of the control API.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use weft_api::control::{FamilyCounts, Path, Peer, Problem, RefusedRoute, Route, SessionState};
use weft_bgp::net::Handle;
use weft_bgp::rib::{AdvertisedRoute, AnyCommunity, Counts, PathStatus, RouteStatus};
use weft_bgp::session::StateKind;
use weft_bgp::speaker::{PeerStatus, RouteFilter};
use weft_bgp::types::{AfiSafi, Nexthop};
use weft_bgp::wire::{Origin, PathAttributes};
use weft_intent::plan::peers::MESH;

use super::answer::Failure;
use super::bfd;
use crate::agent::Agent;
use crate::fib::Target;

/// Whose a path is that no peer gave us.
const LOCAL: &str = "local";

fn speaker(agent: &Agent) -> Result<Handle, Failure> {
    agent.speaker.borrow().clone().ok_or_else(|| Failure::not_yet("bgp has not started yet"))
}

pub(super) async fn peers(agent: &Agent) -> Result<Vec<Peer>, Failure> {
    let peers = speaker(agent)?.peers().await?;
    let report = bfd::report(agent).await;
    let shown = |key| report.sessions.iter().find(|shown| shown.status.key == key).map(bfd::session);
    let with_bfd = |status: PeerStatus| Peer { bfd: shown(status.key), ..peer(status) };
    Ok(peers.into_iter().map(with_bfd).collect())
}

/// With a prefix: exactly that one; with an address: the one that packets to it take. It must be known.
pub(super) async fn routes(agent: &Agent, wanted: Option<&str>) -> Result<Vec<Route>, Failure> {
    let filter = wanted.map_or(Ok(RouteFilter::All), parse_filter)?;
    let routes = speaker(agent)?.routes(filter).await?;
    let only = match (wanted, routes.as_slice()) {
        (None, _) => None,
        (Some(_), [route, ..]) => Some(route.prefix),
        (Some(wanted), []) => return Err(Failure::not_found(format!("no route to {wanted}"))),
    };
    let installed: BTreeMap<_, _> = agent.routes.installed(only).await.into_iter().collect();
    Ok(routes.into_iter().map(|status| route(status, &installed)).collect())
}

/// `name` is a peer's name or address.
pub(super) async fn advertised(agent: &Agent, name: &str) -> Result<Vec<Route>, Failure> {
    let speaker = speaker(agent)?;
    let peers = speaker.peers().await?;
    let unknown = || Failure::not_found(format!("no peer {name}"));
    let peer =
        peers.iter().find(|peer| peer.name == name || peer.key.to_string() == name).ok_or_else(unknown)?;
    let routes = speaker.advertised(peer.key).await?.ok_or_else(unknown)?;
    Ok(routes.iter().map(sent).collect())
}

fn parse_filter(text: &str) -> Result<RouteFilter, Failure> {
    if let Ok(address) = text.parse() {
        return Ok(RouteFilter::LongestMatch(address));
    }
    let prefix = text.parse().map_err(|_| Failure::bad_request(format!("{text} is no prefix or address")))?;
    Ok(RouteFilter::Prefix(weft_api::prefix::without_host_bits(prefix)))
}

fn peer(status: PeerStatus) -> Peer {
    Peer {
        name: status.name,
        address: status.key.address,
        port: status.port,
        asn: status.asn.map(|asn| asn.0),
        local_asn: status.local_asn.0,
        state: state(status.state),
        state_seconds: status.state_age.as_secs(),
        router_id: status.router_id.map(|id| id.to_string()),
        hold_time: status.hold_time,
        families: status.families.iter().map(family).collect(),
        last_error: status.last_error,
        messages_in: status.messages_in,
        messages_out: status.messages_out,
        established_count: status.established_count,
        malformed_attributes: status.malformed_attributes,
        refused: status.refused.iter().map(refused).collect(),
        capabilities: status.capabilities,
        bfd: None,
    }
}

fn state(kind: StateKind) -> SessionState {
    match kind {
        StateKind::Idle => SessionState::Idle,
        StateKind::Connect => SessionState::Connect,
        StateKind::Active => SessionState::Active,
        StateKind::OpenSent => SessionState::OpenSent,
        StateKind::OpenConfirm => SessionState::OpenConfirm,
        StateKind::Established => SessionState::Established,
    }
}

fn refused(route: &weft_bgp::rib::RefusedRoute) -> RefusedRoute {
    RefusedRoute { prefix: route.prefix.to_string(), reason: route.rejection.to_string() }
}

/// Fellow nodes that announce what is not theirs. A router may have more to tell than is asked of it; a node has not.
/// Names the first few and no number: that moves, and every node of the cluster may say this of the same one.
pub(super) fn leaks(peers: &[Peer]) -> Vec<Problem> {
    let leak = |peer: &Peer| {
        let node = peer.name.strip_prefix(MESH)?;
        let prefixes: Vec<_> = peer.refused.iter().map(|route| route.prefix.as_str()).collect();
        let RefusedRoute { reason, .. } = peer.refused.first()?;
        let reason =
            format!("announces routes that are refused, among them {}: {reason}", prefixes.join(", "));
        Some(Problem { object: format!("Node {node}"), reason })
    };
    peers.iter().filter_map(leak).collect()
}

fn family((family, counts): &(AfiSafi, Counts)) -> FamilyCounts {
    FamilyCounts {
        family: family.to_string(),
        accepted: counts.accepted.into(),
        rejected: counts.rejected.into(),
        advertised: counts.advertised.into(),
        end_of_rib: counts.end_of_rib,
        stale: counts.stale.into(),
    }
}

fn route(status: RouteStatus<String>, installed: &BTreeMap<IpNetwork, Target>) -> Route {
    Route {
        prefix: status.prefix.to_string(),
        paths: status.paths.into_iter().map(path).collect(),
        fib: installed.get(&status.prefix).map(in_words).unwrap_or_default(),
    }
}

fn path(status: PathStatus<String>) -> Path {
    Path {
        from: status.from.unwrap_or_else(|| LOCAL.to_owned()),
        best: status.standing.is_best(),
        active: status.standing.is_active(),
        stale: status.stale,
        reason: status.standing.to_string(),
        ..sent_path(status.nexthop, &status.attributes)
    }
}

fn sent(route: &AdvertisedRoute) -> Route {
    let paths = vec![sent_path(Some(route.nexthop), &route.attributes)];
    Route { prefix: route.prefix.to_string(), paths, fib: Vec::new() }
}

/// As we send it to a peer.
fn sent_path(to: Option<Nexthop>, attributes: &PathAttributes) -> Path {
    Path {
        from: LOCAL.to_owned(),
        nexthop: to.map(nexthop).unwrap_or_default(),
        as_path: attributes.as_path.to_string(),
        origin: origin(attributes.origin).to_owned(),
        local_pref: attributes.local_pref,
        med: attributes.med,
        communities: AnyCommunity::all(attributes).map(|community| community.to_string()).collect(),
        best: true,
        active: true,
        stale: false,
        reason: "advertised".to_owned(),
    }
}

fn nexthop(nexthop: Nexthop) -> String {
    match nexthop {
        Nexthop::V4(address) => address.to_string(),
        Nexthop::V6 { global, link_local } if global.is_unspecified() => {
            link_local.unwrap_or(global).to_string()
        }
        Nexthop::V6 { global, .. } => global.to_string(),
    }
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Igp => "igp",
        Origin::Egp => "egp",
        Origin::Incomplete => "incomplete",
    }
}

fn in_words(target: &Target) -> Vec<String> {
    match target {
        Target::Blackhole => vec!["blackhole".to_owned()],
        Target::Via(hops) => {
            hops.iter().map(|hop| format!("via {} dev {}", hop.gateway, link_name(hop.link))).collect()
        }
        Target::Direct { .. } | Target::Local | Target::Other => Vec::new(),
    }
}

/// Its index when it has just gone.
fn link_name(index: u32) -> String {
    let name = nix::net::if_::if_indextoname(index);
    name.map_or_else(|_| index.to_string(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weft_bgp::rib::Rejection;
    use weft_bgp::session::StateKind;
    use weft_bgp::speaker::PeerKey;
    use weft_bgp::types::{Asn, PeerId};

    use super::*;

    fn status(name: &str, refused: &[&str]) -> PeerStatus {
        let rejection = Rejection::OutsideAccepted;
        let refused = refused.iter().map(|prefix| prefix.parse().unwrap());
        PeerStatus {
            id: PeerId(1),
            name: name.to_owned(),
            key: PeerKey { address: "192.0.2.2".parse().unwrap(), interface: None },
            port: 179,
            asn: None,
            local_asn: Asn(64512),
            state: StateKind::Established,
            state_age: Duration::ZERO,
            router_id: None,
            hold_time: None,
            families: Vec::new(),
            last_error: None,
            messages_in: 0,
            messages_out: 0,
            established_count: 1,
            malformed_attributes: 0,
            refused: refused.map(|prefix| weft_bgp::rib::RefusedRoute { prefix, rejection }).collect(),
            capabilities: Vec::new(),
        }
    }

    #[test]
    fn a_node_that_announces_what_is_not_its_own_is_named_and_a_router_is_not() {
        let leaked = ["10.7.0.0/24", "10.8.0.0/24"];
        let statuses = [status("mesh/n2", &leaked), status("mesh/n3", &[]), status("tor", &leaked)];
        let problems = leaks(&statuses.map(peer));
        let [Problem { object, reason }] = problems.as_slice() else { panic!("{problems:?}") };
        assert_eq!(object, "Node n2");
        let expected = "announces routes that are refused, among them 10.7.0.0/24, 10.8.0.0/24: \
                        it is outside the prefixes accepted from this peer";
        assert_eq!(reason, expected);
    }
}
