//! What a runtime passes for the capabilities that the conflist declares (CNI conventions, "Dynamic Plugin specific
//! fields"): `portMappings`, a pod's host ports.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::attachment::{PortMapping, Transport};
use crate::cni::CniError;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RuntimeConfig {
    port_mappings: Option<Vec<Map<String, Value>>>,
}

/// By names in lower case: the conventions say `hostPort`, containerd writes `HostPort`, and Go's decoders take both.
#[derive(Deserialize)]
struct Entry {
    /// 0 is how a runtime's own protocol says that there is none.
    #[serde(default, rename = "hostport")]
    host_port: i64,
    #[serde(rename = "containerport")]
    container_port: i64,
    #[serde(default)]
    protocol: String,
    #[serde(default, rename = "hostip")]
    host_ip: String,
}

/// Sorted; equal ones once.
pub(super) fn ports(config: Option<Value>) -> Result<Vec<PortMapping>, CniError> {
    let Some(config) = config else { return Ok(Vec::new()) };
    let config: RuntimeConfig = serde_json::from_value(config).map_err(|error| undecoded(&error))?;
    let entries = config.port_mappings.unwrap_or_default().into_iter().map(Entry::read);
    let entries = entries.filter(|entry| entry.as_ref().map_or(true, |entry| entry.host_port != 0));
    let mut ports = entries.map(|entry| entry?.parse()).collect::<Result<Vec<_>, _>>()?;
    ports.sort();
    ports.dedup();
    for (i, port) in ports.iter().enumerate() {
        if let Some(other) = ports[..i].iter().find(|other| other.collides_with(port)) {
            return Err(CniError::Config(format!("portMappings: {other} and {port} are the same port")));
        }
    }
    Ok(ports)
}

fn undecoded(error: &serde_json::Error) -> CniError {
    CniError::Decode(format!("runtimeConfig: {error}"))
}

impl Entry {
    fn read(mapping: Map<String, Value>) -> Result<Self, CniError> {
        let mapping = mapping.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        serde_json::from_value(Value::Object(mapping)).map_err(|error| undecoded(&error))
    }

    fn parse(self) -> Result<PortMapping, CniError> {
        let refuse = |what: &str| CniError::Config(format!("portMappings: {what}"));
        let port = |number: i64| {
            let port = u16::try_from(number).ok().filter(|port| *port != 0);
            port.ok_or_else(|| refuse(&format!("{number} is not a port")))
        };
        let protocol = if self.protocol.is_empty() { "tcp" } else { &self.protocol };
        let host_ip = match self.host_ip.as_str() {
            "" => None,
            text => Some(
                text.parse::<IpAddr>().map_err(|_| refuse(&format!("hostIP {text:?} is not an address")))?,
            ),
        };
        Ok(PortMapping {
            transport: Transport::parse(protocol)
                .ok_or_else(|| refuse(&format!("protocol {protocol:?} has no ports")))?,
            host_port: port(self.host_port)?,
            container_port: port(self.container_port)?,
            host_ip: host_ip.map(|ip| ip.to_canonical()),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(mappings: Value) -> Result<Vec<String>, u32> {
        let config = Value::Object([("portMappings".to_owned(), mappings)].into_iter().collect());
        let ports = ports(Some(config)).map_err(|error| error.code())?;
        Ok(ports.iter().map(|port| format!("{port} -> {}", port.container_port)).collect())
    }

    #[test]
    fn host_ports_are_read_as_containerd_and_crio_write_them() {
        let mappings = json!([
            { "hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "" },
            { "HostPort": 54323, "ContainerPort": 8080, "Protocol": "tcp", "HostIP": "127.0.0.1" },
            { "hostPort": 53, "containerPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1" },
            { "hostPort": 9, "containerPort": 9, "protocol": "SCTP", "hostIP": "2001:db8::1" },
            { "hostPort": 0, "containerPort": 7 },
        ]);
        let expected = [
            "tcp *:8080 -> 80",
            "tcp 127.0.0.1:54323 -> 8080",
            "udp 192.0.2.1:53 -> 53",
            "sctp [2001:db8::1]:9 -> 9",
        ];
        assert_eq!(parse(mappings), Ok(expected.map(str::to_owned).to_vec()));
        assert_eq!(ports(None), Ok(Vec::new()));
        assert_eq!(ports(Some(json!({ "bandwidth": {} }))), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for (mapping, code) in [
            (json!({ "hostPort": 65536, "containerPort": 80 }), 7),
            (json!({ "hostPort": 80, "containerPort": 0 }), 7),
            (json!({ "hostPort": 80, "containerPort": 80, "protocol": "icmp" }), 7),
            (json!({ "hostPort": 80, "containerPort": 80, "hostIP": "node" }), 7),
            (json!({ "hostPort": "80", "containerPort": 80 }), 6),
        ] {
            assert_eq!(parse(json!([mapping])), Err(code), "{mapping}");
        }
        let twice = json!([{ "hostPort": 80, "containerPort": 80 }, { "hostPort": 80, "containerPort": 81 }]);
        assert_eq!(parse(twice), Err(7));
    }
}
