//! The control API through the API server: `weftctl` of the agent's own container asks, and hands the answer out.
//!
//! It needs no port on the nodes, and no right beyond that to `pods/exec`, which the API server checks and logs.

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::AsyncReadExt;

use super::{Answer, MAX_ANSWER};

const CONTAINER: &str = "agent";
const PROGRAM: &str = "/usr/bin/weftctl";

/// The agent of one node.
pub(crate) struct AgentPod {
    pub(crate) pods: Api<Pod>,
    pub(crate) name: String,
    pub(crate) node: String,
}

impl AgentPod {
    pub(super) async fn get(&self, uri: &str) -> Result<Answer> {
        let params = AttachParams::default().container(CONTAINER);
        let told = || format!("node {}: cannot ask pod {}", self.node, self.name);
        let mut process =
            self.pods.exec(&self.name, [PROGRAM, "get", uri], &params).await.with_context(told)?;
        let status = process.take_status().context("the status is asked for once")?;
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let (answer, complaint, status) = tokio::join!(read(stdout), read(stderr), status);
        let (answer, complaint) = (answer.with_context(told)?, complaint.with_context(told)?);
        if !status.as_ref().is_some_and(is_success) {
            let complaint = String::from_utf8_lossy(&complaint);
            let reason = status.and_then(|status| status.message).unwrap_or_default();
            bail!("node {}: {}", self.node, [complaint.trim(), &reason].join(" ").trim());
        }
        decode(&answer).with_context(told)
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

/// As [`encode`] has it.
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
    fn answers_come_through_as_they_were() {
        let answer = Answer { code: 404, body: b"{\"error\":\n\"x\"}".to_vec() };
        let again = decode(&answer.encode()).unwrap();
        assert_eq!((again.code, again.body), (answer.code, answer.body));
        assert!(decode(b"OCI runtime exec failed").is_err());
    }
}
