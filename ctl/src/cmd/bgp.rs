//! `weftctl bgp …`

use anyhow::Result;
use clap::Subcommand;
use weft_api::control::{Peer, Route};
use weft_api::crd::WeftNodeStatus;

use super::{Outcome, filter, print};
use crate::answer::NodePeers;
use crate::whom::Whom;
use crate::{Output, render};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show sessions, their state and what they carry.
    Peers,
    /// Show learned and own routes, every path with the reason why it is used or not.
    Routes {
        /// Show only this prefix, or the longest one that this address falls into.
        prefix: Option<String>,
    },
    /// Show what a peer is told.
    Advertised {
        /// Name the peer as `weftctl bgp peers` does, or by its address.
        peer: String,
    },
    /// Try filters.
    #[command(subcommand)]
    Filter(filter::Command),
}

pub(crate) async fn run(command: &Command, whom: &Whom, output: Output) -> Result<Outcome> {
    match (command, whom) {
        (Command::Filter(command), _) => filter::run(command, output),
        (Command::Peers, Whom::Agent(client)) => {
            let peers: Vec<Peer> = client.get("/v1/bgp/peers", &[]).await?;
            print(output, &peers, |peers| render::peers(peers, output))?;
            Ok(Outcome::Yes)
        }
        (Command::Peers, Whom::Cluster(cluster)) => {
            let statuses = cluster.weft_nodes().await?.into_iter();
            let peers: Vec<_> = statuses
                .filter_map(|node| Some((node.metadata.name?, node.status?)))
                .map(|(node, WeftNodeStatus { peers_established, peers_down, .. })| NodePeers {
                    node,
                    peers_established,
                    peers_down,
                })
                .collect();
            print(output, &peers, |peers| render::node_peers(peers))?;
            Ok(Outcome::Yes)
        }
        (Command::Routes { prefix }, _) => {
            let query: Vec<_> = prefix.iter().map(|prefix| ("prefix", prefix.as_str())).collect();
            let routes: Vec<Route> = whom.one()?.get("/v1/bgp/routes", &query).await?;
            print(output, &routes, |routes| render::routes(routes, output))?;
            Ok(Outcome::of(prefix.is_none() || !routes.is_empty()))
        }
        (Command::Advertised { peer }, _) => {
            let routes: Vec<Route> = whom.one()?.get("/v1/bgp/advertised", &[("peer", peer)]).await?;
            print(output, &routes, |routes| render::advertised(routes))?;
            Ok(Outcome::Yes)
        }
    }
}
