//! `weftctl version`

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;
use weft_api::control::Status;

use super::{Outcome, print};
use crate::Output;
use crate::place::Place;

#[derive(Debug, Serialize)]
struct Versions {
    weftctl: &'static str,
    /// That of one agent. Absent when it cannot be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    /// How many nodes run which.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    agents: BTreeMap<String, usize>,
}

pub(crate) async fn run(place: &Place, output: Output) -> Result<Outcome> {
    let mut versions = Versions { weftctl: env!("CARGO_PKG_VERSION"), agent: None, agents: BTreeMap::new() };
    match place {
        Place::Agent(client) => {
            versions.agent = client.get::<Status>("/v1/status", &[]).await.ok().map(|status| status.version);
        }
        Place::Cluster(cluster) => {
            for status in cluster.weft_nodes().await?.into_iter().filter_map(|node| node.status) {
                *versions.agents.entry(status.version).or_default() += 1;
            }
        }
    }
    print(output, &versions, text)?;
    Ok(Outcome::Yes)
}

fn text(versions: &Versions) -> String {
    let mut text = format!("weftctl     {}\n", versions.weftctl);
    for (version, nodes) in &versions.agents {
        text += &format!("weft-agent  {version} on {nodes} nodes\n");
    }
    if versions.agents.is_empty() {
        text += &format!("weft-agent  {}\n", versions.agent.as_deref().unwrap_or("not reachable"));
    }
    text
}
