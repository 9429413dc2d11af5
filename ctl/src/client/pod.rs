//! The control API through the API server: of an agent that serves operators, at its port; else of the `weftctl` in its
//! container, which asks and hands the answer out.
//!
//! The first takes a token for this node's agent and passes it on by `pods/proxy`: rights that only read. The second takes
//! `pods/exec`, with which one could do all that the agent can. The API server checks and logs both.

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Limited};
use hyper::Request;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, PostParams};
use kube::client::Body;
use kube::{Api, Client};
use tokio::io::AsyncReadExt;
use weft_api::control::{TOKEN_HEADER, audience};

use super::{Answer, MAX_ANSWER};

const CONTAINER: &str = "agent";
const PROGRAM: &str = "/usr/bin/weftctl";
/// The shortest that the API server issues.
const TOKEN_SECONDS: i64 = 600;

/// The agent of one node.
pub(crate) struct AgentPod {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) operators: Option<Operators>,
}

/// How an agent serves operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operators {
    account: String,
    port: u16,
}

impl Operators {
    /// As the pod's annotation has it: `ACCOUNT:PORT`.
    pub(crate) fn parse(annotation: &str) -> Option<Self> {
        let (account, port) = annotation.rsplit_once(':')?;
        Some(Self { account: account.to_owned(), port: port.parse().ok()? })
    }
}

impl AgentPod {
    pub(super) async fn get(&self, uri: &str) -> Result<Answer> {
        match &self.operators {
            Some(operators) => self.ask(operators, uri).await,
            None => self.exec(uri).await,
        }
    }

    async fn ask(&self, operators: &Operators, uri: &str) -> Result<Answer> {
        let token = self.token(&operators.account).await?;
        let (namespace, name, port) = (&self.namespace, &self.name, operators.port);
        let path = format!("/api/v1/namespaces/{namespace}/pods/https:{name}:{port}/proxy{uri}");
        let request = Request::get(path).header(TOKEN_HEADER, token).body(Body::empty())?;
        let response = self.client.send(request).await.with_context(|| self.told())?;
        let code = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("{}: {error}", self.told()))?;
        Ok(Answer { code, body: body.to_bytes().to_vec() })
    }

    /// Good for this node's agent and for nothing else.
    async fn token(&self, account: &str) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let spec = TokenRequestSpec {
            audiences: Some(vec![audience(&self.node)]),
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let issued = accounts.create_token_request(account, &PostParams::default(), &request).await;
        let issued = issued.with_context(|| format!("no token of {}/{account}", self.namespace))?;
        issued.status.and_then(|status| status.token).context("the API server issued no token")
    }

    async fn exec(&self, uri: &str) -> Result<Answer> {
        let params = AttachParams::default().container(CONTAINER);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let process = pods.exec(&self.name, [PROGRAM, "get", "--raw", uri], &params).await;
        let mut process = process.with_context(|| self.told())?;
        let status = process.take_status().context("the status is asked for once")?;
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let (answer, complaint, status) = tokio::join!(read(stdout), read(stderr), status);
        let answer = answer.with_context(|| self.told())?;
        let complaint = complaint.with_context(|| self.told())?;
        if !status.as_ref().is_some_and(is_success) {
            let complaint = String::from_utf8_lossy(&complaint);
            let reason = status.and_then(|status| status.message).unwrap_or_default();
            bail!("node {}: {}", self.node, [complaint.trim(), &reason].join(" ").trim());
        }
        decode(&answer).with_context(|| self.told())
    }

    fn told(&self) -> String {
        format!("node {}: cannot ask pod {}", self.node, self.name)
    }
}

fn is_success(status: &Status) -> bool {
    status.status.as_deref() == Some("Success")
}

async fn read(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(MAX_ANSWER as u64).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// As [`Answer::encode`] has it.
fn decode(bytes: &[u8]) -> Result<Answer> {
    let end = bytes.iter().position(|byte| *byte == b'\n').context("an answer without a status")?;
    let code = std::str::from_utf8(&bytes[..end]).ok().and_then(|code| code.parse().ok());
    Ok(Answer { code: code.context("an answer without a status")?, body: bytes[end + 1..].to_vec() })
}

impl Answer {
    /// The status on a line, then the body.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = format!("{}\n", self.code).into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_says_on_its_pod_how_operators_reach_it() {
        let operators = Operators { account: "weft-operator".to_owned(), port: 9180 };
        assert_eq!(Operators::parse("weft-operator:9180"), Some(operators));
        for wrong in ["", "weft-operator", "weft-operator:https", "weft-operator:99999"] {
            assert_eq!(Operators::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn answers_come_through_as_they_were() {
        let answer = Answer { code: 404, body: b"{\"error\":\n\"x\"}".to_vec() };
        let again = decode(&answer.encode()).unwrap();
        assert_eq!((again.code, again.body), (answer.code, answer.body));
        assert!(decode(b"OCI runtime exec failed").is_err());
    }
}
