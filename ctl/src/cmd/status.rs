//! `weftctl status`

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;
use weft_api::control::Status;
use weft_api::crd::WeftNodeStatus;

use super::{Outcome, print};
use crate::cluster::{Agent, Cluster};
use crate::place::Place;
use crate::{Output, render};

/// One node of many.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeSummary {
    pub(crate) node: String,
    /// Its agent runs and says so.
    pub(crate) ready: bool,
    /// Why not; empty when ready.
    pub(crate) reason: String,
    /// What the agent reported last, `None` for one that never did.
    pub(crate) status: Option<WeftNodeStatus>,
}

pub(crate) async fn run(place: &Place, output: Output) -> Result<Outcome> {
    match place {
        Place::Agent(client) => {
            let status: Status = client.get("/v1/status", &[]).await?;
            print(output, &status, render::status)?;
            Ok(Outcome::of(status.ready))
        }
        Place::Cluster(cluster) => {
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
    use super::*;

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
