//! The control API on `agent.sock`: HTTP/1.1, JSON. Each type names its path.
//!
//! Additive only: a client ignores fields that it does not know. Fields are spelt as in the custom resources, and a name that
//! both have means the same in both: who reads the JSON of one node reads that of all.
//!
//! Where the chart has `operators.enabled`, all of it that reads is also served over TLS to who shows, in [`TOKEN_HEADER`],
//! a token of the operators' service account for [`audience`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Not `Authorization`: the API server, which passes requests on, keeps that to itself.
pub const TOKEN_HEADER: &str = "weft-token";
/// On an agent's pod, `ACCOUNT:PORT`: whose tokens it takes, in its own namespace, and where.
pub const OPERATORS_ANNOTATION: &str = "weft.dev/operators";

/// Whom a token is for: the agent of one node, so that no agent can use what it was shown anywhere else.
pub fn audience(node: &str) -> String {
    format!("weft.dev/nodes/{node}")
}

/// `GET /v1/status`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub node: String,
    pub version: String,
    pub ready: bool,
    /// Why not ready; empty when ready.
    pub waiting_for: Vec<String>,
    pub uptime_seconds: u64,
    pub datastore: String,
    pub asn: Option<u32>,
    pub router_id: Option<String>,
    pub pod_cidrs: Vec<String>,
    pub peers: PeerCounts,
    /// Of ours, per family.
    pub kernel_routes: BTreeMap<String, u32>,
    pub pods: u32,
    pub policy: PolicyStatus,
    /// Of links that are still to be made; `None` before the uplinks are known.
    #[serde(default)]
    pub pod_mtu: Option<PodMtu>,
    /// Objects that we refuse or that conflict with somebody else's, each with its reason.
    pub problems: Vec<Problem>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerCounts {
    pub established: u32,
    pub total: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Counts commits to the kernel since the agent started.
    pub revision: u64,
    pub policies: u32,
    pub chains: u32,
    pub sets: u32,
    pub set_elements: u32,
    /// Counts how often all established flows were judged, since the agent started.
    #[serde(default)]
    pub flow_scans: u64,
}

/// How large a pod's packets may be.
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodMtu {
    pub bytes: u32,
    /// The uplink that has it, the smallest of all; absent where it is configured, or none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// An object that does not act as written.
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// `Kind namespace/name`, `file.yaml`, `route 10.0.0.0/8`: what the user would look for.
    pub object: String,
    pub reason: String,
}

/// `GET /v1/bgp/peers`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// The BGPPeer's name, or `mesh/NODE`.
    pub name: String,
    pub address: IpAddr,
    pub port: u16,
    pub asn: Option<u32>,
    pub local_asn: u32,
    pub state: SessionState,
    /// Since when, in seconds.
    pub state_seconds: u64,
    pub router_id: Option<String>,
    pub hold_time: Option<u16>,
    pub families: Vec<FamilyCounts>,
    /// The last reason for going down, in words, with the NOTIFICATION's codes where there was one.
    pub last_error: Option<String>,
    pub messages_in: u64,
    pub messages_out: u64,
    /// Times that the session reached Established.
    pub established_count: u64,
    /// In UPDATEs that the session survived (RFC 7606).
    #[serde(default)]
    pub malformed_attributes: u64,
    /// The first few routes of each family that are refused; how many there are says `families`.
    #[serde(default)]
    pub refused: Vec<RefusedRoute>,
    /// Capabilities that both sides have, by name.
    pub capabilities: Vec<String>,
    /// Where BFD watches the path to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<Bfd>,
}

/// The session of BFD with a peer. Spans are milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bfd {
    pub state: BfdState,
    /// Since when, in seconds.
    pub state_seconds: u64,
    /// UDP, on which both ends listen: 3784 for one hop, 4784 for many.
    pub port: u16,
    /// As the peer says; absent while it is not heard.
    pub remote_state: Option<BfdState>,
    /// Why the peer's state changed last, as it says.
    pub remote_diagnostic: Option<String>,
    /// Between our packets, before jitter; absent where the peer wants none.
    pub transmit_interval: Option<u64>,
    /// Silence after which the peer is given up; absent while it is not heard.
    pub detection_time: Option<u64>,
    /// Why it went down last, in words, and how many seconds ago.
    pub last_down: Option<String>,
    pub last_down_seconds: Option<u64>,
    /// Times that it came up.
    pub up_count: u64,
    /// Times that it went down because the path was gone.
    pub failed_count: u64,
    pub packets_in: u64,
    pub packets_out: u64,
    /// Packets that were refused, by reason: `ttl`, `port`, `malformed`, `authentication`, `discriminator`.
    pub drops: BTreeMap<String, u64>,
    /// Why the last packet could not be sent, or was sent back.
    pub error: Option<String>,
}

