//! The asking end of a stop.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use weft_api::AGENT_SOCKET;
use weft_api::control::{self, Stop};

use crate::supervise::brief;

/// The speaker gives its peers some seconds to take the Cease.
const LEAVES_WITHIN: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);

/// `weft-agent stop`: asks the agent of `run_dir` to leave for good, and waits until it has taken its leave.
pub async fn stop_running(run_dir: &Path, text: String) -> anyhow::Result<()> {
    let path = run_dir.join(AGENT_SOCKET);
    let stream = UnixStream::connect(&path).await;
    let stream = stream.with_context(|| format!("no agent at {}", path.display()))?;
    timeout(LEAVES_WITHIN, ask(stream, &Stop { text })).await.context("the agent does not answer")??;
    let gone = async {
        while path.exists() {
            sleep(POLL).await;
        }
    };
    timeout(LEAVES_WITHIN, gone).await.context("the agent does not leave")
}

async fn ask(stream: UnixStream, stop: &Stop) -> anyhow::Result<()> {
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let _connection = brief(connection);
    let request = Request::post("/v1/stop").header(HOST, "agent").header(CONTENT_TYPE, "application/json");
    let answer = sender.send_request(request.body(Full::<Bytes>::from(serde_json::to_vec(stop)?))?).await?;
    let status = answer.status();
    if status == StatusCode::ACCEPTED {
        return Ok(());
    }
    let body = answer.into_body().collect().await?.to_bytes();
    let said = serde_json::from_slice(&body).map(|control::Error { error }| error);
    bail!("the agent answered {status}: {}", said.unwrap_or_default());
}
