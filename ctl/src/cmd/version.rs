//! `weftctl version`

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;
use weft_api::control::Status;

use super::{Outcome, print};
use crate::Output;
use crate::render::counted;
use crate::whom::Whom;

#[derive(Debug, Serialize)]
struct Versions {
    weftctl: &'static str,
    /// How many nodes run which, of those that answer.
    agents: BTreeMap<String, usize>,
}

pub(crate) async fn run(whom: &Whom, output: Output) -> Result<Outcome> {
    let running: Vec<String> = match whom {
        Whom::Agent(client) => {
            let status = client.get::<Status>("/v1/status", &[]).await;
            status.map(|status| status.version).into_iter().collect()
        }
        Whom::Cluster(cluster) => {
            let statuses = cluster.weft_nodes().await?.into_iter().filter_map(|node| node.status);
            statuses.map(|status| status.version).collect()
        }
    };
    let mut versions = Versions { weftctl: env!("CARGO_PKG_VERSION"), agents: BTreeMap::new() };
    for version in running {
        *versions.agents.entry(version).or_default() += 1;
    }
    print(output, &versions, text)?;
    Ok(Outcome::Yes)
}

fn text(versions: &Versions) -> String {
    let mut text = format!("weftctl     {}\n", versions.weftctl);
    for (version, nodes) in &versions.agents {
        text += &format!("weft-agent  {version} on {}\n", counted(*nodes, "node"));
    }
    if versions.agents.is_empty() {
        text += "weft-agent  not reachable\n";
    }
    text
}
