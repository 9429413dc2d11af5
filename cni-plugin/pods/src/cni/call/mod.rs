//! What a runtime asks: the `CNI_*` environment and standard input become a [`Call`] (CNI 1.1.0, sections 1, 3 and 4).
//!
//! Standard input is read once, and nothing after this module sees a string that has not been checked.

mod runtime_config;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use crate::attachment::{AttachmentId, PodRef, PortMapping, is_kubernetes_name};
use crate::cni::{CallError, CniError, CniVersion};

/// Longer container ids would not leave room for the rest of an attachment in its link's alias.
const MAX_CONTAINER_ID: usize = 128;

/// A validated call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// In which it is answered.
    pub version: CniVersion,
    pub verb: Verb,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    Add(Sandboxed),
    Check(Sandboxed),
    Del(AttachmentId),
    /// Attachments to keep. `None` when the runtime did not list any: then nothing is collected.
    Gc(Option<BTreeSet<AttachmentId>>),
    Status,
    Version,
}

/// ADD and CHECK: a call on a live network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandboxed {
    pub id: AttachmentId,
    /// `CNI_NETNS`, verbatim; the result repeats it.
    pub netns: String,
    /// `CNI_NETNS_OVERRIDE`: the runtime insists on a namespace that would be refused, its own.
    pub netns_override: bool,
    pub pod: Option<PodRef>,
    /// Addresses in `prevResult`; only CHECK has one.
    pub previous: BTreeSet<IpAddr>,
    /// Of capability `portMappings`: sorted, and no two collide. Only for ADD.
    pub ports: Vec<PortMapping>,
}

impl Call {
    /// `env` holds the `CNI_*` variables that are set.
    pub fn parse(env: &BTreeMap<String, String>, stdin: &str) -> Result<Self, CallError> {
        let conf = serde_json::from_str::<Value>(stdin);
        let asked = conf.as_ref().ok().and_then(|conf| conf.get("cniVersion")?.as_str());
        let version = asked.and_then(CniVersion::parse).unwrap_or(CniVersion::LATEST);
        match Verb::parse(&Env(env), conf) {
            Ok(verb) => Ok(Self { version, verb }),
            Err(error) => Err(CallError { version, error }),
        }
    }
}

impl Verb {
    fn parse(env: &Env<'_>, conf: serde_json::Result<Value>) -> Result<Self, CniError> {
        let command = env.required("CNI_COMMAND")?;
        if command == "VERSION" {
            return Ok(Self::Version);
        }
        let (conf, version) = NetConf::parse(conf)?;
        match command {
            "ADD" => {
                // The first in a chain makes the interface; we cannot be added to one that exists.
                if conf.prev_result.is_some() {
                    return Err(CniError::Config("weft-cni must be the first plugin of its list".into()));
                }
                let ports = runtime_config::ports(conf.runtime_config)?;
                Ok(Self::Add(Sandboxed { ports, ..Sandboxed::parse(env, BTreeSet::new())? }))
            }
            "DEL" => Ok(Self::Del(env.attachment_id()?)),
            "CHECK" => {
                since(version, CniVersion::V0_4_0, "CHECK")?;
                let previous =
                    conf.prev_result.ok_or_else(|| CniError::Config("CHECK needs prevResult".into()))?;
                Ok(Self::Check(Sandboxed::parse(env, previous.addresses()?)?))
            }
            "GC" => {
                since(version, CniVersion::V1_1_0, "GC")?;
                Ok(Self::Gc(conf.valid_attachments()))
            }
            "STATUS" => since(version, CniVersion::V1_1_0, "STATUS").map(|()| Self::Status),
            other => Err(CniError::Environment {
                variable: "CNI_COMMAND",
                reason: format!("{other:?} is not a CNI command"),
            }),
        }
    }
}

fn since(version: CniVersion, since: CniVersion, verb: &'static str) -> Result<(), CniError> {
    if version < since { Err(CniError::Verb { verb, since }) } else { Ok(()) }
}

impl Sandboxed {
    fn parse(env: &Env<'_>, previous: BTreeSet<IpAddr>) -> Result<Self, CniError> {
        Ok(Self {
            id: env.attachment_id()?,
            netns: env.required("CNI_NETNS")?.to_owned(),
            netns_override: env.optional("CNI_NETNS_OVERRIDE").is_some_and(is_true),
            pod: env.pod(),
            previous,
            ports: Vec::new(),
        })
    }
}

