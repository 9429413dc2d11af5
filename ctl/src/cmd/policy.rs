//! `weftctl policy …`

use std::str::FromStr;

use anyhow::Result;
use clap::Subcommand;
use weft_api::control::{Explanation, Policy};

use super::{Outcome, print};
use crate::whom::Whom;
use crate::{Output, render};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List policies and the pods that they isolate.
    List,
    /// Say whether a connection is allowed, and by which rule or for want of which.
    Explain {
        /// Name where it comes from: `NAMESPACE/POD` or an address.
        from: String,
        /// Name where it goes: `NAMESPACE/POD` or an address, then `:PORT` or `:PORT/PROTOCOL`; TCP unless told. An IPv6 address with a
        /// port stands in brackets. Without a port: any protocol that has none, like ICMP.
        to: Destination,
    },
}

/// What follows FROM: `demo/web:80`, `10.0.0.1:53/udp`, `[fd00::1]:443`, `fd00::1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    host: String,
    port: Option<u16>,
    protocol: Option<String>,
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = split_port(text)?;
        let Some(port) = port else {
            return Ok(Self { host, port: None, protocol: None });
        };
        let (port, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
            return Err(format!("`{protocol}` is not a protocol with ports: use tcp, udp or sctp"));
        }
        let port = port.parse().map_err(|_| format!("`{port}` is not a port (0-65535)"))?;
        Ok(Self { host, port: Some(port), protocol: Some(protocol) })
    }
}

fn split_port(text: &str) -> Result<(String, Option<&str>), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("`[` without `]`")?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host.to_owned(), Some(port))),
            None if rest.is_empty() => Ok((host.to_owned(), None)),
            None => Err(format!("`{rest}` after `]`: expected `:PORT`")),
        };
    }
    match text.split_once(':') {
        // Two colons without brackets: an IPv6 address, which then has no port.
        Some((_, rest)) if rest.contains(':') => Ok((text.to_owned(), None)),
        Some((host, port)) => Ok((host.to_owned(), Some(port))),
        None => Ok((text.to_owned(), None)),
    }
}

pub(crate) async fn run(command: &Command, whom: &Whom, output: Output) -> Result<Outcome> {
    let any;
    // Every agent knows all policies.
    let client = match whom {
        Whom::Agent(client) => client,
        Whom::Cluster(cluster) => {
            any = cluster.agent_of(None).await?;
            &any
        }
    };
    match command {
        Command::List => {
            let policies: Vec<Policy> = client.get("/v1/policies", &[]).await?;
            print(output, &policies, |policies| render::policies(policies))?;
            Ok(Outcome::Yes)
        }
        Command::Explain { from, to } => {
            let port = to.port.map(|port| port.to_string());
            let mut query = vec![("from", from.as_str()), ("to", to.host.as_str())];
            query.extend(port.as_deref().map(|port| ("port", port)));
            query.extend(to.protocol.as_deref().map(|protocol| ("protocol", protocol)));
            let explanation: Explanation = client.get("/v1/policies/explain", &query).await?;
            print(output, &explanation, render::explanation)?;
            Ok(Outcome::of(explanation.allowed))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Option<u16>, Option<String>) {
        let to: Destination = text.parse().unwrap();
        (to.host, to.port, to.protocol)
    }

    #[test]
    fn destinations_name_pods_and_addresses_with_and_without_ports() {
        let tcp = Some("tcp".to_owned());
        assert_eq!(parsed("demo/web:80"), ("demo/web".into(), Some(80), tcp.clone()));
        assert_eq!(parsed("demo/dns:53/UDP"), ("demo/dns".into(), Some(53), Some("udp".into())));
        assert_eq!(parsed("[fd00::1]:443"), ("fd00::1".into(), Some(443), tcp));
        assert_eq!(parsed("fd00::1"), ("fd00::1".into(), None, None));
        assert_eq!(parsed("demo/web"), ("demo/web".into(), None, None));
    }

    #[test]
    fn wrong_destinations_say_what_is_wrong() {
        assert!("web:http".parse::<Destination>().unwrap_err().contains("`http` is not a port"));
        assert!("web:80/icmp".parse::<Destination>().unwrap_err().contains("icmp"));
        assert!("[fd00::1".parse::<Destination>().unwrap_err().contains('['));
    }
}
