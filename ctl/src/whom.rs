//! Whom a command asks: the agent of this machine, that of a named node, or the whole cluster.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use weft_api::Datastore;
use weft_api::control::Status;

use crate::client::Client;
use crate::cluster::{self, Cluster};
use crate::failure::Usage;
use crate::store::{Directory, Kubernetes, Store};

const SOCKET: &str = "/run/weft/agent.sock";
/// Says where the socket is, as a default does: whoever names a node or a cluster is not contradicted by it.
const SOCKET_VARIABLE: &str = "WEFT_SOCKET";
/// As of the agent, and as much of a default.
const DATASTORE_VARIABLE: &str = "WEFT_DATASTORE";

/// Default: the agent of this machine where there is one, else the cluster of the kubeconfig.
#[derive(Args, Debug)]
pub(crate) struct Where {
    /// Ask the agent of this node, through the API server.
    #[arg(long, global = true, value_name = "NAME", conflicts_with_all = ["all_nodes", "socket"])]
    node: Option<String>,
    /// Ask about all nodes, also on a machine that has an agent.
    #[arg(short = 'A', long, global = true, conflicts_with = "socket")]
    all_nodes: bool,
    /// Ask the agent behind this control socket. Without it, $WEFT_SOCKET names one, else it is /run/weft/agent.sock.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Find the cluster by this file. Without it, it is the one that kubectl would use.
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Use this context of the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// Look for the agents in this namespace.
    #[arg(short, long, global = true, env = "WEFT_NAMESPACE", default_value = "weft-system")]
    namespace: String,
}

pub(crate) enum Whom {
    Agent(Client),
    Cluster(Cluster),
}

/// Default: where the agent of this machine has its objects from, else the cluster of the kubeconfig.
#[derive(Args, Clone, Debug)]
pub(crate) struct ObjectsIn {
    /// Look for the objects here: in the cluster (`kubernetes`), or in a directory of YAML files (`dir:PATH`). Without it,
    /// $WEFT_DATASTORE says where they are, else the agent of this machine; where there is none, they are in the cluster that
    /// kubectl would use.
    #[arg(long, value_name = "kubernetes|dir:PATH")]
    datastore: Option<Datastore>,
}

impl Where {
    pub(crate) fn socket(&self) -> PathBuf {
        let given = || std::env::var_os(SOCKET_VARIABLE).map(PathBuf::from);
        self.socket.clone().or_else(given).unwrap_or_else(|| SOCKET.into())
    }

    pub(crate) async fn resolve(&self) -> Result<Whom> {
        if self.asks_this_machine() {
            return Ok(Whom::Agent(Client::Socket(self.socket())));
        }
        let cluster = self.cluster().await;
        let cluster =
            if self.names_cluster() { cluster? } else { cluster.context("no agent on this machine")? };
        match &self.node {
            Some(node) => cluster.agent_of(Some(node)).await.map(Whom::Agent),
            None => Ok(Whom::Cluster(cluster)),
        }
    }

    async fn cluster(&self) -> Result<Cluster> {
        Cluster::connect(self.kubeconfig.as_deref(), self.context.as_deref(), &self.namespace).await
    }

    pub(crate) async fn store(&self, objects: &ObjectsIn) -> Result<Store> {
        if self.node.is_some() {
            return Err(Usage("objects are those of all nodes: leave --node out".to_owned()).into());
        }
        match self.datastore(objects).await? {
            Datastore::Dir(path) => Ok(Store::Directory(Directory::new(path))),
            Datastore::Kubernetes => {
                let client = cluster::api_client(self.kubeconfig.as_deref(), self.context.as_deref()).await?;
                Ok(Store::Kubernetes(Kubernetes::new(client)))
            }
        }
    }

    async fn datastore(&self, objects: &ObjectsIn) -> Result<Datastore> {
        let names_one = self.names_cluster() || self.socket.is_some();
        let variable = std::env::var(DATASTORE_VARIABLE).ok().filter(|_| !names_one);
        if let Some(named) = &objects.datastore {
            Ok(named.clone())
        } else if let Some(text) = variable {
            text.parse().map_err(|error| Usage(format!("${DATASTORE_VARIABLE}: {error}")).into())
        } else if self.asks_this_machine() {
            let told =
                "the agent of this machine cannot be asked where its objects are; --datastore says so too";
            let status: Status = Client::Socket(self.socket()).get("/v1/status", &[]).await.context(told)?;
            status.datastore.parse().map_err(anyhow::Error::msg)
        } else {
            Ok(Datastore::Kubernetes)
        }
    }

    fn names_cluster(&self) -> bool {
        self.node.is_some() || self.all_nodes || self.kubeconfig.is_some() || self.context.is_some()
    }

    fn asks_this_machine(&self) -> bool {
        let has_agent = || std::env::var_os(SOCKET_VARIABLE).is_some() || PathBuf::from(SOCKET).exists();
        self.socket.is_some() || (!self.names_cluster() && has_agent())
    }
}

impl Whom {
    /// For what only one agent knows.
    pub(crate) fn one(&self) -> Result<&Client> {
        match self {
            Self::Agent(client) => Ok(client),
            Self::Cluster(_) => {
                Err(Usage("every node has its own answer: name one with --node".to_owned()).into())
            }
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