/// RFC 5880 §6.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BfdState {
    AdminDown,
    Down,
    Init,
    Up,
}

impl fmt::Display for BfdState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// RFC 4271 §8.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionState {
    Idle,
    Connect,
    Active,
    OpenSent,
    OpenConfirm,
    Established,
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A route of a peer that is not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRoute {
    pub prefix: String,
    /// In words: `it is outside the prefixes accepted from this peer`.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyCounts {
    pub family: String,
    /// Routes that the peer sent and that import policy accepted.
    pub accepted: u64,
    /// Routes that import policy refused.
    pub rejected: u64,
    pub advertised: u64,
    pub end_of_rib: bool,
    /// Kept from before a restart of the peer, not yet confirmed.
    pub stale: u64,
}

/// `GET /v1/bgp/routes?prefix=P` (an address: the longest match; without `prefix`: all), and `GET /v1/bgp/advertised?peer=NAME`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub prefix: String,
    pub paths: Vec<Path>,
    /// What the kernel has for this prefix from us: next hops in words; empty when not installed.
    pub fib: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Path {
    /// Peer name, or `local`.
    pub from: String,
    pub nexthop: String,
    pub as_path: String,
    pub origin: String,
    pub local_pref: Option<u32>,
    pub med: Option<u32>,
    pub communities: Vec<String>,
    /// The best path.
    pub best: bool,
    /// In use: the best path and its multipath companions.
    pub active: bool,
    pub stale: bool,
    /// The decision step that chose or lost it, in words: `lower MED than …`.
    pub reason: String,
}

/// `GET /v1/ipam`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipam {
    pub pools: Vec<Pool>,
    pub allocations: Vec<Allocation>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub cidr: String,
    /// Addresses that can be handed out at all; `free + used + cooling + reserved = size`.
    pub size: u64,
    pub used: u64,
    pub free: u64,
    /// Released and not to be reused yet.
    pub cooling: u64,
    pub reserved: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allocation {
    /// `namespace/name`, empty when the runtime named no pod.
    pub pod: String,
    pub container_id: String,
    pub ifname: String,
    /// Host side.
    pub link: String,
    pub addresses: Vec<IpAddr>,
}

/// `GET /v1/policies`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    pub namespace: String,
    pub name: String,
    /// `Ingress`, `Egress`.
    pub directions: Vec<String>,
    /// Pods of this node that it isolates, `namespace/name`.
    pub local_pods: Vec<String>,
    /// Pods of the cluster that it isolates.
    pub pods: u32,
}

/// `GET /v1/policies/explain?from=F&to=T&protocol=tcp&port=80`: F and T are `namespace/pod` or an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub from: String,
    pub to: String,
    pub protocol: String,
    pub port: Option<u16>,
    pub allowed: bool,
    /// The source's egress half, then the destination's ingress half.
    pub steps: Vec<ExplainStep>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainStep {
    pub direction: String,
    pub allowed: bool,
    /// In words: `not isolated`, `allowed by demo/allow-web rule 1`, `isolated by demo/deny-all; no rule matches`.
    pub reason: String,
    /// Policies that took part, `namespace/name`.
    pub policies: Vec<String>,
    /// Whether this node's kernel enforces this half.
    pub enforced_here: bool,
}

/// `POST /v1/stop`: the agent leaves for good. Answered with 202; it is gone when its socket is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// For the peers' operators, in the Cease (RFC 9003); cut at 255 bytes.
    pub text: String,
}

/// The body of every answer that is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    pub error: String,
}

#[cfg(test)]
mod tests {
    /// Of a type without the attribute, names of two words would be spelt as in Rust.
    #[test]
    fn every_name_is_spelt_as_in_the_custom_resources() {
        let mut count = 0;
        for item in include_str!("control.rs").split("\n}\n").filter(|item| item.contains("\npub struct ")) {
            let has_two_words = item
                .lines()
                .filter_map(|line| line.strip_prefix("    pub "))
                .any(|field| field.split(':').next().is_some_and(|name| name.contains('_')));
            assert!(!has_two_words || item.contains("rename_all = \"camelCase\""), "{item}");
            count += usize::from(has_two_words);
        }
        assert!(count > 8, "types are not found");
    }
}
