//! `weftctl bgp …`

use anyhow::Result;
use clap::Subcommand;
use weft_api::control::{Peer, Route};

use super::{Outcome, print};
use crate::{Output, client::Client, render};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sessions, their state and what they carry.
    Peers,
    /// Learned and own routes, every path with the reason why it is used or not.
    Routes {
        /// Only this prefix, or the one that this address falls into.
        prefix: Option<String>,
    },
    /// What we send to a peer.
    Advertised {
        /// A name from `weftctl bgp peers`.
        peer: String,
    },
}

pub(crate) async fn run(command: Command, client: &Client, output: Output) -> Result<Outcome> {
    match command {
        Command::Peers => {
            let peers: Vec<Peer> = client.get("/v1/bgp/peers", &[]).await?;
            print(output, &peers, |peers| render::peers(peers))?;
            Ok(Outcome::Yes)
        }
        Command::Routes { prefix } => {
            let query: Vec<_> = prefix.iter().map(|prefix| ("prefix", prefix.as_str())).collect();
            let routes: Vec<Route> = client.get("/v1/bgp/routes", &query).await?;
            print(output, &routes, |routes| render::routes(routes))?;
            Ok(Outcome::of(prefix.is_none() || !routes.is_empty()))
        }
        Command::Advertised { peer } => {
            let routes: Vec<Route> = client.get("/v1/bgp/advertised", &[("peer", &peer)]).await?;
            print(output, &routes, |routes| render::advertised(routes))?;
            Ok(Outcome::Yes)
        }
    }
}
