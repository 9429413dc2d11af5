//! `weftctl status`

use anyhow::Result;
use weft_api::control::Status;

use super::{Outcome, print};
use crate::{Output, client::Client, render};

pub(crate) async fn run(client: &Client, output: Output) -> Result<Outcome> {
    let status: Status = client.get("/v1/status", &[]).await?;
    print(output, &status, render::status)?;
    Ok(Outcome::of(status.ready))
}
