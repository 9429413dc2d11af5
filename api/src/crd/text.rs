//! Values that users write as text and nobody should parse twice.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::prefix::without_host_bits;

/// A prefix with its length written out, as a bare address is none; host bits are dropped: `10.1.2.3/16` is `10.1.0.0/16`.
/// Without the tolerance that NetworkPolicies need (octets with leading zeros, IPv4 within IPv6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(IpNetwork);

impl Cidr {
    pub fn network(self) -> IpNetwork {
        self.0
    }
}

impl From<IpNetwork> for Cidr {
    fn from(prefix: IpNetwork) -> Self {
        Self(without_host_bits(prefix))
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<IpNetwork>() {
            Ok(prefix) if text.contains('/') => Ok(prefix.into()),
            _ => Err(format!("{text:?} is no prefix like 10.244.0.0/16")),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl JsonSchema for Cidr {
    fn schema_name() -> Cow<'static, str> {
        "Cidr".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let rule = serde_json::json!([{ "rule": "isCIDR(self)", "message": "a prefix like 10.244.0.0/16" }]);
        json_schema!({ "type": "string", "maxLength": 49, "x-kubernetes-validations": rule })
    }
}
