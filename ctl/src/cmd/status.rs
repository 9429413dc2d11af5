//! `weftctl status`

use std::collections::BTreeMap;

use anyhow::Result;
use weft_api::control::Status;
use weft_api::crd::WeftNodeStatus;

use super::{Outcome, print};
use crate::answer::NodeSummary;
use crate::cluster::{Agent, Cluster};
use crate::whom::Whom;
use crate::{Output, render};

pub(crate) async fn run(whom: &Whom, output: Output) -> Result<Outcome> {
    match whom {
        Whom::Agent(client) => {
            let status: Status = client.get("/v1/status", &[]).await?;
            print(output, &status, render::status)?;
            Ok(Outcome::of(status.ready))
        }
        Whom::Cluster(cluster) => {
            let nodes = nodes(cluster).await?;
            print(output, &nodes, |nodes| render::nodes(nodes, output))?;
            Ok(Outcome::of(!nodes.is_empty() && nodes.iter().all(|node| node.ready)))
        }
    }
}

async fn nodes(cluster: &Cluster) -> Result<Vec<NodeSummary>> {
    let (statuses, agents) = tokio::try_join!(cluster.weft_nodes(), cluster.agents())?;
    let statuses = statuses.into_iter().filter_map(|node| Some((node.metadata.name?, node.status)));
    Ok(join(statuses.collect(), agents))
}

/// A node counts when an agent runs there or has reported from there. A report outlives its agent.
fn join(mut statuses: BTreeMap<String, Option<WeftNodeStatus>>, agents: Vec<Agent>) -> Vec<NodeSummary> {
    let agents: BTreeMap<_, _> = agents.into_iter().map(|agent| (agent.node, agent.ready)).collect();
    for node in agents.keys() {
        statuses.entry(node.clone()).or_default();
    }
    let summaries = statuses.into_iter().map(|(node, status)| {
        let reason = match (agents.get(&node), &status) {
            (None, _) => "no agent runs there".to_owned(),
            (Some(_), None) => "has not reported yet".to_owned(),
            (Some(agent_ready), Some(status)) => why_not(*agent_ready, status),
        };
        NodeSummary { ready: reason.is_empty(), node, reason, status }
    });
    summaries.collect()
}

fn why_not(agent_ready: bool, status: &WeftNodeStatus) -> String {
    match status.conditions.iter().find(|condition| condition.type_ == "Ready") {
        Some(condition) if condition.status != "True" => condition.message.clone(),
        _ if !agent_ready => "its agent is not ready".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use serde_json::Value;
    use weft_api::control::{PeerCounts, PodMtu, PolicyStatus, Problem};
    use weft_api::crd::{PeerDown, PeerSessions, PolicySummary, PoolSummary};

    use super::*;

    /// With something in every field.
    fn of_its_agent() -> Status {
        Status {
            node: "n1".into(),
            version: "0.1.0".into(),
            ready: true,
            waiting_for: vec!["policy".into()],
            uptime_seconds: 65,
            datastore: "kubernetes".into(),
            asn: Some(64512),
            router_id: Some("10.1.0.11".into()),
            pod_cidrs: vec!["10.244.1.0/24".into()],
            peers: PeerCounts { established: 1, total: 2 },
            kernel_routes: [("ipv4".into(), 3)].into(),
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
            problems: vec![Problem { object: "bad.yaml".into(), reason: "line 3".into() }],
        }
    }

    /// With something in every field.
    fn of_many() -> NodeSummary {
        let time = || Some("2026-01-01T00:00:00Z".parse().map(Time).unwrap());
        let condition = Condition {
            type_: "Ready".into(),
            status: "True".into(),
            reason: "Ready".into(),
            message: "m".into(),
            last_transition_time: time().unwrap(),
            observed_generation: Some(1),
        };
        let down = PeerDown {
            name: "tor".into(),
            address: "10.1.0.1".into(),
            since: time(),
            last_error: Some("x".into()),
        };
        let sessions = PeerSessions { name: "tor".into(), ..PeerSessions::default() };
        let status = WeftNodeStatus {
            version: "0.1.0".into(),
            observed_time: time(),
            conditions: vec![condition],
            peers_established: "1/2".into(),
            peers_down: vec![down],
            bgp_peers: vec![sessions],
            routes: 3,
            pods: 4,
            pools: vec![PoolSummary { cidr: "10.244.1.0/24".into(), size: 254, used: 3 }],
            policy: PolicySummary { revision: 9, policies: 2 },
            pod_mtu: Some(PodMtu { bytes: 1450, link: Some("eth0".into()) }),
            problem_count: 1,
            problems: vec![Problem { object: "bad.yaml".into(), reason: "line 3".into() }],
        };
        NodeSummary { node: "n1".into(), ready: true, reason: String::new(), status: Some(status) }
    }

    /// Every field, `policy.chains` or `problems[].object`, with its value.
    fn fields(path: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(name, value)| fields(&format!("{path}.{name}"), value, found));
            }
            Value::Array(items) => {
                items.iter().for_each(|item| fields(&format!("{path}[]"), item, found));
            }
            value => drop(found.insert(path.to_owned(), value.clone())),
        }
    }

    #[test]
    fn what_is_said_of_one_node_and_of_many_has_the_same_names_and_means_the_same() {
        let (mut one, mut many) = (BTreeMap::new(), BTreeMap::new());
        fields("", &serde_json::to_value(of_its_agent()).unwrap(), &mut one);
        fields("", &serde_json::to_value(of_many()).unwrap(), &mut many);
        let shared: Vec<_> = one.keys().filter(|field| many.contains_key(*field)).cloned().collect();
        let wanted = [
            ".node",
            ".podMtu.bytes",
            ".podMtu.link",
            ".pods",
            ".policy.policies",
            ".policy.revision",
            ".problems[].object",
            ".problems[].reason",
            ".ready",
            ".version",
        ];
        assert_eq!(shared, wanted);
        for field in shared {
            assert_eq!(one[&field], many[&field], "{field}");
        }
        // Else one would be a value and the other a group of values.
        let begins = |field: &str, other: &str| {
            other.starts_with(&format!("{field}.")) || other.starts_with(&format!("{field}["))
        };
        for (field, other) in one.keys().flat_map(|field| many.keys().map(move |other| (field, other))) {
            assert!(!begins(field, other) && !begins(other, field), "{field} and {other}");
        }
        for field in one.keys().chain(many.keys()) {
            assert!(!field.contains('_'), "{field} is not spelt as in the resources");
        }
    }

    #[test]
    fn a_node_is_ready_when_its_agent_runs_and_says_so() {
        let status: WeftNodeStatus = serde_json::from_str(
            r#"{"conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}"#,
        )
        .unwrap();
        let agent = |node: &str, ready| Agent { pod: "x".into(), node: node.into(), ready, operators: None };
        let statuses = ["fine", "gone", "late"].map(|node| (node.to_owned(), Some(status.clone())));
        let nodes =
            join(statuses.into(), vec![agent("fine", true), agent("late", false), agent("new", false)]);
        let told: Vec<_> = nodes.iter().map(|node| (node.node.as_str(), node.reason.as_str())).collect();
        assert_eq!(
            told,
            [
                ("fine", ""),
                ("gone", "no agent runs there"),
                ("late", "its agent is not ready"),
                ("new", "has not reported yet")
            ]
        );
    }
}
