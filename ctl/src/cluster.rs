//! The cluster, as a kubeconfig (or a pod's service account) shows it: what agents report, and where they run.

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Config};
use std::path::Path;
use weft_api::control::OPERATORS_ANNOTATION;
use weft_api::crd::WeftNode;

use crate::client::{AgentPod, Client, Operators};

/// As the chart labels them.
const AGENTS: &str = "app.kubernetes.io/name=weft,app.kubernetes.io/component=agent";

pub(crate) struct Cluster {
    client: kube::Client,
    namespace: String,
}

/// An agent's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agent {
    pub(crate) pod: String,
    pub(crate) node: String,
    pub(crate) ready: bool,
    pub(crate) operators: Option<Operators>,
}

impl Cluster {
    pub(crate) async fn connect(
        kubeconfig: Option<&Path>,
        context: Option<&str>,
        namespace: &str,
    ) -> Result<Self> {
        Ok(Self { client: api_client(kubeconfig, context).await?, namespace: namespace.to_owned() })
    }

    /// In order of name.
    pub(crate) async fn weft_nodes(&self) -> Result<Vec<WeftNode>> {
        let api: Api<WeftNode> = Api::all(self.client.clone());
        let list = api.list(&ListParams::default()).await.context("cannot list weftnodes.weft.dev")?;
        let mut statuses = list.items;
        statuses.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
        Ok(statuses)
    }

    pub(crate) async fn agents(&self) -> Result<Vec<Agent>> {
        let list = self.pods().list(&ListParams::default().labels(AGENTS)).await;
        let list = list.with_context(|| format!("cannot list pods of namespace {}", self.namespace))?;
        Ok(list.items.into_iter().filter_map(agent).collect())
    }

    /// The agent of `node`; any that is ready for `None`: what is the same on every node.
    pub(crate) async fn agent_of(&self, node: Option<&str>) -> Result<Client> {
        let agents = self.agents().await?;
        let found = match node {
            Some(node) => agents.into_iter().find(|agent| agent.node == node),
            None => agents.into_iter().find(|agent| agent.ready),
        };
        match (found, node) {
            (Some(agent), _) => Ok(Client::Pod(Box::new(AgentPod {
                client: self.client.clone(),
                namespace: self.namespace.clone(),
                name: agent.pod,
                node: agent.node,
                operators: agent.operators,
            }))),
            (None, Some(node)) => bail!("no agent runs on node {node} (namespace {})", self.namespace),
            (None, None) => bail!("no agent is ready in namespace {}", self.namespace),
        }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// Without `kubeconfig` and `context`, as kubectl finds its own.
pub(crate) async fn api_client(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<kube::Client> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = match kubeconfig {
        Some(path) => of_kubeconfig(path, &options).await?,
        None if context.is_some() => Config::from_kubeconfig(&options).await.map_err(told)?,
        None => Config::infer().await.map_err(told).context("no way to a cluster")?,
    };
    Ok(kube::Client::try_from(config)?)
}

async fn of_kubeconfig(path: &Path, options: &KubeConfigOptions) -> Result<Config> {
    let kubeconfig = Kubeconfig::read_from(path).map_err(told)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, options).await.map_err(told);
    config.with_context(|| path.display().to_string())
}

/// These errors repeat their causes, and quote the file, in which there may be keys.
fn told(error: impl std::error::Error) -> anyhow::Error {
    anyhow!("{}", error.to_string().lines().next().unwrap_or_default())
}

/// One that is on its way out, or not yet on a node, answers nothing.
fn agent(pod: Pod) -> Option<Agent> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
    let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let annotations = pod.metadata.annotations.unwrap_or_default();
    let operators = annotations.get(OPERATORS_ANNOTATION).and_then(|text| Operators::parse(text));
    Some(Agent { pod: pod.metadata.name?, node: pod.spec?.node_name?, ready, operators })
}
