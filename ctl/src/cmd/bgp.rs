//! `weftctl bgp …`

use anyhow::Result;
use clap::Subcommand;
use serde::Serialize;
use weft_api::control::{Peer, Route};
use weft_api::crd::{PeerDown, WeftNodeStatus};

use super::{Outcome, print};
use crate::place::Place;
use crate::{Output, render};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sessions, their state and what they carry.
    Peers,
    /// Learned and own routes, every path with the reason why it is used or not.
    Routes {
        /// Only this prefix, or the longest that this address falls into.
        prefix: Option<String>,
    },
    /// What we send to a peer.
    Advertised {
        /// A name from `weftctl bgp peers`.
        peer: String,
    },
}

/// The sessions of one node of many.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodePeers {
    pub(crate) node: String,
    pub(crate) peers_established: String,
    pub(crate) peers_down: Vec<PeerDown>,
}

pub(crate) async fn run(command: &Command, place: &Place, output: Output) -> Result<Outcome> {
    match (command, place) {
        (Command::Peers, Place::Agent(client)) => {
            let peers: Vec<Peer> = client.get("/v1/bgp/peers", &[]).await?;
            print(output, &peers, |peers| render::peers(peers, output))?;
            Ok(Outcome::Yes)
        }
        (Command::Peers, Place::Cluster(cluster)) => {
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
            let routes: Vec<Route> = place.one()?.get("/v1/bgp/routes", &query).await?;
            print(output, &routes, |routes| render::routes(routes, output))?;
            Ok(Outcome::of(prefix.is_none() || !routes.is_empty()))
        }
        (Command::Advertised { peer }, _) => {
            let routes: Vec<Route> = place.one()?.get("/v1/bgp/advertised", &[("peer", peer)]).await?;
            print(output, &routes, |routes| render::advertised(routes))?;
            Ok(Outcome::Yes)
        }
    }
}
