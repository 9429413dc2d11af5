//! What BFD knows, in the words of the control API, and what of it somebody should look at.

use weft_api::control::{Bfd, BfdState, Peer, Problem, SessionState};
use weft_bgp::bfd::{State, Status};
use weft_bgp::net::bfd::{Report, Shown};
use weft_intent::plan::peers::MESH;

use crate::agent::Agent;

/// A session is missed when both ends had so long to come up, seconds.
const COMES_UP: u64 = 10;

/// Nothing, when it has ended: that is told otherwise.
pub(super) async fn report(agent: &Agent) -> Report {
    agent.bfd.report().await.unwrap_or_default()
}

pub(super) fn session(Shown { status, error }: &Shown) -> Bfd {
    let Status { remote, last_down, .. } = status;
    let millis = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Bfd {
        state: state(status.state),
        state_seconds: status.state_age.as_secs(),
        port: status.path.port(),
        remote_state: remote.as_ref().map(|remote| state(remote.state)),
        remote_diagnostic: remote.as_ref().map(|remote| remote.diagnostic.to_string()),
        transmit_interval: status.transmit_interval.map(millis),
        detection_time: status.detection_time.map(millis),
        last_down: last_down.map(|(reason, _)| reason.to_string()),
        last_down_seconds: last_down.map(|(_, age)| age.as_secs()),
        up_count: status.up_count,
        failed_count: status.failed_count,
        packets_in: status.packets_in,
        packets_out: status.packets_out,
        drops: status.drops.iter().map(|(reason, count)| (reason.to_string(), count)).collect(),
        error: error.clone(),
    }
}

fn state(state: State) -> BfdState {
    match state {
        State::AdminDown => BfdState::AdminDown,
        State::Down => BfdState::Down,
        State::Init => BfdState::Init,
        State::Up => BfdState::Up,
    }
}

/// Ports that it cannot hear on, and paths that nobody watches though a session runs over them.
pub(super) fn problems(report: &Report, peers: &[Peer]) -> Vec<Problem> {
    let deaf = report.deaf.iter().map(|error| Problem { object: "BFD".to_owned(), reason: error.clone() });
    let unwatched = |peer: &Peer| {
        let bfd = peer.bfd.as_ref()?;
        let is_missed = peer.state == SessionState::Established && bfd.state != BfdState::Up;
        let had_time = peer.state_seconds >= COMES_UP && bfd.state_seconds >= COMES_UP;
        let object = match peer.name.strip_prefix(MESH) {
            Some(node) => format!("Node {node}"),
            None => format!("BGPPeer {}", peer.name),
        };
        let reason = format!("BFD is {} while BGP is up: {}", bfd.state, why_down(bfd));
        (is_missed && had_time).then_some(Problem { object, reason })
    };
    deaf.chain(peers.iter().filter_map(unwatched)).collect()
}

fn why_down(bfd: &Bfd) -> String {
    let port = bfd.port;
    let dropped = bfd.drops.iter().filter(|(_, count)| **count > 0).max_by_key(|(_, count)| **count);
    match (bfd.remote_state, &bfd.error, dropped) {
        (Some(BfdState::AdminDown), _, _) => "the peer says AdminDown".to_owned(),
        (Some(state), _, _) => format!("the peer says {state} and does not hear this node"),
        (None, Some(error), _) => format!("nothing is heard, and UDP {port} to it: {error}"),
        (None, None, Some((reason, _))) => format!("what comes from the peer is refused ({reason})"),
        (None, None, None) => {
            format!("the peer has no BFD session for this node, or UDP {port} does not pass")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Established for a minute, with a session of BFD that is down for as long.
    fn peer(name: &str, bfd: &Value) -> Peer {
        let mut peer = json!({
            "name": name, "address": "192.0.2.2", "port": 179, "asn": 65001, "localAsn": 64512, "state": "Established",
            "stateSeconds": 60, "routerId": null, "holdTime": 9, "families": [], "lastError": null, "messagesIn": 0,
            "messagesOut": 0, "establishedCount": 1, "capabilities": [],
            "bfd": {
                "state": "Down", "stateSeconds": 60, "port": 3784, "remoteState": null, "remoteDiagnostic": null,
                "transmitInterval": 1000, "detectionTime": null, "lastDown": null, "lastDownSeconds": null,
                "upCount": 0, "failedCount": 0, "packetsIn": 0, "packetsOut": 60, "drops": {}, "error": null,
            },
        });
        for (field, value) in bfd.as_object().unwrap() {
            peer["bfd"][field] = value.clone();
        }
        serde_json::from_value(peer).unwrap()
    }

    fn reasons(peers: &[Peer]) -> Vec<String> {
        let problems = problems(&Report::default(), peers);
        problems.into_iter().map(|Problem { object, reason }| format!("{object}: {reason}")).collect()
    }

    #[test]
    fn a_path_that_nobody_watches_is_named_with_what_is_known_of_it() {
        let says = |bfd: Value| reasons(&[peer("tor", &bfd)]).join(" ");
        for (bfd, reason) in [
            (json!({}), "the peer has no BFD session for this node, or UDP 3784 does not pass"),
            (
                json!({ "error": "Connection refused" }),
                "nothing is heard, and UDP 3784 to it: Connection refused",
            ),
            (json!({ "drops": { "port": 9, "ttl": 1 } }), "what comes from the peer is refused (port)"),
            (json!({ "remoteState": "AdminDown" }), "the peer says AdminDown"),
            (
                json!({ "remoteState": "Down", "error": "x" }),
                "the peer says Down and does not hear this node",
            ),
        ] {
            assert_eq!(says(bfd), format!("BGPPeer tor: BFD is Down while BGP is up: {reason}"));
        }
        assert!(reasons(&[peer("mesh/n2", &json!({}))])[0].starts_with("Node n2: "));
    }

    #[test]
    fn what_is_up_or_had_no_time_or_is_down_by_bgp_too_is_no_problem() {
        let down = |state: &str| {
            let mut peer = peer("tor", &json!({}));
            peer.state = serde_json::from_value(json!(state)).unwrap();
            peer
        };
        let young = Peer { state_seconds: 9, ..peer("tor", &json!({})) };
        let unwatched = Peer { bfd: None, ..peer("tor", &json!({})) };
        let up = peer("tor", &json!({ "state": "Up" }));
        let fresh = peer("tor", &json!({ "stateSeconds": 9 }));
        assert_eq!(reasons(&[up, fresh, young, unwatched, down("Connect")]), [""; 0]);
    }

    #[test]
    fn a_port_that_is_taken_is_a_problem() {
        let report = Report { deaf: vec!["UDP port 3784 of IPv4: in use".to_owned()], ..Report::default() };
        assert_eq!(problems(&report, &[]).len(), 1);
    }
}
