//! `weftctl version`

use anyhow::Result;
use serde::Serialize;
use weft_api::control::Status;

use super::{Outcome, print};
use crate::{Output, client::Client};

#[derive(Debug, Serialize)]
struct Versions {
    weftctl: &'static str,
    /// Absent when the agent cannot be reached.
    agent: Option<String>,
}

pub(crate) async fn run(client: &Client, output: Output) -> Result<Outcome> {
    let agent = client.get::<Status>("/v1/status", &[]).await.ok().map(|status| status.version);
    let versions = Versions { weftctl: env!("CARGO_PKG_VERSION"), agent };
    print(output, &versions, |versions| {
        let agent = versions.agent.as_deref().unwrap_or("not reachable");
        format!("weftctl     {}\nweft-agent  {agent}\n", versions.weftctl)
    })?;
    Ok(Outcome::Yes)
}
