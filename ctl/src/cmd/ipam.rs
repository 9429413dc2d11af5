//! `weftctl ipam …`

use anyhow::Result;
use clap::Subcommand;
use weft_api::control::Ipam;

use super::{Outcome, print};
use crate::whom::Whom;
use crate::{Output, render};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show pools with their use, and who holds which address.
    Show,
}

pub(crate) async fn run(command: &Command, whom: &Whom, output: Output) -> Result<Outcome> {
    match command {
        Command::Show => {
            let ipam: Ipam = whom.one()?.get("/v1/ipam", &[]).await?;
            print(output, &ipam, render::ipam)?;
            Ok(Outcome::Yes)
        }
    }
}