/// As the reference implementation reads booleans.
fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

struct Env<'a>(&'a BTreeMap<String, String>);

impl<'a> Env<'a> {
    fn optional(&self, variable: &str) -> Option<&'a str> {
        self.0.get(variable).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn required(&self, variable: &'static str) -> Result<&'a str, CniError> {
        self.optional(variable).ok_or(CniError::Environment { variable, reason: "is required".into() })
    }

    fn attachment_id(&self) -> Result<AttachmentId, CniError> {
        let container_id = self.required("CNI_CONTAINERID")?;
        let ifname = self.required("CNI_IFNAME")?;
        check_container_id(container_id)
            .map_err(|reason| CniError::Environment { variable: "CNI_CONTAINERID", reason })?;
        check_ifname(ifname).map_err(|reason| CniError::Environment { variable: "CNI_IFNAME", reason })?;
        Ok(AttachmentId { container_id: container_id.to_owned(), ifname: ifname.to_owned() })
    }

    /// `CNI_ARGS` is `K=V;K=V`. What is no Kubernetes name is no pod of ours.
    fn pod(&self) -> Option<PodRef> {
        let args: BTreeMap<&str, &str> =
            self.optional("CNI_ARGS")?.split(';').filter_map(|pair| pair.split_once('=')).collect();
        let name = |key| args.get(key).copied().filter(|value| is_kubernetes_name(value)).map(str::to_owned);
        Some(PodRef {
            namespace: name("K8S_POD_NAMESPACE")?,
            name: name("K8S_POD_NAME")?,
            uid: name("K8S_POD_UID"),
        })
    }
}

/// CNI 1.1.0, section 2: starts with an alphanumeric, then also `_`, `.` and `-`.
fn check_container_id(id: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if id.len() > MAX_CONTAINER_ID {
        return Err(format!("is longer than {MAX_CONTAINER_ID} characters"));
    }
    match id.chars().next() {
        Some(first) if first.is_ascii_alphanumeric() && id.chars().all(allowed) => Ok(()),
        _ => Err(format!("{id:?} is not a valid container id")),
    }
}

/// What Linux accepts as the name of an interface.
fn check_ifname(name: &str) -> Result<(), String> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > 15 || matches!(name, "." | "..") || name.contains(bad) {
        return Err(format!("{name:?} is not a valid interface name"));
    }
    Ok(())
}

/// Of the network configuration, what we act on.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NetConf {
    #[serde(default)]
    cni_version: String,
    #[serde(default)]
    name: String,
    prev_result: Option<PrevResult>,
    /// Read for ADD alone: a DEL must succeed whatever it says.
    runtime_config: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<ValidAttachment>>,
    /// How libcni spelled the key at first, and still does beside the other.
    #[serde(rename = "cni.dev/attachments")]
    attachments: Option<Vec<ValidAttachment>>,
}

#[derive(Deserialize)]
struct PrevResult {
    #[serde(default)]
    ips: Vec<PrevIp>,
}

#[derive(Deserialize)]
struct PrevIp {
    address: String,
}

#[derive(Deserialize)]
struct ValidAttachment {
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
}

impl NetConf {
    fn parse(conf: serde_json::Result<Value>) -> Result<(Self, CniVersion), CniError> {
        let conf: Self =
            conf.and_then(serde_json::from_value).map_err(|error| CniError::Decode(error.to_string()))?;
        let version = CniVersion::parse(&conf.cni_version)
            .ok_or_else(|| CniError::Version(conf.cni_version.clone()))?;
        if conf.name.is_empty() {
            return Err(CniError::Config("the network has no name".into()));
        }
        Ok((conf, version))
    }

    fn valid_attachments(self) -> Option<BTreeSet<AttachmentId>> {
        let list = self.valid_attachments.or(self.attachments)?;
        let id =
            |valid: ValidAttachment| AttachmentId { container_id: valid.container_id, ifname: valid.ifname };
        Some(list.into_iter().map(id).collect())
    }
}

impl PrevResult {
    fn addresses(self) -> Result<BTreeSet<IpAddr>, CniError> {
        let parse = |ip: PrevIp| {
            let address = ip.address.split('/').next().unwrap_or_default();
            address
                .parse()
                .map_err(|_| CniError::Config(format!("prevResult has the address {:?}", ip.address)))
        };
        self.ips.into_iter().map(parse).collect()
    }
}

#[cfg(test)]
mod tests;
