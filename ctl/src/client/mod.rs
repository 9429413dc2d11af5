//! One question to an agent: over its unix socket on its node, or through the API server from anywhere.
//!
//! In: a path of the control API and its query. Out: the typed answer. What an agent does not have is [`NotFound`].

mod pod;
mod socket;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::de::DeserializeOwned;
use weft_api::control;

pub(crate) use pod::{AgentPod, Operators};

/// An answer larger than this is not one of ours; a million routes fit.
const MAX_ANSWER: usize = 1 << 30;

pub(crate) enum Client {
    Socket(PathBuf),
    Pod(Box<AgentPod>),
}

/// The agent answered that there is no such thing.
#[derive(Debug)]
pub(crate) struct NotFound(String);

impl std::fmt::Display for NotFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotFound {}

/// The status and the body of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// `GET path?query`, where the values of `query` are not yet escaped.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T> {
        let uri = target(path, query);
        let answer = match self {
            Self::Socket(socket) => socket::get(socket, &uri).await?,
            Self::Pod(pod) => pod.get(&uri).await?,
        };
        answer.parse(&uri)
    }
}

/// For [`AgentPod`], at the other end.
pub(crate) async fn get_raw(socket: &std::path::Path, uri: &str) -> Result<Answer> {
    socket::get(socket, uri).await
}

impl Answer {
    fn parse<T: DeserializeOwned>(&self, uri: &str) -> Result<T> {
        if self.code == 200 {
            return serde_json::from_slice(&self.body)
                .with_context(|| format!("GET {uri}: the agent's answer is not what we expect"));
        }
        match serde_json::from_slice::<control::Error>(&self.body) {
            Ok(answer) if self.code == 404 => Err(NotFound(answer.error).into()),
            Ok(answer) => bail!("{}", answer.error),
            Err(_) => bail!("GET {uri}: {} {}", self.code, self.why_not_passed_on()),
        }
    }

    /// Of the API server on the way.
    fn why_not_passed_on(&self) -> String {
        let status = serde_json::from_slice::<Status>(&self.body).ok();
        status.and_then(|status| status.message).unwrap_or_default()
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

    #[test]
    fn what_is_not_there_differs_from_what_went_wrong() {
        let answer = |code| Answer { code, body: br#"{"error": "no route to 10.0.0.1"}"#.to_vec() };
        let error = answer(404).parse::<u8>("/x").unwrap_err();
        assert!(error.is::<NotFound>());
        assert_eq!(error.to_string(), "no route to 10.0.0.1");
        assert!(!answer(503).parse::<u8>("/x").unwrap_err().is::<NotFound>());

        let body = br#"{"kind": "Status", "message": "pods \"x\" not found", "code": 404}"#.to_vec();
        let error = Answer { code: 404, body }.parse::<u8>("/x").unwrap_err();
        assert!(!error.is::<NotFound>() && error.to_string().contains("not found"), "{error}");
    }
}
