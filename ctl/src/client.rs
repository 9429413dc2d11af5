//! One HTTP request over the agent's unix socket.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use weft_api::control;

/// An answer larger than this is not one of ours; a million routes fit.
const MAX_ANSWER: usize = 1 << 30;

#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// `GET path?query`, where the values of `query` are not yet escaped.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T> {
        let stream = UnixStream::connect(&self.socket).await.with_context(|| {
            format!("cannot reach the agent at {}; is weft-agent running?", self.socket.display())
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let uri = target(path, query);
        let request = Request::get(&uri).header("host", "agent").body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await.with_context(|| format!("GET {uri}"))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        driver.abort();
        let body = body.map_err(|error| anyhow::anyhow!("GET {uri}: {error}"))?.to_bytes();
        if !status.is_success() {
            match serde_json::from_slice::<control::Error>(&body) {
                Ok(answer) => bail!("{}", answer.error),
                Err(_) => bail!("GET {uri}: {status}"),
            }
        }
        serde_json::from_slice(&body)
            .with_context(|| format!("GET {uri}: the agent's answer is not what we expect"))
    }
}

fn target(path: &str, query: &[(&str, &str)]) -> String {
    let mut target = path.to_owned();
    for (index, (name, value)) in query.iter().enumerate() {
        target.push(if index == 0 { '?' } else { '&' });
        target.push_str(name);
        target.push('=');
        escape(value, &mut target);
    }
    target
}

/// RFC 3986 §2.1; `:` and `/` may stand in a query as they are.
fn escape(value: &str, out: &mut String) {
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' => {
                out.push(byte.into());
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_escaped_and_prefixes_stay_readable() {
        let uri = target("/v1/bgp/routes", &[("prefix", "fd00::/48"), ("x", "a b&c%d")]);
        assert_eq!(uri, "/v1/bgp/routes?prefix=fd00::/48&x=a%20b%26c%25d");
    }
}
