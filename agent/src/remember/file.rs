//! The file: a line that says whose it is and what it must be, then the objects as a Kubernetes list in JSON.
//!
//! Pure. What is not whole, or another node's, is refused; fields and kinds that are new to us are left out.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weft_api::crd::SecretKeyRef;
use weft_pods::journal::crc32c;

use weft_intent::object;
use weft_intent::{BgpObjects, NodeInfo, Snapshot};

/// Changes when older agents would misread it.
const FORMAT: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    node: String,
    at: Timestamp,
    /// Of what follows the header's line.
    crc32c: u32,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("its first line is not one that an agent writes")]
    Header(#[source] serde_json::Error),
    #[error("it is of format {0}, this agent reads {FORMAT}")]
    Format(u32),
    #[error("it is that of node {0}")]
    OtherNode(String),
    #[error("it is damaged")]
    Damaged,
}

pub(super) fn encode(snapshot: &Snapshot, node: &str, at: Timestamp, passwords: bool) -> String {
    let nodes = snapshot.nodes.iter().map(|(name, info)| node_object(name, info));
    let secrets = if passwords { secrets(snapshot) } else { Vec::new() };
    let items: Vec<Value> = nodes.chain(ours(&snapshot.bgp)).chain(secrets).collect();
    let body = json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string();
    let crc32c = crc32c(body.as_bytes());
    let header = json!(Header { format: FORMAT, node: node.to_owned(), at, crc32c });
    format!("{header}\n{body}\n")
}

pub(super) fn decode(text: &str, node: &str) -> Result<(Timestamp, Snapshot), Refused> {
    let (header, body) = text.split_once('\n').ok_or(Refused::Damaged)?;
    let header: Header = serde_json::from_str(header).map_err(Refused::Header)?;
    if header.format != FORMAT {
        return Err(Refused::Format(header.format));
    }
    if header.node != node {
        return Err(Refused::OtherNode(header.node));
    }
    let body = body.strip_suffix('\n').ok_or(Refused::Damaged)?;
    if crc32c(body.as_bytes()) != header.crc32c {
        return Err(Refused::Damaged);
    }
    let list: Value = serde_json::from_str(body).map_err(|_| Refused::Damaged)?;
    let items = list["items"].as_array().ok_or(Refused::Damaged)?;
    let objects: Vec<_> = items.iter().filter_map(|item| object::parse_kept(item).ok()).collect();
    let objects = objects.iter().map(|(key, object)| (key, object));
    Ok((header.at, Snapshot::new(objects, BTreeSet::new())))
}

/// What plans read of it.
fn node_object(name: &str, node: &NodeInfo) -> Value {
    let address = |ip| json!({ "type": "InternalIP", "address": ip });
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": node.labels },
        "spec": { "podCIDRs": node.pod_cidrs },
        "status": { "addresses": node.internal_ips.iter().map(address).collect::<Vec<_>>() },
    })
}

fn ours(bgp: &BgpObjects) -> Vec<Value> {
    let BgpObjects { written, peers, profiles, overrides, filters, advertisements } = bgp;
    let configuration = written.as_ref().map(|spec| ("default".to_owned(), spec));
    let mut objects = all("BGPConfiguration", configuration.iter().map(|(name, spec)| (name, *spec)));
    objects.extend(all("BGPPeer", peers));
    objects.extend(all("BGPPeerProfile", profiles));
    objects.extend(all("BGPNodeOverride", overrides));
    objects.extend(all("BGPFilter", filters));
    objects.extend(all("BGPAdvertisement", advertisements));
    objects
}

fn all<'a, S: Serialize + 'a>(
    kind: &str,
    specs: impl IntoIterator<Item = (&'a String, &'a S)>,
) -> Vec<Value> {
    let object = |(name, spec)| json!({ "apiVersion": "weft.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    specs.into_iter().map(object).collect()
}

/// Of each Secret that a session names, the one value.
fn secrets(snapshot: &Snapshot) -> Vec<Value> {
    let kept = snapshot.bgp.password_secrets().filter_map(|SecretKeyRef { name, key }| {
        let value = snapshot.secrets.get(name)?.get(key)?;
        Some((name, (key, ByteString(value.clone()))))
    });
    let mut secrets: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (secret, (key, value)) in kept {
        secrets.entry(secret).or_default().insert(key, value);
    }
    let object = |(name, data)| json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "data": data });
    secrets.into_iter().map(object).collect()
}
