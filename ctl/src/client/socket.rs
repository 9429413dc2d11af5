//! HTTP/1.1 over the agent's unix socket.

use std::path::Path;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::{Answer, MAX_ANSWER};

pub(super) async fn get(socket: &Path, uri: &str) -> Result<Answer> {
    let stream = UnixStream::connect(socket)
        .await
        .with_context(|| format!("cannot reach the agent at {}; is weft-agent running?", socket.display()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::get(uri).header("host", "agent").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.with_context(|| format!("GET {uri}"))?;
    let code = response.status().as_u16();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    driver.abort();
    let body = body.map_err(|error| anyhow::anyhow!("GET {uri}: {error}"))?.to_bytes();
    Ok(Answer { code, body: body.to_vec() })
}
