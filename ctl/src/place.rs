//! Whom a command asks: the agent of this machine, that of a named node, or the whole cluster.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::client::Client;
use crate::cluster::Cluster;

const SOCKET: &str = "/run/weft/agent.sock";
/// Says where the socket is, as a default does: whoever names a node or a cluster is not contradicted by it.
const SOCKET_VARIABLE: &str = "WEFT_SOCKET";

/// Default: the agent of this machine where there is one, else the cluster of the kubeconfig.
#[derive(Args, Debug)]
pub(crate) struct Where {
    /// The agent of this node, through the API server.
    #[arg(long, global = true, value_name = "NAME", conflicts_with_all = ["all_nodes", "socket"])]
    node: Option<String>,
    /// All nodes, also on a machine that has an agent.
    #[arg(short = 'A', long, global = true, conflicts_with = "socket")]
    all_nodes: bool,
    /// The agent's control socket. Default: $WEFT_SOCKET, else /run/weft/agent.sock.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Where to find the cluster. Default: as kubectl.
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Which cluster of the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// Where the agents run.
    #[arg(short, long, global = true, env = "WEFT_NAMESPACE", default_value = "weft-system")]
    namespace: String,
}

pub(crate) enum Place {
    Agent(Client),
    Cluster(Cluster),
}

/// A question that every node answers differently.
#[derive(Debug)]
pub(crate) struct NeedsNode;

impl std::fmt::Display for NeedsNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("every node has its own answer: name one with --node")
    }
}

impl std::error::Error for NeedsNode {}

impl Where {
    pub(crate) fn socket(&self) -> PathBuf {
        let given = || std::env::var_os(SOCKET_VARIABLE).map(PathBuf::from);
        self.socket.clone().or_else(given).unwrap_or_else(|| SOCKET.into())
    }

    pub(crate) async fn resolve(&self) -> Result<Place> {
        if self.asks_this_machine() {
            return Ok(Place::Agent(Client::Socket(self.socket())));
        }
        let cluster =
            Cluster::connect(self.kubeconfig.as_deref(), self.context.as_deref(), &self.namespace).await?;
        match &self.node {
            Some(node) => cluster.agent_of(Some(node)).await.map(Place::Agent),
            None => Ok(Place::Cluster(cluster)),
        }
    }

    fn asks_this_machine(&self) -> bool {
        let names_cluster =
            self.node.is_some() || self.all_nodes || self.kubeconfig.is_some() || self.context.is_some();
        let has_agent = || std::env::var_os(SOCKET_VARIABLE).is_some() || PathBuf::from(SOCKET).exists();
        self.socket.is_some() || (!names_cluster && has_agent())
    }
}

impl Place {
    /// For what only one agent knows.
    pub(crate) fn one(&self) -> Result<&Client> {
        match self {
            Self::Agent(client) => Ok(client),
            Self::Cluster(_) => Err(NeedsNode.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        place: Where,
    }

    fn asks_this_machine(words: &[&str]) -> bool {
        Only::try_parse_from(["x"].iter().chain(words)).unwrap().place.asks_this_machine()
    }

    #[test]
    fn a_socket_means_this_machine_and_what_names_a_cluster_does_not() {
        assert!(asks_this_machine(&["--socket", "/x"]));
        for words in [&["--node", "n1"][..], &["-A"], &["--kubeconfig", "/x"], &["--context", "lab"]] {
            assert!(!asks_this_machine(words), "{words:?}");
        }
        assert!(Only::try_parse_from(["x", "--node", "n1", "-A"]).is_err());
    }
}
